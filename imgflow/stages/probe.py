"""The displaced probe: the same repair where the truth is known.

Under a repair there is no truth to compare with. So the same mask is laid on similar clean
ground nearby in the same photo, repaired there by the same engine with the same settings, and
compared with the pixels that were there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.imaging.colour import data_range, flatten
from imgflow.imaging.masks import Box, Mask, dilate, hole_boxes, mask_box
from imgflow.imaging.metrics import haarpsi, psnr, ssim
from imgflow.stages.fill import Fill, fill_holes

# Probing the largest holes says enough of an engine on a photo, at bounded cost.
_MAX_PROBES = 5
# Strokes nearer than this count as one hole: mostly a letter. Small holes find clean ground.
_JOINED = 4
# Metrics see this many pixels around the hole.
_SURROUNDINGS = 8


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """All probes together: PSNR (dB) of their pooled error under the mask, mean SSIM and HaarPSI
    around it. One letter that meets a hard edge says little; several say how the engine does."""

    psnr: float
    ssim: float
    haarpsi: float
    probes: int


def displaced_probe(
    pixels: NDArray[Any], mask: Mask, avoid: Mask, fill: Fill
) -> ProbeResult | None:
    """Repair clean ground with the same holes, and compare with the truth.

    pixels: (H, W, 3|4) before the repair. mask: its holes. avoid: (H, W), 255 where the ground
    is not clean (text, other holes). Returns None where no hole has clean ground nearby.
    """
    unclean = avoid | mask
    if pixels.shape[2] == 4:
        # What is under transparency is no truth.
        unclean = unclean | np.where(pixels[:, :, 3] < data_range(pixels.dtype), 255, 0).astype(
            np.uint8
        )
    holes = sorted(hole_boxes(mask, _JOINED), key=lambda box: -box.height * box.width)
    results = []
    for box in holes[:_MAX_PROBES]:
        shift = _clean_ground(pixels, mask, unclean, box)
        if shift is None:
            continue
        place = box.moved(*shift)
        window = place.padded(fill.context, *mask.shape)
        truth = np.ascontiguousarray(pixels[window.slices])
        hole = np.zeros(truth.shape[:2], np.uint8)
        inner = place.moved(-window.top, -window.left).slices
        hole[inner] = mask[box.slices]
        # What is to go is laid over the truth: an engine that copies its input must not shine.
        damaged = truth.copy()
        marked = hole[inner] > 0
        damaged[inner][:, :, :3][marked] = pixels[box.slices][:, :, :3][marked]
        results.append(_compare(truth, fill_holes(damaged, hole, fill), hole))
    if not results:
        return None
    decibels, similarities, haar = zip(*results, strict=True)
    error = float(np.mean(10.0 ** (-np.array(decibels) / 10)))
    return ProbeResult(
        psnr=-10 * math.log10(error) if error else math.inf,
        ssim=float(np.mean(similarities)),
        haarpsi=float(np.mean(haar)),
        probes=len(results),
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
    # Nearby: within three sizes of the hole. That also bounds the cost on a huge photo.
    area = box.padded(3 * size + 64, height, width)
    ground = cv2.cvtColor(flatten(pixels[area.slices], (255, 255, 255)), cv2.COLOR_RGB2GRAY)
    rough = cv2.convertScaleAbs(cv2.Laplacian(ground, cv2.CV_16S, ksize=1))
    dirty = _integral((unclean[area.slices] > 0).astype(np.uint8))
    luma_sum, rough_sum = _integral(ground), _integral(rough)

    home = box.moved(-area.top, -area.left)
    ring = home.padded(_SURROUNDINGS, area.height, area.width)
    rim = (dilate(mask[area.slices][ring.slices], 3) == 0) & (
        unclean[area.slices][ring.slices] == 0
    )
    if not rim.any():
        return None
    here = np.array([ground[ring.slices][rim].mean(), rough[ring.slices][rim].mean()])

    best: tuple[float, tuple[int, int]] | None = None
    for down, right in _shifts(box):
        place = home.moved(down, right)
        if not place.inside(area.height, area.width) or _total(dirty, place):
            continue
        pixels_there = place.height * place.width
        there = np.array([_total(luma_sum, place), _total(rough_sum, place)]) / pixels_there
        # Roughness decides how hard a fill is; brightness breaks ties.
        difference = float(abs(there[1] - here[1]) + 0.1 * abs(there[0] - here[0]))
        if best is None or difference < best[0]:
            best = (difference, (down, right))
    return best[1] if best else None


def _shifts(box: Box) -> Iterator[tuple[int, int]]:
    step_down, step_right = max(box.height // 2, 4), max(box.width // 2, 4)
    for row in range(-8, 9):
        for column in range(-6, 7):
            if row or column:
                yield row * step_down, column * step_right


def _integral(values: NDArray[Any]) -> NDArray[np.float64]:
    # OpenCV's default, 32-bit integers, overflows from about 2900 x 2900 white pixels on.
    return np.asarray(cv2.integral(values, sdepth=cv2.CV_64F))


def _total(integral: NDArray[Any], box: Box) -> float:
    return float(
        integral[box.bottom, box.right]
        - integral[box.top, box.right]
        - integral[box.bottom, box.left]
        + integral[box.top, box.left]
    )
