"""Brightness, plain backgrounds and bit depth of sRGB pixels.

Everything here works in bands of rows, so that a 48-megapixel photo never has a float twin.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

BAND_ROWS = 128
"""Rows handled at once: small enough for the cache of a wide photo, large enough for NumPy."""

# ITU-R BT.601, full range.
_LUMA_WEIGHTS = np.array([0.299, 0.587, 0.114], dtype=np.float32)

# Beyond this many levels of luma, more distance makes a thing no easier to see.
_ENOUGH_CONTRAST = 96.0


def bands(height: int) -> Iterator[slice]:
    """Slices of at most BAND_ROWS rows that cover `height` rows in order."""
    for top in range(0, height, BAND_ROWS):
        yield slice(top, min(top + BAND_ROWS, height))


def data_range(dtype: DTypeLike) -> int:
    """Largest value of a pixel type: 255 for uint8, 65535 for uint16.

    Raises ValueError for any other type.
    """
    if np.dtype(dtype) == np.uint8:
        return 255
    if np.dtype(dtype) == np.uint16:
        return 65535
    raise ValueError(f"pixels are uint8 or uint16, not {np.dtype(dtype)}")


def to_uint8(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Reduce uint16 (any shape) to uint8 by rounding; uint8 comes back as it is, uncopied."""
    if data_range(pixels.dtype) == 255:
        return pixels
    reduced = np.empty(pixels.shape, np.uint8)
    for rows in bands(len(pixels)):
        # 65535 is 257 * 255, and 257 is odd: adding half of it rounds and never ties.
        reduced[rows] = (pixels[rows].astype(np.uint32) + 128) // 257
    return reduced


def luma(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """Luma of (H, W, 3|4) pixels: (H, W) float32, 0..255 whatever the type. Alpha is ignored.

    Y' = 0.299 R' + 0.587 G' + 0.114 B' on gamma-encoded values (ITU-R BT.601, full range).
    """
    weights = _LUMA_WEIGHTS * np.float32(255 / data_range(pixels.dtype))
    result = np.empty(pixels.shape[:2], np.float32)
    for rows in bands(len(pixels)):
        np.matmul(pixels[rows, :, :3].astype(np.float32), weights, out=result[rows])
    return result


def flatten(pixels: NDArray[Any], background: tuple[int, int, int]) -> NDArray[np.uint8]:
    """(H, W, 3|4) pixels as (H, W, 3) uint8 for detectors and formats without alpha.

    Alpha is composited over `background` (8-bit RGB), 16 bits are rounded to 8. Pixels that
    are 8-bit RGB already come back as they are, uncopied.
    """
    if pixels.shape[2] == 3:
        return to_uint8(pixels)
    top = np.float32(data_range(pixels.dtype))
    behind = np.array(background, np.float32)
    flat = np.empty((*pixels.shape[:2], 3), np.uint8)
    for rows in bands(len(pixels)):
        opacity = pixels[rows, :, 3:].astype(np.float32) / top
        colour = pixels[rows, :, :3].astype(np.float32) * (np.float32(255) / top)
        flat[rows] = np.rint(colour * opacity + behind * (1 - opacity))
    return flat


def plain_background(pixels: NDArray[Any]) -> tuple[int, int, int]:
    """White, mid grey or black: the one that the opaque pixels stand out from most.

    Only pixels more than half opaque count. Of those that contrast enough white is preferred,
    then grey; a photo without opaque pixels gets white.
    """
    # A sample of about a million pixels decides as well as all of them.
    step = max(1, round((pixels.shape[0] * pixels.shape[1] / 1e6) ** 0.5))
    sample = pixels[::step, ::step]
    brightness = luma(sample)
    if sample.shape[2] == 4:
        brightness = brightness[sample[..., 3] > data_range(pixels.dtype) // 2]
    if not brightness.size:
        return (255, 255, 255)

    def contrast(level: int) -> float:
        return float(np.minimum(np.abs(brightness - level), _ENOUGH_CONTRAST).mean())

    best = max((255, 128, 0), key=contrast)
    return (best, best, best)
