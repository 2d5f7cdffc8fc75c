"""Overlays that OCR does not read in the photo: the eraser's map of letters shows them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.engines import origin
from imgflow.engines.spec import Eraser, TextDetector, TextMap
from imgflow.engines.unread import (
    FEWEST,
    LEVELS,
    beside,
    candidates,
    load_weights,
    look,
    look_at_strokes,
)
from imgflow.imaging.folding import repeats
from imgflow.imaging.lettergroups import LetterGroup, grouped, within, without
from imgflow.imaging.lines import place_beside
from imgflow.imaging.masks import polygon_mask
from imgflow.lineage.record import TextRegion
from imgflow.stages.levelled import read_level, seen_level

# ---- words: letters without a photo behind them are easier to read
# Probabilities, of 255, that are white and black on the page that OCR is given.
_WHITE, _BLACK = 40, 190
# Pixels of the page's short side: its letters are large or plain enough for that.
_PAGE = 480
# What a reading must be: letters, how sure OCR is of them, and how sure the map of their strokes.
_LETTERS, _SPELLED, _MAPPED = 4, 0.6, 0.6
# ---- lines by themselves: small or turned letters are easier to read large and level
# From which logit on letters are worth reading at all, and so, and how many lines of a photo.
_PLAUSIBLE, _WORTH, _MOST_LINES = -3.0, -2.0, 5
# How sure OCR is of what it reads there.
_READ = 0.65
# ---- letters that nobody can read
# Probability, of 255, from which on a pixel is a letter's in a line by itself, and share of the
# line that such pixels are: nearly all letters have it there, leaves and windows hardly ever.
_SHOWN, _COVERED = 90, 0.08
# What both judges make of them, that of letters in the map and that of lines in the photo, as the
# sum of their logits: from which on they are an overlay, if OCR has anything to say of them and if
# not, and below which they are none. Slots in a wall can come to more than 4.
_CERTAIN, _BEYOND_DOUBT, _NONE = 4.0, 8.0, 0.0
# Different characters that OCR then reads in them, even wrongly, and how sure it is of as many in
# the photo.
_SAID, _SPOKEN = 3, 0.5
# What stands for letters that nobody can read.
_ILLEGIBLE = "?"
# Pixels that are enough to be worth reading. How often what was found is looked at again for more;
# share of a group that a surer one may have in common with it.
_LEAST_INK, _ROUNDS, _SHARED = 60, 2, 0.2
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
NO_LETTERS = -9.0
"""The logit of a line in which the map shows no letters."""
# The least that a score, rounded, tells from none.
_LEAST_CHANCE = 5e-5
DRAWN = "letters drawn over the photo"
"""Why a region is an overlay that the map of letters shows."""
UNSEEN = "OCR alone does not see it"
"""Why a region is one that OCR, asked about the photo, did not read."""
_GOES_ON = "goes on with an overlay beside it"
_NOTHING_ELSE = "no other text lies over the photo"


def unread_overlays(
    pixels: NDArray[np.uint8],
    letters: TextMap,
    known: Sequence[NDArray[np.float32]],
    detector: TextDetector,
    eraser: Eraser,
    *,
    marks: Sequence[NDArray[np.float32]] = (),
    read: Sequence[TextRegion] = (),
) -> list[TextRegion]:
    """Regions of overlaid text beside the known ones, in the map's pixels.

    pixels: the photo, (H, W, 3) uint8, of any size. read: all that OCR reads there, rightly or
    wrongly, in its pixels; all else is in the map's pixels. known: (4, 2) polygons of x, y. marks:
    those of them that are overlays. What a region says is read off the map itself; it is empty
    where letters are too crooked for that, but beyond doubt, or go on with a text that is known.

    Where nothing bears letters out that nobody can read, neither a known overlay nor their copies
    nor the judge of lines in the photo, they are of no kind: a person has to look. They are none
    where the eraser does not see them again in a line by itself.
    """
    left = without(letters.overlay, known)
    found = _words(left, detector)
    if not marks and not found:
        alone = _worth_reading(pixels, TextMap(left, letters.product))
        if not alone:
            return []
        if not _are_repeated(left):
            found, doubtful = _alone(pixels, letters, alone, read, detector, eraser)
            if not found:
                return doubtful
    marks = [*marks, *_outlines(found)]
    left = without(left, _outlines(found))
    parts = _further(left, marks)
    left = without(left, _outlines(parts))
    others = _lines(pixels, TextMap(left, letters.product), marks)
    return [*found, *parts, *(_unread(*each) for each in others)]


def _outlines(regions: Sequence[TextRegion]) -> list[NDArray[np.float32]]:
    return [np.array(region.polygon, np.float32) for region in regions]


def plausible(pixels: NDArray[np.uint8], letters: TextMap) -> list[LetterGroup]:
    """What of a map may be letters drawn over the photo (H, W, 3): leaves and fur are not."""
    return [group for score, group in _scored(pixels, letters) if score >= _PLAUSIBLE]


def lines_read_alone(
    pixels: NDArray[np.uint8],
    letters: TextMap,
    known: Sequence[NDArray[np.float32]],
    detector: TextDetector,
) -> list[TextRegion]:
    """What OCR reads of letters beside the known ones where it is shown each line by itself, in the
    photo's pixels; of no kind, its score that of the judge of letters. Arguments as above."""
    left = TextMap(without(letters.overlay, known), letters.product)
    scale = np.float32(pixels.shape[1] / letters.overlay.shape[1])
    found = []
    for score, group in _worth_reading(pixels, left):
        line = group.box * scale
        text, confidence = read_level(pixels, line, detector)
        if _characters(text) >= _LETTERS and confidence >= _READ:
            found.append(_line(line, text, confidence, chance(score)))
    return found


