"""A mark that is repeated all over a photo gives its faint copies away by the clear ones."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]

# Share of the plane's pixels that are at least so likely to be letters, where looking for
# repetition pays.
_LIKELY, _ENOUGH = 0.4, 0.01
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


def folded(letters: Plane) -> Plane:
    """How likely each pixel is a drawn letter, where that is repeated all over the photo: at least
    as likely as most of its copies say.

    letters: (H, W) float32 0..1. The moves that bring copies onto each other are the peaks of the
    plane's autocorrelation, each normalised by what overlaps; a plane that does not repeat itself
    in two directions is returned as it is.
    """
    if float((letters >= _LIKELY).mean()) < _ENOUGH:
        return letters
    moves = _moves(letters)
    if len(moves) < _FEWEST or not _in_two_directions(moves):
        return letters
    height, width = letters.shape
    copies = np.full((len(moves) + 1, height, width), -1, np.int8)
    plane = np.rint(100 * letters).astype(np.int8)
    copies[0] = plane
    for copy, (down, right) in zip(copies[1:], moves, strict=True):
        to, source = (
            np.s_[max(sign * down, 0) : height + min(sign * down, 0),
                  max(sign * right, 0) : width + min(sign * right, 0)]
            for sign in (1, -1)
        )  # fmt: skip
        copy[to] = plane[source]
    return np.maximum(letters, _usual(copies))


def _usual(copies: NDArray[np.int8]) -> Plane:
    """(H, W) 0..1: the quantile of the copies (N, H, W; hundredths, -1 where there is none)."""
    copies.sort(axis=0)
    there = (copies >= 0).sum(axis=0)
    # Missing copies come first.
    rank = len(copies) - there + np.floor(_QUANTILE * (there - 1)).astype(np.intp)
    found = np.take_along_axis(copies, np.clip(rank, 0, len(copies) - 1)[None], axis=0)[0]
    return np.where(there >= _COPIES, found, 0).astype(np.float32) / np.float32(100)


def _moves(letters: Plane) -> list[tuple[int, int]]:
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


def _in_two_directions(moves: list[tuple[int, int]]) -> bool:
    """Whether moves lie off one line: letters of one word do not."""
    points = np.array(moves, np.float64)
    _, sizes, _ = np.linalg.svd(points, full_matrices=False)
    return bool(sizes[1] > _SPREAD * sizes[0])
