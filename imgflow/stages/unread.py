"""Overlays that OCR does not read in the photo: the eraser's map of letters shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.engines.spec import TextDetector, TextMap
from imgflow.imaging.masks import dilate, grown_polygon, polygon_mask
from imgflow.lineage.record import TextRegion

# ---- words: letters without a photo behind them are easier to read
# Probabilities, of 255, that are white and black on the page that OCR is given.
_WHITE, _BLACK = 40, 190
# Pixels of the page's short side: its letters are large or plain enough for that.
_PAGE = 480
# What a reading must be: letters, and how sure the map is of its strokes.
_LETTERS, _MAPPED = 4, 0.5
# ---- letters that nobody can read, but the map is sure of
# From which probability on a pixel counts as a drawn letter, of 255.
_DRAWN = 128
# Letters nearer than this share of the map's short side make one line, within these pixels.
_GAP = 0.012
_NEAREST, _FARTHEST = 3, 12
# Pixels that a line of letters has at least, and its least height.
_LEAST_INK, _LEAST_HEIGHT = 60, 6.0
# Share of its box that its strokes fill.
_DENSITY = (0.03, 0.75)
# Mean probability of its strokes, of 1: where it is alone, and where there are several.
_SURE, _SURE_TOGETHER = 0.8, 0.65
_SEVERAL = 3
# The same beside an overlay that OCR does read: where it is alone, and where there are many.
_BESIDE, _AMONG_MANY = 0.75, 0.5
_MANY = 5
_REASON = "letters drawn over the photo"


def unread_overlays(
    letters: TextMap,
    known: Sequence[NDArray[np.float32]],
    detector: TextDetector,
    *,
    marked: bool = False,
) -> list[TextRegion]:
    """Regions of overlaid text beside the known ones, in the map's pixels.

    known: (4, 2) polygons of x, y. marked: one of them is an overlay. What a region says is read
    off the map itself; it is empty where letters are too crooked for that, but beyond doubt.
    """
    taken = np.zeros(letters.overlay.shape, np.uint8)
    for polygon in known:
        _take(taken, polygon)
    words = _words(np.where(taken > 0, np.uint8(0), letters.overlay), detector)
    for region in words:
        _take(taken, np.array(region.polygon, np.float32))
    left = np.where(taken > 0, np.uint8(0), letters.overlay)
    return [*words, *_lines(left, marked=marked or bool(words))]


def _take(taken: NDArray[np.uint8], polygon: NDArray[np.float32]) -> None:
    (_, sides, _) = cv2.minAreaRect(polygon)
    grown_polygon(taken, polygon, round(0.5 * min(sides)) + 4)


def _words(drawn: NDArray[np.uint8], detector: TextDetector) -> list[TextRegion]:
    """What OCR reads where the letters stand dark on white."""
    if int((drawn >= 255 * _MAPPED).sum()) < _LEAST_INK:
        return []
    shade = (drawn.astype(np.float32) - _WHITE) * (255 / (_BLACK - _WHITE))
    page = 255 - np.clip(shade, 0, 255).astype(np.uint8)
    scale = min(_PAGE / min(page.shape), 1.0)
    if scale < 1:
        size = round(page.shape[1] * scale), round(page.shape[0] * scale)
        page = np.asarray(cv2.resize(page, size, interpolation=cv2.INTER_AREA), np.uint8)
    found = []
    for read in detector.detect(np.repeat(page[:, :, None], 3, axis=2)):
        polygon = np.array(read.polygon, np.float32) / scale
        inside = drawn[polygon_mask([polygon], *drawn.shape) > 0]
        strokes = inside[inside >= _WHITE]
        sure = float(strokes.mean()) / 255 if strokes.size else 0.0
        letters = sum(each.isalnum() for each in read.text)
        if letters >= _LETTERS and sure >= _MAPPED:
            found.append(_region(polygon, read.text, read.confidence, sure))
    return found


def _lines(drawn: NDArray[np.uint8], *, marked: bool) -> list[TextRegion]:
    """Groups of letters in a map without the known ones."""
    strokes = np.where(drawn >= _DRAWN, np.uint8(255), np.uint8(0))
    gap = float(np.clip(_GAP * min(drawn.shape), _NEAREST, _FARTHEST))
    count, places, boxes, _ = cv2.connectedComponentsWithStats(dilate(strokes, round(gap)))
    found: list[tuple[float, NDArray[Any]]] = []
    for number in range(1, count):
        left, top, width, height, _ = boxes[number]
        part = np.s_[top : top + height, left : left + width]
        rows, columns = np.nonzero((places[part] == number) & (strokes[part] > 0))
        if rows.size < _LEAST_INK:
            continue
        points = np.stack([columns + left, rows + top], axis=1).astype(np.float32)
        box = cv2.minAreaRect(points)
        across, along = sorted(side + 1 for side in box[1])
        sure = float(drawn[rows + top, columns + left].mean()) / 255
        dense = rows.size / (across * along)
        if across >= _LEAST_HEIGHT and _DENSITY[0] <= dense <= _DENSITY[1]:
            found.append((sure, cv2.boxPoints(box)))
    # Chance may make one group of letters of some texture, but hardly several.
    together = [each for each in found if each[0] >= _SURE_TOGETHER]
    least = _BESIDE if marked else _SURE
    if len(together) >= _SEVERAL:
        least = _SURE_TOGETHER
    if marked and len(together) >= _MANY:
        # A mark all over the photo has fainter copies; a pattern of rings or leaves, too, looks
        # like letters all over: so one of them must be read.
        least = _AMONG_MANY
    return [_region(box, "", sure, sure) for sure, box in found if sure >= least]


def _region(polygon: NDArray[Any], text: str, confidence: float, sure: float) -> TextRegion:
    return TextRegion(
        polygon=[[round(float(x), 1), round(float(y), 1)] for x, y in polygon],
        text=text,
        confidence=round(confidence, 4),
        kind="overlay",
        score=round(sure, 4),
        reasons=[_REASON, "OCR alone does not see it"],
    )
