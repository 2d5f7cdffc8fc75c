"""The filler's training: what its samples hold, and that it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from descent import descend
from samples import photo

from imgflow.engines.networks.eraser import Eraser
from imgflow.synthesis.fonts import Fonts
from imgflow.training.filler import Scenes, judged, loss
from imgflow.training.repairs import PATCH


def test_samples_are_a_filled_photo_its_mask_and_the_truth(fonts: Fonts) -> None:
    samples = Scenes([photo("coffee"), photo("rocket")], fonts, seed=1)
    for number in range(6):
        filled, mask, truth = samples[number]
        assert mask.shape[1:] == (1, PATCH, PATCH)
        assert set(mask.flatten().tolist()) <= {0, 1}
        assert filled.shape == truth.shape == (*mask.shape[:1], 3, PATCH, PATCH)
        # Where nothing is filled, JPEG alone makes a difference; and mostly a fill is near.
        off = (filled.float() - truth.float()).abs().mean(dim=1, keepdim=True)
        assert off[mask == 0].mean() < 8
        assert not mask.any() or off[mask > 0].mean() < 60


def test_a_new_network_leaves_the_classical_fill() -> None:
    filled, mask = torch.rand(1, 3, 32, 32), torch.ones(1, 1, 32, 32)
    assert torch.equal(Eraser().fill(filled, mask), filled)


class Known(Scenes):
    """One patch whatever is asked for: grey, filled too light."""

    def __getitem__(self, number: int) -> tuple[Any, ...]:
        truth = torch.full((1, 3, 32, 32), 100, dtype=torch.uint8)
        mask = torch.zeros(1, 1, 32, 32, dtype=torch.uint8)
        mask[0, 0, 8:16] = 1
        return truth + 25 * mask, mask, truth


def test_figures_set_the_network_against_the_classical_fill(fonts: Fonts) -> None:
    class Better(Eraser):
        def fill(self, filled: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return filled - 0.088 * mask

    found = judged(Better(), Known([], fonts, 0), 2)
    assert found["fill"] == pytest.approx(20.13, abs=0.05)
    assert found["psnr"] == pytest.approx(37, abs=0.1), "what is nearer than 40 is as good"


def test_the_loss_falls_on_one_sample(fonts: Fonts) -> None:
    batch = [each[None] for each in Known([], fonts, 0)[0]]
    losses = descend(loss, batch, "filler", rate=0.002)
    assert np.isfinite(losses).all()
    assert min(losses) < losses[0] - 2, "dB"
