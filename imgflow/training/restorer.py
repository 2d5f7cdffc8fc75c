"""The restorer's training: photos with text drawn over them, and the photos as they were."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from imgflow.engines.eraser import telea
from imgflow.engines.networks.eraser import Eraser
from imgflow.training.photos import scene, squeezed
from imgflow.training.scenes import Drawn, any_overlay, patch, resized, roughly, tensor, touched

PATCH = 128
"""Pixels a side of what the network sees in training."""
_PATCHES = 8
# Text that leaves the photo less PSNR than this, in dB, mostly hides it.
_HIDDEN = 15.0


class Scenes(Drawn):
    """Sample n: eight patches as the photo with text (8, 3, P, P), region (8, 1, P, P), a rough
    mask of the text (8, 1, P, P), the photo filled under that mask (8, 3, P, P), the clean photo
    (8, 3, P, P) and where text is (8, 1, P, P).

    Pixels are 0..1.
    """

    def _sample(self, chance: Random) -> tuple[Tensor, ...]:
        height = round(224 * 2.5 ** chance.random())
        width = round(height * chance.uniform(0.9, 1.4))
        clean = scene(self._photos, height, width, chance)
        overlay = any_overlay(height, width, self._fonts, chance)
        if overlay.kind == "tiled" and chance.random() < 0.5:
            region = np.ones((height, width), np.uint8)
        else:
            region = roughly(overlay.lines, height, width, chance)
        planes = (clean, overlay.over(clean), touched(overlay), region)
        clean, dirty, text, region = resized(planes, chance, PATCH + 1)
        if chance.random() < 0.8:
            dirty = squeezed(dirty, chance)
        patches = []
        for _ in range(_PATCHES):
            place = patch(text, PATCH, chance)
            mask = _rough(text[place] & region[place], chance)
            filled = telea(dirty[place], mask)
            patches.append((dirty[place], region[place], mask, filled, clean[place], text[place]))
        return tuple(
            torch.stack([tensor(each) for each in plane]) for plane in zip(*patches, strict=True)
        )


def loss(network: Eraser, batch: Sequence[Tensor]) -> Tensor:
    """Error of the pixels and of their differences under the mask.

    Nothing but the pixels under a mask is ever used.
    """
    photo, region, mask, filled, truth, text = (
        each.flatten(0, 1).contiguous(memory_format=torch.channels_last) for each in batch
    )
    result = network.restore(photo, region, mask, filled).float()
    # Rings that a detector's mask may have around the strokes count as well.
    weight = functional.max_pool2d(torch.maximum(mask, text * region), 3, stride=1, padding=1)
    error = result - truth
    pixels = (error.abs() * weight).sum() / (3 * weight.sum() + 1)
    edges = sum(
        (torch.diff(error, dim=dim).abs() * weight.narrow(dim, 1, error.shape[dim] - 1)).sum()
        for dim in (2, 3)
    ) / (6 * weight.sum() + 1)
    return pixels + 0.5 * edges


@torch.inference_mode()
def judged(network: Eraser, samples: Scenes, count: int) -> dict[str, float]:
    """Median PSNR in dB under the mask of the photo, its classical fill and its restoration, for
    opaque and for translucent text; and the share of patches that come 3 dB nearer."""
    device = next(network.parameters()).device
    figures: dict[str, list[float]] = {}
    for number in range(count):
        photo, region, mask, filled, truth, _ = (each.to(device) for each in samples[number])
        with torch.autocast(device.type, torch.bfloat16):
            clean = network.restore(photo, region, mask, filled).float().clamp(0, 1)
        for index in range(len(photo)):
            where = mask[index, 0] > 0
            if where.sum() < 30:
                continue
            before, fill, after = (
                _psnr(values[index], truth[index], where) for values in (photo, filled, clean)
            )
            kind = "opaque" if before < _HIDDEN else "translucent"
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


def _rough(text: NDArray[np.uint8], chance: Random) -> NDArray[np.uint8]:
    """A mask, 0 or 1, as a finder may give it: grown, thinned, with false spots."""
    grow = chance.choice((0, 1, 1, 2, 3, -1))
    if grow > 0:
        mask = cv2.dilate(text, np.ones((2 * grow + 1, 2 * grow + 1), np.uint8))
    else:
        mask = cv2.erode(text, np.ones((2, 2), np.uint8)) if grow else text.copy()
    for _ in range(chance.choice((0, 0, 0, 1, 3))):
        at = chance.randrange(PATCH), chance.randrange(PATCH)
        cv2.circle(mask, at, chance.randint(1, 5), 1, -1)
    return np.asarray(mask, np.uint8)
