"""A mark that is repeated all over a photo: each of its copies tells something of the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Move = tuple[int, int]
"""Pixels (down, right) that bring a mark onto a copy of it."""

# Share of the plane's pixels that are at least so likely to be letters, where looking for
# repetition pays.
_LIKELY, _ENOUGH = 0.4, 0.01
# Deviation of their places along the direction in which they are spread least, in sides of the
# photo: all over it, that is 0.29; letters of one line of text look alike, too, but are on a line.
_ALL_OVER = 0.16
# Correlation with itself, moved, from which on a plane repeats itself; and of the best one what
# the others have at least: letters of one word resemble each other, too, but less.
_REPEATS, _AS_GOOD = 0.5, 0.75
# Pixels between two moves, and from none, at least; as a share of the short side.
_APART = 0.045
# Share of the plane that still overlaps itself when moved: less tells nothing.
_OVERLAP = 0.2
# Moves of which an estimate is made, at least and at most; how far from one line they lie.
_FEWEST, _MOST, _SPREAD = 4, 20, 0.2
# Which of a pixel's copies, from the faintest, says what it is; how many copies there must be.
_QUANTILE, _COPIES = 0.7, 3


def repeats(letters: Plane) -> list[Move]:
    """Moves that bring the copies of a repeated mark onto each other, with each its opposite;
    none where nothing is repeated all over the plane.

    letters: (H, W) float32 0..1, how likely each pixel is a drawn letter. The moves are the peaks
    of the plane's autocorrelation, each normalised by what overlaps.
    """
    there = letters >= _LIKELY
    if float(there.mean()) < _ENOUGH or not _all_over(there):
        return []
    moves = _moves(letters)
    return moves if len(moves) >= _FEWEST and _in_two_directions(moves) else []


def folded(letters: Plane, moves: Sequence[Move]) -> Plane:
    """How likely each pixel is a drawn letter: at least as likely as most of its copies say.

    letters: (H, W) float32 0..1. moves: as `repeats` gives them; without any, nothing changes.
    """
    if not moves:
        return letters
    height, width = letters.shape
    copies = np.full((len(moves) + 1, height, width), -1, np.int8)
    plane = np.rint(100 * letters).astype(np.int8)
    copies[0] = plane
    for copy, (to, source) in zip(copies[1:], _overlaps((height, width), moves), strict=True):
        copy[to] = plane[source]
    return np.maximum(letters, _usual(copies))


def sum_of_copies(plane: Plane, moves: Sequence[Move]) -> Plane:
    """(H, W): what all copies of each pixel have together, without its own."""
    total = np.zeros_like(plane)
    for to, source in _overlaps(plane.shape, moves):
        total[to] += plane[source]
    return total


def _overlaps(shape: tuple[int, ...], moves: Sequence[Move]) -> Iterator[tuple[Any, Any]]:
    """Where a plane of that shape lies on itself after each move, and what lies there."""
    height, width = shape
    for down, right in moves:
        # A move that is longer than the plane leaves nothing.
        down, right = np.clip(down, -height, height), np.clip(right, -width, width)
        yield (
            np.s_[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)],
            np.s_[max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)],
        )


def _usual(copies: NDArray[np.int8]) -> Plane:
    """(H, W) 0..1: the quantile of the copies (N, H, W; hundredths, -1 where there is none)."""
    copies.sort(axis=0)
    there = (copies >= 0).sum(axis=0)
    # Missing copies come first.
    rank = len(copies) - there + np.floor(_QUANTILE * (there - 1)).astype(np.intp)
    found = np.take_along_axis(copies, np.clip(rank, 0, len(copies) - 1)[None], axis=0)[0]
    return np.where(there >= _COPIES, found, 0).astype(np.float32) / np.float32(100)


def _moves(letters: Plane) -> list[Move]:
    """Moves (down, right) that bring the plane onto itself, the best first; with each its
    opposite."""
    height, width = letters.shape
    rho, rights = _autocorrelation(letters - letters.mean())
    least = max(round(_APART * min(height, width)), 4)
    middle = len(rights) // 2
    rho[: least + 1, middle - least : middle + least + 1] = 0  # the plane on itself
    peaks = rho >= cv2.dilate(rho, np.ones((2 * least + 1, 2 * least + 1), np.uint8))
    best = float(rho.max())
    if best < _REPEATS:
        return []
    rows, columns = np.nonzero(peaks & (rho >= max(_AS_GOOD * best, _REPEATS)))
    order = np.argsort(-rho[rows, columns], kind="stable")[: _MOST // 2]
    found = [(int(rows[at]), int(rights[columns[at]])) for at in order]
    return [each for down, right in found for each in ((down, right), (-down, -right))]


def _autocorrelation(plane: Plane) -> tuple[Plane, NDArray[np.intp]]:
    """Correlation (D, R), -1..1, of a plane (H, W) with itself moved by 0 to D - 1 pixels down and
    by so many to the right, from left to right: what is moved up is the same, moved back. Moves
    after which little overlaps are left out."""
    height, width = plane.shape
    shape = cv2.getOptimalDFTSize(2 * height), cv2.getOptimalDFTSize(2 * width)
    power = np.square(np.abs(np.fft.rfft2(plane, shape)))
    farthest = round((1 - _OVERLAP) * width)
    downs, rights = np.arange(round((1 - _OVERLAP) * height)), np.arange(-farthest, farthest + 1)
    products = np.fft.irfft2(power, shape)[: len(downs)][:, rights]
    # What of the plane lies below its moved self, and what of that lies on it: sums over the
    # rectangles that overlap.
    energy = np.asarray(cv2.integral(np.square(plane)), np.float64)
    below = _sums(energy, _overlapping(downs, height), _overlapping(rights, width))
    above = _sums(energy, _overlapping(-downs, height), _overlapping(-rights, width))
    scale = np.sqrt(np.maximum(below, 0) * np.maximum(above, 0)) + 1e-3
    overlap = np.outer(height - downs, width - abs(rights))
    rho = np.where(overlap >= _OVERLAP * plane.size, products / scale, 0)
    return rho.astype(np.float32), rights


def _overlapping(moves: NDArray[np.intp], side: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First and last + 1 of the rows (or columns) that are still on a plane when moved."""
    first = np.clip(-moves, 0, side)
    return first, np.maximum(side - np.clip(moves, 0, side), first)


def _sums(
    integral: NDArray[np.float64],
    rows: tuple[NDArray[np.intp], NDArray[np.intp]],
    columns: tuple[NDArray[np.intp], NDArray[np.intp]],
) -> NDArray[np.float64]:
    """Sums over all rectangles of these rows and columns."""
    (top, bottom), (left, right) = rows, columns
    high, low = integral[bottom], integral[top]
    return high[:, right] - high[:, left] - low[:, right] + low[:, left]


def _all_over(there: NDArray[np.bool_]) -> bool:
    """Whether pixels lie all over a plane (H, W), and not along a line."""
    places = np.argwhere(there) / np.array(there.shape)
    return bool(np.linalg.eigvalsh(np.cov(places.T))[0] >= _ALL_OVER**2)


def _in_two_directions(moves: Sequence[Move]) -> bool:
    """Whether moves lie off one line: letters of one word do not."""
    points = np.array(moves, np.float64)
    _, sizes, _ = np.linalg.svd(points, full_matrices=False)
    return bool(sizes[1] > _SPREAD * sizes[0])
