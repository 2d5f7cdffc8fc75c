"""A change of the policy makes stale the photos that it decides something for, and no others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from samples import FakeDetector, FakeFiller, FakeUpscaler, Stamped, cubic, encoded, painted, photo

from imgflow.chain import Line, rescue, unmade
from imgflow.engines.registry import Engines
from imgflow.lineage.record import Record, Verdict, Version
from imgflow.refresh import is_stale
from imgflow.store.keys import ImageKey

GATES = {
    "psnr": 0,
    "ssim": -1,
    "haarpsi": 0,
    "edge_continuity": 1000,
    "unprobed_area": 1,
    "gain": None,
}
ENLARGED_GATES = {
    "psnr": 0,
    "ssim": -1,
    "haarpsi": 0,
    "halo": 1,
    "edge_fidelity": 0,
    "artifact_rate": 1,
}
POLICY: dict[str, Any] = {
    "detext": {"gates": GATES},
    "inpaint": {"fill": "one", "gates": GATES},
    "upscale": {
        "engine": "first",
        "min_long_side": 40,
        "denoise_above": 30.0,
        "gates": ENLARGED_GATES,
    },
    "renditions": [{"name": "web", "long_side": 64}],
}
PLAIN, FILLED, PROMPTED, STAMPED, SMALL, SOFT, NOISY = ALL = tuple(
    ImageKey(f"{name}.png")
    for name in ("plain", "filled", "prompted", "stamped", "small", "soft", "noisy")
)
REGION = {"x": 8, "y": 8, "width": 12, "height": 10}


def changed(**parts: Any) -> dict[str, Any]:
    """The policy with these fields in these parts."""
    return {**POLICY, **{part: {**POLICY.get(part, {}), **parts[part]} for part in parts}}


CHANGES: list[tuple[dict[str, Any], set[ImageKey]]] = [
    (changed(inpaint={"fill": "two"}), {FILLED, PROMPTED}),
    (changed(inpaint={"context": 20}), {FILLED, PROMPTED}),
    (changed(inpaint={"gates": {**GATES, "psnr": 1}}), {FILLED, PROMPTED}),
    (changed(inpaint={"fallback": "telea"}), set()),
    (changed(inpaint={"text_first": 0.9}), {FILLED}),
    (changed(inpaint={"text_first": None}), {FILLED}),
    (changed(detext={"fill": "two"}), {STAMPED}),
    (changed(detext={"gates": {**GATES, "psnr": 1}}), {STAMPED}),
    (changed(detext={"mask_confidence": 0.3}), {STAMPED, FILLED}),
    (changed(detext={"feather": 3}), set()),
    (changed(detext={"min_confidence": 0.5}), set(ALL)),
    (changed(upscale={"engine": "second"}), {SMALL}),
    (changed(upscale={"engine": "none-such"}), {SMALL}),
    (changed(upscale={"looks": 2}), {SMALL}),
    (changed(upscale={"photo_noise": 5.0}), {SMALL}),
    (changed(upscale={"sharpener": "second"}), {SOFT}),
    (changed(upscale={"denoiser": "second"}), {NOISY}),
    (changed(upscale={"denoiser_fallback": "nlmeans", "fallback": "lanczos"}), set()),
    (changed(upscale={"gates": {**ENLARGED_GATES, "psnr": 1}}), {SMALL, SOFT, NOISY}),
    (changed(upscale={"mode": "creative", "creative_engine": "second"}), {SMALL}),
    (changed(upscale={"noise_limit": 3.5}), set(ALL) - {SMALL, NOISY}),
    (changed(upscale={"min_long_side": 41}), set(ALL)),
    ({**POLICY, "renditions": [{"name": "web", "long_side": 60}]}, set(ALL)),
]


@pytest.fixture
def made(
    engines: Engines,
    make_line: Callable[..., Line],
    drop: Callable[..., ImageKey],
    stamped: Stamped,
) -> list[ImageKey]:
    """Photos of all kinds that have been through the line."""
    engines.register_text_detector("rapidocr", lambda: FakeDetector(stamped))
    for name, level in (("one", 90), ("two", 120)):
        engines.register_filler(
            name, lambda n=name, v=level: FakeFiller(n, lambda p, m: painted(p, m, v))
        )
    for name in ("first", "second"):
        engines.register_upscaler(name, lambda scale, _, n=name: FakeUpscaler(n, scale, cubic))
    engines.register_denoiser("second", lambda _: FakeUpscaler("second", 1, cubic))
    sharp = photo("coffee", 64)
    step = {"op": "inpaint", "region": REGION}
    drop(PLAIN, encoded(sharp))
    drop(FILLED, encoded(sharp), manifest={"steps": [step]})
    drop(PROMPTED, encoded(sharp), manifest={"steps": [{**step, "prompt": "grass"}]})
    drop(STAMPED, encoded(stamped.pixels))
    drop(SMALL, encoded(photo("coffee", 32)))
    drop(SOFT, encoded(np.asarray(cv2.GaussianBlur(sharp, (0, 0), 3), np.uint8)))
    noise = np.random.default_rng(5).normal(0, 60, sharp.shape)
    drop(NOISY, encoded((sharp // 2 + 64 + noise).clip(0, 255).astype(np.uint8)))
    for key in ALL:
        passage = rescue(key, make_line(**POLICY))
        assert passage.last is not None
        assert passage.last.verdict is Verdict.PUBLISHED, passage.last.reason
    return list(ALL)


def records(line: Line, key: ImageKey) -> list[Record | None]:
    return [line.store.get_record(line.catalog, key, version) for version in Version]


def test_each_photo_is_of_its_kind(made: list[ImageKey], make_line: Callable[..., Line]) -> None:
    line = make_line(**POLICY)
    done = {
        key: [each.name for record in records(line, key) if record for each in record.operations]
        for key in made
    }
    assert done == {
        PLAIN: [],
        FILLED: ["inpaint"],
        PROMPTED: ["inpaint"],
        STAMPED: ["remove_text"],
        SMALL: ["enlarge"],
        SOFT: ["sharpen"],
        NOISY: ["denoise"],
    }


@pytest.mark.parametrize(("policy", "affected"), CHANGES)
def test_what_a_change_decides_nothing_for_is_not_stale_and_comes_out_the_same(
    policy: dict[str, Any],
    affected: set[ImageKey],
    made: list[ImageKey],
    make_line: Callable[..., Line],
) -> None:
    line = make_line(**policy)
    assert {key for key in made if unmade(key, line) is not None} == affected
    assert {key for key in made if is_stale(key, line)} == affected
    for key in set(made) - affected:
        before = records(line, key)
        assert all(step.reused for step in rescue(key, line).steps)
        # And rightly so: made again all the same, nothing is different.
        for step, old in zip(rescue(key, line, force=True).steps, before, strict=True):
            assert old is not None
            for name in ("verdict", "output", "gates", "measures", "notes", "fingerprint"):
                assert getattr(step.record, name) == getattr(old, name)
    for key in affected:
        assert not all(step.reused for step in rescue(key, line).steps)
        assert unmade(key, line) is None or line.policy.upscale.engine == "none-such"


def test_a_record_names_the_engines_that_were_needed(
    made: list[ImageKey], make_line: Callable[..., Line]
) -> None:
    line = make_line(**POLICY)
    plain, filled = (records(line, key)[2] for key in (PLAIN, FILLED))
    assert plain is not None
    assert filled is not None
    assert plain.code_version == "inpainted-3"
    assert filled.code_version == "inpainted-3+one:fake-1"
    assert {"fill", "context", "gates", "detext"} <= set(plain.unneeded)
    assert filled.unneeded == ["fallback"]
    # What a replay needs is there all the same.
    assert plain.settings["fill"] == "one"


def test_a_photo_that_waits_for_a_person_waits_on_when_another_fill_is_named(
    make_line: Callable[..., Line],
    drop: Callable[..., ImageKey],
    engines: Engines,
    stamped: Stamped,
) -> None:
    engines.register_text_detector("rapidocr", FakeDetector)
    step = {"op": "remove_text", "region": REGION}
    key = drop("none.png", encoded(photo("coffee", 64)), manifest={"steps": [step]})
    assert rescue(key, make_line(**POLICY)).stopped
    found = unmade(key, make_line(**changed(detext={"fill": "two"})))
    assert found is not None
    assert found.why == "stopped"
    found = unmade(key, make_line(**changed(detext={"min_confidence": 0.1})))
    assert found is not None
    assert found.why == "changed"


def test_what_a_fallback_has_made_is_made_anew_once_its_engine_is_there(
    engines: Engines, make_line: Callable[..., Line], drop: Callable[..., ImageKey]
) -> None:
    engines.register_upscaler("first", lambda scale, _: FakeUpscaler("first", scale, cubic))
    key = drop("small.png", encoded(photo("coffee", 32)))
    creative = {"mode": "creative", "creative_engine": "maker", "fallback": "first"}
    line = make_line(**changed(upscale=creative))
    assert rescue(key, line).last is not None
    record = records(line, key)[3]
    assert record is not None
    assert "the fallback was used" in " ".join(record.notes)
    assert unmade(key, line) is None
    engines.register_upscaler("maker", lambda scale, _: FakeUpscaler("maker", scale, cubic))
    found = unmade(key, line)
    assert found is not None
    assert (found.version, found.why) == (Version.UPSCALED, "changed")
