"""Bicubic resampling as MATLAB's `imresize` does it, which figures of super-resolution rest on.

The kernel is that of Keys 1981 (IEEE TASSP 29(6):1153-1160) with a = -0.5. Along a side that
shrinks it is widened by the inverse of the scale, so that nothing aliases. Every sample's weights
sum to one. The photo goes on beyond its edges mirrored, with the edge itself repeated. The side
with the smaller scale goes first, rows on a tie, and integers are rounded after either pass.

Kodak's 24 photos reduced and enlarged again have a luma PSNR of 30.85, 28.43 and 27.23 dB at x2,
x3 and x4 (`imgflow bench upscale`), as published for MATLAB's (A+; Timofte, De Smet, Van Gool 2014,
ACCV).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy import sparse  # type: ignore[import-untyped]

Values = NDArray[np.floating]
Pixels = TypeVar(
    "Pixels", NDArray[np.uint8], NDArray[np.uint16], NDArray[np.float32], NDArray[np.float64]
)

# What either pass computes in. float32 holds 8-bit pixels times the weights of x2 and x4 exactly;
# 16-bit pixels need more.
_COMPUTED: dict[np.dtype[np.generic], DTypeLike] = {
    np.dtype(np.uint8): np.float32,
    np.dtype(np.uint16): np.float64,
    np.dtype(np.float32): np.float32,
    np.dtype(np.float64): np.float64,
}
_KERNEL_WIDTH = 4
# Samples of input and output that a band holds as floats. Measured on 1800 x 1200 x 3 pixels:
# what stays in the cache is up to twice as fast as the whole photo at once.
_BAND_SAMPLES = 1 << 19


def bicubic(pixels: Pixels, height: int, width: int) -> Pixels:
    """Pixels (H, W) or (H, W, C) at another size, (height, width[, C]), of the same dtype.

    uint8 and uint16 are rounded half up and clipped to their range after each pass, as MATLAB
    does; float32 and float64 are left as computed and may overshoot. All channels are treated
    alike: weight colours by alpha first where there is one. Works in bands: beside the result
    there is one picture between the passes, and a few megabytes.

    Raises ValueError for other types and shapes, for photos without pixels, and for sizes below 1.
    """
    if pixels.dtype not in _COMPUTED:
        raise ValueError(f"pixels are uint8, uint16, float32 or float64, not {pixels.dtype}")
    if pixels.ndim not in (2, 3) or not pixels.size:
        raise ValueError(f"expected pixels (H, W) or (H, W, C), not of shape {pixels.shape}")
    if height < 1 or width < 1:
        raise ValueError(f"there is no photo of {height} x {width} pixels")
    planes = pixels.reshape(*pixels.shape[:2], -1)
    if height / pixels.shape[0] <= width / pixels.shape[1]:
        planes = _columns(_rows(planes, height), width)
    else:
        planes = _rows(_columns(planes, width), height)
    # A side that keeps its size is not copied: the caller's pixels must not be handed back.
    made = planes.copy() if np.may_share_memory(planes, pixels) else planes
    return made.reshape(height, width, *pixels.shape[2:])


def bicubic_down(pixels: Pixels, scale: int) -> tuple[Pixels, Pixels]:
    """Pixels cropped at the bottom and right to multiples of `scale`, and those reduced by it.

    (H, W[, C]) to (H // scale * scale, ...) and (H // scale, ...): the pair that an enlargement
    by `scale` is judged on. Raises ValueError as `bicubic` does, and for a scale below 1.
    """
    if scale < 1:
        raise ValueError(f"a photo is reduced by 1 or more, not {scale}")
    height, width = (side // scale for side in pixels.shape[:2])
    cropped = pixels[: height * scale, : width * scale]
    return cropped, bicubic(cropped, height, width)


def keys_kernel(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weight of a sample at a distance, in samples: Keys' cubic convolution with a = -0.5."""
    x = np.abs(distance)
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def bicubic_weights(size: int, wanted: int) -> sparse.csr_array:
    """(wanted, size) float64: row i holds the share of each input sample in output sample i."""
    scale = wanted / size
    # MATLAB's `contributions`, counted from 0.
    narrowing = min(scale, 1.0)
    kernel_width = _KERNEL_WIDTH / narrowing
    centres = (np.arange(wanted) + 0.5) / scale - 0.5
    taps = int(np.ceil(kernel_width)) + 2
    samples = np.floor(centres - kernel_width / 2).astype(np.int64)[:, None] + np.arange(taps)
    weights = keys_kernel(narrowing * (centres[:, None] - samples))
    weights /= weights.sum(axis=1, keepdims=True)
    rows = np.repeat(np.arange(wanted), taps)
    entries = (weights.ravel(), (rows, _mirrored(samples, size).ravel()))
    matrix = sparse.coo_array(entries, shape=(wanted, size)).tocsr()
    matrix.eliminate_zeros()
    return matrix


def _mirrored(samples: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Indices 0..size-1 of samples of a photo that goes on mirrored, its edge repeated."""
    place = samples % (2 * size)
    return np.minimum(place, 2 * size - 1 - place)


def _rows(planes: Pixels, height: int) -> Pixels:
    """(H, W, C) to (height, W, C)."""
    if height == len(planes):
        return planes
    weights = _typed_weights(len(planes), height, planes.dtype)
    made = np.empty((height, *planes.shape[1:]), planes.dtype)
    samples = made[0].size * max(1, len(planes) / height)
    for part in _bands(height, samples):
        # Only the input rows that this band is made of.
        some = weights[part]
        first, stop = int(some.indices.min()), int(some.indices.max()) + 1
        values = planes[first:stop].reshape(stop - first, -1).astype(weights.dtype)
        _store(made[part], (some[:, first:stop] @ values).reshape(made[part].shape))
    return made


def _columns(planes: Pixels, width: int) -> Pixels:
    """(H, W, C) to (H, width, C)."""
    height, before, channels = planes.shape
    if width == before:
        return planes
    weights = _typed_weights(before, width, planes.dtype)
    made = np.empty((height, width, channels), planes.dtype)
    for part in _bands(height, channels * max(width, before)):
        # The side that is resampled comes first: one matrix product does all rows of the band.
        turned = planes[part].transpose(1, 0, 2).astype(weights.dtype, order="C")
        product = weights @ turned.reshape(before, -1)
        _store(made[part], product.reshape(width, -1, channels).transpose(1, 0, 2))
    return made


def _typed_weights(size: int, wanted: int, dtype: np.dtype[np.generic]) -> sparse.csr_array:
    return bicubic_weights(size, wanted).astype(_COMPUTED[dtype])


def _bands(height: int, samples: float) -> Iterator[slice]:
    """Slices of rows that hold about _BAND_SAMPLES, of rows that hold `samples` each."""
    rows = max(int(_BAND_SAMPLES / samples), 1)
    for first, stop in pairwise([*range(0, height, rows), height]):
        yield slice(first, stop)


def _store(made: NDArray[Any], values: Values) -> None:
    if np.issubdtype(made.dtype, np.integer):
        values += values.dtype.type(0.5)
        np.floor(values, out=values)
        np.clip(values, 0, np.iinfo(made.dtype).max, out=values)
    made[...] = values
