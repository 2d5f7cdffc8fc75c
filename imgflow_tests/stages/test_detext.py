"""Overlaid text goes, everything else stays, and what is not sure goes to a person."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from samples import (
    FakeDetector,
    FakeEraser,
    FakeFiller,
    Pixels,
    Stamped,
    painted,
    photo,
    psnr_at,
    stamp,
)

from imgflow.engines.registry import Engines
from imgflow.engines.spec import Found, TextMap
from imgflow.lineage.record import TextRegion, Verdict
from imgflow.stages.detext import detext
from imgflow.stages.stage import Job, Outcome, Picture

MakeJob = Callable[..., Job]
MakePicture = Callable[..., Picture]


@pytest.fixture
def detector(engines: Engines, stamped: Stamped) -> FakeDetector:
    """A detector that knows the stamp, in the place of OCR."""
    fake = FakeDetector(stamped)
    engines.register_text_detector("rapidocr", lambda: fake)
    return fake


def unsure_about(outcome: Outcome) -> str:
    """What a person is asked about: text that may be either, and the photo is untouched."""
    assert outcome.verdict is Verdict.NEEDS_REVIEW
    assert outcome.pixels is None
    assert outcome.reason is not None
    assert outcome.reason.code == "text_uncertain"
    return outcome.reason.message


def remove_text(**fields: Any) -> dict[str, Any]:
    return {"job_id": "job-7", "steps": [{"op": "remove_text", **fields}]}


@pytest.mark.usefixtures("detector")
def test_a_stamp_is_removed(stamped: Stamped, make_job: MakeJob, picture: MakePicture) -> None:
    job = make_job()
    outcome = detext(picture(stamped.pixels), job)
    assert outcome.verdict is Verdict.REPAIRED
    assert outcome.pixels is not None
    before = psnr_at(stamped.clean, stamped.pixels, stamped.changed)
    after = psnr_at(stamped.clean, outcome.pixels, stamped.changed)
    assert after > before + 6
    (operation,) = outcome.operations
    assert operation.engine is not None
    assert operation.engine.name == "eraser"
    assert operation.requested_by == "policy"
    assert operation.mask is not None
    assert [region.text for region in operation.regions] == [stamped.text]
    mask = Picture(job.store, operation.mask).pixels[:, :, 0]
    assert np.array_equal(outcome.pixels[mask == 0], stamped.pixels[mask == 0])
    gates = {each.name: each.passed for each in outcome.gates}
    assert gates == dict.fromkeys(
        ["no_residual_text", "psnr", "ssim", "haarpsi", "edge_continuity", "gain", "probed"], True
    )


def test_a_real_stamp_is_removed_with_real_ocr(
    stamped: Stamped, make_job: MakeJob, picture: MakePicture
) -> None:
    outcome = detext(picture(stamped.pixels), make_job(engines=Engines()))
    assert outcome.verdict is Verdict.REPAIRED
    assert outcome.pixels is not None
    assert psnr_at(stamped.clean, outcome.pixels, stamped.changed) > 15


@pytest.mark.usefixtures("detector")
@pytest.mark.parametrize("fill", ["telea", "navier-stokes", "biharmonic"])
def test_any_fill_of_the_policy_does(
    fill: str, stamped: Stamped, make_job: MakeJob, picture: MakePicture
) -> None:
    outcome = detext(picture(stamped.pixels), make_job({"detext": {"fill": fill}}))
    assert outcome.verdict is Verdict.REPAIRED
    assert outcome.operations[0].engine is not None
    assert outcome.operations[0].engine.name == fill


@pytest.mark.usefixtures("detector")
@pytest.mark.parametrize("kind", ["RGBA", "16 bit"])
def test_alpha_and_16_bits_are_kept(
    kind: str, stamped: Stamped, make_job: MakeJob, picture: MakePicture
) -> None:
    pixels: Pixels = stamped.pixels
    if kind == "RGBA":
        alpha = np.full((*pixels.shape[:2], 1), 255, np.uint8)
        alpha[-40:] = 0
        pixels = np.concatenate([pixels, alpha], axis=2)
    else:
        pixels = pixels.astype(np.uint16) * np.uint16(257)
    outcome = detext(picture(pixels), make_job())
    assert outcome.verdict is Verdict.REPAIRED
    assert outcome.pixels is not None
    assert outcome.pixels.dtype == pixels.dtype
    assert outcome.pixels.shape == pixels.shape
    assert np.array_equal(outcome.pixels[:, :, 3:], pixels[:, :, 3:])
    eight = outcome.pixels[:, :, :3] // (257 if kind == "16 bit" else 1)
    before = psnr_at(stamped.clean, stamped.pixels, stamped.changed)
    assert psnr_at(stamped.clean, eight, stamped.changed) > before + 6


@pytest.mark.usefixtures("detector")
def test_a_clean_photo_passes_through(make_job: MakeJob, picture: MakePicture) -> None:
    outcome = detext(picture(photo("coffee", 320)), make_job())
    assert outcome.verdict is Verdict.PASSED_THROUGH
    assert outcome.pixels is None
    assert outcome.operations == ()
    assert outcome.notes


@pytest.fixture
def half_read(engines: Engines, stamped: Stamped) -> Stamped:
    """A photo with two stamps, of which OCR reads the second alone."""
    both = stamp(stamped.pixels, "2021-11-30", at=(10, 8))
    engines.register_text_detector("rapidocr", lambda: FakeDetector(both))
    return both


def test_an_overlay_that_ocr_does_not_read_is_removed_where_another_one_is(
    half_read: Stamped, stamped: Stamped, make_job: MakeJob, picture: MakePicture
) -> None:
    outcome = detext(picture(half_read.pixels), make_job())
    assert outcome.verdict is Verdict.REPAIRED
    assert outcome.pixels is not None
    (operation,) = outcome.operations
    assert {(each.text, each.kind) for each in operation.regions} == {
        (half_read.text, "overlay"), ("", "overlay"),
    }  # fmt: skip
    before = psnr_at(stamped.clean, half_read.pixels, stamped.changed)
    assert psnr_at(stamped.clean, outcome.pixels, stamped.changed) > before + 6


def test_a_person_is_asked_about_the_only_text_where_ocr_cannot_read_it(
    stamped: Stamped, make_job: MakeJob, picture: MakePicture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The `engines` of these tests come with an OCR that reads nothing, and here the judges are in
    doubt."""
    monkeypatch.setattr("imgflow.stages.unread._CERTAIN", 1e6)
    outcome = detext(picture(stamped.pixels), make_job())
    assert "text that cannot be read (" in unsure_about(outcome)


