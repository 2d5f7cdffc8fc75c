"""What a photo's own pixels tell of its quality, without a reference.

Only a bounded part of a photo is ever held as floats: its content reduced to a normal size for
sharpness, and up to a megapixel of full-resolution samples for noise and blocks. The choice is
fixed, so the same photo always measures the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.imaging.pixelated import Steps, repeated
from imgflow.imaging.quantised import jpeg_step
from imgflow.imaging.spectrum import resolution

Pixels = NDArray[Any]
Luma = NDArray[np.float32]

NORMAL_SIDE = 1024
"""Longer side, in pixels, that content is reduced to before its sharpness is measured."""

_SAMPLES = 4  # a grid of 4 x 4 samples
_SAMPLE_SIDE = 256
_FINE, _COARSE = 1.0, 2.0  # blurs that sharpness compares, in pixels at the normal size
_SLOPE = np.array([[-0.5, 0, 0.5]], np.float32)
_LUMA = np.array([[0.299, 0.587, 0.114]], np.float32)


# Beyond all that noise of a deviation of 30 levels makes of a flat place, in Sobel's measure.
_STEEP = 50.0


@dataclass(frozen=True, slots=True)
class BlindMeasures:
    """Quality of one photo by itself."""

    sharpness: float
    """1 / (1 + width**2), width being the Gaussian blur of the strongest edges in pixels at the
    normal size, with the 0.7 pixels that sampling adds: 0 no detail, below 0.2 soft (a blur of 2
    pixels), 0.4 fair (1 pixel), towards 1 crisp. 0 too where no edge stands above the noise."""

    noise: float
    """Standard deviation of the luma's noise at full size, in 0..255 units; 0 none."""

    blockiness: float
    """Steps on the 8 x 8 grid of JPEG over steps elsewhere: about 1 none, 1.2 and up visible."""

    resolution: float = 1.0
    """Share of the nominal sides that the content fills, 0..1: 0.5 of a photo that was blown up
    x2 by interpolation; 1 of one that was not, or where nothing tells (see `spectrum`, and
    `pixelated` for pixels that were merely repeated)."""

    jpeg_step: float = 0.0
    """How coarsely JPEG has rounded, in levels of 255: 0 not at all or unseen, about 3 at quality
    90, 4 at 85, 5 at 80, 13 at 50 (see `quantised`)."""


def measure(pixels: Pixels) -> BlindMeasures:
    """Measure (H, W, 3) RGB, uint8 or uint16 over its full range, without alpha."""
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"expected (H, W, 3) without alpha, not {pixels.shape}")
    content = _content(pixels)
    samples = _samples(content)
    noise, steps = _noise(samples), _steps(samples)
    if len(samples) == 1 and samples[0].shape == content.shape[:2]:
        sharpness = _sharpness(samples[0], noise)  # it has the normal size already
    else:
        normal = _normal_size(content)
        sharpness = _sharpness(normal, _noise([normal]))
    return BlindMeasures(
        sharpness=sharpness,
        noise=noise,
        blockiness=_blockiness(steps),
        resolution=min(resolution(samples), 1 / repeated(steps)),
        jpeg_step=jpeg_step(samples),
    )


def _luma(pixels: Pixels) -> Luma:
    values = pixels.astype(np.float32) * np.float32(255 / np.iinfo(pixels.dtype).max)
    return np.asarray(cv2.transform(values, _LUMA), np.float32)


