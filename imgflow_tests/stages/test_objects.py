"""What does not belong is proposed, filled or asked about; the subject stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from samples import FakeDetector, FakeEraser, FakeFiller, encoded, painted, photo, stamp

from imgflow.engines.account import account
from imgflow.engines.registry import Engines
from imgflow.engines.spec import EngineSpec, Proposal
from imgflow.lineage.record import Verdict
from imgflow.stages.fill import Fill, fill_holes
from imgflow.stages.inpaint import STAGE, inpaint
from imgflow.stages.objects import unwanted_objects
from imgflow.stages.stage import Job, Picture

PIXELS = photo("coffee", 200)
SHAPE = PIXELS.shape[:2]
GATES = {
    "psnr": 0,
    "ssim": -1,
    "haarpsi": 0,
    "edge_continuity": 1000,
    "unprobed_area": 1,
    "gain": None,
}


def box(top: int, left: int, bottom: int, right: int) -> Any:
    mask = np.zeros(SHAPE, np.uint8)
    mask[top:bottom, left:right] = 255
    return mask


class Finder:
    spec = EngineSpec(name="finder", kind="object_detector", model_id="fake-1", licence="MIT")

    def __init__(self, *proposals: Proposal) -> None:
        self.proposals = list(proposals)
        self.calls = 0

    def propose(self, pixels: Any) -> list[Proposal]:
        self.calls += 1
        return self.proposals


SMALL = Proposal("person", 0.9, box(10, 10, 30, 22))
LARGE = Proposal("person", 0.9, box(30, 70, 110, 130))


@pytest.fixture
def job(make_job: Callable[..., Job], engines: Engines) -> Callable[..., Job]:
    """job(proposals, rule={...}, inpaint={...}, manifest=...)."""

    def build(*proposals: Proposal, rule: Any = None, inpaint: Any = None, **fields: Any) -> Job:
        engines.register_object_detector("finder", lambda: Finder(*proposals))
        rules = [{"detector": "finder", "action": "fill", "grow": 0, **(rule or {})}]
        policy = {"inpaint": {"objects": rules, "gates": GATES, **(inpaint or {})}}
        return make_job(policy, **fields)

    return build


def test_what_the_rule_says_to_fill_is_filled(
    job: Callable[..., Job], picture: Callable[..., Picture]
) -> None:
    outcome = inpaint(picture(PIXELS), job(SMALL))
    assert outcome.verdict is Verdict.REPAIRED
    assert outcome.pixels is not None
    outside = SMALL.mask == 0
    np.testing.assert_array_equal(outcome.pixels[outside], PIXELS[outside])
    (operation,) = outcome.operations
    assert operation.requested_by == "policy"
    assert operation.parameters["object"] == "person"


def test_what_the_rule_says_to_ask_about_waits(
    job: Callable[..., Job], picture: Callable[..., Picture]
) -> None:
    outcome = inpaint(picture(PIXELS), job(SMALL, rule={"action": "ask"}))
    assert outcome.verdict is Verdict.NEEDS_REVIEW
    assert outcome.reason is not None
    assert outcome.reason.code == "objects_found"
    assert "person (90% sure" in outcome.reason.message


def test_the_subject_stays_and_people_behind_it_go(
    job: Callable[..., Job], picture: Callable[..., Picture]
) -> None:
    outcome = inpaint(picture(PIXELS), job(LARGE, SMALL))
    assert len(outcome.operations) == 1
    assert outcome.pixels is not None
    subject = LARGE.mask > 0
    np.testing.assert_array_equal(outcome.pixels[subject], PIXELS[subject])


def test_who_is_nearly_as_large_as_the_subject_stays_too(
    job: Callable[..., Job], picture: Callable[..., Picture]
) -> None:
    beside = Proposal("person", 0.9, box(40, 135, 110, 180))
    outcome = inpaint(picture(PIXELS), job(LARGE, beside))
    assert outcome.verdict is Verdict.PASSED_THROUGH


def test_what_is_large_is_never_filled_unasked(
    job: Callable[..., Job], picture: Callable[..., Picture]
) -> None:
    outcome = inpaint(picture(PIXELS), job(LARGE, rule={"keep_subject": False, "max_area": 0.1}))
    assert outcome.verdict is Verdict.NEEDS_REVIEW


@pytest.mark.parametrize(
    "rule", [{"labels": ["dog"]}, {"min_confidence": 0.95}], ids=["label", "confidence"]
)
def test_what_the_rule_is_not_about_stays(
    job: Callable[..., Job], picture: Callable[..., Picture], rule: dict[str, Any]
) -> None:
    assert inpaint(picture(PIXELS), job(SMALL, rule=rule)).verdict is Verdict.PASSED_THROUGH


def test_things_that_touch_are_filled_as_one(
    job: Callable[..., Job], picture: Callable[..., Picture]
) -> None:
    other = Proposal("bag", 0.8, box(28, 15, 40, 30))
    apart = Proposal("bag", 0.8, box(100, 160, 110, 180))
    outcome = inpaint(picture(PIXELS), job(SMALL, other, apart, rule={"grow": 2}))
    assert [each.parameters["object"] for each in outcome.operations] == ["person + bag", "bag"]


def test_what_a_person_has_marked_is_not_asked_about_again(
    job: Callable[..., Job], picture: Callable[..., Picture]
) -> None:
    region = {"x": 8, "y": 8, "width": 18, "height": 26}
    manifest = {"steps": [{"op": "inpaint", "region": region}]}
    outcome = inpaint(picture(PIXELS), job(SMALL, rule={"action": "ask"}, manifest=manifest))
    assert outcome.verdict is Verdict.REPAIRED
    assert len(outcome.operations) == 1


def test_the_detector_decides_the_version(job: Callable[..., Job]) -> None:
    made = job(SMALL)
    names = [spec.code_version for spec in STAGE.engines_for(made.policy, made.engines)]
    assert "finder:fake-1" in names


def test_things_are_looked_for_once_for_a_picture_and_a_detector(
    job: Callable[..., Job], picture: Callable[..., Picture], engines: Engines
) -> None:
    made, photo_of = job(), picture(PIXELS)
    first = Finder(SMALL, LARGE)
    engines.register_object_detector("finder", lambda: first)
    found = unwanted_objects(photo_of, made)
    again = unwanted_objects(photo_of, made)
    assert first.calls == 1
    for one, other in zip(found.fill, again.fill, strict=True):
        assert (one.label, one.confidence) == (other.label, other.confidence)
        np.testing.assert_array_equal(one.mask, other.mask)
    unwanted_objects(picture(PIXELS[::-1].copy()), made)
    assert first.calls == 2
    # Other parameters are another detector.
    other_settings = Finder(LARGE)
    other_settings.spec = replace(Finder.spec, parameters=(("min_score", 0.9),))
    engines.register_object_detector("finder", lambda: other_settings)
    unwanted_objects(photo_of, made)
    assert other_settings.calls == 1


# -- prompts, tones, context ------------------------------------------------------------


class Prompted(FakeFiller):
    """Tells what it was asked to paint."""

    def __init__(self) -> None:
        super().__init__("prompted", lambda pixels, mask: painted(pixels, mask, 128))
        self.spec = EngineSpec(
            name="prompted",
            kind="filler",
            model_id="fake-1",
            licence="MIT",
            tiling="crop",
            prompted=True,
            seeded=True,
        )
        self.prompts: list[Any] = []

    def fill(self, pixels: Any, mask: Any, **asked: Any) -> Any:
        self.prompts.append(asked["prompt"])
        account().seed, account().device, account().calls = 11, "cuda:0", 1
        account().pay(0.5)
        return super().fill(pixels, mask, **asked)


def test_fabrics_get_a_hint_and_the_record_has_seed_device_and_cost(
    job: Callable[..., Job], picture: Callable[..., Picture], engines: Engines
) -> None:
    engine = Prompted()
    engines.register_filler("prompted", lambda: engine)
    made = job(
        SMALL,
        rule={"prompt": "a sleeve"},
        inpaint={"fill": "prompted", "texture_hints": {"knit": "even stitches"}},
        manifest={"category": "kids-knit"},
    )
    outcome = inpaint(picture(PIXELS), made)
    assert set(engine.prompts) == {"a sleeve, even stitches"}
    (operation,) = outcome.operations
    assert operation.prompt == "a sleeve, even stitches"
    assert operation.parameters["texture_hint"] == "even stitches"
    assert (operation.seed, operation.device) == (11, "cuda:0")
    # The probes are paid for as well.
    assert operation.cost == 0.5 * engine.calls


def test_a_fill_that_is_off_in_tone_is_brought_to_its_surroundings() -> None:
    grey = np.full((80, 80, 3), 100, np.uint8)
    chance = np.random.default_rng(0)
    grey = (grey + chance.integers(-8, 9, grey.shape)).astype(np.uint8)
    mask = np.zeros((80, 80), np.uint8)
    mask[20:60, 20:60] = 255
    brighter = FakeFiller("off", lambda pixels, _: (pixels.astype(int) + 40).astype(np.uint8))
    with_transfer, without = (
        fill_holes(grey, mask, Fill(brighter, 16, 2, colour_transfer=each))
        for each in (True, False)
    )
    middle = (slice(35, 45), slice(35, 45))
    assert abs(float(with_transfer[middle].mean()) - 100) < 3
    assert float(without[middle].mean()) > 130


def test_a_large_hole_is_seen_with_more_around_it(
    job: Callable[..., Job], picture: Callable[..., Picture]
) -> None:
    contexts = [
        inpaint(picture(PIXELS), job(SMALL, inpaint={"context": 8, "context_share": share}))
        .operations[0]
        .parameters["context"]
        for share in (0.0, 1.0)
    ]
    assert contexts == [8, 20]


# -- text first -------------------------------------------------------------------------


def test_a_region_that_is_mostly_text_goes_to_the_eraser(
    make_job: Callable[..., Job], picture: Callable[..., Picture], engines: Engines
) -> None:
    stamped = stamp(photo("rocket", 320), at=(195, 8))
    engines.register_text_detector("rapidocr", lambda: FakeDetector(stamped))
    engines.register_eraser("eraser", FakeEraser)
    left, top, right, bottom = (round(side) for side in stamped.box)
    region = {"x": left, "y": top, "width": right - left, "height": bottom - top}
    step = {"op": "inpaint", "region": region}
    policy = {"inpaint": {"gates": GATES}}
    outcome = inpaint(picture(stamped.pixels), make_job(policy, manifest={"steps": [step]}))
    assert [each.name for each in outcome.operations] == ["remove_text"]
    assert "is text" in outcome.notes[0]
    prompted = {**step, "prompt": "sky"}
    outcome = inpaint(picture(stamped.pixels), make_job(policy, manifest={"steps": [prompted]}))
    assert [each.name for each in outcome.operations] == ["inpaint"]
    never = {"inpaint": {"gates": GATES, "text_first": None}}
    outcome = inpaint(picture(stamped.pixels), make_job(never, manifest={"steps": [step]}))
    assert [each.name for each in outcome.operations] == ["inpaint"]


def test_a_region_without_text_is_filled(
    make_job: Callable[..., Job], picture: Callable[..., Picture]
) -> None:
    region = {"x": 20, "y": 20, "width": 20, "height": 20}
    manifest = {"steps": [{"op": "inpaint", "region": region}]}
    outcome = inpaint(picture(PIXELS), make_job({"inpaint": {"gates": GATES}}, manifest=manifest))
    assert [each.name for each in outcome.operations] == ["inpaint"]
    assert encoded(np.asarray(outcome.pixels))