def _worth_reading(pixels: NDArray[np.uint8], letters: TextMap) -> list[tuple[float, LetterGroup]]:
    """The likeliest lines of letters in a map without the known ones, each by itself, with what the
    judge of letters makes of them."""
    scored = [each for each in _scored(pixels, letters) if each[0] >= _WORTH]
    return _apart(scored, [])[:_MOST_LINES]


def drawn_logits(
    pixels: NDArray[np.uint8], letters: TextMap, lines: Sequence[NDArray[np.float32]]
) -> list[float]:
    """What the judge of letters makes of those in each line, (4, 2) polygons in the map's pixels,
    as logits; `NO_LETTERS` where the map shows too few."""
    if not lines:
        return []
    at = [within(letters.overlay, line, level) for line in lines for level in LEVELS]
    scores = load_weights().trees.logits(look(pixels, letters, at, []))
    told = [
        float(score) if group.ink >= FEWEST else NO_LETTERS
        for score, group in zip(scores, at, strict=True)
    ]
    several = len(LEVELS)
    return [max(told[first : first + several]) for first in range(0, len(told), several)]


def _scored(pixels: NDArray[np.uint8], letters: TextMap) -> list[tuple[float, LetterGroup]]:
    """All groups that may be letters, with what the judge makes of them as long as no text is
    known to lie over the photo."""
    groups = candidates(letters.overlay)
    if not groups:
        return []
    scores = load_weights().trees.logits(look(pixels, letters, groups, []))
    return list(zip(map(float, scores), groups, strict=True))