def test_what_ocr_cannot_read_is_proven_gone_by_the_eraser(
    half_read: Stamped, engines: Engines, make_job: MakeJob, picture: MakePicture
) -> None:
    class Idle(FakeEraser):
        def restore(
            self, pixels: Pixels, mask: Pixels, *, opaque: bool = False, copies: object = None
        ) -> Pixels:
            return pixels.copy()

    engines.register_eraser("eraser", Idle)
    outcome = detext(picture(half_read.pixels), make_job())
    assert outcome.verdict is Verdict.QUARANTINED
    failed = {each.name for each in outcome.gates if each.passed is False}
    assert "no_residual_text" in failed
    assert outcome.reason is not None
    assert "text that cannot be read" in outcome.reason.message


@pytest.mark.parametrize(("count", "shows"), [(90, False), (250, True)])
def test_specks_are_no_text_that_still_shows(
    count: int,
    shows: bool,
    engines: Engines,
    stamped: Stamped,
    make_job: MakeJob,
    picture: MakePicture,
) -> None:
    """An eraser sees some strokes in any ground. Beside a stamp that OCR reads is a letter that it
    does not."""
    left, top, _, _ = map(round, stamped.box)
    both = stamp(stamped.pixels, "1", at=(left - 32, top - 5))

    class Again(FakeEraser):
        """Sees some pixels around the letter, once that is gone."""

        def find(self, pixels: Pixels, region: Pixels) -> Found:
            found = super().find(pixels, region)
            if not np.array_equal(pixels, both.pixels):
                rows, columns = np.nonzero(region[:, : left - 14])
                found.mask[rows[:count], columns[:count]] = 255
            return Found(found.mask, 1.0)

    engines.register_text_detector("rapidocr", lambda: FakeDetector(stamped))
    engines.register_eraser("eraser", Again)
    outcome = detext(picture(both.pixels), make_job())
    (operation,) = outcome.operations
    assert [each.text for each in operation.regions] == [stamped.text, ""]
    assert operation.parameters["filled_again"] == shows


