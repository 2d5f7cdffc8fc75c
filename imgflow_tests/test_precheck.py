"""A quick look tells what a photo needs from a small copy, and its milliseconds are checked."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from samples import FakeDetector, encoded, photo, stamp

from imgflow.bench.precheck import Row, bench_precheck, checked
from imgflow.chain import Line
from imgflow.engines.registry import Engines
from imgflow.errors import ImgflowError
from imgflow.home import Home
from imgflow.lineage.record import Version
from imgflow.policy.manifest import Manifest
from imgflow.policy.policy import Policy
from imgflow.precheck import Features, estimate, fit, precheck

TEXT_ALL = {"detext": {"text": "all"}}


def test_a_photo_with_text_needs_its_removal(engines: Engines) -> None:
    stamped = stamp(photo("rocket", 320), at=(195, 8))
    engines.register_text_detector("rapidocr", lambda: FakeDetector(stamped))
    quick = precheck(encoded(stamped.pixels), Policy.model_validate(TEXT_ALL), engines, {})
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
    quick = precheck(encoded(photo("coffee", 200)), Policy(), engines, {"raw": [1.0, 2.0]})
    assert not quick.needs_text_removal
    assert quick.regions == ()
    assert quick.mask_confidence is None
    assert quick.features.result > 0  # it is small, and would be enlarged
    assert quick.milliseconds == {
        "raw": pytest.approx(1.0 + 2.0 * quick.features.megapixels, abs=0.1)
    }
    assert quick.as_dict()["total_ms"] == sum(quick.milliseconds.values())


def test_what_a_manifest_asks_for_counts(engines: Engines) -> None:
    region = {"x": 10, "y": 10, "width": 50, "height": 40}
    manifest = Manifest.model_validate(
        {"steps": [{"op": "inpaint", "region": region}, {"op": "upscale", "scale": 2}]}
    )
    quick = precheck(encoded(photo("coffee", 200)), Policy(), engines, {}, manifest)
    assert quick.features.fills == pytest.approx(50 * 40 / 1e6, rel=0.1)
    assert quick.features.result == pytest.approx(4 * quick.features.megapixels)


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
