"""The filler's training: what is under text that hides all of it."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
import torch
from torch import Tensor

from imgflow.engines.eraser import telea
from imgflow.engines.networks.eraser import Eraser
from imgflow.training.loop import mixed_precision
from imgflow.training.repairs import (
    PATCH,
    PATCHES,
    Summary,
    byte_planes,
    dirtied,
    nearness,
    roughly_found,
)
from imgflow.training.scenes import Drawn, byte_tensor, patch


class Scenes(Drawn):
    """Sample n: eight patches as a photo with a classical fill under a rough mask of its text
    (8, 3, P, P), the mask (8, 1, P, P), and the clean photo (8, 3, P, P).

    All are bytes: pixels 0..255, the mask 0 or 1.
    """

    def _sample(self, chance: Random) -> tuple[Tensor, ...]:
        drawn = dirtied(self._photos, self._fonts, chance)
        _, mask = roughly_found(drawn.hidden, drawn.text, chance)
        if chance.random() < 0.3:  # text is filled a second time, with a wider mask
            mask = np.maximum(mask, drawn.text)
        filled = telea(drawn.dirty, mask)
        places = [patch(mask, PATCH, chance) for _ in range(PATCHES)]
        seen = (filled, mask, drawn.clean)
        return tuple(byte_tensor([plane[place] for place in places]) for plane in seen)


def loss(network: Eraser, batch: Sequence[Tensor]) -> Tensor:
    """PSNR under the mask, negative."""
    filled, mask, truth = byte_planes(batch, (0, 2))
    return -nearness(network.fill(filled, mask).float(), truth, mask).mean()


@torch.inference_mode()
def judged(network: Eraser, samples: Scenes, count: int) -> dict[str, float]:
    """Median PSNR in dB under the mask of the classical fill and of the network's."""
    device = next(network.parameters()).device
    summary = Summary()
    for number in range(count):
        batch = [each[None].to(device) for each in samples[number]]
        filled, mask, truth = byte_planes(batch, (0, 2))
        with mixed_precision(device):
            made = network.fill(filled, mask)
        summary.add("fill", filled, truth, mask)
        summary.add("psnr", made.float().clamp(0, 1), truth, mask)
    return summary.medians()
