"""inpainted: what a manifest or a reviewer marked is filled."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from imgflow.errors import BadMask
from imgflow.imaging.encode import decode_mask
from imgflow.imaging.masks import Mask, polygon_mask
from imgflow.lineage.record import Operation, Verdict
from imgflow.policy.manifest import Inpaint
from imgflow.stages.fill import Fill, Filling, fill_holes
from imgflow.stages.gates import judge, repair_gates
from imgflow.stages.stage import (
    Job,
    Outcome,
    Picture,
    Stage,
    passed_through,
    store_mask,
)


def inpaint(picture: Picture, job: Job) -> Outcome:
    """Fill the regions that the manifest's inpaint steps name, one after the other.

    Raises BadMask for a mask that does not belong to this photo, EngineUnavailable.
    """
    steps = _steps(job)
    if not steps:
        return passed_through("no region to fill")
    settings = job.policy.inpaint
    masks = [_mask(picture, job, step) for step in steps]
    everything = np.maximum.reduce(masks)
    outcome = Outcome(Verdict.REPAIRED)
    pixels = picture.pixels
    for step, mask in zip(steps, masks, strict=True):
        started = time.perf_counter()
        fill = Fill(
            job.engines.filler(settings.fill),
            settings.context,
            # Preserving edges: the fill's own tones stay as they are up to the rim.
            0 if step.preserve_edges else settings.feather,
            prompt=step.prompt,
            negative_prompt=step.negative_prompt,
            seed=step.seed,
        )
        before = pixels
        pixels = fill_holes(before, mask, fill)
        operation = Operation(
            name="inpaint",
            engine=fill.engine.spec.stamp(),
            requested_by=job.requester,
            parameters={"context": fill.context, "feather": fill.feather},
            seed=step.seed,
            prompt=step.prompt,
            negative_prompt=step.negative_prompt,
            mask=store_mask(job.store, mask),
            dtype=str(pixels.dtype),
            seconds=round(time.perf_counter() - started, 4),
        )
        outcome = Outcome(
            Verdict.REPAIRED,
            pixels=pixels,
            operations=(*outcome.operations, operation),
            gates=(
                *outcome.gates,
                *repair_gates(
                    before, pixels, mask, everything, Filling(before, mask, fill), settings.gates
                ),
            ),
            notes=(*outcome.notes, *_ignored(step, fill)),
        )
    return judge(outcome, (), accept_artifacts=settings.gates.accept_artifacts)


def _ignored(step: Inpaint, fill: Fill) -> list[str]:
    spec = fill.engine.spec
    notes = []
    if step.prompt and not spec.prompted:
        notes.append(f"the engine '{spec.name}' takes no prompt: it was not used")
    if step.seed is not None and not spec.seeded:
        notes.append(f"the engine '{spec.name}' takes no seed: its result is always the same")
    return notes


def _steps(job: Job) -> list[Inpaint]:
    return [step for step in job.manifest.steps if isinstance(step, Inpaint)]


def _mask(picture: Picture, job: Job, step: Inpaint) -> Mask:
    height, width = picture.pixels.shape[:2]
    if step.region is not None:
        mask = polygon_mask([step.region.polygon_points()], height, width)
        what = "the region of an inpaint step"
    else:
        assert step.mask is not None  # the manifest has exactly one of the two
        _require_same_image(job, step)
        mask = decode_mask(job.masks[step.mask])
        what = f"the mask {step.mask}"
        if mask.shape != (height, width):
            raise BadMask(
                "mask_wrong_size",
                f"{what} is {mask.shape[1]} x {mask.shape[0]} pixels, the photo is "
                f"{width} x {height}",
                hint="Paint the mask on this photo, upright and at its full size; "
                "masks are never resized",
            )
    if not mask.any():
        raise BadMask(
            "mask_empty",
            f"{what} marks no pixel of the photo",
            hint="White (255) marks what is to be filled",
        )
    if mask.all():
        raise BadMask(
            "mask_full",
            f"{what} marks the whole photo: nothing is left to fill it from",
            hint="White (255) marks what is to be filled, black the rest",
        )
    return mask


def _require_same_image(job: Job, step: Inpaint) -> None:
    drawn_on = step.mask_image_sha256
    if drawn_on is not None and drawn_on not in job.known_hashes:
        raise BadMask(
            "mask_stale",
            f"the mask {step.mask} was drawn on another image (sha256 {drawn_on[:12]}...)",
            hint="Paint the mask again on the photo as it is now",
        )


def _asked(job: Job) -> list[Any]:
    # A mask under an old name may have new bytes.
    return [
        {**step.model_dump(mode="json"), "mask_sha256": job.attachments.get(step.mask or "")}
        for step in _steps(job)
    ]


STAGE = Stage(
    code_version="1",
    run=inpaint,
    settings=lambda policy: policy.inpaint.as_dict(),
    engines=lambda policy, engines: [engines.filler(policy.inpaint.fill).spec],
    asked=_asked,
)
