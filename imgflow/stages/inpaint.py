"""inpainted: what a manifest or a reviewer marked, or a detector proposed, is filled."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgflow.engines.account import Account, accounting
from imgflow.engines.registry import Engines
from imgflow.engines.spec import EngineSpec
from imgflow.errors import BadMask
from imgflow.imaging.encode import decode_mask
from imgflow.imaging.masks import Mask, mask_box, polygon_mask
from imgflow.lineage.record import GateResult, Operation, Reason, Verdict
from imgflow.policy.manifest import Inpaint
from imgflow.policy.policy import InpaintSettings, Policy
from imgflow.stages.fill import Fill, Filling, fill_holes
from imgflow.stages.gates import judge, repair_gates
from imgflow.stages.objects import Thing, unwanted_objects
from imgflow.stages.stage import (
    Absent,
    Job,
    Outcome,
    Picture,
    Stage,
    in_role,
    passed_through,
    spec_of,
    store_mask,
)
from imgflow.stages.textfirst import erase_region

# Of a hole's surroundings, however large it is.
_MOST_CONTEXT = 1024
# The settings of text removal that it is guided by where text comes first.
_OF_DETEXT = ("detector", "eraser", "min_confidence", "mask_confidence")
# The settings that nothing hangs on but what is painted, what takes text off, and either.
_PAINTING = frozenset(
    {"fill", "context", "context_share", "feather", "colour_transfer", "texture_hints"}
)
_ERASING = frozenset({"text_first", "detext"})
_FILLING = _PAINTING | _ERASING | {"gates"}


@dataclass(frozen=True, slots=True)
class _Region:
    """A place to fill, and on whose word."""

    mask: Mask
    requested_by: str
    prompt: str | None = None
    negative_prompt: str | None = None
    seed: int | None = None
    preserve_edges: bool = False
    what: str = ""


@dataclass(frozen=True, slots=True)
class _Filled:
    """A region done: (H, W, 3|4) pixels, and what the record says of it. painted: by the fill."""

    pixels: NDArray[Any]
    operation: Operation
    gates: tuple[GateResult, ...]
    notes: tuple[str, ...]
    painted: bool


def inpaint(picture: Picture, job: Job) -> Outcome:
    """Fill the regions that the manifest's inpaint steps name, then the things that the policy
    wants gone, one after the other. What a rule says to ask about waits for a person.

    Raises BadMask for a mask that does not belong to this photo, EngineUnavailable.
    """
    steps = _steps(job)
    regions = [_of_step(picture, job, step) for step in steps]
    with in_role("objects"):
        things = unwanted_objects(picture, job)
    # What a person has marked is decided already.
    asked = [thing for thing in things.ask if not _decided(thing, regions)]
    if asked:
        return replace(_for_a_person(asked), unneeded=_FILLING)
    regions += [_of_thing(thing) for thing in things.fill if not _decided(thing, regions)]
    if not regions:
        return passed_through("no region to fill", _FILLING)
    settings = job.policy.inpaint
    everything = np.maximum.reduce([region.mask for region in regions])
    # Text is looked for in regions without a prompt.
    unneeded = _PAINTING | (_ERASING if all(region.prompt for region in regions) else set())
    outcome = Outcome(Verdict.REPAIRED)
    pixels = picture.pixels
    for region in regions:
        done = _erased(pixels, region, everything, job) or _filled(pixels, region, everything, job)
        pixels = done.pixels
        if done.painted:
            unneeded -= _PAINTING
        outcome = Outcome(
            Verdict.REPAIRED,
            pixels=pixels,
            operations=(*outcome.operations, done.operation),
            gates=(*outcome.gates, *done.gates),
            notes=(*outcome.notes, *done.notes),
            unneeded=unneeded,
        )
    return judge(outcome, (), accept_artifacts=settings.gates.accept_artifacts)


def _filled(before: NDArray[Any], region: _Region, everything: Mask, job: Job) -> _Filled:
    settings = job.policy.inpaint
    started = time.perf_counter()
    engine = job.engines.filler(settings.fill)
    prompt, hint = _prompt(region, engine.spec, job)
    fill = Fill(
        engine,
        _context(region.mask, settings),
        # Preserving edges: the fill's own tones stay as they are up to the rim.
        0 if region.preserve_edges else settings.feather,
        prompt=prompt,
        negative_prompt=region.negative_prompt,
        seed=region.seed,
        colour_transfer=settings.colour_transfer and not region.preserve_edges,
    )
    with accounting() as told:
        pixels = fill_holes(before, region.mask, fill)
        seconds = time.perf_counter() - started
        filling = Filling(before, region.mask, fill)
        gates = repair_gates(before, pixels, region.mask, everything, filling, settings.gates)
    own = engine.spec.own_parameters()
    parameters = {"context": fill.context, "feather": fill.feather, **own}
    if region.what:
        parameters["object"] = region.what
    if hint:
        parameters["texture_hint"] = hint
    operation = Operation(
        name="inpaint",
        engine=engine.spec.stamp(),
        requested_by=region.requested_by,
        parameters=parameters,
        seed=region.seed if told.seed is None else told.seed,
        prompt=prompt if told.prompt is None else told.prompt,
        negative_prompt=region.negative_prompt or told.negative_prompt,
        mask=store_mask(job.store, region.mask),
        device=told.device,
        dtype=told.dtype or str(pixels.dtype),
        endpoint=told.endpoint,
        cost=told.cost,
        seconds=round(seconds, 4),
    )
    notes = (*_ignored(region, fill, told), *told.notes)
    return _Filled(pixels, operation, tuple(gates), notes, painted=True)


def _erased(before: NDArray[Any], region: _Region, everything: Mask, job: Job) -> _Filled | None:
    """A region dominated by text, with the text taken off and the ground left; None where it is
    no such region, or the eraser does not do well enough."""
    settings = job.policy.inpaint
    if settings.text_first is None or region.prompt:
        return None
    started = time.perf_counter()
    with in_role("text"):
        erased = erase_region(before, region.mask, settings.text_first, job)
    if erased is None:
        return None
    gates = repair_gates(
        before, erased.pixels, erased.mask, everything, erased.repair, settings.gates
    )
    if any(gate.passed is False for gate in gates):
        return None
    parameters: dict[str, Any] = {"context": erased.repair.context}
    if region.what:
        parameters["object"] = region.what
    operation = Operation(
        name="remove_text",
        engine=erased.engine.stamp(),
        requested_by=region.requested_by,
        parameters=parameters,
        mask=store_mask(job.store, erased.mask),
        regions=list(erased.regions),
        dtype=str(before.dtype),
        seconds=round(time.perf_counter() - started, 4),
    )
    note = f"{erased.share:.0%} of a region to fill is text: the eraser took it off"
    return _Filled(erased.pixels, operation, tuple(gates), (note,), painted=False)


def _context(mask: Mask, settings: InpaintSettings) -> int:
    box = mask_box(mask)
    side = max(box.height, box.width) if box else 0
    return min(max(settings.context, round(settings.context_share * side)), _MOST_CONTEXT)


def _prompt(region: _Region, spec: EngineSpec, job: Job) -> tuple[str | None, str]:
    """What an engine is told to paint, and what the category adds to it."""
    if not spec.prompted:
        return region.prompt, ""
    words = job.manifest.traits().category.lower().replace("-", " ").split()
    hints = job.policy.inpaint.texture_hints
    hint = next((hints[word] for word in words if word in hints), "")
    both = ", ".join(each for each in (region.prompt, hint) if each)
    return both or None, hint


def _ignored(region: _Region, fill: Fill, told: Account) -> list[str]:
    spec = fill.engine.spec
    notes = []
    if region.prompt and not spec.prompted:
        notes.append(f"the engine '{spec.name}' takes no prompt: it was not used")
    if region.seed is not None and not spec.seeded and told.seed is None:
        notes.append(f"the engine '{spec.name}' takes no seed: its result is always the same")
    return notes


def _decided(thing: Thing, regions: Sequence[_Region]) -> bool:
    """Whether somebody has marked most of a thing already."""
    covered = sum(int(np.count_nonzero(thing.mask & region.mask)) for region in regions)
    return covered > int(np.count_nonzero(thing.mask)) / 2


def _of_thing(thing: Thing) -> _Region:
    return _Region(thing.mask, "policy", prompt=thing.rule.prompt or None, what=thing.label)


def _of_step(picture: Picture, job: Job, step: Inpaint) -> _Region:
    return _Region(
        _mask(picture, job, step),
        job.requester,
        prompt=step.prompt,
        negative_prompt=step.negative_prompt,
        seed=step.seed,
        preserve_edges=step.preserve_edges,
    )


def _for_a_person(things: Sequence[Thing]) -> Outcome:
    found = ", ".join(
        f"{thing.label} ({thing.confidence:.0%} sure, {thing.share:.1%} of the photo)"
        for thing in things
    )
    reason = Reason(
        code="objects_found",
        message=f"what may not belong in the photo was found: {found}",
        hint="Mark what is to go in an inpaint step of the manifest, or let the policy fill it "
        "(inpaint.objects, action: fill) or not look for it",
    )
    return Outcome(
        Verdict.NEEDS_REVIEW, reason=reason, measures={"objects_found": float(len(things))}
    )


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


def _asked(job: Job, unneeded: Collection[str] = ()) -> list[Any]:
    # A mask under an old name may have new bytes.
    asked: list[Any] = [
        {**step.model_dump(mode="json"), "mask_sha256": job.attachments.get(step.mask or "")}
        for step in _steps(job)
    ]
    settings = job.policy.inpaint
    reads = settings.text_first is not None and "detext" not in unneeded
    if reads and (asked or settings.objects):
        # What takes text off a region decides too, where there may be one.
        detext = job.policy.detext
        asked.append(
            [
                spec_of(lambda: job.engines.text_detector(detext.detector)).code_version,
                spec_of(lambda: job.engines.eraser(detext.eraser)).code_version,
                detext.min_confidence,
            ]
        )
    category = job.manifest.traits().category
    if category and asked and "texture_hints" not in unneeded:
        fill = spec_of(lambda: job.engines.filler(settings.fill))
        # What stands in for one that is not there may take prompts.
        if isinstance(fill, Absent) or fill.prompted:
            asked.append(category)
    return asked


def _engines(policy: Policy, engines: Engines) -> dict[str, list[EngineSpec | Absent]]:
    settings = policy.inpaint
    fills = dict.fromkeys([settings.fill, *settings.better])
    detectors = dict.fromkeys(rule.detector for rule in settings.objects)
    return {
        "fill": [spec_of(partial(engines.filler, name)) for name in fills],
        "objects": [
            spec_of(partial(engines.object_detector, name), "objects") for name in detectors
        ],
    }


def _settings(policy: Policy) -> dict[str, Any]:
    """The stage's own, and what it takes text off with."""
    if policy.inpaint.text_first is None:
        return policy.inpaint.as_dict()
    detext = policy.detext.as_dict()
    return {**policy.inpaint.as_dict(), "detext": {name: detext[name] for name in _OF_DETEXT}}


STAGE = Stage(
    code_version="3",
    run=inpaint,
    settings=_settings,
    engines=_engines,
    asked=_asked,
)
