"""detexted: overlaid text found, masked stroke by stroke, filled, and proven gone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.imaging.colour import flatten
from imgflow.imaging.masks import Mask, dilate, polygon_mask
from imgflow.imaging.strokes import Strokes, find_strokes, ink_left, united
from imgflow.lineage.record import GateResult, Operation, Reason, TextRegion, Verdict
from imgflow.policy.manifest import RemoveText
from imgflow.policy.policy import DetextSettings
from imgflow.stages.fill import Fill, fill_holes
from imgflow.stages.gates import judge, repair_gates
from imgflow.stages.stage import (
    Job,
    Outcome,
    Picture,
    Stage,
    passed_through,
    store_mask,
)
from imgflow.stages.text import (
    Unwanted,
    detect_text,
    residual_text,
    select_unwanted,
    stretch_contrast,
)

# Where text still shows after the first pass, the second masks the strokes this much wider.
_GROWTH = (1.0, 2.0)
# Share of a line's ink that may keep the ink's colour: the photo may have a little of it too.
_INK_LEFT = 0.03


def detext(picture: Picture, job: Job) -> Outcome:
    """Remove overlaid text from a picture. Most photos have none: then nothing happens.

    Raises EngineUnavailable.
    """
    settings = job.policy.detext
    if settings.mode == "none" and not _asked(job):
        return passed_through("the policy leaves text alone")
    started = time.perf_counter()
    detector = job.engines.text_detector(settings.detector)
    regions = detect_text(picture, job, detector)
    selection = select_unwanted(regions, picture.view, job, detector)
    if selection.unanswered:
        return _text_not_found(selection.unanswered)
    if not selection.unwanted:
        return passed_through("no text to remove", text_regions=0.0)

    strokes = [_strokes(picture.view, each.region, settings) for each in selection.unwanted]
    measures = {
        "text_regions": float(len(strokes)),
        "mask_confidence": round(min(each.confidence for each in strokes), 4),
    }
    unmarked = any(not each.mask.any() for each in strokes)
    if unmarked or measures["mask_confidence"] < settings.mask_confidence:
        return _insufficient_contrast(selection.unwanted, strokes, settings, measures)

    fill = Fill(job.engines.filler(settings.fill), settings.context, settings.feather)
    unwanted = [each.region for each in selection.unwanted]
    for growth in _GROWTH:
        if growth > 1:
            strokes = [_strokes(picture.view, each, settings, growth) for each in unwanted]
        mask = united(strokes, *picture.view.shape[:2])
        result = fill_holes(picture.pixels, mask, fill)
        seen = flatten(result, (255, 255, 255))
        residual = [each.text for each in residual_text(seen, unwanted, detector, settings)]
        left = [
            each.text
            for each, ink in zip(unwanted, strokes, strict=True)
            if ink_left(seen, ink) > _INK_LEFT
        ]
        if not residual and not left:
            break
    operation = Operation(
        name="remove_text",
        engine=fill.engine.spec.stamp(),
        requested_by=", ".join(sorted({each.requested_by for each in selection.unwanted})),
        parameters={
            "detector": detector.spec.code_version,
            "context": fill.context,
            "feather": fill.feather,
            "growth": growth,
        },
        mask=store_mask(job.store, mask),
        regions=unwanted,
        dtype=str(result.dtype),
        seconds=round(time.perf_counter() - started, 4),
    )
    outcome = Outcome(Verdict.REPAIRED, pixels=result, operations=(operation,), measures=measures)
    unclean = dilate(_text_areas(regions, mask), 4)
    gates = [
        _residual_gate(residual, left),
        *repair_gates(picture.pixels, result, mask, unclean, fill, settings.gates),
    ]
    return judge(outcome, gates, accept_artifacts=settings.gates.accept_artifacts)


def _strokes(
    view: NDArray[np.uint8], region: TextRegion, settings: DetextSettings, growth: float = 1.0
) -> Strokes:
    """Ink of a region; where it hardly stands out, looked for again with more contrast."""
    polygon = np.array(region.polygon, np.float32)
    best = find_strokes(view, polygon, grow=growth)
    for enhance in (stretch_contrast, _unsharp):
        if best.confidence >= settings.mask_confidence:
            break
        again = find_strokes(view, polygon, grow=growth, enhance=enhance)
        best = max(best, again, key=lambda each: each.confidence)
    return best


def _unsharp(crop: NDArray[np.uint8]) -> NDArray[Any]:
    return cv2.addWeighted(crop, 2.5, cv2.GaussianBlur(crop, (0, 0), 2.0), -1.5, 0)


def _text_areas(regions: Sequence[TextRegion], mask: Mask) -> Mask:
    return polygon_mask((np.array(region.polygon) for region in regions), *mask.shape)


def _residual_gate(residual: Sequence[str], left: Sequence[str]) -> GateResult:
    """residual: what OCR still reads. left: regions where ink of the text's colour remains."""
    problems = []
    if residual:
        problems.append(f"OCR still reads {_quoted(residual)} where text was removed")
    if left:
        problems.append(f"ink of {_quoted(left)} is left")
    return GateResult(
        name="no_residual_text",
        metric="residual_text",
        value=float(len(residual) + len(left)),
        threshold=0.0,
        passed=not problems,
        note="; ".join(problems),
    )


def _quoted(texts: Sequence[str]) -> str:
    return ", ".join(f"'{text}'" for text in texts)


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


def _insufficient_contrast(
    unwanted: Sequence[Unwanted],
    strokes: Sequence[Strokes],
    settings: DetextSettings,
    measures: dict[str, float],
) -> Outcome:
    unclear = ", ".join(
        f"'{each.region.text}' ({found.confidence:.2f})"
        for each, found in zip(unwanted, strokes, strict=True)
        if found.confidence < settings.mask_confidence or not found.mask.any()
    )
    reason = Reason(
        code="mask_insufficient_contrast",
        message=f"text was found but hardly stands out from the photo: {unclear}, "
        f"needed {settings.mask_confidence:g}",
        hint="Paint a mask over the text and give it as an inpaint step",
    )
    return Outcome(Verdict.NEEDS_REVIEW, reason=reason, measures=measures)


def _asked(job: Job) -> list[Any]:
    return [
        step.model_dump(mode="json") for step in job.manifest.steps if isinstance(step, RemoveText)
    ]


STAGE = Stage(
    code_version="1",
    run=detext,
    settings=lambda policy: policy.detext.as_dict(),
    engines=lambda policy, engines: [
        engines.text_detector(policy.detext.detector).spec,
        engines.filler(policy.detext.fill).spec,
    ],
    asked=_asked,
)
