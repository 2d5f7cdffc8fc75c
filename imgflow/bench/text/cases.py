"""Cases of `imgflow bench text`: photos with text laid over them, printed on them, or with none.

A case is made of the seed and its number alone: the same in every process, and made again for a
picture of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.errors import ImgflowError
from imgflow.files import printable
from imgflow.imaging.colour import flatten
from imgflow.imaging.decode import decode, read_photo_bytes
from imgflow.imaging.encode import encode_lossless
from imgflow.imaging.masks import dilate, polygon_mask
from imgflow.imaging.metrics import psnr
from imgflow.store.keys import Uploads
from imgflow.synthesis.fonts import Fonts, find_fonts
from imgflow.synthesis.overlays import KINDS, Kind, draw_overlay
from imgflow.synthesis.phrases import HELD_OUT
from imgflow.synthesis.surfaces import print_text, studio_shot

Pixels = NDArray[np.uint8]
Where = NDArray[np.bool_]

Plain = Literal["surface", "studio", "photo"]
PLAINS: tuple[Plain, ...] = ("surface", "studio", "photo")

VISIBLE = 12.0
"""Levels of mean absolute difference in its strokes below which an overlay is invisible."""

_TOUCHED = 0.02  # alpha above which a pixel belongs to the overlay
_LEAST_REGION = 60  # pixels: less is the rim of a text that lies beside the photo
_LONGEST_SIDE = 1024
_SHORTEST_SIDE = 240  # smaller ones are thumbnails
_TRIES = 200


@dataclass(frozen=True, slots=True)
class Sources:
    """What cases are made of."""

    photos: tuple[Path, ...]
    fonts: Fonts
    seed: int


@dataclass(frozen=True, slots=True)
class Upload:
    """A photo as a shop sends it. pixels: (H, W, 3), as decoded from `data`."""

    name: str
    data: bytes
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class OverlayCase:
    """A photo, (H, W, 3), and its upload with an overlay.

    region: (H, W), the pixels that the overlay touched; lines: those of its text lines alone.
    outlines: (H, W), 255 inside the text lines' polygons. invisible: overlays that were drawn
    before this one and that nobody would see.
    """

    kind: Kind
    opaque: bool
    truth: Pixels
    upload: Upload
    region: Where
    lines: Where
    outlines: Pixels
    invisible: int


@dataclass(frozen=True, slots=True)
class PlainCase:
    """A photo that nothing was laid over: as it is, or with text printed on what it shows."""

    what: Plain
    upload: Upload


def find_sources(photos: Path, fonts: Path, seed: int) -> Sources:
    """Photos below a folder, and the fonts that no training saw. Raises ImgflowError."""
    found = tuple(path for _, path in Uploads(photos).scan().photos)
    if not found:
        raise ImgflowError("photos_missing", f"there are no photos below {printable(photos)}")
    return Sources(found, find_fonts(fonts, held_out=True), seed)


def overlay_case(sources: Sources, number: int) -> OverlayCase:
    """Case `number` of those with an overlay. Kinds take turns; so do photos.

    Raises ImgflowError where no visible overlay can be drawn.
    """
    kind = KINDS[number % len(KINDS)]
    chance = Random(f"overlay {sources.seed} {number}")
    photo = _photo(sources.photos[number // len(KINDS) % len(sources.photos)])
    invisible = 0
    for _ in range(_TRIES):
        truth = _variation(photo, chance)
        height, width = truth.shape[:2]
        overlay = draw_overlay(kind, height, width, HELD_OUT, sources.fonts, chance)
        region = overlay.alpha > _TOUCHED
        if np.count_nonzero(region) < _LEAST_REGION or not overlay.lines:
            continue
        laid = overlay.over(truth)
        if np.abs(laid.astype(np.int16) - truth)[region].mean() < VISIBLE:
            invisible += 1
            continue
        outlines = polygon_mask((line.polygon for line in overlay.lines), height, width)
        lines = region & (dilate(outlines, 4) > 0)
        if not lines.any():
            continue
        upload = _upload(laid, _quality(chance))
        return OverlayCase(kind, overlay.opaque, truth, upload, region, lines, outlines, invisible)
    raise ImgflowError(
        "overlay_invisible",
        f"of {_TRIES} overlays of kind {kind} none can be seen on photo {number}",
        hint="Use other photos: these are as light or dark all over as the text, or too small",
    )


def plain_case(sources: Sources, number: int) -> PlainCase:
    """Case `number` of those without: what there is takes turns, and so do photos."""
    what = PLAINS[number % len(PLAINS)]
    chance = Random(f"plain {sources.seed} {number}")
    path = sources.photos[number // len(PLAINS) % len(sources.photos)]
    photo = _variation(_photo(path), chance)
    if what == "surface":
        photo = print_text(photo, HELD_OUT, sources.fonts, chance).photo
    elif what == "studio":
        height, width = photo.shape[:2]
        backdrop = photo if chance.random() < 0.5 else None
        shot = studio_shot(height, width, HELD_OUT, sources.fonts, chance, backdrop=backdrop)
        photo = shot.photo
    return PlainCase(what, _upload(photo, _quality(chance)))


def inside(region: Where, first: Pixels, second: Pixels) -> float:
    """PSNR of two photos in a region, dB; at most 100, as JSON has no infinity."""
    mask = np.where(region, np.uint8(255), np.uint8(0))
    return min(psnr(first, second, data_range=255, mask=mask), 100.0)


def large_photo(sources: Sources, number: int) -> Pixels:
    """1024 x 768 pixels of a photo, for clocks: how sharp they are does not matter there."""
    photo = _photo(sources.photos[number % len(sources.photos)])
    if photo.shape[0] > photo.shape[1]:
        photo = np.rot90(photo)
    return np.asarray(cv2.resize(photo, (1024, 768), interpolation=cv2.INTER_CUBIC), np.uint8)


@lru_cache(maxsize=32)
def _photo(path: Path) -> Pixels:
    return flatten(decode(read_photo_bytes(path)).pixels, (255, 255, 255))


def _variation(photo: Pixels, chance: Random) -> Pixels:
    """A part of the photo, mostly at its own size (enlarged ones are softer than any camera's)."""
    share = chance.uniform(0.75, 1.0)
    height, width = (round(side * share) for side in photo.shape[:2])
    top = chance.randint(0, photo.shape[0] - height)
    left = chance.randint(0, photo.shape[1] - width)
    part = photo[top : top + height, left : left + width]
    factor = chance.choice((1.0, 1.0, chance.uniform(0.7, 1.0), chance.uniform(1.0, 1.5)))
    factor = min(factor, _LONGEST_SIDE / max(height, width))
    factor = max(factor, _SHORTEST_SIDE / min(height, width))
    if factor == 1:
        return np.ascontiguousarray(part)
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    size = (round(width * factor), round(height * factor))
    return np.asarray(cv2.resize(part, size, interpolation=method), np.uint8)


def _quality(chance: Random) -> int | None:
    """Of JPEG; None for PNG."""
    return chance.choice((None, *[chance.randint(80, 95)] * 3))


def _upload(pixels: Pixels, quality: int | None) -> Upload:
    if quality is None:
        return Upload("photo.png", encode_lossless(pixels), pixels)
    encoded = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    data = encoded.tobytes()
    return Upload("photo.jpg", data, np.asarray(decode(data).pixels, np.uint8))