@pytest.mark.parametrize(
    "detext_policy",
    [{"text": "none"}, {"keep": [{"x": 0.5, "y": 0, "width": 0.5, "height": 0.3}]}],
    ids=["none", "keep"],
)
def test_the_policy_may_keep_what_ocr_does_not_read(
    detext_policy: dict[str, Any], stamped: Stamped, make_job: MakeJob, picture: MakePicture
) -> None:
    outcome = detext(picture(stamped.pixels), make_job({"detext": detext_policy}))
    assert outcome.verdict is Verdict.PASSED_THROUGH
    assert outcome.pixels is None


def test_where_the_policy_leaves_text_alone_nobody_looks(
    detector: FakeDetector, stamped: Stamped, make_job: MakeJob, picture: MakePicture
) -> None:
    outcome = detext(picture(stamped.pixels), make_job({"detext": {"text": "none"}}))
    assert outcome.verdict is Verdict.PASSED_THROUGH
    assert detector.calls == 0


@pytest.mark.usefixtures("detector")
@pytest.mark.parametrize(
    "step",
    [{}, {"region": {"x": 150, "y": 0, "width": 170, "height": 60}}, {"hint": "date-stamp"}],
    ids=["all", "region", "hint"],
)
def test_a_manifest_asks_where_the_policy_does_not(
    step: dict[str, Any], stamped: Stamped, make_job: MakeJob, picture: MakePicture
) -> None:
    job = make_job({"detext": {"text": "none"}}, manifest=remove_text(**step))
    outcome = detext(picture(stamped.pixels), job)
    assert outcome.verdict is Verdict.REPAIRED
    assert outcome.operations[0].requested_by == "manifest:job-7"


@pytest.mark.usefixtures("detector")
@pytest.mark.parametrize(
    "step",
    [{"region": {"x": 5, "y": 150, "width": 60, "height": 30}}, {"hint": "url"}],
    ids=["region", "hint"],
)
def test_text_that_a_manifest_names_and_nobody_finds_goes_to_a_person(
    step: dict[str, Any], stamped: Stamped, make_job: MakeJob, picture: MakePicture
) -> None:
    outcome = detext(picture(stamped.pixels), make_job(manifest=remove_text(**step)))
    assert outcome.verdict is Verdict.NEEDS_REVIEW
    assert outcome.pixels is None
    assert outcome.reason is not None
    assert outcome.reason.code == "text_not_found"
    assert outcome.reason.hint


def test_text_whose_strokes_are_not_clear_goes_to_a_person(
    engines: Engines,
    detector: FakeDetector,
    stamped: Stamped,
    make_job: MakeJob,
    picture: MakePicture,
) -> None:
    class Doubting(FakeEraser):
        def find(self, pixels: Pixels, region: Pixels) -> Found:
            return replace(super().find(pixels, region), confidence=0.3)

    engines.register_eraser("eraser", Doubting)
    outcome = detext(picture(stamped.pixels), make_job({"detext": {"mask_confidence": 0.5}}))
    assert outcome.verdict is Verdict.NEEDS_REVIEW
    assert outcome.reason is not None
    assert outcome.reason.code == "mask_insufficient_contrast"
    assert stamped.text in outcome.reason.message


