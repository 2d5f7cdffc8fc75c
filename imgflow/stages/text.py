"""Which text in a photo is to go: found by OCR, asked for by policy or manifest."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.engines.spec import TextDetector
from imgflow.imaging.masks import Box, polygon_box
from imgflow.lineage.record import TextRegion
from imgflow.policy.manifest import RemoveText
from imgflow.policy.policy import DetextSettings
from imgflow.stages.stage import Job, Picture

# A detector reads single letters into any texture; a stamp has at least two.
_MIN_CHARACTERS = 2
# No overlay covers more of a photo than this; a box that does is a misread texture.
_MAX_AREA = 0.6
# Text is found best when the photo's short side has about this many pixels.
_CLOSE_LOOK_SIDE = 480

_WORDING = {
    "date-stamp": re.compile(r"\d[\d\s.,:/'’年月日-]{3,}\d"),
    "url": re.compile(r"https?:|www\.|[\w-]+\.(com|net|org|shop|io|de|cn|uk)\b", re.IGNORECASE),
}


@dataclass(frozen=True, slots=True)
class Unwanted:
    """A region to remove, and on whose word."""

    region: TextRegion
    requested_by: str


@dataclass(frozen=True, slots=True)
class Selection:
    """unwanted: regions to remove. unanswered: the manifest's steps that found no text."""

    unwanted: tuple[Unwanted, ...]
    unanswered: tuple[RemoveText, ...]


def detect_text(picture: Picture, job: Job, detector: TextDetector) -> list[TextRegion]:
    """All text in a picture; kept by input and detector, so that it is detected only once."""
    identity = f"{picture.ref.sha256}|{detector.spec.code_version}"
    digest = hashlib.sha256(identity.encode()).hexdigest()
    cached = job.store.get_cached("text", digest)
    if cached is not None:
        return [TextRegion.model_validate(each) for each in json.loads(cached)]
    regions = detector.detect(picture.view)
    data = json.dumps([region.model_dump() for region in regions]).encode()
    job.store.put_cached("text", digest, data)
    return regions


def select_unwanted(
    regions: Sequence[TextRegion], view: NDArray[np.uint8], job: Job, detector: TextDetector
) -> Selection:
    """What the policy and the manifest want gone.

    Where a manifest asks for text to be removed, its steps alone decide: a date stamp goes, the
    maker's name stays. Where the first look found nothing in a place that a step names, the place
    is looked at again, alone and enlarged.
    """
    settings = job.policy.detext
    unwanted: dict[int, Unwanted] = {}
    unanswered = []
    steps = [step for step in job.manifest.steps if isinstance(step, RemoveText)]
    for step in steps:
        named = [region for region in regions if _matches(region, step, settings, view)]
        named = named or _look_closely(view, step, detector)
        for region in named:
            unwanted[id(region)] = Unwanted(region, job.requester)
        if not named:
            unanswered.append(step)
    if settings.mode == "all" and not steps:
        for region in regions:
            if is_text(region, view.shape[:2], settings) and not _is_kept(region, view, settings):
                unwanted.setdefault(id(region), Unwanted(region, "policy"))
    return Selection(tuple(unwanted.values()), tuple(unanswered))


def residual_text(
    view: NDArray[np.uint8],
    removed: Sequence[TextRegion],
    detector: TextDetector,
    settings: DetextSettings,
) -> list[TextRegion]:
    """Text that a second look still finds where text was removed.

    view: (H, W, 3) uint8 after the repair. Only the old regions and as much around them again
    are looked at.
    """
    residual = []
    for region in removed:
        polygon = np.array(region.polygon, np.float32)
        box = polygon_box(polygon, *view.shape[:2])
        near = box.padded(max(32, min(box.height, box.width)), *view.shape[:2])
        outline = (polygon - (near.left, near.top)).astype(np.float32)
        for again in detector.detect(np.ascontiguousarray(view[near.slices])):
            x, y = np.array(again.polygon, np.float32).mean(axis=0)
            there = cv2.pointPolygonTest(outline, (float(x), float(y)), False) >= 0
            if there and is_text(again, (near.height, near.width), settings):
                residual.append(again)
    return residual


def is_text(region: TextRegion, shape: tuple[int, ...], settings: DetextSettings) -> bool:
    """Whether a detection in a photo of (height, width) is believed."""
    characters = sum(character.isalnum() for character in region.text)
    area = cv2.contourArea(np.array(region.polygon, np.float32))
    return (
        region.confidence >= settings.min_confidence
        and characters >= _MIN_CHARACTERS
        and area <= _MAX_AREA * shape[0] * shape[1]
    )


def _matches(region: TextRegion, step: RemoveText, settings: DetextSettings, view: Any) -> bool:
    if step.region is not None:  # a person named the place: that outweighs a low confidence
        x, y = np.array(region.polygon, np.float32).mean(axis=0)
        outline = step.region.polygon_points().astype(np.float32)
        return bool(cv2.pointPolygonTest(outline, (float(x), float(y)), False) >= 0)
    if not is_text(region, view.shape, settings):
        return False
    wording = _WORDING.get(step.hint or "")
    return bool(wording.search(region.text)) if wording else True


def _is_kept(region: TextRegion, view: NDArray[np.uint8], settings: DetextSettings) -> bool:
    height, width = view.shape[:2]
    x, y = np.array(region.polygon).mean(axis=0) / (width, height)
    return any(
        area.x <= x <= area.x + area.width and area.y <= y <= area.y + area.height
        for area in settings.keep
    )


def _look_closely(
    view: NDArray[np.uint8], step: RemoveText, detector: TextDetector
) -> list[TextRegion]:
    if step.region is None:
        return []
    box = polygon_box(step.region.polygon_points(), *view.shape[:2])
    box = box.padded(max(8, box.height // 4), *view.shape[:2])
    if not box.height or not box.width:
        return []
    crop = view[box.slices]
    zoom = float(np.clip(_CLOSE_LOOK_SIDE / min(crop.shape[:2]), 1, 4))
    large = cv2.resize(
        stretch_contrast(crop), None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC
    )
    return [_placed(region, box, zoom) for region in detector.detect(np.asarray(large, np.uint8))]


def _placed(region: TextRegion, box: Box, zoom: float) -> TextRegion:
    polygon = [
        [round(x / zoom + box.left, 1), round(y / zoom + box.top, 1)] for x, y in region.polygon
    ]
    return region.model_copy(update={"polygon": polygon})


def stretch_contrast(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 with the 2nd to 98th percentile of each channel spread over all levels."""
    low, high = np.percentile(crop, (2, 98), axis=(0, 1))
    span = np.maximum(high - low, 1.0)
    return np.clip(np.rint((crop - low) * (255.0 / span)), 0, 255).astype(np.uint8)
