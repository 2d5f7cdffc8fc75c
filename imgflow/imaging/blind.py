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

Pixels = NDArray[Any]
Luma = NDArray[np.float32]

NORMAL_SIDE = 1024
"""Longer side, in pixels, that content is reduced to before its sharpness is measured."""

_SAMPLES = 4  # a grid of 4 x 4 samples
_SAMPLE_SIDE = 256
_LUMA = np.array([[0.299, 0.587, 0.114]], np.float32)


@dataclass(frozen=True, slots=True)
class BlindMeasures:
    """Quality of one photo by itself."""

    sharpness: float
    """1 / (1 + width**2), width being the Gaussian blur of the strongest edges in pixels at the
    normal size: 0 no detail, 0.2 soft (2 pixels), 0.5 fair (1 pixel), towards 1 crisp."""

    noise: float
    """Standard deviation of the luma's noise at full size, in 0..255 units; 0 none."""

    blockiness: float
    """Steps on the 8 x 8 grid of JPEG over steps elsewhere: about 1 none, 1.2 and up visible."""


def measure(pixels: Pixels) -> BlindMeasures:
    """Measure (H, W, 3) RGB, uint8 or uint16 over its full range, without alpha."""
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"expected (H, W, 3) without alpha, not {pixels.shape}")
    content = _content(pixels)
    samples = _samples(content)
    return BlindMeasures(
        sharpness=_sharpness(_normal_size(content)),
        noise=_noise(samples),
        blockiness=_blockiness(samples),
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
    # A multiple of 8, so that the grid of a JPEG keeps its place.
    rows = slice(int(top * scale) // 8 * 8, int(np.ceil((top + high) * scale)))
    columns = slice(int(left * scale) // 8 * 8, int(np.ceil((left + wide) * scale)))
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
    """Median form of Immerkaer 1996 (CVIU 64(2)) over the smoother half of the pixels.

    Clipped pixels, and those of a drawn background, equal to their surroundings to the last bit,
    tell nothing of the sensor and are left out.
    """
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    responses, slopes = [], []
    for luma in samples:
        response = np.abs(cv2.filter2D(luma, -1, kernel))
        smooth = cv2.GaussianBlur(luma, (0, 0), 2)
        slope = np.abs(cv2.Sobel(smooth, -1, 1, 0)) + np.abs(cv2.Sobel(smooth, -1, 0, 1))
        telling = (luma > 8) & (luma < 247) & ((response > 1e-3) | (slope > 0.5))
        responses.append(response[telling])
        slopes.append(slope[telling])
    response, slope = np.concatenate(responses), np.concatenate(slopes)
    if response.size == 0:
        return 0.0
    flattest = response[slope <= np.quantile(slope, 0.3)]
    # 6 is the kernel's norm, 0.6745 the median of a unit normal's magnitude.
    return float(np.median(flattest) / (6 * 0.6745))


def _sharpness(luma: Luma, noise: float) -> float:
    """Blur of the strongest edges from how they weaken when blurred again.

    The slope of an edge blurred by s falls with the square root of s**2 + sigma**2 when it is
    blurred by sigma once more (Zhuo and Sim 2011, Pattern Recognition 44(9); in the spirit of
    Crete et al. 2007). Two such blurs give s. Slopes that noise alone would make are taken out.
    """
    slopes = [_slopes(cv2.GaussianBlur(luma, (0, 0), sigma)) for sigma in (_FINE, _COARSE)]
