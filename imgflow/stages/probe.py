"""The displaced probe: the same repair where the truth is known.

Under a repair there is no truth to compare with. So the same mask is laid on similar clean
ground nearby in the repaired photo, repaired there by the same engine with the same settings, and
compared with the pixels that were there. Only what was never under a mask counts as truth.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.imaging.colour import data_range, flatten
from imgflow.imaging.folding import Move, repeats
from imgflow.imaging.masks import Box, Mask, hole_boxes, mask_box
from imgflow.imaging.metrics import haarpsi, psnr, ssim

# Probing the largest pieces says enough of an engine on a photo, at bounded cost.
_MAX_PROBES = 5
# Strokes nearer than this count as one hole: mostly a letter. Small holes find clean ground.
_JOINED = 4
# Larger holes are probed in pieces of about this many pixels, or this share of the photo's short
# side (large photos have large letters): clean ground for all of a mark that covers the photo is
# nowhere. But a piece is so many times as large as the hole is thick: a fill does better on a
# small hole, and no better on a piece of a long one.
_PIECE, _PIECE_SHARE = 64, 0.12
_THICK = 1.3
# Pieces that find no clean ground are halved so often, down to so many pixels.
_HALVED, _LEAST_PIECE = 2, 16
# Pieces are this many pixels large, at most, where clean ground is looked for.
_SEARCH_SIZE = 96
# Share of a piece that may lie on what is not clean, and is left out: letters of a mark all over
# the photo find clean ground between its lines, but no box does.
_OVERLAP = 0.1
# How rough a place must be to stand for another, as a share of that one's roughness.
_AS_ROUGH = 0.5
# Metrics see this many pixels around the hole.
_SURROUNDINGS = 8
# A mark that is repeated all over is probed as a whole, moved in between itself, where at least
# this share of it then lies on clean ground: each copy tells of the others. Steps of the moves that
# are tried, in shares of the way to the nearest copy; pixels of the picture that is looked at.
_BETWEEN, _STEPS, _GLANCE = 0.4, 4, 256


class Repair(Protocol):
    """A repair that was made, and how to do the same where the truth is known."""

    @property
    def context(self) -> int:
        """Pixels around a hole that the repair looks at."""

    def lay(self, truth: NDArray[Any], box: Box) -> NDArray[Any]:
        """Ground of the box's size, (h, w, 3|4), with what was taken away at `box` laid over."""

    def mend(self, damaged: NDArray[Any], hole: Mask) -> NDArray[Any]:
        """Damaged pixels (h, w, 3|4) repaired under `hole`."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """All probes together: PSNR (dB) of their pooled error under the mask, mean SSIM and HaarPSI
    around it. One letter that meets a hard edge says little; several say how the engine does.

    gain: by how many dB of PSNR the repair came nearer to the truth than what was laid over it.
    unprobed: pixels of the repair that the probes do not speak for: of all of it the share that
    found no similar clean ground among the pieces that were tried.
    """

    psnr: float | None
    ssim: float | None
    haarpsi: float | None
    gain: float | None
    probes: int
    unprobed: int


def displaced_probe(repaired: NDArray[Any], mask: Mask, avoid: Mask, repair: Repair) -> ProbeResult:
    """Damage clean ground in the same way, repair it, and compare with the truth.

    repaired: (H, W, 3|4). mask: its holes. avoid: (H, W), 255 where the ground is not clean
    (text, other holes). The metrics are None where no hole has such ground nearby.
    """
    unclean = avoid | mask
    if repaired.shape[2] == 4:
        # What is under transparency is no truth.
        clear = repaired[:, :, 3] < data_range(repaired.dtype)
        unclean = unclean | np.where(clear, 255, 0).astype(np.uint8)
    places, unprobed = _places(repaired, mask, unclean)
    results = [_probed(repaired, mask, unclean, repair, *place) for place in places]
    if not results:
        return ProbeResult(None, None, None, None, probes=0, unprobed=unprobed)
    decibels, similarities, haar, damages = zip(*results, strict=True)
    return ProbeResult(
        psnr=_pooled(decibels),
        ssim=float(np.mean(similarities)),
        haarpsi=float(np.mean(haar)),
        # Where nothing is left to win, nothing is lost.
        gain=_pooled(decibels) - _pooled(damages) if math.isfinite(_pooled(decibels)) else math.inf,
        probes=len(results),
        unprobed=unprobed,
    )


def _places(
    repaired: NDArray[Any], mask: Mask, unclean: Mask
) -> tuple[list[tuple[Box, Move]], int]:
    """Boxes that hold some of the mask, each with its move to clean ground, and how many pixels of
    the mask they do not speak for."""
    together = _between(mask, unclean)
    if together is not None:
        return [together], 0
    found = []
    tried = missed = 0
    for piece in _pieces(mask)[:_MAX_PROBES]:
        area = int(np.count_nonzero(mask[piece.slices]))
        tried += area
        place = _placed(repaired, mask, unclean, piece)
        if place is None:
            missed += area
        else:
            found.append(place)
    return found, round(np.count_nonzero(mask) * missed / max(tried, 1))


def _between(mask: Mask, unclean: Mask) -> tuple[Box, Move] | None:
    """What stays in the photo of a mark that is repeated all over it, when it is moved to where
    most of it lies on clean ground, and that move; None where too little of it does."""
    moves = repeats((mask > 0).astype(np.float32))
    if not moves:
        return None
    # Every so manieth pixel is enough to see where it fits.
    skip = max(min(mask.shape) // _GLANCE, 1)
    hole, clean = mask[::skip, ::skip] > 0, unclean[::skip, ::skip] == 0
    reach = round(min(math.hypot(*move) for move in moves) / skip)
    step = max(reach // _STEPS, 1)
    steps = range(-reach, reach + 1, step)
    shifts = [(down, right) for down in steps for right in steps]
    fits = []
    for shift in shifts:
        stays = _staying(hole.shape, shift)
        there = clean[stays.moved(*shift).slices]
        fits.append(int(np.count_nonzero(hole[stays.slices] & there)))
    if max(fits) < _BETWEEN * np.count_nonzero(hole):
        return None
    down, right = shifts[fits.index(max(fits))]
    move = down * skip, right * skip
    return _staying(mask.shape, move), move


def _staying(shape: tuple[int, ...], move: Move) -> Box:
    """What of a plane of that shape is still on it when moved."""
    (height, width), (down, right) = shape, move
    return Box(max(-down, 0), max(-right, 0), height - max(down, 0), width - max(right, 0))


def _probed(
    repaired: NDArray[Any], mask: Mask, unclean: Mask, repair: Repair, box: Box, move: Move
) -> tuple[float, float, float, float]:
    """PSNR, SSIM and HaarPSI of one probe, and PSNR of what was repaired there."""
    place = box.moved(*move)
    window = place.padded(repair.context, *mask.shape)
    truth = np.ascontiguousarray(repaired[window.slices])
    hole = np.zeros(truth.shape[:2], np.uint8)
    inner = place.moved(-window.top, -window.left).slices
    hole[inner] = mask[box.slices] & ~unclean[place.slices]
    damaged = truth.copy()
    laid = repair.lay(truth[inner], box)
    damaged[inner] = np.where(hole[inner][:, :, None] > 0, laid, truth[inner])
    span = data_range(truth.dtype)
    before = psnr(truth[:, :, :3], damaged[:, :, :3], data_range=span, mask=hole)
    return *_compare(truth, repair.mend(damaged, hole), hole), before


def _pooled(decibels: Sequence[float]) -> float:
    """PSNR of the mean error."""
    error = float(np.mean(10.0 ** (-np.array(decibels) / 10)))
    return -10 * math.log10(error) if error else math.inf


def _placed(
    repaired: NDArray[Any], mask: Mask, unclean: Mask, piece: Box
) -> tuple[Box, tuple[int, int]] | None:
    """The piece, or the fullest part of it that fits between what is not clean, and its shift to
    clean ground; None where nothing fits."""
    for _ in range(_HALVED + 1):
        shift = _clean_ground(repaired, mask, unclean, piece)
        if shift is not None:
            return piece, shift
        side = max(piece.height, piece.width) // 2
        if side < max(_LEAST_PIECE, _THICK * _thickness(mask, piece)):
            return None
        parts = _cut(piece, side)
        piece = max(parts, key=lambda part: np.count_nonzero(mask[part.slices]))
    return None


def _thickness(mask: Mask, box: Box) -> float:
    """Pixels across the mask where it is widest in the box; it ends where the photo does."""
    # A box that was cut out of a hole does not say how far that goes on beside it.
    around = box.padded(max(box.height, box.width) // 2, *mask.shape)
    # Without a rim of zeros, a mask that fills all of it has nothing to be distant from.
    rimmed = cv2.copyMakeBorder(mask[around.slices], 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(0,))
    depth = cv2.distanceTransform(rimmed, cv2.DIST_L2, 3)
    return 2 * float(depth[box.moved(1 - around.top, 1 - around.left).slices].max())


def _pieces(mask: Mask) -> list[Box]:
    """Boxes that hold the mask; those with the most of it first."""
    least = max(_PIECE, round(_PIECE_SHARE * min(mask.shape)))
    pieces = []
    for box in hole_boxes(mask, _JOINED):
        for part in _cut(box, max(least, math.ceil(_THICK * _thickness(mask, box)))):
            inner = mask_box(mask[part.slices])
            if inner is not None:
                pieces.append(inner.moved(part.top, part.left))
    return sorted(pieces, key=lambda box: (-np.count_nonzero(mask[box.slices]), box.top, box.left))


def _cut(box: Box, side: int) -> Iterator[Box]:
    """The box in equal parts that are no smaller than `side`."""
    rows, columns = max(box.height // side, 1), max(box.width // side, 1)
    downs = [box.top + box.height * each // rows for each in range(rows + 1)]
    acrosses = [box.left + box.width * each // columns for each in range(columns + 1)]
    for top, bottom in pairwise(downs):
        for left, right in pairwise(acrosses):
            yield Box(top, left, bottom, right)


def _compare(truth: NDArray[Any], repaired: NDArray[Any], hole: Mask) -> tuple[float, float, float]:
    box = mask_box(hole)
    assert box is not None  # the hole was copied from a box that holds some of the mask
    around = box.padded(_SURROUNDINGS, *hole.shape).slices
    span = data_range(truth.dtype)
    # Contiguous colour planes: the metrics take no alpha.
    reference = np.ascontiguousarray(truth[around][:, :, :3])
    test = np.ascontiguousarray(repaired[around][:, :, :3])
    return (
        psnr(reference, test, data_range=span, mask=hole[around]),
        ssim(reference, test, data_range=span),
        haarpsi(reference, test, data_range=span),
    )


def _clean_ground(
    repaired: NDArray[Any], mask: Mask, unclean: Mask, box: Box
) -> tuple[int, int] | None:
    """Shift (down, right) of the box to the most similar place where its hole is clean, or None.

    Similar: the mean and the roughness of the ground just around the hole.
    """
    height, width = mask.shape
    size = max(box.height, box.width)
    # Nearby: within three sizes of the hole.
    area = box.padded(3 * size + 64, height, width)
    # Looked for in a small copy: a hole of any size then costs the same.
    shrink = max(size // _SEARCH_SIZE, 1)
    ground = _shrunk(
        cv2.cvtColor(flatten(repaired[area.slices], (255, 255, 255)), cv2.COLOR_RGB2GRAY), shrink
    )
    rough = cv2.convertScaleAbs(cv2.Laplacian(ground, cv2.CV_16S, ksize=1))
    # Rounded up: a place counts as clean only if all of it is.
    dirt = _shrunk(unclean[area.slices], shrink) > 0
    dirty, luma_sum, rough_sum = (
        cv2.integral(each) for each in (dirt.astype(np.uint8), ground, rough)
    )
    home = _shrunk_box(box.moved(-area.top, -area.left), shrink)
    # Boxes are rounded up, pictures down: what is missing of the hole is none.
    hole = np.zeros((home.height, home.width), bool)
    seen = _shrunk(mask[area.slices], shrink)[home.slices] > 0
    hole[: seen.shape[0], : seen.shape[1]] = seen
    most = _OVERLAP * int(np.count_nonzero(hole))
    ring = home.padded(_SURROUNDINGS, *ground.shape).slices
    rim = ~dirt[ring]
    if not rim.any():
        return None
    luma_here, rough_here = float(ground[ring][rim].mean()), float(rough[ring][rim].mean())

    best: tuple[float, tuple[int, int]] | None = None
    for down, right in _shifts(home):
        place = home.moved(down, right)
        if not place.inside(*ground.shape):
            continue
        if _total(dirty, place) > most and np.count_nonzero(dirt[place.slices] & hole) > most:
            continue
        count = place.height * place.width
        rough_there = _total(rough_sum, place) / count
        if rough_there < _AS_ROUGH * rough_here - 1:
            continue  # calm ground says nothing of a repair across an edge
        # Roughness decides how hard a fill is; brightness breaks ties.
        difference = abs(rough_there - rough_here)
        difference += 0.1 * abs(_total(luma_sum, place) / count - luma_here)
        if best is None or difference < best[0]:
            best = (difference, (down * shrink, right * shrink))
    if best is None or not box.moved(*best[1]).inside(height, width):
        return None
    return best[1]


def _shrunk(values: NDArray[Any], shrink: int) -> NDArray[Any]:
    if shrink == 1:
        return values
    size = max(values.shape[1] // shrink, 1), max(values.shape[0] // shrink, 1)
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA))


def _shrunk_box(box: Box, shrink: int) -> Box:
    """The box in a shrunk picture, grown to whole pixels."""
    return Box(
        box.top // shrink, box.left // shrink, -(-box.bottom // shrink), -(-box.right // shrink)
    )


def _shifts(box: Box) -> Iterator[tuple[int, int]]:
    """Halves of a box far around it; eighths of one near it, to get in between lines of text."""
    for part, rows, columns in ((2, 8, 6), (8, 12, 12)):
        step_down, step_right = max(box.height // part, 4), max(box.width // part, 4)
        for row in range(-rows, rows + 1):
            for column in range(-columns, columns + 1):
                if row or column:
                    yield row * step_down, column * step_right


def _total(integral: NDArray[Any], box: Box) -> float:
    return float(
        integral[box.bottom, box.right]
        - integral[box.top, box.right]
        - integral[box.bottom, box.left]
        + integral[box.top, box.left]
    )
