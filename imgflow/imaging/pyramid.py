"""Laplacian pyramids for blending tiles (Burt and Adelson 1983, ACM Trans. Graphics 2(4)).

All arrays are (H, W, C) float32 with sides divisible by 2**levels. OpenCV treats the edges of an
array in its own way; callers keep a margin around what they use (see `tiling`).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]

_KERNEL = np.array([1, 4, 6, 4, 1], np.float32) / 16


def laplacian_pyramid(image: Image, levels: int) -> list[Image]:
    """Band-pass images from fine to coarse; the last of the levels + 1 is the low-pass rest.

    All are new arrays, also where there is no level at all.
    """
    pyramid = []
    for _ in range(levels):
        smaller = _reduce(image)
        larger = _expand(smaller)
        pyramid.append(np.subtract(image, larger, out=larger))
        image = smaller
    return [*pyramid, image.copy()]


def collapse(pyramid: list[Image]) -> Image:
    """The image that `laplacian_pyramid` took apart."""
    image = pyramid[-1]
    for band in reversed(pyramid[:-1]):
        image = _expand(image)
        image += band
    return image


def indicator_pyramid(start: int, stop: int, length: int, levels: int) -> list[Image]:
    """Gaussian pyramid of a line that is one on [start, stop) and zero elsewhere.

    The line goes on beyond both ends as it ends. Rows and columns of a rectangle are separate
    lines: the outer product of their pyramids is the Gaussian pyramid of the rectangle.
    """
    line = np.zeros(length, np.float32)
    line[start:stop] = 1
    pyramid: list[Image] = [line]
    for _ in range(levels):
        padded = np.pad(pyramid[-1], 2, mode="edge")
        pyramid.append(np.convolve(padded, _KERNEL, mode="valid")[::2].astype(np.float32))
    return pyramid


def weighted(image: Image, row_weights: list[Image], column_weights: list[Image]) -> Image:
    """One image's share of a blend: every band times its own level of the weight, collapsed."""
    bands = laplacian_pyramid(image, len(row_weights) - 1)
    for band, rows, columns in zip(bands, row_weights, column_weights, strict=True):
        band *= rows[:, None, None]
        band *= columns[None, :, None]
    return collapse(bands)


def _reduce(image: Image) -> Image:
    height, width, channels = image.shape
    # OpenCV drops the axis of a single channel.
    smaller = cv2.pyrDown(image).reshape(height // 2, width // 2, channels)
    return np.asarray(smaller, np.float32)


def _expand(image: Image) -> Image:
    height, width, channels = image.shape
    larger = cv2.pyrUp(image).reshape(height * 2, width * 2, channels)
    return np.asarray(larger, np.float32)
