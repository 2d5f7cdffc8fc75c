"""The finder's training: which pixels are text, drawn over a photo or part of what it shows."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from imgflow.engines.eraser import CLOSEST
from imgflow.engines.networks.eraser import NOTHING, OVERLAY, PRODUCT, Eraser
from imgflow.synthesis.phrases import TRAINING
from imgflow.training.loop import mixed_precision
from imgflow.training.photos import squeezed
from imgflow.training.scenes import (
    GROUNDS,
    Drawn,
    any_overlay,
    byte_tensor,
    enlarged,
    patch,
    resized,
    shown,
    touched,
)

PATCH = 256
"""Pixels a side of what the network sees in training."""
_PATCHES = 4
# How often each of GROUNDS comes, and each kind of overlay: single marks are hardest to find.
_OFTEN = (0.4, 0.2, 0.2, 0.2)
_DRAWN = {
    "date": 0.1, "caption": 0.16, "watermark": 0.3, "tiled": 0.18, "chrome": 0.08,
    "scatter": 0.18,
}  # fmt: skip
_OVERLAID = 0.75
# How often a scene is seen as the eraser sees small photos: enlarged.
_CLOSE = 0.35
# How much a pixel of text counts: there are many more others.
_WEIGHT = 3.0


class Scenes(Drawn):
    """Sample n: four patches of a photo with text (4, 3, P, P), and of what its pixels are
    (4, 1, P, P; NOTHING, OVERLAY or PRODUCT). Both are bytes, pixels 0..255.
    """

    def _sample(self, chance: Random) -> tuple[Tensor, ...]:
        (ground,) = chance.choices(GROUNDS, _OFTEN)
        closer = chance.uniform(1, CLOSEST) if chance.random() < _CLOSE else 1.0
        least = round(PATCH / closer)
        # Drawing prints takes long where they are large.
        height = round(least * (3 if ground == "photo" else 1.7) ** chance.random())
        width = round(max(height * chance.uniform(0.75, 1.5), least))
        before = shown(ground, self._photos, height, width, TRAINING, self._fonts, chance)
        seen = before.photo
        ink = (before.ink > 0.3).astype(np.uint8)
        over = np.zeros((height, width), np.uint8)
        if chance.random() < _OVERLAID:
            overlay = any_overlay(height, width, self._fonts, chance, _DRAWN)
            seen, over = overlay.over(seen), touched(overlay)
        seen, over, ink = resized((seen, over, ink), chance, least)
        if chance.random() < 0.8:
            seen = squeezed(seen, chance)
        if closer > 1:
            seen, over, ink = enlarged((seen, over, ink), closer, PATCH)
        what = np.where(over > 0, OVERLAY, np.where(ink > 0, PRODUCT, NOTHING)).astype(np.uint8)
        text = over if over.any() and chance.random() < 0.7 else over | ink
        places = [patch(text, PATCH, chance) for _ in range(_PATCHES)]
        return tuple(byte_tensor([plane[place] for place in places]) for plane in (seen, what))


def loss(network: Eraser, batch: Sequence[Tensor]) -> Tensor:
    """Cross-entropy, text counting more."""
    photo, what = (each.flatten(0, 1) for each in batch)
    photo = (photo / 255).contiguous(memory_format=torch.channels_last)
    weight = torch.tensor([1.0, _WEIGHT, _WEIGHT], device=photo.device)
    logits = network.find(photo).float()
    return functional.cross_entropy(logits, what[:, 0].long(), weight=weight)


@torch.inference_mode()
def judged(network: Eraser, samples: Scenes, count: int) -> dict[str, float]:
    """How well pixels are found, all patches together: of overlays and of print, the share that
    is found (recall) and the share of what is found that is right (precision); the share of
    print that is taken for an overlay."""
    device = next(network.parameters()).device
    table = torch.zeros(3, 3)
    for number in range(count):
        photo, what = (each.to(device) for each in samples[number])
        with mixed_precision(device):
            found = network.find(photo / 255).float().argmax(dim=1)
        pairs = (3 * what[:, 0].long() + found).flatten().cpu()
        table += torch.bincount(pairs, minlength=9).reshape(3, 3)
    figures = {}
    for name, kind in (("overlay", OVERLAY), ("product", PRODUCT)):
        right = float(table[kind, kind])
        figures[f"{name}_recall"] = right / max(float(table[kind].sum()), 1)
        figures[f"{name}_precision"] = right / max(float(table[:, kind].sum()), 1)
    mistaken = float(table[PRODUCT, OVERLAY])
    figures["product_as_overlay"] = mistaken / max(float(table[PRODUCT].sum()), 1)
    return figures
