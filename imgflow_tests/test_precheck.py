"""A quick look tells what a photo needs from a small copy, and its milliseconds are checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from samples import FakeDetector, Pixels, encoded, photo, stamp

from imgflow.bench.precheck import Row, bench_precheck, checked
from imgflow.calibration import Calibration, prices_of, save_calibration
from imgflow.chain import Line, rescue
from imgflow.engines.registry import Engines
from imgflow.errors import ImgflowError
from imgflow.home import CATALOG, Home
from imgflow.lineage.record import Version
from imgflow.policy.choice import Prices
from imgflow.policy.manifest import Manifest
from imgflow.policy.policy import Policy
from imgflow.precheck import Features, estimate, fit, precheck
from imgflow.routing import explain
from imgflow.store.keys import ImageKey

TEXT_ALL = {"detext": {"text": "all"}}
NOTHING = Calibration()


def test_a_photo_with_text_needs_its_removal(engines: Engines) -> None:
    stamped = stamp(photo("rocket", 320), at=(195, 8))
    engines.register_text_detector("rapidocr", lambda: FakeDetector(stamped))
    quick = precheck(encoded(stamped.pixels), Policy.model_validate(TEXT_ALL), engines, NOTHING)
    assert quick.needs_text_removal
    ((left, top, width, height),) = quick.regions
    assert left <= 195
    assert left + width >= 195 + 80
    assert height >= 10
    assert top >= 0
    assert quick.mask_confidence is not None
    assert quick.mask_confidence > 0.5
    # It was looked at in full: nothing was made small.
    assert not quick.full_resolution
    assert quick.milliseconds == {}
    assert quick.features.text > 0


def test_a_photo_without_text_needs_none(engines: Engines) -> None:
    quick = precheck(
        encoded(photo("coffee", 200)), Policy(), engines, Calibration(stages={"raw": [1.0, 2.0]})
    )
    assert not quick.needs_text_removal
    assert quick.regions == ()
    assert quick.mask_confidence is None
    assert quick.features.result > 0  # it is small, and would be enlarged
    assert quick.milliseconds == {
        "raw": pytest.approx(1.0 + 2.0 * quick.features.megapixels, abs=0.1)
    }
    assert quick.as_dict()["total_ms"] == sum(quick.milliseconds.values())


def test_a_rendition_asks_of_what_it_shows(engines: Engines) -> None:
    pixels = np.full((300, 400, 3), 240, np.uint8)
    pixels[50:250, 40:140] = (20, 40, 200)
    square = {"name": "square", "long_side": 1600, "aspect": [1, 1], "trim": True, "margin": 0.1}
    policy = {"upscale": {"min_long_side": 100}, "renditions": [square | {"min_long_side": 400}]}
    quick = precheck(encoded(pixels), Policy.model_validate(policy), engines, NOTHING)
    assert "square shows 250 of 400 pixels, 400 pixels asked for" in quick.enlarged


def test_what_a_manifest_asks_for_counts(engines: Engines) -> None:
    region = {"x": 10, "y": 10, "width": 50, "height": 40}
    manifest = Manifest.model_validate(
        {"steps": [{"op": "inpaint", "region": region}, {"op": "upscale", "scale": 2}]}
    )
    quick = precheck(encoded(photo("coffee", 200)), Policy(), engines, NOTHING, manifest)
    assert quick.features.fills == pytest.approx(50 * 40 / 1e6, rel=0.1)
    assert quick.features.result == pytest.approx(4 * quick.features.megapixels)


ROUTED: dict[str, Any] = {
    "inpaint": {"fill": "telea", "better": ["biharmonic"]},
    "budget": {"seconds": 1.0},
    "routes": [
        {
            "name": "soft",
            "when": {"measured": {"sharpness": {"below": 0.4}}},
            "set": {"upscale": {"engine": "lanczos"}},
        },
        {
            "name": "knit",
            "when": {"category": "knit", "measured": {"megapixels": {"below": 1.0}}},
            "set": {"inpaint": {"better": []}},
        },
    ],
}
SOFT = np.asarray(cv2.GaussianBlur(photo("coffee", 200), (0, 0), 3), np.uint8)


@pytest.mark.parametrize("pixels", [photo("coffee", 200), SOFT], ids=["sharp", "soft"])
@pytest.mark.parametrize("category", ["", "knit"])
@pytest.mark.parametrize("rate", [1.0, 1000.0])
def test_it_goes_by_routes_and_budget_as_the_line_and_the_explanation_do(
    pixels: Pixels,
    category: str,
    rate: float,
    home: Home,
    engines: Engines,
    make_line: Callable[..., Line],
    drop: Callable[..., ImageKey],
) -> None:
    save_calibration(home.root, Calibration(engines={"biharmonic": rate}))
    region = {"x": 10, "y": 10, "width": 20, "height": 20}
    given = {"steps": [{"op": "inpaint", "region": region}]} | (
        {"category": category} if category else {}
    )
    data, policy = encoded(pixels), Policy.model_validate(ROUTED)
    prices, manifest = prices_of(home.root, policy), Manifest.model_validate(given)
    quick = precheck(data, policy, engines, NOTHING, manifest, prices)
    found = explain(data, ImageKey("a.png"), manifest, home, policy, engines)
    assert list(quick.engines) == found.engines
    assert list(quick.choices) == found.choices
    assert list(quick.routes) == [name for name, why, _ in found.routes if not why]
    used = {what: name for what, name, _ in quick.engines}
    assert used["inpaint, fill"] == ("telea" if category or rate > 1 else "biharmonic")
    assert used["upscale, engine"] == ("lanczos" if pixels is SOFT else "sr")

    key = drop("a.png", data, manifest=given)
    rescue(key, replace(make_line(**ROUTED), prices=prices))
    record = home.store.get_record(CATALOG, key, Version.INPAINTED)
    assert record is not None
    assert record.routes == list(quick.routes)
    assert record.settings["fill"] == used["inpaint, fill"]


def test_another_engine_than_was_calibrated_with_takes_what_it_takes(engines: Engines) -> None:
    calibration = Calibration(
        stages={"raw": [1.0, 2.0], "upscaled": [5.0, 100.0, 1000.0]},
        by_stage={"upscaled": "sr"},
    )
    data, policy = (
        encoded(photo("coffee", 200)),
        Policy.model_validate({"upscale": {"engine": "lanczos"}}),
    )
    own = precheck(data, Policy(), engines, calibration)
    megapixels, result = own.features.megapixels, own.features.result
    assert own.milliseconds["upscaled"] == pytest.approx(
        5 + 100 * megapixels + 1000 * result, abs=0.1
    )
    unknown = precheck(data, policy, engines, calibration)
    assert "upscaled" not in unknown.milliseconds
    assert unknown.unmeasured == ("lanczos",)
    known = precheck(data, policy, engines, calibration, prices=Prices(seconds={"lanczos": 2.0}))
    assert known.unmeasured == ()
    assert known.milliseconds["upscaled"] == pytest.approx(
        5 + 100 * megapixels + 2000 * megapixels, abs=0.1
    )


def photos(count: int, seed: int = 0) -> list[Features]:
    chance = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        size = float(chance.uniform(0.2, 4))
        text = float(chance.uniform(0.01, 0.1)) * size if chance.random() < 0.4 else 0.0
        found.append(Features(size, text, 0.0, 4 * size if size < 1 else 0.0))
    return found


TRUE = {
    "raw": [5.0, 20.0],
    "detexted": [30.0, 300.0, 80.0, 4000.0],
    "inpainted": [1.0, 0.0, 0.0],
    "upscaled": [4.0, 30.0, 250.0],
    "published": [10.0, 60.0],
}


def test_what_was_measured_is_found_again() -> None:
    rows = [(each, estimate(each, TRUE)) for each in photos(60)]
    fitted = fit(rows)
    for each in photos(20, seed=1):
        true, guess = (sum(estimate(each, known).values()) for known in (TRUE, fitted))
        assert guess == pytest.approx(true, rel=0.02)


def test_more_work_never_takes_less() -> None:
    chance = np.random.default_rng(3)
    rows = [
        (each, {k: v * chance.uniform(0.3, 3) for k, v in estimate(each, TRUE).items()})
        for each in photos(12)
    ]
    assert all(value >= 0 for known in fit(rows).values() for value in known)


def test_errors_are_of_photos_that_were_kept_aside() -> None:
    rows = [Row(str(n), each, estimate(each, TRUE), took=10.0) for n, each in enumerate(photos(40))]
    good = checked(rows)
    assert (good.calibrated, len(good.errors)) == (20, 20)
    assert good.median < 0.02
    assert good.is_good
    # Photos that were kept aside and take ten times as long are found out.
    slow = [
        Row(row.name, row.features, {k: 10 * v for k, v in row.milliseconds.items()}, row.took)
        if n % 2
        else row
        for n, row in enumerate(rows)
    ]
    assert not checked(slow).is_good


def test_the_line_is_measured_stage_by_stage(
    home: Home, engines: Engines, make_line: Callable[..., Line]
) -> None:
    for number, name in enumerate(("coffee", "rocket", "chelsea", "astronaut")):
        (home.uploads.root / f"{number}.png").write_bytes(encoded(photo(name, 64 + 16 * number)))
    policy = Policy.model_validate({"upscale": {"max_scale": 1}})
    told: list[int] = []
    found = bench_precheck(
        sorted(home.uploads.root.iterdir()), policy, engines, lambda: told.append(1)
    )
    assert len(told) == 4
    assert (found.calibrated, len(found.errors)) == (2, 2)
    assert set(found.stages) == {str(version) for version in Version}
    with pytest.raises(ImgflowError, match="at least 4"):
        bench_precheck([], policy, engines, lambda: None)
