"""The restorer's training: photos with text drawn over them, and the photos as they were."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imgflow.engines.eraser import NeuralEraser, telea
from imgflow.engines.networks.eraser import Eraser, lifted
from imgflow.imaging.veil import fit_veil
from imgflow.synthesis.fonts import Fonts
from imgflow.training.loop import mixed_precision
from imgflow.training.photos import Photo
from imgflow.training.repairs import (
    PATCH,
    PATCHES,
    Dirtied,
    Summary,
    byte_planes,
    dirtied,
    nearness,
    roughly_found,
)
from imgflow.training.scenes import VEILS, Drawn, byte_tensor, patch, roughly, scaled

# Most scenes that are drawn until one veil explains what is seen.
_TRIES = 12
# Which planes of a sample hold levels of 0..255.
_LEVELLED = (0, 1, 2, 3, 4, 6)
# Share of its pixels from which on a text counts as found.
_SEEN = 0.4


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
        with mixed_precision(device):
            clean = network.restore(photo, filled, colour, opacity, share, mask)
        bare, _ = lifted(photo, colour, opacity * share)
        for name, values in (
            ("photo", photo), ("fill", filled), ("computed", bare), ("psnr", clean.float()),
        ):  # fmt: skip
            summary.add(name, values.clamp(0, 1), truth, mask)
    return summary.medians()


def _shares(pixels: Photo) -> NDArray[np.float32]:
    return np.asarray(pixels.astype(np.float32) / np.float32(255), np.float32)


def _bytes(shares: NDArray[Any]) -> NDArray[np.uint8]:
    return np.clip(np.rint(255 * shares), 0, 255).astype(np.uint8)