@pytest.mark.parametrize("least", [0.0, 0.35])
def test_text_without_a_single_stroke_is_a_failure_and_not_a_skip(
    least: float,
    monkeypatch: pytest.MonkeyPatch,
    engines: Engines,
    make_job: MakeJob,
    picture: MakePicture,
) -> None:
    flat = np.full((120, 200, 3), 120, np.uint8)
    invisible = stamp(flat, at=(40, 40), colour=(120, 120, 120))

    class Certain(FakeDetector):
        def detect(self, pixels: Pixels) -> list[TextRegion]:
            return [invisible.region]

    class Guessing(FakeEraser):
        """Sees print everywhere, and not a stroke."""

        def survey(self, pixels: Pixels) -> TextMap:
            print_ = np.full(pixels.shape[:2], 200, np.uint8)
            return TextMap(np.zeros_like(print_), print_)

    engines.register_text_detector("rapidocr", Certain)
    engines.register_eraser("eraser", Guessing)
    monkeypatch.setattr("imgflow.stages.text.judge", judged("overlay"))
    monkeypatch.setattr("imgflow.stages.text._BORNE_OUT", -100.0)
    outcome = detext(picture(flat), make_job({"detext": {"mask_confidence": least}}))
    assert outcome.verdict is Verdict.NEEDS_REVIEW
    assert outcome.reason is not None
    assert outcome.reason.code == "mask_insufficient_contrast"


def test_strokes_are_found_once_for_two_fills(
    engines: Engines,
    detector: FakeDetector,
    stamped: Stamped,
    make_job: MakeJob,
    picture: MakePicture,
) -> None:
    eraser = FakeEraser()
    engines.register_eraser("eraser", lambda: eraser)
    masks = []
    for fill in ("telea", "biharmonic"):
        outcome = detext(picture(stamped.pixels), make_job({"detext": {"fill": fill}}))
        masks.append(outcome.operations[0].mask)
    assert eraser.calls == 1
    assert masks[0] == masks[1]


def test_another_eraser_finds_strokes_anew(
    engines: Engines,
    detector: FakeDetector,
    stamped: Stamped,
    make_job: MakeJob,
    picture: MakePicture,
) -> None:
    detext(picture(stamped.pixels), make_job({"detext": {"fill": "telea"}}))
    other = FakeEraser(model_id="fake-2")
    engines.register_eraser("eraser", lambda: other)
    detext(picture(stamped.pixels), make_job({"detext": {"fill": "telea"}}))
    assert other.calls == 1


def judged(kind: str | None, text: str = "Lorem") -> Callable[..., list[TextRegion]]:
    """A judge that says the same of every text."""

    def judge(pixels: Pixels, regions: list[TextRegion], letters: TextMap) -> list[TextRegion]:
        update = {"kind": kind, "text": text, "score": 0.5, "reasons": ["flat colour"]}
        return [region.model_copy(update=update) for region in regions]

    return judge


@pytest.mark.usefixtures("detector")
def test_text_of_the_product_stays(
    monkeypatch: pytest.MonkeyPatch, stamped: Stamped, make_job: MakeJob, picture: MakePicture
) -> None:
    monkeypatch.setattr("imgflow.stages.text.judge", judged("product", "NORDWIND"))
    outcome = detext(picture(stamped.pixels), make_job())
    assert outcome.verdict is Verdict.PASSED_THROUGH
    assert outcome.notes == ("text of the product stays: 'NORDWIND'",)


@pytest.mark.usefixtures("detector")
def test_text_that_may_be_either_waits_for_a_person_untouched(
    monkeypatch: pytest.MonkeyPatch, stamped: Stamped, make_job: MakeJob, picture: MakePicture
) -> None:
    monkeypatch.setattr("imgflow.stages.text.judge", judged(None, "Lorem"))
    outcome = detext(picture(stamped.pixels), make_job())
    assert "'Lorem' (flat colour)" in unsure_about(outcome)


@pytest.mark.parametrize(
    ("text", "shift", "going"),
    [
        ("imagehub", 9, 2),
        ("hub", 9, 2),
        ("Nordwind", 9, 0),
        ("the next line", 1.3, 2),  # of the same text
    ],
)
def test_what_is_uncertain_goes_with_a_sure_mark_that_it_copies_or_goes_on_with(
    text: str,
    shift: float,
    going: int,
    monkeypatch: pytest.MonkeyPatch,
    engines: Engines,
    stamped: Stamped,
    make_job: MakeJob,
    picture: MakePicture,
) -> None:
    class Twice(FakeDetector):
        def detect(self, pixels: Pixels) -> list[TextRegion]:
            return [stamped.region, stamped.region] if pixels.shape == stamped.pixels.shape else []

    def judge(pixels: Pixels, regions: list[TextRegion], letters: TextMap) -> list[TextRegion]:
        sure, doubtful = regions
        corners = np.array(sure.polygon)
        below = corners + np.array([0, shift * np.ptp(corners[:, 1])])
        return [
            sure.model_copy(update={"kind": "overlay", "text": "imagehub", "score": 0.9}),
            doubtful.model_copy(update={"kind": None, "text": text, "polygon": below.tolist()}),
        ]

    engines.register_text_detector("rapidocr", Twice)
    monkeypatch.setattr("imgflow.stages.text.judge", judge)
    outcome = detext(picture(stamped.pixels), make_job({"detext": {"own_marks": ["imagehub"]}}))
    if going:
        assert [len(each.regions) for each in outcome.operations] == [going]
    else:
        assert outcome.verdict is Verdict.NEEDS_REVIEW


