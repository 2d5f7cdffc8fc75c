"""The restorer's training: photos with text drawn over them, and the photos as they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imgflow.engines.eraser import NeuralEraser, telea
from imgflow.engines.networks.eraser import Eraser, lifted
from imgflow.imaging.veil import fit_veil
from imgflow.synthesis.fonts import Fonts
from imgflow.synthesis.overlays import Overlay
from imgflow.training.photos import Photo, scene, squeezed
from imgflow.training.scenes import (
    ANY,
    VEILS,
    Drawn,
    any_overlay,
    byte_tensor,
    patch,
    resized,
    roughly,
    scaled,
    touched,
)

PATCH = 128
"""Pixels a side of what the networks see in training."""
PATCHES = 8
"""Of one photo."""
# Most scenes that are drawn until one veil explains what is seen.
_TRIES = 6
# Which planes of a sample hold levels of 0..255.
_LEVELLED = (0, 1, 2, 3, 4, 6)
# Share of its pixels from which on a text counts as found.
_SEEN = 0.4
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


class Scenes(Drawn):
    """Sample n: eight patches as the photo with text that lets it show through (8, 3, P, P), the
    photo filled under a rough mask of it (8, 3, P, P), the text's colour (8, 3, P, P), opacity and
    share (8, 1, P, P each), as they are computed, the mask (8, 1, P, P), and the clean photo
    (8, 3, P, P).

    All are bytes: pixels, colours and shares 0..255, the mask 0 or 1. The mask, and how likely a
    pixel is text, are drawn as a finder may give them, or are what the given eraser finds; the
    fill is that eraser's, or else a classical one.
    """

    def __init__(
        self,
        photos: Sequence[Photo],
        fonts: Fonts,
        seed: int,
        eraser: NeuralEraser | None = None,
    ) -> None:
        super().__init__(photos, fonts, seed)
        self._eraser = eraser

    def _sample(self, chance: Random) -> tuple[Tensor, ...]:
        for _ in range(_TRIES):
            drawn = dirtied(self._photos, self._fonts, chance, VEILS)
            dirty = drawn.dirty
            likely, mask = self._look(drawn, chance)
            filled = self._filled(dirty, mask)
            veil = fit_veil(_shares(dirty), _shares(filled), likely, mask)
            if veil.explains:  # what it does not explain, nobody restores
                break
        colour = np.broadcast_to(_bytes(veil.colour), dirty.shape)
        opacity = np.full_like(mask, round(255 * veil.opacity))
        seen = (dirty, filled, colour, opacity, _bytes(veil.share), mask, drawn.clean)
        places = [patch(mask, PATCH, chance) for _ in range(PATCHES)]
        return tuple(byte_tensor([plane[place] for place in places]) for plane in seen)

    def _filled(self, dirty: Photo, mask: NDArray[np.uint8]) -> Photo:
        return telea(dirty, mask) if self._eraser is None else self._eraser.filled(dirty, mask)

    def _look(
        self, drawn: Dirtied, chance: Random
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """How likely each pixel is text, (H, W) 0..1, and its mask, 0 or 1, as somebody found
        it."""
        if self._eraser is None:
            return roughly_found(drawn.hidden, drawn.text, chance)
        height, width = drawn.text.shape
        lines = scaled(drawn.overlay.lines, height / drawn.overlay.alpha.shape[0])
        region = roughly(lines, height, width, chance) * np.uint8(255)
        mask = self._eraser.find(drawn.dirty, region).mask // 255
        if (mask & drawn.text).sum() < _SEEN * drawn.text.sum():
            # There is nothing to learn from what is not found.
            return roughly_found(drawn.hidden, drawn.text, chance)
        return self._eraser.likely(drawn.dirty), mask


def loss(network: Eraser, batch: Sequence[Tensor]) -> Tensor:
    """PSNR under the mask, negative: nothing but the pixels under a mask is ever used."""
    photo, filled, colour, opacity, share, mask, truth = byte_planes(batch, _LEVELLED)
    result = network.restore(photo, filled, colour, opacity, share, mask).float()
    return -nearness(result, truth, mask).mean()


@torch.inference_mode()
def judged(network: Eraser, samples: Scenes, count: int) -> dict[str, float]:
    """Median PSNR in dB under the mask of the photo, its fill, what is computed without any
    network, and the restoration."""
    device = next(network.parameters()).device
    summary = Summary()
    for number in range(count):
        batch = [each[None].to(device) for each in samples[number]]
        photo, filled, colour, opacity, share, mask, truth = byte_planes(batch, _LEVELLED)
        with torch.autocast(device.type, torch.bfloat16):
            clean = network.restore(photo, filled, colour, opacity, share, mask)
        bare, _ = lifted(photo, colour, opacity * share)
        for name, values in (
            ("photo", photo), ("fill", filled), ("computed", bare), ("psnr", clean.float()),
        ):  # fmt: skip
            summary.add(name, values.clamp(0, 1), truth, mask)
    return summary.medians()


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


def _shares(pixels: Photo) -> NDArray[np.float32]:
    return np.asarray(pixels.astype(np.float32) / np.float32(255), np.float32)


def _bytes(shares: NDArray[Any]) -> NDArray[np.uint8]:
    return np.clip(np.rint(255 * shares), 0, 255).astype(np.uint8)
