"""What networks learn from: photos of things with and without print, and text drawn over them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from imgflow.imaging.masks import polygon_mask
from imgflow.synthesis.fonts import Fonts
from imgflow.synthesis.overlays import KINDS, Canvas, DrawnLine, Overlay, draw_overlay, scatter
from imgflow.synthesis.phrases import TRAINING, Words
from imgflow.synthesis.surfaces import Printed, print_text, studio_shot
from imgflow.training.photos import Photo, scene
from imgflow.training.textures import texture

GROUNDS = ("photo", "printed", "studio", "texture")

ANY = {
    "date": 0.1, "caption": 0.16, "watermark": 0.22, "tiled": 0.22, "chrome": 0.08,
    "scatter": 0.22,
}  # fmt: skip
"""How often each kind of overlay comes. "scatter": lines without meaning, in any style."""
VEILS = {"watermark": 0.5, "tiled": 0.5}
"""The same for those that let the photo show through."""
# Below this share of the photo hidden, a pixel counts as untouched.
_TOUCHED = 0.02


class Drawn(Dataset[Any], ABC):
    """Samples drawn from photos and fonts. All of one follows from the seed and its number."""

    def __init__(self, photos: Sequence[Photo], fonts: Fonts, seed: int) -> None:
        self._photos, self._fonts, self._seed = list(photos), fonts, seed

    def __getitem__(self, number: int) -> tuple[Tensor, ...]:
        # One thread: the cores are the network's.
        cv2.setNumThreads(1)
        return self._sample(Random(f"{self._seed}/{number}"))

    @abstractmethod
    def _sample(self, chance: Random) -> tuple[Tensor, ...]:
        """Planes of some patches, one tensor (N, C, P, P) of each kind."""


def shown(
    ground: str,
    photos: Sequence[Photo],
    height: int,
    width: int,
    words: Words,
    fonts: Fonts,
    chance: Random,
) -> Printed:
    """What a photo of one of GROUNDS shows before anybody writes on it."""
    known = list(photos)
    if ground == "studio":
        behind = scene(known, height, width, chance) if chance.random() < 0.2 else None
        picture = scene(known, height, width, chance) if chance.random() < 0.15 else None
        return studio_shot(height, width, words, fonts, chance, behind, picture)
    if ground == "texture":
        known = [texture(chance.choice(known), height, width, chance)]
    if ground in ("photo", "texture"):
        plain = scene(known, height, width, chance)
        return Printed(plain, np.zeros((height, width), np.float32), ())
    # Taken in more detail than it is seen, half of the time: print and photo then are equally
    # sharp, because they were scaled down together.
    finer = chance.choice((1.0, 1.0, 1.5, 2.0))
    taken = scene(known, round(height * finer), round(width * finer), chance)
    printed = print_text(taken, words, fonts, chance)
    if finer == 1:
        return printed
    small, ink = (
        cv2.resize(each, (width, height), interpolation=cv2.INTER_AREA)
        for each in (printed.photo, printed.ink)
    )
    return Printed(np.asarray(small, np.uint8), ink, scaled(printed.lines, 1 / finer))


def scaled(lines: Sequence[DrawnLine], factor: float) -> tuple[DrawnLine, ...]:
    return tuple(replace(line, polygon=line.polygon * np.float32(factor)) for line in lines)


def any_overlay(
    height: int,
    width: int,
    fonts: Fonts,
    chance: Random,
    often: Mapping[str, float] = ANY,
) -> Overlay:
    """often: how often each kind comes."""
    (kind,) = chance.choices(list(often), list(often.values()))
    for known in KINDS:
        if kind == known:
            return draw_overlay(known, height, width, TRAINING, fonts, chance)
    canvas = Canvas(height, width)
    scatter(canvas, chance.randint(1, 6), (9, 90), fonts, chance)
    return canvas.overlay(kind)


def touched(overlay: Overlay) -> NDArray[np.uint8]:
    """(H, W), 1 where the overlay hides some of the photo."""
    return (overlay.alpha > _TOUCHED).astype(np.uint8)


def roughly(
    lines: Sequence[DrawnLine], height: int, width: int, chance: Random
) -> NDArray[np.uint8]:
    """Where the lines are, as roughly as a detector says it. (H, W), 0 or 1."""
    region = np.zeros((height, width), np.uint8)
    for line in lines:
        side = float(np.linalg.norm(line.polygon[3] - line.polygon[0]))
        middle = line.polygon.mean(axis=0)
        grown = middle + (line.polygon - middle) * chance.uniform(1.0, 1.08)
        grown += np.array([chance.uniform(-1, 1), chance.uniform(-1, 1)], np.float32) * 0.06 * side
        reach = 2 * round(side * chance.uniform(0.12, 0.3) + 2) + 1
        part = polygon_mask([grown], height, width) // 255
        region |= np.asarray(cv2.dilate(part, np.ones((reach, reach), np.uint8)), np.uint8)
    return region


def resized(planes: Sequence[NDArray[Any]], chance: Random, least: int) -> tuple[NDArray[Any], ...]:
    """All planes at another size, sometimes: shops scale what they are given.

    Planes (H, W) are masks of 0 and 1, or float32. least: pixels that each side keeps.
    """
    if chance.random() > 0.25:
        return tuple(planes)
    height, width = planes[0].shape[:2]
    factor = max(chance.uniform(0.55, 1.3), least / min(height, width))
    size = (round(width * factor), round(height * factor))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return tuple(_sized(plane, size, how) for plane in planes)


def enlarged(planes: Sequence[NDArray[Any]], factor: float, least: int) -> tuple[NDArray[Any], ...]:
    """All planes larger, as the eraser looks at small photos; kinds of planes and `least` as
    above."""
    height, width = planes[0].shape[:2]
    size = max(round(width * factor), least), max(round(height * factor), least)
    return tuple(_sized(plane, size, cv2.INTER_CUBIC) for plane in planes)


def _sized(plane: NDArray[Any], size: tuple[int, int], how: int) -> NDArray[Any]:
    if plane.ndim == 3:
        return np.asarray(cv2.resize(plane, size, interpolation=how), np.uint8)
    found = cv2.resize(plane.astype(np.float32), size, interpolation=how)
    if plane.dtype == np.uint8:
        return (found > 0.1).astype(np.uint8)
    return np.clip(found, 0, 1)


def patch(text: NDArray[np.uint8], side: int, chance: Random) -> tuple[slice, slice]:
    """A square part of a photo, mostly around some of its text (H, W; not 0)."""
    height, width = text.shape
    rows, columns = np.nonzero(text)
    if rows.size and chance.random() < 0.9:
        at = chance.randrange(rows.size)
        top = int(rows[at]) - chance.randint(0, side - 1)
        left = int(columns[at]) - chance.randint(0, side - 1)
    else:
        top, left = chance.randint(0, height - side), chance.randint(0, width - side)
    top, left = min(max(top, 0), height - side), min(max(left, 0), width - side)
    return slice(top, top + side), slice(left, left + side)


def tensor(pixels: NDArray[Any]) -> Tensor:
    """(C, H, W) float32 0..1 of (H, W, 3) pixels, or of a plane of such values."""
    if pixels.ndim == 2:
        return torch.from_numpy(pixels[None].astype(np.float32))
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float() / 255


def byte_tensor(planes: Sequence[NDArray[np.uint8]]) -> Tensor:
    """(N, C, H, W) uint8 of N planes of (H, W, 3) pixels or of (H, W) values."""
    stacked = np.stack([plane if plane.ndim == 3 else plane[:, :, None] for plane in planes])
    return torch.from_numpy(np.ascontiguousarray(stacked.transpose(0, 3, 1, 2)))
