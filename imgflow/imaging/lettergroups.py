"""Groups of letters in a map that says of each pixel how likely it is one, and what they look
like there: letters stand in a line of even height, apart from what is around them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.imaging.masks import dilate, grown_polygon, polygon_box, polygon_mask

Values = NDArray[Any]

# Letters nearer than this share of the map's short side make one group, within these pixels.
_GAP = 0.012
_NEAREST, _FARTHEST = 3, 12
# Pixels of height in which a group and what is around it are looked at, and most of its length.
_HEIGHT, _LONGEST = 16, 400
# Probability from which on a pixel of the map says anything.
_TRACE = 77
# Groups of one make: degrees between their lines, and how many times as high the one is.
_TURNED, _ALIKE = 6.0, (0.65, 1.5)
# Mean probability from which on a group of one make speaks for the others.
_CLEAR = 0.6
# Farthest, in heights of a known line, that a group is from it.
_FAR = 6.0

MEASURES = (
    "level", "height", "pixels", "elongation", "length", "density", "sure", "surest", "least_sure",
    "printed", "around", "around_most", "beside", "beyond", "uneven", "unbroken", "band", "letters",
    "turned", "diagonal", "edge_x", "edge_y", "off_centre", "off_middle", "busy", "share",
    "parallel", "parallel_clear", "marks", "marks_parallel", "mark_apart", "mark_size",
)  # fmt: skip
"""Names of what `measure_groups` gives.