@pytest.mark.usefixtures("detector")
def test_marks_that_claim_rights_wait_unless_they_are_ours_or_a_person_asks(
    monkeypatch: pytest.MonkeyPatch, stamped: Stamped, make_job: MakeJob, picture: MakePicture
) -> None:
    monkeypatch.setattr("imgflow.stages.text.judge", judged("overlay", "(c) Ann Photography"))
    waiting = detext(picture(stamped.pixels), make_job())
    assert waiting.verdict is Verdict.NEEDS_REVIEW
    assert waiting.reason is not None
    assert waiting.reason.code == "rights_claimed"
    ours = make_job({"detext": {"own_marks": ["Ann Photography"]}})
    assert detext(picture(stamped.pixels), ours).verdict is Verdict.REPAIRED
    asked = detext(picture(stamped.pixels), make_job(person="ann"))
    assert asked.verdict is Verdict.REPAIRED
    assert asked.operations[0].regions[0].text == "(c) Ann Photography"


def test_detection_is_done_once_for_two_fills(
    detector: FakeDetector, stamped: Stamped, make_job: MakeJob, picture: MakePicture
) -> None:
    detext(picture(stamped.pixels), make_job())
    first = detector.calls
    detext(picture(stamped.pixels), make_job({"detext": {"fill": "biharmonic"}}))
    assert first == 2, "one look for text, one for what is left"
    assert detector.calls == first + 1, "the second time only for what is left"


@pytest.mark.usefixtures("detector")
def test_text_in_a_kept_area_stays(
    stamped: Stamped, make_job: MakeJob, picture: MakePicture
) -> None:
    keep = [{"x": 0.5, "y": 0, "width": 0.5, "height": 0.3}]
    outcome = detext(picture(stamped.pixels), make_job({"detext": {"keep": keep}}))
    assert outcome.verdict is Verdict.PASSED_THROUGH


@pytest.mark.parametrize("change", [{"confidence": 0.2}, {"text": "8"}])
def test_what_hardly_is_text_is_left(
    change: dict[str, Any],
    engines: Engines,
    stamped: Stamped,
    make_job: MakeJob,
    picture: MakePicture,
) -> None:
    class Doubtful(FakeDetector):
        def detect(self, pixels: Pixels) -> list[TextRegion]:
            return [stamped.region.model_copy(update=change)]

    class SeeingPrint(FakeEraser):
        """Nothing of it is drawn over the photo: letters that are would bear it out."""

        def survey(self, pixels: Pixels) -> TextMap:
            seen = super().survey(pixels)
            return TextMap(seen.product, seen.overlay)

    engines.register_text_detector("rapidocr", Doubtful)
    engines.register_eraser("eraser", SeeingPrint)
    assert detext(picture(stamped.pixels), make_job()).verdict is Verdict.PASSED_THROUGH


@pytest.mark.usefixtures("detector")
def test_artifacts_may_be_accepted(
    engines: Engines, stamped: Stamped, make_job: MakeJob, picture: MakePicture
) -> None:
    engines.register_filler(
        "grey", lambda: FakeFiller("grey", lambda crop, hole: painted(crop, hole, 128))
    )
    policy = {"detext": {"fill": "grey", "gates": {"accept_artifacts": True}}}
    outcome = detext(picture(stamped.pixels), make_job(policy))
    assert outcome.verdict is Verdict.ACCEPTED_WITH_ARTIFACTS
    assert outcome.pixels is not None
