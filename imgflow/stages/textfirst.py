"""A region to fill that is mostly text: the eraser first, which leaves the ground as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgflow.engines.spec import EngineSpec, TextDetector
from imgflow.imaging.colour import flatten, plain_background
from imgflow.imaging.masks import Box, Mask, mask_box, polygon_mask
from imgflow.lineage.record import TextRegion
from imgflow.stages.erase import CONTEXT, Restoring, restore, strokes_of, text_area
from imgflow.stages.stage import Job


@dataclass(frozen=True, slots=True)
class Erased:
    """(H, W, 3|4) pixels without the text, and how a probe can do the same.

    share: of the region that was text.
    """

    pixels: NDArray[Any]
    mask: Mask
    regions: tuple[TextRegion, ...]
    share: float
    engine: EngineSpec
    repair: Restoring


def erase_region(pixels: NDArray[Any], region: Mask, least: float, job: Job) -> Erased | None:
    """The text of a region taken off; None if text covers less than `least` of it, its strokes are
    not clear, or OCR reads some after.

    pixels: (H, W, 3|4). region: (H, W), 255 on what is to be filled.
    """
    settings = job.policy.detext
    box = mask_box(region)
    if box is None:
        return None
    window = box.padded(CONTEXT, *region.shape)
    detector = job.engines.text_detector(settings.detector)
    texts = _texts(pixels, region, window, detector, settings.min_confidence)
    letters = polygon_mask((np.array(each.polygon) for each in texts), *region.shape) & region
    share = float(np.count_nonzero(letters)) / int(np.count_nonzero(region))
    if share < least:
        return None
    eraser = job.engines.eraser(settings.eraser)
    area = text_area(texts, *region.shape) & region
    found = strokes_of(pixels, area, eraser)
    mask = found.mask & region
    if not mask.any() or found.confidence < settings.mask_confidence:
        return None
    clean = restore(pixels, mask, eraser)
    if _texts(clean, region, window, detector, settings.min_confidence):
        return None
    return Erased(
        clean, mask, tuple(texts), share, eraser.spec, Restoring(pixels, clean, mask, eraser)
    )


def _texts(
    pixels: NDArray[Any], region: Mask, window: Box, detector: TextDetector, least: float
) -> list[TextRegion]:
    """What OCR reads of which most lies in the region."""
    crop = pixels[window.slices]
    behind = plain_background(crop) if crop.shape[2] == 4 else (255, 255, 255)
    found = []
    for each in detector.detect(np.ascontiguousarray(flatten(crop, behind))):
        if each.confidence < least:
            continue
        polygon = [[x + window.left, y + window.top] for x, y in each.polygon]
        place = polygon_mask([np.array(polygon)], *region.shape)
        if np.count_nonzero(place & region) > np.count_nonzero(place) / 2:
            found.append(each.model_copy(update={"polygon": polygon}))
    return found