level: from which probability on its pixels count, 0..1. height, pixels: across its line, as a
share of the map's short side, and in pixels. elongation, length: along its line, in heights, and
as a share of the map's diagonal. density: share of its box that its strokes fill. sure, surest,
least_sure: mean probability of its strokes, and their 90th and 25th percentile. printed: mean
probability of print there. around, around_most: probability within a height around it, mean and
90th percentile; beside, beyond: the mean above and below it, and before and behind it. uneven:
spread of what stands along its line, over its mean. unbroken: share of its length where something
stands. band: mean distance of its strokes from the line's middle. letters: parts that do not
touch, for each height of its length. turned, diagonal: its line against the map's sides. edge_x,
edge_y, off_centre, off_middle: its place. busy: share of the map with traces of letters. share:
of those traces, the group's. parallel, parallel_clear: groups of one make, and clear ones of
those. marks, marks_parallel: known overlays, and those of one make. mark_apart, mark_size: how
far the nearest of those is, in its heights, and how high the group is beside it. What spans
orders of magnitude is given as its logarithm.
"""


@dataclass(frozen=True, slots=True, eq=False)
class LetterGroup:
    """Letters near each other. box: (4, 2) float32 of x, y, its longer side first. level: of 255,
    from which probability on a pixel counts. strokes: (N, 2) of x, y. sure: their mean
    probability, 0..1."""

    box: NDArray[np.float32]
    level: int
    strokes: NDArray[np.intp]
    sure: float

    @property
    def ink(self) -> int:
        """Pixels of its strokes."""
        return len(self.strokes)

    @property
    def sides(self) -> tuple[float, float]:
        """Pixels across and along."""
        along, across = _length(self.box[1] - self.box[0]), _length(self.box[2] - self.box[1])
        return across + 1, along + 1


def grouped(drawn: NDArray[np.uint8], level: int, fewest: int) -> list[LetterGroup]:
    """Groups of letters in a map (H, W; 255 = certain): pixels of at least `level`, and at least
    `fewest` of them."""
    strokes = np.where(drawn >= level, np.uint8(255), np.uint8(0))
    gap = float(np.clip(_GAP * min(drawn.shape), _NEAREST, _FARTHEST))
    count, places, boxes, _ = cv2.connectedComponentsWithStats(dilate(strokes, round(gap)))
    found = []
    for number in range(1, count):
        left, top, width, height, _ = boxes[number]
        part = np.s_[top : top + height, left : left + width]
        rows, columns = np.nonzero((places[part] == number) & (strokes[part] > 0))
        if rows.size < fewest:
            continue
        points = np.stack([columns + left, rows + top], axis=1)
        sure = float(drawn[points[:, 1], points[:, 0]].mean()) / 255
        box = cv2.boxPoints(cv2.minAreaRect(points.astype(np.float32)))
        found.append(LetterGroup(along(np.asarray(box, np.float32)), level, points, sure))
    return found


def within(drawn: NDArray[np.uint8], polygon: NDArray[np.float32], level: int) -> LetterGroup:
    """The letters of a line whose place, (4, 2), is known; its middle where the map shows none."""
    height, width = drawn.shape
    box = polygon_box(polygon, height, width)
    points = np.zeros((0, 2), np.intp)
    if box.height and box.width:  # else it lies beyond the photo
        inside = polygon_mask([polygon - (box.left, box.top)], box.height, box.width)
        rows, columns = np.nonzero((inside > 0) & (drawn[box.slices] >= level))
        points = np.stack([columns + box.left, rows + box.top], axis=1)
    if not len(points):
        middle = np.clip(polygon.mean(axis=0).round(), 0, (width - 1, height - 1))
        points = middle.astype(np.intp)[None]
    sure = float(drawn[points[:, 1], points[:, 0]].mean()) / 255
    outline = cv2.boxPoints(cv2.minAreaRect(polygon.astype(np.float32)))
    return LetterGroup(along(np.asarray(outline, np.float32)), level, points, sure)


def without(drawn: NDArray[np.uint8], known: Sequence[NDArray[np.float32]]) -> NDArray[np.uint8]:
    """The map (H, W) with nothing in known lines, (4, 2) polygons: detectors cut close, so their
    surroundings go too."""
    taken = np.zeros(drawn.shape, np.uint8)
    for polygon in known:
        _, sides, _ = cv2.minAreaRect(polygon)
        grown_polygon(taken, polygon, round(0.5 * min(sides)) + 4)
    return np.where(taken > 0, np.uint8(0), drawn)


def along(box: NDArray[np.float32]) -> NDArray[np.float32]:
    """The corners of a box, (4, 2), so that its longer side comes first."""
    first, second = _length(box[1] - box[0]), _length(box[2] - box[1])
    return box if first >= second else np.roll(box, -1, axis=0)


def measure_groups(
    drawn: NDArray[np.uint8],
    printed: NDArray[np.uint8],
    groups: Sequence[LetterGroup],
    marks: Sequence[NDArray[np.float32]],
) -> NDArray[np.float32]:
    """(N, len(MEASURES)) of N groups.

    drawn, printed: (H, W), 255 = certainly a letter drawn over the photo, or printed on what it
    shows. marks: (4, 2) polygons of known overlays.
    """
    share = drawn.astype(np.float32) / 255
    traces = drawn >= _TRACE
    busy, total = float(traces.mean()), max(float(share[traces].sum()), 1.0)
    lines = [_Line.of(group.box) for group in groups]
    known = [_Line.of(along(mark)) for mark in marks]
    rows = []
    for number, (group, line) in enumerate(zip(groups, lines, strict=True)):
        alike = [
            groups[other]
            for other, its in enumerate(lines)
            if other != number and groups[other].level == group.level and line.like(its)
        ]
        mates = [mark for mark in known if line.like(mark)]
        near = min(mates, key=line.apart, default=None)
        found = {
            **_strokes(share, printed, group, line),
            **_strip(share, group),
            **_place(drawn.shape, group, line),
            "busy": math.log(busy + 0.002),
            "share": float(share[group.strokes[:, 1], group.strokes[:, 0]].sum()) / total,
            "parallel": math.log1p(len(alike)),
            "parallel_clear": math.log1p(sum(each.sure > _CLEAR for each in alike)),
            "marks": math.log1p(len(known)),
            "marks_parallel": math.log1p(len(mates)),
            "mark_apart": _FAR if near is None else min(line.apart(near), _FAR),
            "mark_size": 0.0 if near is None else math.log(line.height / near.height),
        }
        rows.append([found[name] for name in MEASURES])
    return np.array(rows, np.float32).reshape(len(groups), len(MEASURES))


@dataclass(frozen=True, slots=True)
class _Line:
    """middle: x, y. ahead: unit vector along it. height, length: pixels. angle: 0..180 degrees."""

    middle: Values
    ahead: Values
    height: float
    length: float
    angle: float

    @staticmethod
    def of(box: NDArray[np.float32]) -> _Line:
        side = box[1] - box[0]
        length = _length(side)
        ahead = side / length if length else np.array([1, 0], np.float32)
        return _Line(
            box.mean(axis=0),
            ahead,
            max(_length(box[2] - box[1]) + 1, 3.0),
            length + 1,
            math.degrees(math.atan2(ahead[1], ahead[0])) % 180,
        )

    def like(self, other: _Line) -> bool:
        apart = abs(self.angle - other.angle) % 180
        ratio = other.height / self.height
        return min(apart, 180 - apart) < _TURNED and _ALIKE[0] < ratio < _ALIKE[1]

    def apart(self, other: _Line) -> float:
        """Between the two, in heights of the other."""
        x = abs(float((self.middle - other.middle) @ other.ahead))
        y = abs(float((self.middle - other.middle) @ (-other.ahead[1], other.ahead[0])))
        gap = max(x - (self.length + other.length) / 2, 0), max(y - other.height, 0)
        return math.hypot(*gap) / other.height


def _strokes(
    share: Values, printed: NDArray[np.uint8], group: LetterGroup, line: _Line
) -> dict[str, float]:
    """What a group's own pixels say."""
    left, top = group.strokes.min(axis=0)
    own = np.zeros((group.strokes.max(axis=0) - (left, top) + 1)[::-1], np.uint8)
    own[group.strokes[:, 1] - top, group.strokes[:, 0] - left] = 1
    parts = cv2.connectedComponents(own)[0] - 1
    chances = share[group.strokes[:, 1], group.strokes[:, 0]]
    print_there = printed[group.strokes[:, 1], group.strokes[:, 0]]
    return {
        "level": group.level / 255,
        "density": group.ink / (line.height * line.length),
        "sure": group.sure,
        "surest": float(np.quantile(chances, 0.9)),
        "least_sure": float(np.quantile(chances, 0.25)),
        "printed": float(print_there.mean()) / 255,
        "letters": math.log((parts + 0.5) * line.height / line.length),
    }