def _words(drawn: NDArray[np.uint8], detector: TextDetector) -> list[TextRegion]:
    """What OCR reads where the letters stand dark on white."""
    if int((drawn >= 255 * _MAPPED).sum()) < _LEAST_INK:
        return []
    page = _page(drawn)
    scale = min(_PAGE / min(drawn.shape), 1.0)
    if scale < 1:
        size = round(page.shape[1] * scale), round(page.shape[0] * scale)
        page = np.asarray(cv2.resize(page, size, interpolation=cv2.INTER_AREA), np.uint8)
    found = []
    for read in detector.detect(page):
        polygon = np.array(read.polygon, np.float32) / scale
        inside = drawn[polygon_mask([polygon], *drawn.shape) > 0]
        strokes = inside[inside >= _WHITE]
        sure = float(strokes.mean()) / 255 if strokes.size else 0.0
        spelled = _characters(read.text) >= _LETTERS and read.confidence >= _SPELLED
        if spelled and sure >= _MAPPED:
            found.append(_region(polygon, read.text, read.confidence, sure))
    return found


def _page(drawn: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) with the letters of a map (H, W) dark on white."""
    shade = (drawn.astype(np.float32) - _WHITE) * (255 / (_BLACK - _WHITE))
    return np.repeat(255 - np.clip(shade, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def _characters(text: str) -> int:
    return sum(each.isalnum() for each in text)


def _further(drawn: NDArray[np.uint8], marks: Sequence[NDArray[np.float32]]) -> list[TextRegion]:
    """What goes on with known overlays, in a map without them."""
    known, found = list(marks), []
    left = drawn.copy()
    for level in _LEVELS if marks else ():
        joined = _joined(grouped(left, level, _LEAST_PART), known)
        # A single sign says nothing of where its line goes.
        known += [each.box for each in joined if each.sides[1] > 2 * each.sides[0]]
        found += [_region(each.box, "", each.sure, each.sure, _GOES_ON) for each in joined]
        for each in joined:
            left[polygon_mask([each.box], *left.shape) > 0] = 0
    return found


def _joined(
    groups: Sequence[LetterGroup], marks: Sequence[NDArray[np.float32]]
) -> list[LetterGroup]:
    """Those groups that stand beside a mark, or are next to such a group in its line."""
    joined = [each for each in groups if any(_beside(mark, each) for mark in marks)]
    new = joined
    while new:
        lines = [each.box for each in new if each.sides[1] > 2 * each.sides[0]]
        left = [each for each in groups if each not in joined]
        new = [each for each in left if any(_next(line, each) for line in lines)]
        joined += new
    return joined


def _beside(mark: NDArray[np.float32], letters: LetterGroup) -> bool:
    """Whether letters may be of one text with a known line: the next ones in it, others in one
    row with it, or a line above or below."""
    if _next(mark, letters):
        return True
    place = place_beside(mark, letters.box)
    if letters.sure < _ALIGNED or not _SIZES[0] <= place.size <= _SIZES[1]:
        return False
    return place.reach <= _BAND or (place.below <= _BELOW and place.apart <= 0)


def _next(mark: NDArray[np.float32], letters: LetterGroup) -> bool:
    place = place_beside(mark, letters.box)
    return place.reach <= _BAND and place.apart <= _REACH and letters.sure >= _NEXT


def _lines(
    pixels: NDArray[np.uint8], letters: TextMap, marks: Sequence[NDArray[np.float32]]
) -> list[tuple[float, LetterGroup]]:
    """Groups of letters in a map without the known ones, as far as the judge of them is sure, and
    how sure it is."""
    groups = candidates(letters.overlay)
    if not groups:
        return []
    weights, strokes = load_weights(), look_at_strokes(pixels, letters, groups)
    known = list(marks)
    found: list[tuple[float, LetterGroup]] = []
    # What was found first is a mark beside which others need less.
    for _ in range(_ROUNDS):
        scores = weights.trees.logits(beside(strokes, letters, groups, known))
        least = weights.beside if known else weights.alone
        pairs = zip(map(float, scores), groups, strict=True)
        sure = [(score, group) for score, group in pairs if score >= least]
        new = _apart(sure, [group for _, group in found])
        if not new:
            break
        found += new
        known += [group.box for _, group in new]
    return found


def _alone(
    pixels: NDArray[np.uint8],
    letters: TextMap,
    scored: Sequence[tuple[float, LetterGroup]],
    read: Sequence[TextRegion],
    detector: TextDetector,
    eraser: Eraser,
) -> tuple[list[TextRegion], list[TextRegion]]:
    """Groups of letters that both judges together take for an overlay, if OCR reads anything in
    them or there is no doubt; and those of no kind, that neither judge excludes, and that are
    letters in lines by themselves: windows in a row stand as letters do, and nothing else bears
    these out."""
    scale = np.float32(pixels.shape[1] / letters.overlay.shape[1])
    doubt = {"kind": None, "reasons": [DRAWN, _NOTHING_ELSE]}
    sure, doubtful = [], []
    for score, group in scored:
        line = group.box * scale
        text, confidence = read_level(pixels, line, detector)
        region = _line(line, text or _ILLEGIBLE, confidence)
        both = score + logit(origin.judge(pixels, [*read, region], letters)[-1].score)
        if both < _NONE or (both < _CERTAIN and score < load_weights().alone):
            continue
        seen = seen_level(pixels, line, eraser)
        if both >= _CERTAIN and (
            both >= _BEYOND_DOUBT
            or (_different(text) >= _SAID and confidence >= _SPOKEN)
            or _different(detector.read(_page(seen))[0]) >= _SAID
        ):
            sure.append(_unread(both, group))
        elif float((seen >= _SHOWN).mean()) >= _COVERED:
            doubtful.append(_unread(both, group).model_copy(update=doubt))
    return sure, doubtful


def _different(text: str) -> int:
    """Characters that are not alike: rings in a row are no text."""
    return len({each for each in text.casefold() if each.isalnum()})


def logit(score: float | None) -> float:
    """Of a region's score, which is rounded."""
    share = min(max(score or 0.0, _LEAST_CHANCE), 1 - _LEAST_CHANCE)
    return math.log(share / (1 - share))


