"""The displaced probe: the same repair where the truth is known.

Under a repair there is no truth to compare with. So the same mask is laid on similar clean
ground nearby in the same photo, repaired there by the same engine with the same settings, and
compared with the pixels that were there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.imaging.colour import data_range, flatten
from imgflow.imaging.masks import Box, Mask, hole_boxes, mask_box
from imgflow.imaging.metrics import haarpsi, psnr, ssim

# Probing the largest holes says enough of an engine on a photo, at bounded cost.
_MAX_PROBES = 5
# Strokes nearer than this count as one hole: mostly a letter. Small holes find clean ground.
_JOINED = 4
# Holes are this many pixels large, at most, where clean ground is looked for.
_SEARCH_SIZE = 96
# How rough a place must be to stand for another, as a share of that one's roughness.
_AS_ROUGH = 0.5
# Metrics see this many pixels around the hole.
_SURROUNDINGS = 8


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

    unprobed: pixels of the large holes that no similar clean ground was found for.
    """

    psnr: float | None
    ssim: float | None
    haarpsi: float | None
    probes: int
    unprobed: int


def displaced_probe(pixels: NDArray[Any], mask: Mask, avoid: Mask, repair: Repair) -> ProbeResult:
    """Damage clean ground in the same way, repair it, and compare with the truth.

    pixels: (H, W, 3|4) before the repair. mask: its holes. avoid: (H, W), 255 where the ground
    is not clean (text, other holes). The metrics are None where no hole has such ground nearby.
    """
    unclean = avoid | mask
    if pixels.shape[2] == 4:
        # What is under transparency is no truth.
        unclean = unclean | np.where(pixels[:, :, 3] < data_range(pixels.dtype), 255, 0).astype(
            np.uint8
        )
    holes = sorted(hole_boxes(mask, _JOINED), key=lambda box: -box.height * box.width)
    results = []
    unprobed = 0
    for box in holes[:_MAX_PROBES]:
        shift = _clean_ground(pixels, mask, unclean, box)
        if shift is None:
            unprobed += int(np.count_nonzero(mask[box.slices]))
            continue
        place = box.moved(*shift)
        window = place.padded(repair.context, *mask.shape)
        truth = np.ascontiguousarray(pixels[window.slices])
        hole = np.zeros(truth.shape[:2], np.uint8)
        inner = place.moved(-window.top, -window.left).slices
        hole[inner] = mask[box.slices]
        damaged = truth.copy()
        damaged[inner] = repair.lay(truth[inner], box)
        results.append(_compare(truth, repair.mend(damaged, hole), hole))
    if not results:
        return ProbeResult(None, None, None, probes=0, unprobed=unprobed)
    decibels, similarities, haar = zip(*results, strict=True)
    error = float(np.mean(10.0 ** (-np.array(decibels) / 10)))
    return ProbeResult(
        psnr=-10 * math.log10(error) if error else math.inf,
        ssim=float(np.mean(similarities)),
        haarpsi=float(np.mean(haar)),
        probes=len(results),
        unprobed=unprobed,
    )


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
    pixels: NDArray[Any], mask: Mask, unclean: Mask, box: Box
) -> tuple[int, int] | None:
    """Shift (down, right) of the box to the most similar clean place, or None.

    Similar: the mean and the roughness of the ground just around the hole.
    """
    height, width = mask.shape
    size = max(box.height, box.width)
    # Nearby: within three sizes of the hole.
    area = box.padded(3 * size + 64, height, width)
    # Looked for in a small copy: a hole of any size then costs the same.
    shrink = max(size // _SEARCH_SIZE, 1)
    ground = _shrunk(
        cv2.cvtColor(flatten(pixels[area.slices], (255, 255, 255)), cv2.COLOR_RGB2GRAY), shrink
    )
    rough = cv2.convertScaleAbs(cv2.Laplacian(ground, cv2.CV_16S, ksize=1))
    # Rounded up: a place counts as clean only if all of it is.
    dirt = _shrunk(unclean[area.slices], shrink) > 0
    dirty, luma_sum, rough_sum = (
        cv2.integral(each) for each in (dirt.astype(np.uint8), ground, rough)
    )
    home = _shrunk_box(box.moved(-area.top, -area.left), shrink)
    ring = home.padded(_SURROUNDINGS, *ground.shape).slices
    rim = ~dirt[ring]
    if not rim.any():
        return None
    luma_here, rough_here = float(ground[ring][rim].mean()), float(rough[ring][rim].mean())

    best: tuple[float, tuple[int, int]] | None = None
    for down, right in _shifts(home):
        place = home.moved(down, right)
        if not place.inside(*ground.shape) or _total(dirty, place):
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
    step_down, step_right = max(box.height // 2, 4), max(box.width // 2, 4)
    for row in range(-8, 9):
        for column in range(-6, 7):
            if row or column:
                yield row * step_down, column * step_right


def _total(integral: NDArray[Any], box: Box) -> float:
    return float(
        integral[box.bottom, box.right]
        - integral[box.top, box.right]
        - integral[box.bottom, box.left]
        + integral[box.top, box.left]
    )
