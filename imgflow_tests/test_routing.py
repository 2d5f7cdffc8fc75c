"""Routes by what was measured, engines by budget, fallbacks by name; and why, line by line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from samples import FakeFiller, encoded, painted, photo

from imgflow.calibration import Calibration, load_calibration, prices_of, save_calibration
from imgflow.chain import Line, rescue, unmade
from imgflow.engines.account import account
from imgflow.engines.registry import Engines
from imgflow.engines.spec import EngineSpec, Proposal
from imgflow.errors import EngineUnavailable, ImgflowError
from imgflow.home import Home
from imgflow.lineage.record import Record, Verdict, Version
from imgflow.policy.choice import Prices, choose
from imgflow.policy.manifest import Manifest
from imgflow.policy.policy import Policy, Traits
from imgflow.reports.table import row as row_of
from imgflow.routing import explain
from imgflow.store.keys import ImageKey

GATES = {
    "psnr": 0,
    "ssim": -1,
    "haarpsi": 0,
    "edge_continuity": 1000,
    "unprobed_area": 1,
    "gain": None,
}
REGION = {"x": 8, "y": 8, "width": 12, "height": 10}
STEPS: dict[str, Any] = {"steps": [{"op": "inpaint", "region": REGION}]}


# -- measured ---------------------------------------------------------------------------


def measured(**spans: Any) -> Policy:
    return Policy.model_validate(
        {
            "routes": [
                {"name": "hard", "when": {"measured": spans}, "set": {"inpaint": {"fill": "x"}}}
            ]
        }
    )


@pytest.mark.parametrize(
    ("measures", "fill"),
    [
        ({"megapixels": 3.0, "noise": 9.0}, "x"),
        ({"megapixels": 3.0, "noise": 5.0}, "telea"),
        ({"megapixels": 0.5, "noise": 9.0}, "telea"),
        ({"megapixels": 3.0}, "telea"),
        (None, "telea"),
    ],
)
def test_a_route_is_for_photos_that_measure_so(
    measures: dict[str, float] | None, fill: str
) -> None:
    policy = measured(megapixels={"least": 1.0}, noise={"least": 6.0, "below": 20.0})
    assert policy.for_image(Traits(), measures).policy.inpaint.fill == fill


def test_raw_measures_only_where_a_route_asks() -> None:
    assert not measured(megapixels={"least": 1.0}).for_image(Traits()).policy.raw.measure
    assert measured(noise={"least": 1.0}).for_image(Traits()).policy.raw.measure


def test_raw_cannot_be_set_by_what_raw_measures() -> None:
    route = {"name": "r", "when": {"measured": {"noise": {"least": 1.0}}}, "set": {"raw": {}}}
    with pytest.raises(ValueError, match="cannot set raw"):
        Policy.model_validate({"routes": [route]})


def test_the_line_routes_by_its_own_measures(
    make_line: Callable[..., Line], drop: Callable[..., ImageKey]
) -> None:
    key = drop("a.png", encoded(photo("coffee", 64)))
    route = {
        "name": "small",
        "when": {"measured": {"long_side": {"below": 100.0}, "sharpness": {"least": 0.0}}},
        "set": {"upscale": {"max_scale": 1}},
    }
    passage = rescue(key, make_line(routes=[route]))
    records = {step.record.version: step.record for step in passage.steps}
    assert "sharpness" in records[Version.RAW].measures
    assert records[Version.UPSCALED].routes == ["small"]
    assert records[Version.UPSCALED].verdict is Verdict.PASSED_THROUGH


# -- budgets ----------------------------------------------------------------------------


def budgeted(**budget: float) -> Policy:
    return Policy.model_validate(
        {"inpaint": {"better": ["best", "good"], "fill": "plain"}, "budget": budget}
    )


PRICES = Prices(seconds={"best": 10.0, "good": 1.0}, cost={"best": 0.1})


@pytest.mark.parametrize(
    ("budget", "megapixels", "fill"),
    [
        ({}, 1.0, "best"),
        ({"seconds": 20.0}, 1.0, "best"),
        ({"seconds": 5.0}, 1.0, "good"),
        ({"seconds": 5.0}, 8.0, "plain"),
        ({"cost": 0.2}, 1.0, "good"),
        ({"cost": 1.0}, 1.0, "best"),
    ],
)
def test_the_best_engine_within_the_budget(
    budget: dict[str, float], megapixels: float, fill: str
) -> None:
    chosen, choices = choose(budgeted(**budget), megapixels, PRICES)
    assert chosen.inpaint.fill == fill
    assert [each.engine for each in choices if each.taken and each.part == "inpaint"] == [fill]
    # What is not of the choice's outcome does not decide an output.
    assert chosen.inpaint.better == []


def test_an_engine_that_nobody_has_measured_is_not_chosen() -> None:
    chosen, choices = choose(budgeted(seconds=100.0), 1.0, Prices())
    assert chosen.inpaint.fill == "plain"
    assert "bench engines" in choices[0].why


def test_two_budgets_that_choose_the_same_make_nothing_stale(
    make_line: Callable[..., Line], drop: Callable[..., ImageKey], engines: Engines
) -> None:
    for name in ("best", "good"):
        engines.register_filler(
            name, lambda name=name: FakeFiller(name, lambda p, m: painted(p, m, 90))
        )
    key = drop("a.png", encoded(photo("coffee", 64)), manifest=STEPS)

    def line(seconds: float) -> Line:
        made = make_line(
            inpaint={"better": ["best", "good"], "gates": GATES},
            upscale={"max_scale": 1},
            budget={"seconds": seconds},
        )
        return replace(made, prices=Prices(seconds={"best": 1e6, "good": 1.0}))

    passage = rescue(key, line(5.0))
    record = next(s.record for s in passage.steps if s.record.version is Version.INPAINTED)
    assert record.operations[0].engine is not None
    assert record.operations[0].engine.name == "good"
    assert unmade(key, line(5.0)) is None
    assert unmade(key, line(6.0)) is None
    found = unmade(key, line(1e9))
    assert found is not None
    assert (found.version, found.why) == (Version.INPAINTED, "changed")


def test_calibrations_are_kept_side_by_side(home: Home) -> None:
    save_calibration(home.root, Calibration(engines={"a": 1.0}))
    save_calibration(home.root, Calibration(engines={"b": 2.0}, stages={"raw": [1.0, 2.0]}))
    assert load_calibration(home.root).engines == {"a": 1.0, "b": 2.0}
    remote = {"use": "remote", "task": "filler", "endpoint": "https://x.example/y", "cost": 0.5}
    prices = prices_of(home.root, Policy.model_validate({"engines": {"vendor": remote}}))
    assert (prices.seconds["b"], prices.cost["vendor"]) == (2.0, 0.5)
    (home.root / "calibration.json").write_text('{"engines": {"a": -1}}')
    with pytest.raises(ImgflowError, match="no number of seconds"):
        load_calibration(home.root)


# -- fallbacks --------------------------------------------------------------------------


class Broken(FakeFiller):
    """Its weights turn out to be wrong when it first works."""

    def fill(self, pixels: Any, mask: Any, **asked: Any) -> Any:
        raise EngineUnavailable("weights_unfit", "the weights cannot be used", hint="Fetch them")


def inpainted(passage: Any) -> Record:
    return next(s.record for s in passage.steps if s.record.version is Version.INPAINTED)


@pytest.mark.parametrize("kind", ["missing", "broken"])
def test_an_engine_that_cannot_work_sends_the_photo_to_review(
    make_line: Callable[..., Line], drop: Callable[..., ImageKey], engines: Engines, kind: str
) -> None:
    if kind == "broken":
        engines.register_filler("lama", lambda: Broken("lama", lambda p, m: p))
    key = drop("a.png", encoded(photo("coffee", 64)), manifest=STEPS)
    record = inpainted(rescue(key, make_line(inpaint={"fill": "lama"})))
    assert record.verdict is Verdict.NEEDS_REVIEW
    assert record.operations == []


@pytest.mark.parametrize("kind", ["missing", "broken"])
def test_the_fallback_that_is_named_is_used_and_recorded(
    make_line: Callable[..., Line], drop: Callable[..., ImageKey], engines: Engines, kind: str
) -> None:
    if kind == "broken":
        engines.register_filler("lama", lambda: Broken("lama", lambda p, m: p))
    key = drop("a.png", encoded(photo("coffee", 64)), manifest=STEPS)
    settings = {"fill": "lama", "fallback": "telea", "gates": GATES}
    line = make_line(inpaint=settings, upscale={"max_scale": 1})
    record = inpainted(rescue(key, line))
    assert record.verdict is Verdict.REPAIRED
    (operation,) = record.operations
    assert operation.engine is not None
    assert operation.engine.name == "telea"
    assert record.notes[0].startswith("the fallback was used: ")
    assert unmade(key, line) is None
    # Once the engine is there, what the fallback made is stale.
    engines.register_filler(
        "lama", lambda: FakeFiller("lama", lambda p, m: painted(p, m, 90), model_id="good-2")
    )
    found = unmade(key, line)
    assert found is not None
    assert (found.version, found.why) == (Version.INPAINTED, "changed")


class BrokenDenoiser:
    """Its weights turn out to be wrong when it first works."""

    spec = EngineSpec(name="cleaner", kind="upscaler", model_id="fake-1", licence="MIT")

    def enlarge(self, tile: Any) -> Any:
        raise EngineUnavailable("weights_unfit", "the weights cannot be used", hint="Fetch them")


@pytest.mark.parametrize("fallback", [None, "nlmeans"])
@pytest.mark.parametrize("kind", ["missing", "broken"])
def test_a_denoiser_has_a_fallback_of_its_own(
    make_line: Callable[..., Line],
    drop: Callable[..., ImageKey],
    engines: Engines,
    kind: str,
    fallback: str | None,
) -> None:
    if kind == "broken":
        engines.register_denoiser("cleaner", lambda _: BrokenDenoiser())
    calm = photo("coffee", 64)
    noisy = np.clip(calm + np.random.default_rng(0).normal(0, 25, calm.shape), 0, 255)
    key = drop("a.png", encoded(noisy.astype(np.uint8)))
    settings = {
        "denoiser": "cleaner", "denoiser_fallback": fallback, "fallback": "nothing-of-the-kind",
        "max_scale": 1, "gates": {"psnr": 0, "ssim": -1, "haarpsi": 0},
    }  # fmt: skip
    passage = rescue(key, make_line(upscale=settings))
    record = next(s.record for s in passage.steps if s.record.version is Version.UPSCALED)
    if fallback is None:
        assert record.verdict is Verdict.NEEDS_REVIEW
        assert record.reason is not None
        assert record.reason.hint
        return
    (operation,) = record.operations
    assert operation.engine is not None
    assert (operation.name, operation.engine.name) == ("denoise", "nlmeans")
    assert record.notes[0].startswith("the fallback was used: ")


STAYS: dict[str, Any] = {"min_long_side": 1, "sharpen_below": 0.0}


@pytest.mark.parametrize(
    ("part", "settings"),
    [
        ("detext", {"fill": "magic"}),
        ("inpaint", {"fill": "magic"}),
        ("inpaint", {"fill": "magic", "fallback": "telea"}),
        ("inpaint", {"better": ["magic"]}),
        ("upscale", {**STAYS, "engine": "magic"}),
        ("upscale", {**STAYS, "engine": "magic", "fallback": "lanczos"}),
        ("upscale", {**STAYS, "better": ["magic"]}),
        ("upscale", {**STAYS, "mode": "creative", "creative_engine": "magic"}),
        ("upscale", {**STAYS, "denoiser": "magic"}),
        ("upscale", {**STAYS, "sharpener": "magic"}),
    ],
)
def test_an_engine_that_is_not_there_stops_no_photo_that_does_not_need_it(
    make_line: Callable[..., Line], drop: Callable[..., ImageKey], part: str, settings: Any
) -> None:
    key = drop("a.png", encoded(photo("coffee", 64)))
    line = make_line(**{"upscale": STAYS, part: settings})
    passage = rescue(key, line)
    assert [step.record.version for step in passage.steps] == list(Version)
    assert not passage.stopped
    assert not any("fallback" in note for step in passage.steps for note in step.record.notes)
    assert unmade(key, line) is None
    assert all(step.reused for step in rescue(key, line).steps)


def test_a_photo_that_waits_for_an_engine_is_made_once_it_is_there(
    make_line: Callable[..., Line], drop: Callable[..., ImageKey], engines: Engines
) -> None:
    key = drop("a.png", encoded(photo("coffee", 64)), manifest=STEPS)
    line = make_line(inpaint={"fill": "lama", "gates": GATES}, upscale=STAYS)
    assert inpainted(rescue(key, line)).verdict is Verdict.NEEDS_REVIEW
    waits = unmade(key, line)
    assert waits is not None
    assert waits.why == "stopped"
    engines.register_filler("lama", lambda: FakeFiller("lama", lambda p, m: painted(p, m, 90)))
    ready = unmade(key, line)
    assert ready is not None
    assert ready.why == "changed"
    assert inpainted(rescue(key, line)).verdict is Verdict.REPAIRED


def test_a_finder_of_things_is_not_replaced_by_a_fill(
    make_line: Callable[..., Line], drop: Callable[..., ImageKey]
) -> None:
    key = drop("a.png", encoded(photo("coffee", 64)))
    rule = {"detector": "magic", "action": "fill"}
    record = inpainted(
        rescue(key, make_line(inpaint={"fallback": "biharmonic", "objects": [rule]}))
    )
    assert record.verdict is Verdict.NEEDS_REVIEW
    assert record.settings["fallback"] == "biharmonic"


def test_a_region_is_read_by_the_fallback_of_the_text_detector(
    make_line: Callable[..., Line], drop: Callable[..., ImageKey]
) -> None:
    key = drop("a.png", encoded(photo("coffee", 64)), manifest=STEPS)
    line = make_line(
        detext={"detector": "magic", "fallback": "rapidocr"},
        inpaint={"fill": "telea", "fallback": "biharmonic", "gates": GATES},
        upscale=STAYS,
    )
    record = inpainted(rescue(key, line))
    assert record.verdict is Verdict.REPAIRED
    (operation,) = record.operations
    assert operation.engine is not None
    assert operation.engine.name == "telea"
    assert "'magic'" in record.notes[0]


def test_a_creative_engine_falls_back_to_a_conservative_one(
    make_line: Callable[..., Line], drop: Callable[..., ImageKey]
) -> None:
    key = drop("a.png", encoded(photo("coffee", 64)))
    settings = {
        "mode": "creative", "creative_engine": "dreams", "fallback": "lanczos",
        "min_long_side": 100, "gates": {"edge_fidelity": 0, "artifact_rate": 1, "psnr": 0},
    }  # fmt: skip
    passage = rescue(key, make_line(upscale=settings))
    record = next(s.record for s in passage.steps if s.record.version is Version.UPSCALED)
    (operation,) = record.operations
    assert operation.engine is not None
    assert operation.engine.name == "lanczos"
    assert operation.parameters["mode"] == "conservative"


# -- paid --------------------------------------------------------------------------------


class PaidFiller(FakeFiller):
    def fill(self, pixels: Any, mask: Any, **asked: Any) -> Any:
        account().pay(0.02)
        return super().fill(pixels, mask, **asked)


class PaidFinder:
    """Proposes what it was given, for a price."""

    spec = EngineSpec(name="finder", kind="object_detector", model_id="fake-1", licence="MIT")

    def __init__(self, *found: Proposal) -> None:
        self.found = list(found)

    def propose(self, pixels: Any) -> list[Proposal]:
        account().pay(0.5)
        account().calls += 1
        return self.found


@pytest.mark.parametrize("found", [True, False])
def test_finder_and_fill_are_both_in_the_cost(
    make_line: Callable[..., Line], drop: Callable[..., ImageKey], engines: Engines, found: bool
) -> None:
    pixels = photo("coffee", 64)
    mask = np.zeros(pixels.shape[:2], np.uint8)
    mask[8:18, 8:20] = 255
    filler = PaidFiller("vendor", lambda p, m: painted(p, m, 90))
    engines.register_filler("vendor", lambda: filler)
    finder = PaidFinder(*([Proposal("mug", 0.9, mask)] if found else []))
    engines.register_object_detector("finder", lambda: finder)
    rule = {"detector": "finder", "action": "fill", "keep_subject": False, "grow": 0}
    line = make_line(
        inpaint={"fill": "vendor", "gates": GATES, "objects": [rule], "text_first": None},
        upscale=STAYS,
    )
    record = inpainted(rescue(drop("a.png", encoded(pixels)), line))
    cost = 0.5 + 0.02 * filler.calls
    assert bool(filler.calls) is found
    assert record.measures["cost"] == pytest.approx(cost)
    assert sum(each.cost or 0 for each in record.operations) == pytest.approx(cost if found else 0)
    assert row_of(record)["cost"] == pytest.approx(cost)


# -- explained --------------------------------------------------------------------------


def test_every_line_of_the_choice_is_told(home: Home, engines: Engines) -> None:
    home.catalog_file.write_text("key,category\na.png,knit\n")
    policy = Policy.model_validate(
        {
            "inpaint": {"fill": "lama", "better": ["best"], "fallback": "telea"},
            "budget": {"seconds": 1.0},
            "routes": [
                {"name": "hero", "when": {"asset_type": "hero"}, "set": {"upscale": {"looks": 8}}},
                {"name": "web", "when": {"asset_type": "web"}, "set": {"upscale": {"looks": 2}}},
            ],
        }
    )
    data = encoded(photo("coffee", 64))
    manifest = Manifest.model_validate({"asset_type": "hero"})
    found = explain(data, ImageKey("a.png"), manifest, home, policy, engines)
    text = "\n".join(found.lines())
    assert "asset type: hero (by manifest)" in text
    assert "category: knit (by catalog.csv)" in text
    assert "criticality: nobody has said" in text
    assert "route 'hero' sets upscale.looks = 8" in text
    assert "route 'web' is not for it: asset_type is 'hero', not web" in text
    assert "'best' is not taken: nobody has measured it on this machine" in text
    assert "inpaint, fill: 'lama', but" in text
    assert "'telea' is used instead" in text
    assert "upscale, engine: 'sr' is ready" in text
    assert "mode" not in text
    assert "upscale, denoiser: 'nlmeans' is ready" in text
    assert json.loads(json.dumps(found.as_dict()))["routes"][0]["applies"] is True


@pytest.mark.parametrize(
    ("category", "told"),
    [
        ("shoes", "mode: creative, 'lanczos' enlarges"),
        ("knit", "mode: conservative, 'sr' enlarges: knit is always conservative"),
    ],
)
def test_a_creative_mode_is_told_with_who_it_is_not_for(
    home: Home, engines: Engines, category: str, told: str
) -> None:
    policy = Policy.model_validate({"upscale": {"mode": "creative", "creative_engine": "lanczos"}})
    manifest = Manifest.model_validate({"category": category})
    data = encoded(photo("coffee", 64))
    found = explain(data, ImageKey("a.png"), manifest, home, policy, engines)
    assert told in "\n".join(found.lines())