def chance(score: float) -> float:
    """Of a logit."""
    return 1 / (1 + math.exp(-score))


def _line(
    box: NDArray[np.float32], text: str, confidence: float, score: float | None = None
) -> TextRegion:
    """A region of a box whose longer side comes first, as people read it: from left to right."""
    corners = np.roll(box, 2, axis=0) if box[1, 0] < box[0, 0] else box
    return TextRegion(
        polygon=corners.round(1).tolist(), text=text, confidence=confidence, score=score
    )


def _are_repeated(drawn: NDArray[np.uint8]) -> bool:
    return bool(repeats(drawn.astype(np.float32) / np.float32(255)))


def _inside(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Share of a convex polygon that lies in another one."""
    area, _ = cv2.intersectConvexConvex(one, other)
    return float(area) / max(cv2.contourArea(one), 1.0)


def _apart(
    scored: Sequence[tuple[float, LetterGroup]], taken: Sequence[LetterGroup]
) -> list[tuple[float, LetterGroup]]:
    """The surest groups of which no two have much in common, nor with those that are taken."""
    kept: list[tuple[float, LetterGroup]] = []
    for score, group in sorted(scored, key=lambda each: -each[0]):
        if all(_shared(group, other) < _SHARED for other in (*taken, *(each for _, each in kept))):
            kept.append((score, group))
    return kept


def _shared(one: LetterGroup, other: LetterGroup) -> float:
    """Share of the smaller one's box that lies in the other's."""
    return max(_inside(one.box, other.box), _inside(other.box, one.box))


def _unread(score: float, letters: LetterGroup) -> TextRegion:
    return _region(letters.box, "", letters.sure, chance(score))


def _region(
    polygon: NDArray[Any], text: str, confidence: float, sure: float, why: str = UNSEEN
) -> TextRegion:
    return TextRegion(
        polygon=[[round(float(x), 1), round(float(y), 1)] for x, y in polygon],
        text=text,
        confidence=round(confidence, 4),
        kind="overlay",
        score=round(sure, 4),
        reasons=[DRAWN, why],
    )
