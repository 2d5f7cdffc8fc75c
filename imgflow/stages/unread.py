"""Overlays that OCR does not read in the photo: the eraser's map of letters shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.engines.spec import TextDetector, TextMap
from imgflow.imaging.lines import place_beside
from imgflow.imaging.masks import dilate, grown_polygon, polygon_mask
from imgflow.lineage.record import TextRegion

# ---- words: letters without a photo behind them are easier to read
# Probabilities, of 255, that are white and black on the page that OCR is given.
_WHITE, _BLACK = 40, 190
# Pixels of the page's short side: its letters are large or plain enough for that.
_PAGE = 480
# What a reading must be: letters, and how sure the map is of its strokes.
_LETTERS, _MAPPED = 4, 0.6
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
_SURE, _SURE_TOGETHER = 0.75, 0.65
_SEVERAL = 3
# The same beside an overlay that OCR does read: where it is alone, and where there are many.
_BESIDE, _AMONG_MANY = 0.68, 0.5
_MANY = 5
# ---- what goes on with a text that is known: letters that OCR left out, the rest of a bar
# From which probabilities on, of 255, a pixel counts there, one after the other: what a low one
# joins to the leaves behind it, a high one tells from them. How many pixels there are at least.
_LEVELS, _LEAST_PART = (191, 128, 77), 12
# Mean probability, of 1: of the next letters of a line, and of what stands in one row or column.
_NEXT, _ALIGNED = 0.6, 0.6
# In heights of the known line: how far its next letters are, how far a letter reaches beyond its
# band, how far the next line is, and how large letters of one text may be beside each other.
_REACH, _BAND, _BELOW = 2.0, 0.8, 1.1
_SIZES = (0.4, 1.6)
_REASON = "letters drawn over the photo"
_UNSEEN, _GOES_ON = "OCR alone does not see it", "goes on with an overlay beside it"


def unread_overlays(
    letters: TextMap,
    known: Sequence[NDArray[np.float32]],
    detector: TextDetector,
    *,
    marks: Sequence[NDArray[np.float32]] = (),
) -> list[TextRegion]:
    """Regions of overlaid text beside the known ones, in the map's pixels.

    known: (4, 2) polygons of x, y. marks: those of them that are overlays. What a region says is
    read off the map itself; it is empty where letters are too crooked for that, but beyond doubt,
    or go on with a text that is known.
    """
    taken = np.zeros(letters.overlay.shape, np.uint8)
    for polygon in known:
        _take(taken, polygon)
    words = _words(np.where(taken > 0, np.uint8(0), letters.overlay), detector)
    marks = [*marks, *(np.array(region.polygon, np.float32) for region in words)]
    for region in words:
        _take(taken, np.array(region.polygon, np.float32))
    left = np.where(taken > 0, np.uint8(0), letters.overlay)
    parts = _further(left, marks)
    for region in parts:
        _take(taken, np.array(region.polygon, np.float32))
    left = np.where(taken > 0, np.uint8(0), letters.overlay)
    return [*words, *parts, *_lines(left, marked=bool(marks))]


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


@dataclass(frozen=True, slots=True, eq=False)
class _Letters:
    """A group of letters near each other. box: (4, 2). sure: mean probability of their strokes,
    0..1. ink: their pixels."""

    box: NDArray[np.float32]
    sure: float
    ink: int

    @property
    def sides(self) -> tuple[float, float]:
        """Pixels across and along."""
        across, along = sorted(side + 1 for side in cv2.minAreaRect(self.box)[1])
        return across, along


def _grouped(drawn: NDArray[np.uint8], least: int, fewest: int) -> list[_Letters]:
    """Groups of letters in a map: pixels of at least that probability (of 255), and as many."""
    strokes = np.where(drawn >= least, np.uint8(255), np.uint8(0))
    gap = float(np.clip(_GAP * min(drawn.shape), _NEAREST, _FARTHEST))
    count, places, boxes, _ = cv2.connectedComponentsWithStats(dilate(strokes, round(gap)))
    found = []
    for number in range(1, count):
        left, top, width, height, _ = boxes[number]
        part = np.s_[top : top + height, left : left + width]
        rows, columns = np.nonzero((places[part] == number) & (strokes[part] > 0))
        if rows.size < fewest:
            continue
        points = np.stack([columns + left, rows + top], axis=1).astype(np.float32)
        sure = float(drawn[rows + top, columns + left].mean()) / 255
        box = np.asarray(cv2.boxPoints(cv2.minAreaRect(points)), np.float32)
        found.append(_Letters(box, sure, rows.size))
    return found


def _further(drawn: NDArray[np.uint8], marks: Sequence[NDArray[np.float32]]) -> list[TextRegion]:
    """What goes on with known overlays, in a map without them."""
    known, found = list(marks), []
    left = drawn.copy()
    for level in _LEVELS if marks else ():
        joined = _joined(_grouped(left, level, _LEAST_PART), known)
        # A single sign says nothing of where its line goes.
        known += [_along(each.box) for each in joined if each.sides[1] > 2 * each.sides[0]]
        found += [_region(each.box, "", each.sure, each.sure, _GOES_ON) for each in joined]
        for each in joined:
            left[polygon_mask([each.box], *left.shape) > 0] = 0
    return found


def _joined(groups: Sequence[_Letters], marks: Sequence[NDArray[np.float32]]) -> list[_Letters]:
    """Those groups that stand beside a mark, or are next to such a group in its line."""
    joined = [each for each in groups if any(_beside(mark, each) for mark in marks)]
    new = joined
    while new:
        lines = [_along(each.box) for each in new if each.sides[1] > 2 * each.sides[0]]
        left = [each for each in groups if each not in joined]
        new = [each for each in left if any(_next(line, each) for line in lines)]
        joined += new
    return joined


def _beside(mark: NDArray[np.float32], letters: _Letters) -> bool:
    """Whether letters may be of one text with a known line: the next ones in it, others in one
    row with it, or a line above or below."""
    if _next(mark, letters):
        return True
    place = place_beside(mark, letters.box)
    if letters.sure < _ALIGNED or not _SIZES[0] <= place.size <= _SIZES[1]:
        return False
    return place.reach <= _BAND or (place.below <= _BELOW and place.apart <= 0)


def _next(mark: NDArray[np.float32], letters: _Letters) -> bool:
    place = place_beside(mark, letters.box)
    return place.reach <= _BAND and place.apart <= _REACH and letters.sure >= _NEXT


def _along(box: NDArray[np.float32]) -> NDArray[np.float32]:
    """The corners of a box, so that its longer side comes first."""
    first, second = np.linalg.norm(box[1] - box[0]), np.linalg.norm(box[2] - box[1])
    return box if first >= second else np.roll(box, -1, axis=0)


def _lines(drawn: NDArray[np.uint8], *, marked: bool) -> list[TextRegion]:
    """Groups of letters in a map without the known ones."""
    found = []
    for each in _grouped(drawn, _DRAWN, _LEAST_INK):
        across, along = each.sides
        dense = each.ink / (across * along)
        if across >= _LEAST_HEIGHT and _DENSITY[0] <= dense <= _DENSITY[1]:
            found.append(each)
    # Chance may make one group of letters of some texture, but hardly several.
    together = [each for each in found if each.sure >= _SURE_TOGETHER]
    least = _BESIDE if marked else _SURE
    if len(together) >= _SEVERAL:
        least = _SURE_TOGETHER
    if marked and len(together) >= _MANY:
        # A mark all over the photo has fainter copies; a pattern of rings or leaves, too, looks
        # like letters all over: so one of them must be read.
        least = _AMONG_MANY
    return [_region(each.box, "", each.sure, each.sure) for each in found if each.sure >= least]


def _region(
    polygon: NDArray[Any], text: str, confidence: float, sure: float, why: str = _UNSEEN
) -> TextRegion:
    return TextRegion(
        polygon=[[round(float(x), 1), round(float(y), 1)] for x, y in polygon],
        text=text,
        confidence=round(confidence, 4),
        kind="overlay",
        score=round(sure, 4),
        reasons=[_REASON, why],
    )
