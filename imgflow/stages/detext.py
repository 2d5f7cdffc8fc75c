"""detexted: overlaid text found, its strokes erased, and proven gone."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgflow.engines.registry import Engines
from imgflow.engines.spec import EngineSpec, TextDetector
from imgflow.errors import EngineUnavailable
from imgflow.imaging.colour import flatten
from imgflow.imaging.layers import still_shows
from imgflow.imaging.masks import Mask, dilate, polygon_box, polygon_mask
from imgflow.lineage.record import GateResult, Operation, Reason, TextRegion, Verdict
from imgflow.policy.manifest import RemoveText
from imgflow.policy.policy import DetextSettings, Policy
from imgflow.stages.erase import Restoring, find_strokes, restore, strokes_of, text_area
from imgflow.stages.fill import Fill, Filling, fill_holes
from imgflow.stages.gates import judge, repair_gates
from imgflow.stages.probe import Repair
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
from imgflow.stages.text import Selection, detect_text, readers, residual_text, select_unwanted
from imgflow.stages.unread import UNSEEN

# Where text still shows after the first pass, the second looks this much farther around it.
_FARTHER = 2.0
# Share of its strokes that are seen again, and of it that still shows under them, from which on
# text that nobody can read counts as left: an eraser sees more than people do.
_LEFT, _SHOWS = 0.5, 0.5
# So few pixels of strokes, with their fringe, are at most a letter or two.
_SPECK = 100
# Pixels by which the second pass masks more around the strokes.
_WIDER = 2
# The settings that nothing hangs on but how text is taken off, and how it is looked for.
_REMOVING = frozenset({"fill", "context", "feather", "gates", "mask_confidence"})
_LOOKING = frozenset({"own_marks", "detector", "eraser", "min_confidence", "keep"})


def detext(picture: Picture, job: Job) -> Outcome:
    """Remove overlaid text from a picture. Most photos have none: then nothing happens.

    Raises EngineUnavailable.
    """
    settings = job.policy.detext
    if settings.text == "none" and not _asked(job):
        return passed_through("the policy leaves text alone", _LOOKING | _REMOVING)
    started = time.perf_counter()
    detector = job.engines.text_detector(settings.detector)
    regions = detect_text(picture, job, detector)
    selection = select_unwanted(regions, picture.view, job, detector)
    if selection.unanswered:
        return replace(_text_not_found(selection.unanswered), unneeded=_REMOVING)
    measures = {"text_regions": float(len(regions)), "overlays": float(len(selection.unwanted))}
    if selection.uncertain or selection.claimed:
        return replace(_for_a_person(selection, measures), unneeded=_REMOVING)
    if not selection.unwanted:
        return passed_through(_nothing_to_remove(regions), _REMOVING, **measures)

    unwanted = [each.region for each in selection.unwanted]
    height, width = picture.pixels.shape[:2]
    removal = _remove(picture, text_area(unwanted, height, width), job)
    residual = _residual(picture.pixels, removal, unwanted, detector, job)
    twice = bool(residual)
    if twice:
        removal = _fill_residual(removal, residual, job)
        residual = _residual(picture.pixels, removal, unwanted, detector, job)
    measures["mask_confidence"] = round(removal.confidence, 4)
    # A copy of a mark may have been seen where there is none: what is still there OCR reads.
    marked = any(_is_marked(each, removal.mask) for each in unwanted)
    if not marked or removal.confidence < settings.mask_confidence:
        unclear = _strokes_not_clear([each.text for each in unwanted], settings, measures)
        return replace(unclear, unneeded=frozenset({"gates"}))

    operation = Operation(
        name="remove_text",
        engine=removal.engine.stamp(),
        requested_by=", ".join(sorted({each.requested_by for each in selection.unwanted})),
        parameters={
            "detector": detector.spec.code_version,
            "strokes": job.engines.eraser(settings.eraser).spec.code_version,
            "context": removal.repair.context,
            "filled_again": twice,
        },
        mask=store_mask(job.store, removal.mask),
        regions=unwanted,
        dtype=str(removal.pixels.dtype),
        seconds=round(time.perf_counter() - started, 4),
    )
    outcome = Outcome(
        Verdict.REPAIRED,
        pixels=removal.pixels,
        operations=(operation,),
        measures=measures,
        # The eraser has a context of its own, and joins without a seam.
        unneeded=frozenset({"context", "feather"} if settings.fill == settings.eraser else ()),
    )
    # Between the strokes of what was removed the ground is clean.
    staying = [region for region in regions if region not in unwanted]
    unclean = dilate(_text_areas(staying, removal.mask), 4)
    gates = [
        _residual_gate([each.text for each in residual]),
        *repair_gates(
            picture.pixels, removal.pixels, removal.mask, unclean, removal.repair, settings.gates
        ),
    ]
    return judge(outcome, gates, accept_artifacts=settings.gates.accept_artifacts)


@dataclass(frozen=True, slots=True)
class _Removal:
    """Text taken off a picture, and how a probe can do the same.

    pixels: (H, W, 3|4), bit-exact outside `mask`. engine: what made the pixels under it.
    """

    pixels: NDArray[Any]
    mask: Mask
    confidence: float
    engine: EngineSpec
    repair: Repair


def _remove(picture: Picture, area: Mask, job: Job) -> _Removal:
    """Strokes found by the eraser; what is under them restored by the eraser too, or by the fill
    that the policy names instead."""
    eraser = job.engines.eraser(job.policy.detext.eraser)
    before = picture.pixels
    found = find_strokes(picture, area, job, eraser)
    if job.policy.detext.fill == job.policy.detext.eraser:
        pixels = restore(before, found.mask, eraser)
        repair: Repair = Restoring(before, pixels, found.mask, eraser)
        return _Removal(pixels, found.mask, found.confidence, eraser.spec, repair)
    fill = _fill(job)
    pixels = fill_holes(before, found.mask, fill)
    repair = Filling(before, found.mask, fill)
    return _Removal(pixels, found.mask, found.confidence, fill.engine.spec, repair)


def _fill_residual(removal: _Removal, residual: Sequence[TextRegion], job: Job) -> _Removal:
    """A removal after which text still shows in places: there more is masked, and nothing that
    shows through is believed any more."""
    settings = job.policy.detext
    eraser = job.engines.eraser(settings.eraser)
    height, width = removal.mask.shape
    area = text_area(residual, height, width, _FARTHER)
    left = strokes_of(removal.pixels, area, eraser).mask
    mask = dilate((removal.mask | left) & area, _WIDER)
    if settings.fill == settings.eraser:
        pixels = restore(removal.pixels, mask, eraser, opaque_text=True)
    else:
        pixels = fill_holes(removal.pixels, mask, _fill(job))
    return replace(removal, pixels=pixels, mask=removal.mask | mask)


def _fill(job: Job) -> Fill:
    settings = job.policy.detext
    with in_role("fill"):
        engine = job.engines.filler(settings.fill)
    return Fill(engine, settings.context, settings.feather)


def _residual(
    before: NDArray[Any],
    removal: _Removal,
    unwanted: Sequence[TextRegion],
    detector: TextDetector,
    job: Job,
) -> list[TextRegion]:
    """Text that still shows: to OCR, or, where OCR could not read it before and so cannot miss it
    now, to the eraser, which sees most of the strokes again, or others."""
    seen = flatten(removal.pixels, (255, 255, 255))
    left = residual_text(seen, unwanted, detector, job.policy.detext)
    unread = [region for region in unwanted if not region.text or UNSEEN in region.reasons]
    if not unread:
        return left
    height, width = removal.mask.shape
    eraser = job.engines.eraser(job.policy.detext.eraser)
    again = strokes_of(removal.pixels, text_area(unread, height, width), eraser).mask
    for region in unread:
        area = text_area([region], height, width)
        here, known = again & area, removal.mask & area
        most = max(_LEFT * np.count_nonzero(known), _SPECK)
        shows = still_shows(before, removal.pixels, known) > _SHOWS
        if np.count_nonzero(here if shows else here & ~known) > most:
            left.append(region)
    return left


def _is_marked(region: TextRegion, mask: Mask) -> bool:
    """Whether strokes of a region were found."""
    return bool(mask[polygon_box(np.array(region.polygon), *mask.shape).slices].any())


def _text_areas(regions: Sequence[TextRegion], mask: Mask) -> Mask:
    return polygon_mask((np.array(region.polygon) for region in regions), *mask.shape)


def _nothing_to_remove(regions: Sequence[TextRegion]) -> str:
    product = [region.text for region in regions if region.kind == "product"]
    if not product:
        return "no text to remove"
    return f"text of the product stays: {_quoted(product[:5])}"


def _residual_gate(residual: Sequence[str]) -> GateResult:
    """residual: what OCR still reads."""
    return GateResult(
        name="no_residual_text",
        metric="residual_text",
        value=float(len(residual)),
        threshold=0.0,
        passed=not residual,
        note=f"OCR still reads {_quoted(residual)} where text was removed" if residual else "",
    )


def _quoted(texts: Sequence[str]) -> str:
    return ", ".join(f"'{text}'" if text else "text that cannot be read" for text in texts)


def _text_not_found(steps: Sequence[RemoveText]) -> Outcome:
    where = "; ".join(
        f"region {step.region.model_dump(exclude_none=True)}"
        if step.region
        else f"hint {step.hint}"
        for step in steps
    )
    reason = Reason(
        code="text_not_found",
        message=f"the manifest asks to remove text, but none was found ({where})",
        hint="Correct the region, or give the text as an inpaint step with a mask",
    )
    return Outcome(Verdict.NEEDS_REVIEW, reason=reason)


def _for_a_person(selection: Selection, measures: dict[str, float]) -> Outcome:
    """Text that only a person can decide about: the photo waits, untouched."""
    if selection.claimed:
        reason = Reason(
            code="rights_claimed",
            message=f"text over the photo claims rights: "
            f"{_quoted([region.text for region in selection.claimed])}",
            hint="If the photo is yours to use, list the mark under detext.own_marks in the "
            "policy, or remove it with `imgflow detext` or a manifest",
        )
    else:
        unsure = ", ".join(
            f"{_quoted([region.text])} ({'; '.join(region.reasons)})"
            for region in selection.uncertain
        )
        reason = Reason(
            code="text_uncertain",
            message=f"text may be an overlay or belong to the product: {unsure}",
            hint="Name it in a manifest (remove_text with its region), or protect the place with "
            "detext.keep in the policy",
        )
    return Outcome(Verdict.NEEDS_REVIEW, reason=reason, measures=measures)


def _strokes_not_clear(
    texts: Sequence[str], settings: DetextSettings, measures: dict[str, float]
) -> Outcome:
    reason = Reason(
        code="mask_insufficient_contrast",
        message=f"text was found but hardly stands out from the photo: {_quoted(texts)} "
        f"(clearness {measures['mask_confidence']:g}, needed {settings.mask_confidence:g})",
        hint="Paint a mask over the text and give it as an inpaint step",
    )
    return Outcome(Verdict.NEEDS_REVIEW, reason=reason, measures=measures)


def _asked(job: Job, unneeded: Collection[str] = ()) -> list[Any]:
    return [
        step.model_dump(mode="json") for step in job.manifest.steps if isinstance(step, RemoveText)
    ]


def _engines(policy: Policy, engines: Engines) -> dict[str, list[EngineSpec | Absent]]:
    settings = policy.detext
    reading: list[EngineSpec | Absent] = []
    try:
        detector, eraser = engines.text_detector(settings.detector), engines.eraser(settings.eraser)
        reading += readers(detector, eraser)
    except EngineUnavailable as error:
        reading.append(Absent(error))
    if settings.fill == settings.eraser:
        return {"detector": reading}
    return {
        "detector": reading,
        "fill": [spec_of(lambda: engines.filler(settings.fill), "fill")],
    }


STAGE = Stage(
    code_version="15",
    run=detext,
    settings=lambda policy: policy.detext.as_dict(),
    engines=_engines,
    asked=_asked,
)
