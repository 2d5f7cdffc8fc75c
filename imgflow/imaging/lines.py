"""How lines of text lie to each other and to letters, and how far they go."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.imaging.masks import Mask

# All in heights of a line. How much longer than high a line is that is believed to have a
# direction; how far it is followed; how wide a gap between letters can be, how little is worth
# being added, and how much of its height a letter covers at least where it does.
_LINE, _FARTHEST, _GAP, _LEAST, _INKED = 1.5, 8.0, 0.7, 0.3, 0.12


@dataclass(frozen=True, slots=True)
class Place:
    """Where letters are beside a line, in heights of it: how high they are, how far they reach
    above or below its middle, and how far they are from it along it and across (at most 0:
    beside it)."""

    size: float
    reach: float
    apart: float
    below: float


def place_beside(line: NDArray[np.float32], letters: NDArray[np.float32]) -> Place:
    """line: (4, 2) x, y, from its first corner on along its baseline. letters: (N, 2) corners."""
    along, across = line[1] - line[0], line[3] - line[0]
    length, height = (max(float(np.linalg.norm(side)), 3.0) for side in (along, across))
    seen = (letters - line.mean(axis=0)) / height
    x, y = seen @ (along / length), seen @ (across / height)
    return Place(
        size=float(y.max() - y.min()),
        reach=float(np.abs(y).max()),
        apart=max(float(x.min()), -float(x.max())) - length / height / 2,
        below=max(float(y.min()), -float(y.max())) - 0.5,
    )


def grown_along(line: NDArray[np.float32], letters: Mask) -> NDArray[np.float32]:
    """A line (4, 2), from its first corner on along its baseline, as far as letters go on at its
    ends. letters: (H, W), not 0 on what may belong to a letter."""
    along, across = line[1] - line[0], line[3] - line[0]
    length, height = float(np.linalg.norm(along)), float(np.linalg.norm(across))
    if height < 1 or length < _LINE * height:
        return line
    grown = line.copy()
    for corners, way in (((1, 2), along / length), ((0, 3), -along / length)):
        reach = _reach(line[list(corners)], way, height, letters)
        if reach >= _LEAST * height:
            grown[list(corners)] += np.float32(reach) * way
    return grown


def _reach(
    end: NDArray[np.float32], way: NDArray[np.float32], height: float, letters: Mask
) -> float:
    """How far, in pixels, letters go on beyond a line's end, (2, 2), that way."""
    steps = np.arange(0.5, _FARTHEST * height, dtype=np.float32)
    rows = np.linspace(0, 1, max(round(height), 2), dtype=np.float32)[:, None, None]
    x, y = np.moveaxis(end[0] * (1 - rows) + end[1] * rows + steps[:, None] * way, 2, 0)
    strip = cv2.remap(letters, x, y, cv2.INTER_NEAREST, borderValue=0)
    reach = 0.0
    for step in steps[(strip > 0).mean(axis=0) >= _INKED]:
        if step - reach > _GAP * height:
            break
        reach = float(step) + 0.5
    return reach
