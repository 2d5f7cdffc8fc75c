"""The restorer's training: what its samples hold, and what its loss is least for."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from descent import descend
from samples import photo

from imgflow.engines.networks.eraser import Eraser
from imgflow.synthesis.fonts import Fonts
from imgflow.synthesis.overlays import Overlay, draw_overlay
from imgflow.synthesis.phrases import TRAINING
from imgflow.training import restorer
from imgflow.training.restorer import PATCH, Scenes, judged, loss


@pytest.fixture
def samples(fonts: Fonts) -> Scenes:
    return Scenes([photo("coffee"), photo("rocket")], fonts, seed=1)


def test_samples_are_photo_region_mask_fill_truth_and_text(samples: Scenes) -> None:
    for number in range(8):
        photo, region, mask, filled, truth, touched = samples[number]
        for plane in (region, mask, touched):
            assert plane.shape[1:] == (1, PATCH, PATCH)
            assert set(plane.flatten().tolist()) <= {0.0, 1.0}
        for picture in (photo, filled, truth):
            assert picture.shape[1:] == (3, PATCH, PATCH)
            assert picture.min() >= 0
            assert picture.max() <= 1
        # Where nothing was drawn, JPEG alone makes a difference.
        difference = (photo - truth).abs().mean(dim=1, keepdim=True)
        assert difference[touched == 0].mean() < 0.03
        assert torch.equal(photo * (1 - mask), filled * (1 - mask)), "filled under the mask alone"


def test_half_the_tiled_watermarks_may_be_anywhere(
    fonts: Fonts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network must restore strokes where all of a photo may hold some."""

    def tiled(height: int, width: int, fonts: Fonts, chance: Random) -> Overlay:
        return draw_overlay("tiled", height, width, TRAINING, fonts, chance)

    monkeypatch.setattr(restorer, "any_overlay", tiled)
    samples = Scenes([photo("coffee")], fonts, seed=1)
    everywhere = [bool(samples[number][1].all()) for number in range(8)]
    assert 1 <= sum(everywhere) <= 7


class Fixed(Eraser):
    """Knows one answer."""

    def __init__(self, clean: torch.Tensor) -> None:
        super().__init__((8, 8, 8, 8), (8, 8, 8, 8))
        self.clean = clean

    def restore(self, *_: torch.Tensor) -> torch.Tensor:
        return self.clean


def test_the_loss_is_least_for_the_truth(samples: Scenes) -> None:
    batch = [each[None] for each in samples[0]]
    photo, _, _, filled, truth, _ = samples[0]
    assert float(loss(Fixed(truth), batch)) == 0
    for wrong in (photo, filled):
        assert float(loss(Fixed(wrong), batch)) > 0.001


def test_pixels_far_from_all_text_do_not_count(samples: Scenes) -> None:
    batch = [each[None] for each in samples[0]]
    _, _, mask, _, truth, touched = samples[0]
    near = torch.nn.functional.max_pool2d(torch.maximum(mask, touched), 9, 1, 4)
    assert (near == 0).any()
    wrong = torch.where(near > 0, truth, 1 - truth)
    assert float(loss(Fixed(wrong), batch)) == 0


def test_a_network_begins_as_the_classical_fill(samples: Scenes) -> None:
    photo, region, mask, filled, _, _ = samples[0]
    assert torch.equal(Eraser().restore(photo, region, mask, filled), filled)


class Known(Scenes):
    """One patch whatever is asked for: opaque text on grey, filled nearly well."""

    def __getitem__(self, number: int) -> tuple[Any, ...]:
        truth, mask = torch.full((1, 3, 32, 32), 0.5), torch.zeros(1, 1, 32, 32)
        mask[0, 0, 8:16] = 1
        return truth + 0.5 * mask, mask, mask, truth + 0.1 * mask, truth, mask


def test_figures_set_a_restoration_against_photo_and_fill(fonts: Fonts) -> None:
    samples = Known([], fonts, 0)
    *_, truth, mask = samples[0]
    found = judged(Fixed(truth + 0.01 * mask), samples, 2)
    assert found["opaque_photo"] == pytest.approx(6.02, abs=0.01)
    assert found["opaque_fill"] == pytest.approx(20, abs=0.01)
    assert found["opaque_psnr"] == pytest.approx(40, abs=0.1)
    assert found["opaque_won"] == 1
    assert not any(name.startswith("translucent") for name in found)


def test_the_loss_falls_on_one_sample(fonts: Fonts) -> None:
    batch = [each[None] for each in Known([], fonts, 0)[0]]
    losses = descend(loss, batch, "restorer", rate=0.01)
    assert np.isfinite(losses).all()
    assert min(losses) < 0.8 * losses[0]