def _strip(share: Values, group: LetterGroup) -> dict[str, float]:
    """How a group stands in the map: laid level, with a height of room on all sides."""
    line = _Line.of(group.box)
    scale = min(1.0, _HEIGHT / line.height, _LONGEST / line.length)
    size = (
        max(round((line.length + 2 * line.height) * scale), 4),
        max(round(3 * line.height * scale), 6),
    )
    down = np.array([-line.ahead[1], line.ahead[0]])
    width, height = line.length + 2 * line.height, 3 * line.height
    corner = line.middle - line.ahead * (width / 2) - down * (height / 2)
    ends = np.array([corner, corner + line.ahead * width, corner + down * height], np.float32)
    level = np.array([[0, 0], [size[0], 0], [0, size[1]]], np.float32)
    seen = cv2.warpAffine(
        share,
        cv2.getAffineTransform(ends, level),
        size,
        flags=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(-1.0,),
    )
    there = seen >= 0  # what lies beyond the map says nothing
    margin = round(line.height * scale)
    rows = slice(size[1] // 3, max(2 * size[1] // 3, size[1] // 3 + 1))
    columns = slice(margin, max(size[0] - margin, margin + 1))
    own = np.zeros_like(there)
    own[rows, columns] = True
    in_line = np.zeros_like(there)
    in_line[rows] = True
    inner = np.maximum(seen[rows, columns], 0)
    around = seen[there & ~own]
    bins = np.array_split(inner.mean(axis=0), min(_bins(line), inner.shape[1]))
    stands = [float(each.mean()) for each in bins]
    across = inner.mean(axis=1)
    distance = np.abs(np.linspace(-1, 1, len(across)))
    return {
        "around": _mean(around),
        "around_most": float(np.quantile(around, 0.9)) if around.size else 0.0,
        "beside": _mean(seen[there & ~in_line]),
        "beyond": _mean(seen[there & in_line & ~own]),
        "uneven": float(np.std(stands)) / max(float(np.mean(stands)), 1e-3),
        "unbroken": float((inner.max(axis=0) > _TRACE / 255).mean()),
        "band": float((across * distance).sum() / max(float(across.sum()), 1e-6)),
    }


def _bins(line: _Line) -> int:
    """Letters that have room in a line, about."""
    return max(round(2 * line.length / line.height), 1)


def _place(shape: tuple[int, ...], group: LetterGroup, line: _Line) -> dict[str, float]:
    height, width = shape
    left, top = group.box.min(axis=0)
    right, bottom = group.box.max(axis=0)
    turned = min(line.angle, 180 - line.angle)
    return {
        "height": math.log(line.height / min(height, width)),
        "pixels": math.log(line.height),
        "elongation": math.log(line.length / line.height),
        "length": line.length / math.hypot(height, width),
        "turned": min(turned, abs(90 - turned)) / 45,
        "diagonal": float(15 < turned < 75),
        "edge_x": float(np.clip(min(left, width - right) / width, -0.02, 0.5)),
        "edge_y": float(np.clip(min(top, height - bottom) / height, -0.02, 0.5)),
        "off_centre": abs(float(line.middle[0]) / width - 0.5),
        "off_middle": abs(float(line.middle[1]) / height - 0.5),
    }


def _mean(values: Values) -> float:
    return float(values.mean()) if values.size else 0.0


def _length(vector: Values) -> float:
    return float(np.linalg.norm(vector))
