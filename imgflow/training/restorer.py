"""The restorer's training: photos with text drawn over them, and the photos as they were."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from imgflow.engines.eraser import NeuralEraser, telea
from imgflow.engines.networks.eraser import Eraser
from imgflow.imaging.veil import fit_veil
from imgflow.synthesis.fonts import Fonts
from imgflow.synthesis.overlays import Overlay
from imgflow.training.photos import Photo, scene, squeezed
from imgflow.training.scenes import (
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
"""Pixels a side of what the network sees in training."""
_PATCHES = 8
# Opacity of an overlay's strokes from which on it counts as opaque.
_HIDDEN = 0.9
# Which planes of a sample hold levels of 0..255.
_LEVELLED = (0, 1, 2, 3, 4, 6)
# Share of its pixels from which on a text counts as found.
_SEEN = 0.4


class Scenes(Drawn):
    """Sample n: eight patches as the photo with text (8, 3, P, P), the photo filled under a rough
    mask of it (8, 3, P, P), the text's colour (8, 3, P, P), opacity and share (8, 1, P, P each),
    as they are computed, the mask (8, 1, P, P), the clean photo (8, 3, P, P), where text is
    (8, 1, P, P), and whether it is opaque (8, 1, P, P).

    All are bytes: pixels, colours and shares 0..255, the rest 0 or 1. The mask, and how likely a
    pixel is text, are drawn as a finder may give them, or are what the given eraser finds.
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
        height = round(224 * 1.8 ** chance.random())
        width = round(height * chance.uniform(0.9, 1.3))
        clean = scene(self._photos, height, width, chance)
        overlay = any_overlay(height, width, self._fonts, chance)
        planes = (clean, overlay.over(clean), touched(overlay), overlay.alpha)
        clean, dirty, text, hidden = resized(planes, chance, PATCH + 1)
        if chance.random() < 0.8:
            dirty = squeezed(dirty, chance)
        likely, mask = self._look(dirty, overlay, hidden, text, chance)
        filled = telea(dirty, mask)
        veil = fit_veil(_shares(dirty), _shares(filled), likely, mask)
        colour = np.broadcast_to(_bytes(veil.colour), dirty.shape)
        opacity = np.full_like(text, round(255 * veil.opacity))
        opaque = np.full_like(text, hidden.max() > _HIDDEN)
        seen = (
            dirty, filled, colour, opacity, _bytes(veil.share), mask, clean, text, opaque,
        )  # fmt: skip
        places = [patch(text, PATCH, chance) for _ in range(_PATCHES)]
        return tuple(byte_tensor([plane[place] for place in places]) for plane in seen)

    def _look(
        self,
        dirty: Photo,
        overlay: Overlay,
        hidden: NDArray[np.float32],
        text: NDArray[np.uint8],
        chance: Random,
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """How likely each pixel is text, (H, W) 0..1, and its mask, 0 or 1, as somebody found
        it."""
        if self._eraser is None:
            return _found(hidden, text, chance)
        height, width = text.shape
        lines = scaled(overlay.lines, height / overlay.alpha.shape[0])
        region = roughly(lines, height, width, chance) * np.uint8(255)
        mask = self._eraser.find(dirty, region).mask // 255
        if (mask & text).sum() < _SEEN * text.sum():
            return _found(hidden, text, chance)  # there is nothing to learn from what is not found
        return self._eraser.likely(dirty), mask


def loss(network: Eraser, batch: Sequence[Tensor]) -> Tensor:
    """Error of the pixels and of their differences under the mask.

    Nothing but the pixels under a mask is ever used.
    """
    photo, filled, colour, opacity, share, mask, truth, text, _ = _planes(batch)
    result = network.restore(photo, filled, colour, opacity, share, mask).float()
    # Rings that a finder's mask may have around the strokes count as well.
    weight = functional.max_pool2d(torch.maximum(mask, text), 3, stride=1, padding=1)
    error = result - truth
    pixels = (error.abs() * weight).sum() / (3 * weight.sum() + 1)
    edges = sum(
        (torch.diff(error, dim=dim).abs() * weight.narrow(dim, 1, error.shape[dim] - 1)).sum()
        for dim in (2, 3)
    ) / (6 * weight.sum() + 1)
    return pixels + 0.5 * edges


def _planes(batch: Sequence[Tensor]) -> list[Tensor]:
    """Planes of a batch, one patch after the other, 0..1."""
    planes = [each.flatten(0, 1).float() for each in batch]
    values = [plane / 255 if number in _LEVELLED else plane for number, plane in enumerate(planes)]
    return [plane.contiguous(memory_format=torch.channels_last) for plane in values]


@torch.inference_mode()
def judged(network: Eraser, samples: Scenes, count: int) -> dict[str, float]:
    """Median PSNR in dB under the mask of the photo, its classical fill, and its restoration, for
    opaque and for translucent text; and the share of patches that come 3 dB nearer."""
    device = next(network.parameters()).device
    figures: dict[str, list[float]] = {}
    for number in range(count):
        batch = [each[None].to(device) for each in samples[number]]
        photo, filled, colour, opacity, share, mask, truth, _, opaque = _planes(batch)
        with torch.autocast(device.type, torch.bfloat16):
            clean = network.restore(photo, filled, colour, opacity, share, mask)
        clean = clean.float().clamp(0, 1)
        for index in range(len(photo)):
            where = mask[index, 0] > 0
            if where.sum() < 30:
                continue
            before, fill, after = (
                _psnr(values[index], truth[index], where) for values in (photo, filled, clean)
            )
            kind = "opaque" if opaque[index].any() else "translucent"
            figures.setdefault(f"{kind}_photo", []).append(before)
            figures.setdefault(f"{kind}_fill", []).append(fill)
            figures.setdefault(f"{kind}_psnr", []).append(after)
            figures.setdefault(f"{kind}_won", []).append(float(after > before + 3))
    return {
        name: float(np.mean(values) if name.endswith("won") else np.median(values))
        for name, values in sorted(figures.items())
    }


def _psnr(test: Tensor, truth: Tensor, where: Tensor) -> float:
    error = (test - truth)[:, where].square().mean()
    return float(-10 * torch.log10(error + 1e-8))


def _found(
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
