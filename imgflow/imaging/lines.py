"""How lines of text lie to each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
