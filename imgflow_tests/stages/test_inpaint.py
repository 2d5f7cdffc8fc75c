"""Regions and masks of a manifest are filled; a mask that does not belong is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from samples import FakeFiller, Pixels, encoded, painted, photo, psnr_at

from imgflow.engines.registry import Engines
from imgflow.errors import BadMask
from imgflow.lineage.record import Verdict
from imgflow.stages.inpaint import STAGE, inpaint
from imgflow.stages.stage import Job, Outcome, Picture

MakeJob = Callable[..., Job]
MakePicture = Callable[..., Picture]

CLEAN = photo("coffee", 320)
HEIGHT, WIDTH = CLEAN.shape[:2]


def mask(*boxes: tuple[int, int, int, int]) -> Pixels:
    drawn = np.zeros((HEIGHT, WIDTH), np.uint8)
    for top, left, bottom, right in boxes:
        drawn[top:bottom, left:right] = 255
    return drawn


BOX = (150, 270, 166, 290)
MASK = mask(BOX)
DAMAGED = painted(CLEAN, MASK, (0, 0, 255))
REGION = {"x": 270, "y": 150, "width": 20, "height": 16}


def manifest(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"job_id": "job-1", "steps": [{"op": "inpaint", **step} for step in steps]}


def run_with_mask(make_job: MakeJob, picture: MakePicture, data: bytes, **step: Any) -> Outcome:
    job = make_job(manifest=manifest({"mask": "m.png", **step}), masks={"m.png": data})
    return inpaint(picture(DAMAGED), job)


def test_without_a_step_the_photo_passes_through(make_job: MakeJob, picture: MakePicture) -> None:
    outcome = inpaint(picture(CLEAN), make_job())
    assert outcome.verdict is Verdict.PASSED_THROUGH
    assert outcome.pixels is None


@pytest.mark.parametrize("kind", ["mask", "region"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_is_marked_is_filled_and_the_rest_is_bit_exact(
    kind: str, dtype: Any, make_job: MakeJob, picture: MakePicture
) -> None:
    step = {"mask": "m.png"} if kind == "mask" else {"region": REGION}
    job = make_job(manifest=manifest(step), masks={"m.png": encoded(MASK)})
    scale = 257 if dtype == np.uint16 else 1
    damaged = DAMAGED.astype(dtype) * dtype(scale)
    outcome = inpaint(picture(damaged), job)
    assert outcome.verdict is Verdict.REPAIRED
    assert outcome.pixels is not None
    assert outcome.pixels.dtype == dtype
    assert np.array_equal(outcome.pixels[MASK == 0], damaged[MASK == 0])
    assert psnr_at(CLEAN, outcome.pixels // dtype(scale), MASK > 0) > 18
    (operation,) = outcome.operations
    assert operation.requested_by == "manifest:job-1"
    assert operation.mask is not None
    kept = Picture(job.store, operation.mask).pixels[:, :, 0]
    assert np.array_equal(kept, MASK), "the record names the mask that was used"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (encoded(MASK[:-1]), "mask_wrong_size"),
        (encoded(np.repeat(np.repeat(MASK, 2, 0), 2, 1)), "mask_wrong_size"),
        (encoded(np.zeros_like(MASK)), "mask_empty"),
        (encoded(np.full_like(MASK, 255)), "mask_full"),
        (b"<html>not found</html>", "mask_unreadable"),
        (b"", "mask_unreadable"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(
    data: bytes, code: str, make_job: MakeJob, picture: MakePicture
) -> None:
    with pytest.raises(BadMask) as error:
        run_with_mask(make_job, picture, data)
    assert error.value.code == code
    assert error.value.hint


def test_a_region_outside_the_photo_marks_nothing(make_job: MakeJob, picture: MakePicture) -> None:
    far = {"region": {"x": 5000, "y": 5000, "width": 10, "height": 10}}
    with pytest.raises(BadMask) as error:
        inpaint(picture(DAMAGED), make_job(manifest=manifest(far)))
    assert error.value.code == "mask_empty"


def test_a_mask_names_the_image_it_was_drawn_on(make_job: MakeJob, picture: MakePicture) -> None:
    step = manifest({"mask": "m.png", "mask_image_sha256": "a" * 64})
    masks = {"m.png": encoded(MASK)}
    fresh = make_job(manifest=step, masks=masks, known_hashes=frozenset(["a" * 64, "b" * 64]))
    assert inpaint(picture(DAMAGED), fresh).verdict is Verdict.REPAIRED
    stale = make_job(manifest=step, masks=masks, known_hashes=frozenset(["b" * 64]))
    with pytest.raises(BadMask) as error:
        inpaint(picture(DAMAGED), stale)
    assert error.value.code == "mask_stale"
    assert "m.png" in error.value.what


def test_two_steps_are_done_one_after_the_other(make_job: MakeJob, picture: MakePicture) -> None:
    other = (10, 200, 22, 216)
    second = {"region": {"x": 200, "y": 10, "width": 16, "height": 12}}
    damaged = painted(DAMAGED, mask(other), (0, 255, 0))
    outcome = inpaint(picture(damaged), make_job(manifest=manifest({"region": REGION}, second)))
    assert outcome.verdict is Verdict.REPAIRED
    assert outcome.pixels is not None
    assert len(outcome.operations) == 2
    assert len(outcome.gates) == 10
    both = mask(BOX, other)
    assert np.array_equal(outcome.pixels[both == 0], damaged[both == 0])
    assert psnr_at(CLEAN, outcome.pixels, both > 0) > 15


def test_preserving_edges_keeps_the_fills_own_tones(
    engines: Engines, make_job: MakeJob, picture: MakePicture
) -> None:
    lighter = FakeFiller("lighter", lambda crop, hole: np.clip(crop, 0, 225) + np.uint8(30))
    engines.register_filler("lighter", lambda: lighter)
    policy = {"inpaint": {"fill": "lighter", "gates": {"accept_artifacts": True}}}

    def filled(preserve: bool) -> tuple[Pixels, int]:
        step = manifest({"region": REGION, "preserve_edges": preserve})
        outcome = inpaint(picture(CLEAN), make_job(policy, manifest=step))
        assert outcome.pixels is not None
        return outcome.pixels, outcome.operations[0].parameters["feather"]

    (hard, no_feather), (joined, feather) = filled(True), filled(False)
    assert no_feather == 0 < feather
    own = np.clip(CLEAN, 0, 225) + np.uint8(30)
    assert np.array_equal(hard[MASK > 0], own[MASK > 0])
    assert not np.array_equal(joined[MASK > 0], own[MASK > 0])


def test_a_prompt_and_a_seed_that_no_engine_took_are_noted(
    make_job: MakeJob, picture: MakePicture
) -> None:
    step = manifest({"region": REGION, "prompt": "wood", "seed": 4})
    outcome = inpaint(picture(DAMAGED), make_job(manifest=step))
    assert any("takes no prompt" in note for note in outcome.notes)
    assert any("takes no seed" in note for note in outcome.notes)
    assert outcome.operations[0].prompt == "wood"
    assert outcome.operations[0].seed == 4


def test_an_engine_that_leaves_the_object_is_stopped(
    engines: Engines, make_job: MakeJob, picture: MakePicture
) -> None:
    """No OCR sees this: the probe must."""
    engines.register_filler("idle", lambda: FakeFiller("idle", lambda crop, hole: crop.copy()))
    job = make_job({"inpaint": {"fill": "idle"}}, manifest=manifest({"region": REGION}))
    outcome = inpaint(picture(DAMAGED), job)
    assert outcome.verdict is Verdict.QUARANTINED
    assert np.array_equal(outcome.rejected, DAMAGED)


def test_new_bytes_under_a_masks_name_are_another_request(make_job: MakeJob) -> None:
    step = manifest({"mask": "m.png"})
    one, other = (
        STAGE.asked(make_job(manifest=step, attachments={"m.png": each}), ()) for each in "ab"
    )
    assert one != other
