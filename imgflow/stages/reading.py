"""Where OCR looks: all of a photo, or only around what there may be to read."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.engines.spec import TextDetector, TextMap
from imgflow.imaging.lettergroups import LetterGroup
from imgflow.imaging.masks import Box, dilate, merge_boxes
from imgflow.lineage.record import TextRegion

# Pixels a side of what OCR is shown at least: less it enlarges, and takes as long.
_LEAST_SIDE = 480
# From more places on, or places that are more of the photo than this, all of it is read at once.
_MOST_PLACES, _MOST_SHARE = 4, 0.7
# Probability, of 255, from which on a pixel may be a letter's, and is one of print. How near to
# each other such pixels belong together, how many make OCR worth its time, and how far around them
# it reads.
_TRACE, _PRINT, _TOGETHER, _LEAST_TRACE, _AROUND = 128, 191, 10, 60, 48


def traces(letters: TextMap, drawn: Sequence[LetterGroup]) -> list[Box]:
    """Boxes around all that is worth reading, in the map's pixels: clear print, and whatever holds
    one of the drawn letters."""
    seen = np.maximum(letters.overlay, letters.product) >= _TRACE
    strokes = np.where(seen, np.uint8(255), np.uint8(0))
    count, places, boxes, _ = cv2.connectedComponentsWithStats(dilate(strokes, _TOGETHER))
    pixels, printed = (
        np.bincount(places[each], minlength=count) for each in (seen, letters.product >= _PRINT)
    )
    named = np.zeros(count, bool)
    for group in drawn:
        named[places[group.strokes[:, 1], group.strokes[:, 0]]] = True
    worth = (printed >= _LEAST_TRACE) | (named & (pixels >= _LEAST_TRACE))
    return [
        Box(int(top), int(left), int(top + height), int(left + width))
        for number, (left, top, width, height, _) in enumerate(boxes)
        if number and worth[number]
    ]


def read_around(
    view: NDArray[np.uint8], places: Sequence[Box], detector: TextDetector
) -> list[TextRegion]:
    """What OCR reads in a photo (H, W, 3) at and around some places; nothing where there are
    none."""
    height, width = view.shape[:2]
    around = [each.padded(_AROUND, height, width) for each in places]
    windows = merge_boxes([_widened(each, height, width) for each in around])
    share = sum(each.height * each.width for each in windows) / (height * width)
    if len(windows) > _MOST_PLACES or share > _MOST_SHARE:
        return detector.detect(view)
    return [
        placed(region, window, 1.0)
        for window in windows
        for region in detector.detect(np.ascontiguousarray(view[window.slices]))
    ]


def placed(region: TextRegion, box: Box, zoom: float) -> TextRegion:
    """A region of a part of a photo, shown `zoom` times as large, in the photo's pixels."""
    polygon = [
        [round(x / zoom + box.left, 1), round(y / zoom + box.top, 1)] for x, y in region.polygon
    ]
    return region.model_copy(update={"polygon": polygon})


def _widened(box: Box, height: int, width: int) -> Box:
    """The box grown to the least side, as far as the photo goes."""
    top, bottom = _span(box.top, box.bottom, height)
    left, right = _span(box.left, box.right, width)
    return Box(top, left, bottom, right)


def _span(start: int, end: int, length: int) -> tuple[int, int]:
    """A stretch within 0..length, grown to the least side about its middle."""
    size = min(max(end - start, _LEAST_SIDE), length)
    start = min(max((start + end - size) // 2, 0), length - size)
    return start, start + size


def stretch_contrast(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 with the 2nd to 98th percentile of each channel spread over all levels."""
    low, high = np.percentile(crop, (2, 98), axis=(0, 1))
    span = np.maximum(high - low, 1.0)
    return np.clip(np.rint((crop - low) * (255.0 / span)), 0, 255).astype(np.uint8)
