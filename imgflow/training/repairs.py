"""What filler and restorer learn from and are held against: photos that somebody wrote on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imgflow.synthesis.fonts import Fonts
from imgflow.synthesis.overlays import Overlay
from imgflow.training.photos import Photo, scene, squeezed
from imgflow.training.scenes import ANY, any_overlay, resized, touched

PATCH = 128
"""Pixels a side of what the networks see in training."""
PATCHES = 8
"""Of one photo."""
# Mean squared error that is as good as none: 40 dB.
_NONE = 1e-4
# Masks of fewer pixels say nothing about a restoration.
_FEWEST = 30


@dataclass(frozen=True, slots=True)
class Dirtied:
    """A photo before and after somebody wrote on it, both (H, W, 3).

    text: (H, W) 0 or 1, where. hidden: (H, W) float32 0..1, the share of the photo that is hidden.
    """

    clean: Photo
    dirty: Photo
    text: NDArray[np.uint8]
    hidden: NDArray[np.float32]
    overlay: Overlay


def dirtied(
    photos: Sequence[Photo], fonts: Fonts, chance: Random, often: Mapping[str, float] = ANY
) -> Dirtied:
    """often: how often each kind of overlay comes."""
    height = round(224 * 1.8 ** chance.random())
    width = round(height * chance.uniform(0.9, 1.3))
    clean = scene(list(photos), height, width, chance)
    overlay = any_overlay(height, width, fonts, chance, often)
    planes = (clean, overlay.over(clean), touched(overlay), overlay.alpha)
    clean, dirty, text, hidden = resized(planes, chance, PATCH + 1)
    if chance.random() < 0.8:
        dirty = squeezed(dirty, chance)
    return Dirtied(clean, dirty, text, hidden, overlay)


def roughly_found(
    hidden: NDArray[np.float32], text: NDArray[np.uint8], chance: Random
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """How likely a pixel is text, and its mask (0 or 1), as a finder may give them: sure in one
    place and not in another, blurred; the mask grown, thinned, with false spots."""
    height, width = text.shape
    coarse = np.random.default_rng(chance.getrandbits(32)).normal(size=(8, 8))
    drift = cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    share = hidden / max(float(hidden.max()), 0.05)
    wide = np.maximum(cv2.GaussianBlur(share, (0, 0), chance.uniform(0.5, 1.2)), 0.6 * text)
    likely = np.clip(wide * (chance.uniform(0.6, 1) + 0.15 * drift), 0, 1)
    grow = chance.choice((0, 1, 1, 1, 2, 3, -1))
    if grow > 0:
        mask = cv2.dilate(text, np.ones((2 * grow + 1, 2 * grow + 1), np.uint8))
    else:
        mask = cv2.erode(text, np.ones((2, 2), np.uint8)) if grow else text.copy()
    for _ in range(chance.choice((0, 0, 0, 1, 3))):
        at = chance.randrange(width), chance.randrange(height)
        cv2.circle(mask, at, chance.randint(1, 5), 1, -1)
    return likely.astype(np.float32), np.asarray(mask, np.uint8)


def byte_planes(batch: Sequence[Tensor], levelled: Sequence[int]) -> list[Tensor]:
    """Planes of a batch, one patch after the other, 0..1.

    levelled: which of them hold levels of 0..255.
    """
    planes = [each.flatten(0, 1).float() for each in batch]
    values = [plane / 255 if number in levelled else plane for number, plane in enumerate(planes)]
    return [plane.contiguous(memory_format=torch.channels_last) for plane in values]


def nearness(made: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """(N,) PSNR under the mask, dB, of patches (N, 3, P, P), values 0..1 (as a loss: Chen et al.
    2022)."""
    weight = (mask > 0).float()
    squares = ((made - truth).square() * weight).sum(dim=(1, 2, 3))
    return -10 * torch.log10(squares / (3 * weight.sum(dim=(1, 2, 3)) + 1) + _NONE)


@dataclass(slots=True)
class Summary:
    """PSNR of many patches, by name."""

    figures: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, made: Tensor, truth: Tensor, mask: Tensor) -> None:
        enough = mask.sum(dim=(1, 2, 3)) >= _FEWEST
        self.figures.setdefault(name, []).extend(nearness(made, truth, mask)[enough].tolist())

    def medians(self) -> dict[str, float]:
        return {name: float(np.median(values)) for name, values in sorted(self.figures.items())}
