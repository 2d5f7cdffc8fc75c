"""A mark that is laid over a photo again and again: the copies that a text detector missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]
Points = NDArray[Any]

# Copies are looked for where a line has this many pixels of height.
_HEIGHT = 14
# Correlation of a copy that nothing else speaks for, and of one where a copy is due: at least
# this much, and this many times the spread of the correlation over the photo. A texture that
# looks like the mark everywhere raises the bar by itself.
_CLEAR, _CLEAR_SPREADS = 0.36, 5.0
_DUE, _DUE_SPREADS = 0.25, 4.0
# Copies, the known ones included, that make a tiling.
_FEWEST = 3
# How far a copy may be from where it is due, in heights of its line.
_SLACK = 0.35
# Copies do not overlap: least distance between two, in widths or in heights.
_APART = 0.9
# Steps are taken between so many of the clearest copies.
_SURE = 40
# Share of the places where a step leads to at which there is a copy, of so many that are tried.
_CONFIRMED = 0.75
_ASKED = 12
# Most gaps of a tiling, as a share of its copies.
_GAPS = 0.35
# Least share of a copy that is in the photo.
_VISIBLE = 0.25
# How alike two readings of one mark are at least, and letters of the shortest that counts.
_ALIKE = 0.7
_LETTERS = 3
# Share of a reading's letters that are a mark's, in their order, where it may be a part of it.
_PART = 0.5
# More copies than a photo can show legibly: where so many are found it is a texture.
_MOST = 90


def same_mark(one: str, other: str) -> bool:
    """Whether two readings may be of one mark, as detectors garble them."""
    first, second = _letters(one), _letters(other)
    if min(len(first), len(second)) < _LETTERS:
        return False
    return SequenceMatcher(None, first, second).ratio() >= _ALIKE


def reads_as_part(text: str, mark: str) -> bool:
    """Whether a reading may be of a part of a mark: half-letters at its end are read as others."""
    letters, whole = _letters(text), _letters(mark)
    blocks = SequenceMatcher(None, whole, letters, autojunk=False).get_matching_blocks()
    return bool(letters) and sum(each.size for each in blocks) >= _PART * len(letters)


def _letters(text: str) -> str:
    return "".join(each for each in text.casefold() if each.isalnum())


def missed_copies(pixels: NDArray[np.uint8], known: Sequence[Points]) -> list[Points]:
    """The copies of a line that are not among the known ones; empty where nothing is tiled.

    pixels: (H, W, 3) uint8. known: (4, 2) x, y of copies of one line, the clearest first; a
    single one does. The lines are laid level, averaged, and looked for by normalised
    cross-correlation with the high-passed luma; from clear matches the steps of the tiling are
    taken, and wherever a step leads from a copy a weaker match does. Copies that the photo's
    edge cuts are found too. Returns (4, 2) float32 polygons, within the photo or cut by its edge.
    """
    frame = _Level.of(pixels, known[0])
    boxes = [frame.box(polygon) for polygon in known]
    pattern = _pattern(frame, boxes)
    if pattern is None:
        return []
    places = [(box[0], box[1]) for box in boxes if _fits(box, pattern.shape)]
    clear, spread = _clear(frame, pattern)
    found = _merged([*places, *clear], pattern.shape)
    if not _FEWEST <= len(found) <= _MOST:
        return []
    least = max(_DUE, _DUE_SPREADS * spread)
    steps = [
        step
        for step in _steps(found, pattern.shape, frame.slack)
        if _kept(frame, pattern, found, step, least)
    ]
    found = _on_the_grid(found, steps, frame.slack)
    if len(found) < _FEWEST:
        return []
    found = _followed(frame, pattern, found, steps, least)
    if len(found) > _MOST:
        return []
    height, width = pattern.shape
    old = [(box[0] + box[2] / 2, box[1] + box[3] / 2) for box in boxes]
    return [
        frame.polygon(x, y, width, height)
        for x, y in found
        if not any(
            abs(x + width / 2 - left) < width / 3 and abs(y + height / 2 - top) < height / 2
            for left, top in old
        )
    ]


@dataclass(frozen=True, slots=True)
class _Level:
    """The photo's high-passed luma, reduced and turned so that the lines lie level.

    detail: (h, w). seen: (h, w) 1 where there is a photo. matrix: from photo to here.
    """

    detail: Values
    seen: Values
    matrix: Values
    height: float

    @property
    def slack(self) -> float:
        return _SLACK * self.height

    @staticmethod
    def of(pixels: NDArray[np.uint8], polygon: Points) -> _Level:
        rows, columns = pixels.shape[:2]
        (_, (side, other), angle) = cv2.minAreaRect(np.asarray(polygon, np.float32))
        if side < other:
            side, other, angle = other, side, angle + 90
        angle = (angle + 90) % 180 - 90
        scale = min(1.0, _HEIGHT / max(other, 1))
        luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        reduced = cv2.resize(luma, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        detail = _array(reduced)
        line = max(other * scale, 4.0)
        detail -= cv2.GaussianBlur(detail, (0, 0), 0.4 * line)
        # A strong edge of the photo must not outweigh faint letters.
        bound = 3 * float(np.abs(detail).mean()) + 2
        detail = np.clip(detail, -bound, bound)
        scale_x, scale_y = reduced.shape[1] / columns, reduced.shape[0] / rows
        turn = cv2.getRotationMatrix2D((0, 0), angle, 1.0)
        corners = _array([[0, 0], [reduced.shape[1], 0], [reduced.shape[1], reduced.shape[0]],
            [0, reduced.shape[0]]]) @ turn[:, :2].T.astype(np.float32)  # fmt: skip
        turn[:, 2] = -corners.min(axis=0)
        size = np.ceil(corners.max(axis=0) - corners.min(axis=0)).astype(int)
        seen = _array(np.ones_like(detail))
        if angle:
            detail = cv2.warpAffine(detail, turn, (int(size[0]), int(size[1])))
            seen = cv2.warpAffine(seen, turn, (int(size[0]), int(size[1])))
        matrix = turn @ np.diag([scale_x, scale_y, 1.0])
        return _Level(detail, seen, np.asarray(matrix, np.float32), line)

    def box(self, polygon: Points) -> tuple[float, float, float, float]:
        """x, y, width and height of a line here."""
        placed = np.asarray(polygon, np.float32) @ self.matrix[:, :2].T + self.matrix[:, 2]
        left, top = placed.min(axis=0)
        right, bottom = placed.max(axis=0)
        return float(left), float(top), float(right - left), float(bottom - top)

    def holds(self, x: float, y: float, shape: tuple[int, ...]) -> bool:
        """Whether a copy at a place is within the photo."""
        corners = [(x, y), (x + shape[1], y), (x, y + shape[0]), (x + shape[1], y + shape[0])]
        height, width = self.seen.shape
        return all(
            0 <= right <= width - 1 and 0 <= down <= height - 1 and self.seen[int(down), int(right)]
            for right, down in corners
        )

    def polygon(self, x: float, y: float, width: float, height: float) -> Points:
        back = cv2.invertAffineTransform(self.matrix).astype(np.float32)
        corners = _array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])
        return np.asarray(corners @ back[:, :2].T + back[:, 2], np.float32)


def _fits(box: tuple[float, ...], shape: tuple[int, ...]) -> bool:
    """Whether a line is a whole copy, not a part of one."""
    return 0.85 < box[2] / shape[1] < 1.18 and 0.7 < box[3] / shape[0] < 1.4


def _pattern(frame: _Level, boxes: Sequence[tuple[float, float, float, float]]) -> Values | None:
    """The mark alone: the mean of its copies, each moved to where it fits the first best."""
    left, top, width, height = boxes[0]
    size = (round(height), round(width))
    first = _part(frame.detail, left, top, size)
    if first is None or min(size) < 5 or float(first.std()) < 1e-3:
        return None
    total, count = first.copy(), 1
    for box in boxes[1:]:
        if not _fits(box, size):
            continue
        score, place = _near(frame, first, box[:2])
        other = _part(frame.detail, *place, size)
        if other is not None and score > _DUE:
            total, count = total + other, count + 1
    return np.asarray(total / count, np.float32)


def _part(detail: Values, left: float, top: float, size: tuple[int, int]) -> Values | None:
    row, column = round(top), round(left)
    if row < 0 or column < 0:
        return None
    part = detail[row : row + size[0], column : column + size[1]]
    return part if part.shape == size else None


def _clear(frame: _Level, pattern: Values) -> tuple[list[tuple[float, float]], float]:
    """Where the pattern is without doubt, the best first, and the spread of the correlation."""
    if frame.detail.shape[0] <= pattern.shape[0] or frame.detail.shape[1] <= pattern.shape[1]:
        return [], 0.0
    scores = cv2.matchTemplate(frame.detail, pattern, cv2.TM_CCOEFF_NORMED)
    spread = float(np.median(np.abs(scores[::2, ::2]))) / 0.6745
    peak = cv2.dilate(scores, np.ones((2 * round(frame.slack) + 1,) * 2, np.uint8))
    high = scores > max(_CLEAR, _CLEAR_SPREADS * spread)
    rows, columns = np.nonzero((scores >= peak) & high)
    order = np.argsort(-scores[rows, columns], kind="stable")[: 2 * _MOST]
    return [(float(columns[each]), float(rows[each])) for each in order], spread


def _overlap(one: tuple[float, float], other: tuple[float, float], shape: tuple[int, ...]) -> bool:
    return abs(one[0] - other[0]) < _APART * shape[1] and abs(one[1] - other[1]) < _APART * shape[0]


def _merged(
    places: Sequence[tuple[float, float]], shape: tuple[int, ...]
) -> list[tuple[float, float]]:
    """Places at which copies do not overlap; earlier ones stay."""
    kept: list[tuple[float, float]] = []
    for place in places:
        if not any(_overlap(place, other, shape) for other in kept):
            kept.append(place)
    return kept


def _steps(
    places: Sequence[tuple[float, float]], shape: tuple[int, ...], slack: float
) -> list[tuple[float, float]]:
    """Steps between neighbours that occur again, the shortest first."""
    points = _array(places[:_SURE])
    differences = (points[:, None] - points[None]).reshape(-1, 2)
    ahead = (differences[:, 1] > slack) | (
        (np.abs(differences[:, 1]) <= slack) & (differences[:, 0] > slack)
    )
    differences = differences[ahead]
    often = []
    for each in differences:
        alike = np.abs(differences - each).max(axis=1) <= slack
        if np.count_nonzero(alike) >= 2:
            right, down = differences[alike].mean(axis=0)
            often.append((float(np.hypot(right, down)), (float(right), float(down))))
    return _merged([step for _, step in sorted(often)], shape)[:4]


def _kept(
    frame: _Level,
    pattern: Values,
    places: Sequence[tuple[float, float]],
    step: tuple[float, float],
    least: float,
) -> bool:
    """Whether a step leads from copies to copies. In a texture it does now and then only."""
    asked = [
        (x + sign * step[0], y + sign * step[1]) for x, y in places[:_ASKED] for sign in (1, -1)
    ]
    scores = [_near(frame, pattern, due)[0] for due in asked if frame.holds(*due, pattern.shape)]
    return len(scores) >= 2 and sum(score > least for score in scores) >= _CONFIRMED * len(scores)


def _on_the_grid(
    places: Sequence[tuple[float, float]], steps: Sequence[tuple[float, float]], slack: float
) -> list[tuple[float, float]]:
    """Places that a step leads to or from."""

    def linked(x: float, y: float) -> bool:
        return any(
            abs(abs_x - (x + sign * right)) <= 2 * slack
            and abs(abs_y - (y + sign * down)) <= 2 * slack
            for right, down in steps
            for sign in (1, -1)
            for abs_x, abs_y in places
        )

    return [place for place in places if linked(*place)]


def _followed(
    frame: _Level,
    pattern: Values,
    found: list[tuple[float, float]],
    steps: Sequence[tuple[float, float]],
    least: float,
) -> list[tuple[float, float]]:
    """The places, and those that a step from one of them leads to where the pattern shows."""
    found = list(found)
    dead: list[tuple[float, float]] = []
    missing = 0
    waiting = list(found)
    while waiting and len(found) <= _MOST:
        x, y = waiting.pop(0)
        for right, down in steps:
            for sign in (1, -1):
                due = (x + sign * right, y + sign * down)
                if any(_overlap(due, other, pattern.shape) for other in (*found, *dead)):
                    continue
                score, place = _near(frame, pattern, due)
                if score > least:
                    found.append(place)
                    waiting.append(place)
                else:
                    dead.append(due)
                    missing += frame.holds(*due, pattern.shape)
    # A tiling has few gaps; a texture that looks like the mark has many.
    return found if missing <= _GAPS * len(found) else []


def _near(
    frame: _Level, pattern: Values, due: tuple[float, ...]
) -> tuple[float, tuple[float, float]]:
    """Best correlation around a place, and where; only what lies in the photo is compared."""
    reach = max(round(frame.slack), 1)
    height, width = pattern.shape
    left, top = round(due[0]) - reach, round(due[1]) - reach
    rows, columns = height + 2 * reach, width + 2 * reach
    area = np.zeros((rows, columns), np.float32)
    seen = np.zeros((rows, columns), np.float32)
    inner = (
        slice(max(top, 0), min(top + rows, frame.detail.shape[0])),
        slice(max(left, 0), min(left + columns, frame.detail.shape[1])),
    )
    if inner[0].start >= inner[0].stop or inner[1].start >= inner[1].stop:
        return 0.0, (due[0], due[1])
    target = (
        slice(inner[0].start - top, inner[0].stop - top),
        slice(inner[1].start - left, inner[1].stop - left),
    )
    area[target] = frame.detail[inner]
    seen[target] = frame.seen[inner] > 0.99
    area *= seen
    # Both are high-passed: their means are near zero and need not be taken off.
    shared = cv2.matchTemplate(area, pattern, cv2.TM_CCORR)
    energy = cv2.matchTemplate(area * area, np.ones_like(pattern), cv2.TM_CCORR)
    model = cv2.matchTemplate(seen, pattern * pattern, cv2.TM_CCORR)
    share = cv2.matchTemplate(seen, np.full_like(pattern, 1 / pattern.size), cv2.TM_CCORR)
    scores = shared / np.sqrt(np.maximum(energy * model, 1e-6))
    scores[share < _VISIBLE] = 0
    _, best, _, (column, row) = cv2.minMaxLoc(scores)
    return float(best), (float(left + column), float(top + row))


def _array(values: Any) -> NDArray[Any]:
    return np.asarray(values, np.float32)