def _content(pixels: Pixels) -> Pixels:
    """The part of a photo that has edges: a product without the plain ground around it."""
    height, width = pixels.shape[:2]
    scale = max(height, width) / 256
    if scale <= 1:
        return pixels
    size = (max(round(width / scale), 1), max(round(height / scale), 1))
    small = _luma(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
    edges = cv2.morphologyEx(small, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 12
    if not edges.any():
        return pixels
    left, top, wide, high = cv2.boundingRect(edges.astype(np.uint8))
    # Some ground stays, or blurs would mirror the outline at the cut.
    ground = 16 + scale
    # A multiple of 8, so that the grid of a JPEG keeps its place.
    first_row = max(int(top * scale - ground), 0) // 8 * 8
    first_column = max(int(left * scale - ground), 0) // 8 * 8
    rows = slice(first_row, int((top + high) * scale + ground))
    columns = slice(first_column, int((left + wide) * scale + ground))
    return pixels[rows, columns]


def _normal_size(content: Pixels) -> Luma:
    height, width = content.shape[:2]
    scale = max(height, width) / NORMAL_SIDE
    if scale > 1:
        size = (max(round(width / scale), 1), max(round(height / scale), 1))
        content = cv2.resize(content, size, interpolation=cv2.INTER_AREA)
    return _luma(content)


def _samples(content: Pixels) -> list[Luma]:
    """Full-resolution parts spread evenly; all of it where it is not larger than they are."""
    starts = []
    for side in content.shape[:2]:
        if side <= _SAMPLES * _SAMPLE_SIDE:
            starts.append([(0, side)])
            continue
        begins = np.linspace(0, side - _SAMPLE_SIDE, _SAMPLES).astype(int) // 8 * 8
        starts.append([(int(begin), int(begin) + _SAMPLE_SIDE) for begin in begins])
    rows, columns = starts
    return [_luma(content[top:bottom, a:b]) for top, bottom in rows for a, b in columns]


def _noise(samples: list[Luma]) -> float:
    """Median form of Immerkaer 1996 (CVIU 64(2)) over the flattest third of the pixels.

    Clipped pixels, and those of a drawn background, equal to their surroundings to the last bit,
    tell nothing of the sensor and are left out; so are those beside a strong edge, even if they
    are the flattest: a thin chain on white is all edges, and no noise. 0 where nothing is left.
    """
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    responses, slopes = [], []
    # Some hundred thousand pixels tell it as well as a million. An odd stride, so that the grids
    # of JPEG and of sensors are met in all their phases.
    stride = 3 if sum(luma.size for luma in samples) > 400_000 else 1
    grid = (slice(None, None, stride), slice(None, None, stride))
    for luma in samples:
        response = np.abs(cv2.filter2D(luma, -1, kernel)[grid])
        smooth = cv2.GaussianBlur(luma, (0, 0), 2)
        steep = np.abs(cv2.Sobel(smooth, -1, 1, 0))
        steep += np.abs(cv2.Sobel(smooth, -1, 0, 1))
        slope = steep[grid]
        level = luma[grid]
        telling = (level > 8) & (level < 247) & ((response > 1e-3) | (slope > 0.5))
        telling &= cv2.dilate(steep, np.ones((5, 5), np.uint8))[grid] < _STEEP
        responses.append(response[telling])
        slopes.append(slope[telling])
    response, slope = np.concatenate(responses), np.concatenate(slopes)
    if response.size == 0:
        return 0.0
    flattest = response[slope <= np.quantile(slope, 1 / 3)]
    # 6 is the kernel's norm, 0.6745 the median of a unit normal's magnitude.
    return float(np.median(flattest) / (6 * 0.6745))


def _sharpness(luma: Luma, noise: float) -> float:
    """Blur of the strongest edges, from how they weaken when blurred again.

    The slope on the ridge of an edge that is blurred by w, squared, falls with w**2 + sigma**2
    when it is blurred by sigma once more (Zhuo and Sim 2011, Pattern Recognition 44(9); the
    re-blurring is that of Crete et al. 2007). Two such blurs give w. Only edges that stand well
    above the noise count, and what noise adds to their slopes is taken out.
    """
    fine, coarse = (cv2.GaussianBlur(luma, (0, 0), sigma) for sigma in (_FINE, _COARSE))
    fine_slopes, coarse_slopes = [], []
    # Across columns and across rows; the step is to the next pixel of the flattened picture.
    for kernel, reach, step in ((_SLOPE, (1, 5), 1), (_SLOPE.T, (5, 1), luma.shape[1])):
        slope = cv2.filter2D(coarse, -1, kernel)
        np.abs(slope, out=slope)
        highest = cv2.dilate(slope, np.ones(reach, np.uint8))
        ridge = np.flatnonzero((slope >= highest) & (slope > 0.5))
        coarse_slopes.append(slope.ravel()[ridge])
        # The slope is 0 at the picture's border, so every ridge has both neighbours.
        line = fine.ravel()
        fine_slopes.append(np.abs(line[ridge + step] - line[ridge - step]) / 2)
    slope, sharper = np.concatenate(coarse_slopes), np.concatenate(fine_slopes)
    if slope.size == 0:
        return 0.0
    above_noise = 6 * noise * np.sqrt(_noise_gain(_COARSE))
    strongest = slope >= max(0.4 * float(np.quantile(slope, 0.99)), above_noise)
    if not strongest.any():
        return 0.0
    # Ridges are found where noise helps them, so it counts double on the finer side.
    coarse_power = np.square(slope[strongest]).mean() - noise**2 * _noise_gain(_COARSE)
    fine_power = np.square(sharper[strongest]).mean() - 2 * noise**2 * _noise_gain(_FINE)
    ratio = float(fine_power / coarse_power)
    if ratio <= 1:
        return 0.0
    width_squared = (_COARSE**2 - ratio * _FINE**2) / (ratio - 1)
    return 1 / (1 + max(width_squared, 0.0))


def _noise_gain(sigma: float) -> float:
    """Variance of the slope that white noise of variance 1 has after a blur."""
    return 1 / (8 * np.pi * sigma**4)


def _steps(samples: list[Luma]) -> list[list[Steps]]:
    """Down and across, for each sample the mean step from each line to the next."""
    # Edges of the picture are far larger than those of blocks and repeated pixels: cut them.
    return [
        [
            np.minimum(np.abs(np.diff(luma, axis=axis)), 16).mean(axis=1 - axis, dtype=np.float64)
            for luma in samples
        ]
        for axis in (0, 1)
    ]


def _blockiness(steps: list[list[Steps]]) -> float:
    """Mean step at the phase of the strongest grid over the median of the other seven."""
    ratios = []
    for of_axis in steps:
        sums, counts = np.zeros(8), np.zeros(8)
        for profile in of_axis:
            phase = np.arange(len(profile)) % 8
            sums += np.bincount(phase, profile, 8)
            counts += np.bincount(phase, minlength=8)
        if counts.min() == 0:
            continue  # narrower than two blocks
        means = np.sort(sums / counts)
        ratios.append(1.0 if means[-1] == 0 else (means[-1] + 0.1) / (np.median(means[:-1]) + 0.1))
    return float(np.mean(ratios)) if ratios else 1.0
