"""Cases of `imgflow bench upscale`: photos, their reduced copies, and those squeezed by JPEG."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.errors import ImgflowError
from imgflow.files import printable
from imgflow.imaging.colour import flatten
from imgflow.imaging.decode import decode, read_photo_bytes
from imgflow.store.keys import Uploads

Pixels = NDArray[np.uint8]

SCALES = (2, 3, 4)
SQUEEZED_SCALES = (2, 4)
QUALITIES = (40, 50, 60, 70, 80)

LEAST_SIDE = 128
"""Pixels: what is smaller has too little left once it is reduced."""
_LONGEST_SIDE = 2048
_WHITE = (255, 255, 255)


@dataclass(frozen=True, slots=True)
class Source:
    """A photo's key and file."""

    name: str
    path: Path


def find_sources(folder: Path, count: int | None) -> tuple[Source, ...]:
    """Photos below a folder by their keys, or `count` of them, spread evenly over all.

    Raises ImgflowError where there are none.
    """
    if not folder.is_dir():
        raise ImgflowError(
            "photos_missing",
            f"there is no folder {printable(folder)}",
            hint="Name a folder of sharp photos that no training saw",
        )
    found = [Source(str(key), path) for key, path in Uploads(folder).scan().photos]
    if not found:
        raise ImgflowError(
            "photos_missing",
            f"there are no photos below {printable(folder)}",
            hint="Put sharp photos there that no training saw",
        )
    if count is None or count >= len(found):
        return tuple(found)
    return tuple(found[number * len(found) // count] for number in range(count))


def load(source: Source) -> Pixels:
    """The photo, (H, W, 3), on white where it is transparent; of a very large one its middle.

    Raises BadPhoto.
    """
    try:
        pixels = flatten(decode(read_photo_bytes(source.path)).pixels, _WHITE)
    except ImgflowError as error:
        error.photo = error.photo or source.name
        raise
    height, width = (min(side, _LONGEST_SIDE) for side in pixels.shape[:2])
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def squeeze(pixels: Pixels, quality: int) -> Pixels:
    """(H, W, 3) after JPEG at that quality, colour at half the resolution as most programs do."""
    return np.asarray(decode(jpeg(pixels, quality)).pixels, np.uint8)


def jpeg(pixels: Pixels, quality: int) -> bytes:
    """(H, W, 3) as a JPEG file, 4:2:0."""
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    ]
    return cv2.imencode(".jpg", pixels[:, :, ::-1], options)[1].tobytes()
