"""The restorer's training: what its samples hold, and what its loss is least for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from descent import descend
from samples import photo

from imgflow.engines.networks.eraser import Eraser
from imgflow.engines.spec import Found
from imgflow.synthesis.fonts import Fonts
from imgflow.training.repairs import PATCH
from imgflow.training.restorer import Scenes, judged, loss


@pytest.fixture
def samples(fonts: Fonts) -> Scenes:
    return Scenes([photo("coffee"), photo("rocket")], fonts, seed=1)


def test_samples_are_what_the_network_sees_and_the_truth(samples: Scenes) -> None:
    for number in range(8):
        photo, filled, colour, opacity, share, mask, truth = samples[number]
        assert mask.shape[1:] == (1, PATCH, PATCH)
        assert set(mask.flatten().tolist()) <= {0, 1}
        for plane in (opacity, share):
            assert plane.shape[1:] == (1, PATCH, PATCH)
        for picture in (photo, filled, colour, truth):
            assert picture.shape[1:] == (3, PATCH, PATCH)
            assert picture.dtype == torch.uint8
        assert torch.equal(photo * (1 - mask), filled * (1 - mask)), "filled under the mask alone"
        assert not share[mask == 0].any()
        # Some of the photo shows through.
        assert opacity.max() < 0.8 * 255


def test_an_eraser_may_say_where_text_is(fonts: Fonts) -> None:
    class Seeing:
        """Finds all that it is pointed to, is in doubt everywhere, and fills with black."""

        def find(self, pixels: Any, region: Any) -> Found:
            return Found(region, 1.0)

        def likely(self, pixels: Any) -> Any:
            return np.full(pixels.shape[:2], 0.5, np.float32)

        def filled(self, pixels: Any, mask: Any) -> Any:
            return np.where(mask[:, :, None] > 0, np.uint8(0), pixels)

    eraser: Any = Seeing()
    samples = Scenes([photo("coffee")], fonts, 1, eraser)
    photo_, filled, *_, mask, truth = samples[0]
    assert not (filled * mask).any(), "filled by it"
    changed = ((photo_.float() - truth.float()).abs().amax(dim=1, keepdim=True) > 40).float()
    assert (mask * changed).sum() > 0.7 * changed.sum(), "all of its lines are found"
    assert mask.sum() > changed.sum(), "and what is between their letters"


class Fixed(Eraser):
    """Knows one answer."""

    def __init__(self, clean: torch.Tensor) -> None:
        super().__init__(*[(8, 8, 8, 8)] * 3)
        self.clean = clean

    def restore(self, *_: torch.Tensor) -> torch.Tensor:
        return self.clean


def test_the_loss_is_least_for_the_truth(samples: Scenes) -> None:
    batch = [each[None] for each in samples[0]]
    photo, filled, *_, truth = (each.float() / 255 for each in samples[0])
    best = float(loss(Fixed(truth), batch))
    for wrong in (photo, filled):
        assert float(loss(Fixed(wrong), batch)) > best + 1


def test_pixels_beyond_the_mask_do_not_count(samples: Scenes) -> None:
    batch = [each[None] for each in samples[0]]
    *_, mask, truth = samples[0]
    truth = truth.float() / 255
    assert (mask == 0).any()
    wrong = torch.where(mask > 0, truth, 1 - truth)
    assert float(loss(Fixed(wrong), batch)) == float(loss(Fixed(truth), batch))


def test_a_new_network_computes_what_is_under_a_veil() -> None:
    truth, filled, colour = torch.rand(3, 1, 3, 32, 32)
    opacity, share = torch.full((1, 1, 32, 32), 0.5), torch.rand(1, 1, 32, 32) * 0.9 + 0.05
    seen = truth + opacity * share * (colour - truth)
    everywhere = torch.ones_like(opacity)
    clean = Eraser().restore(seen, filled, colour, opacity, share, everywhere)
    assert torch.allclose(clean, truth, atol=1e-4)
    clean = Eraser().restore(colour, filled, colour, everywhere, everywhere, everywhere)
    assert torch.allclose(clean, filled, atol=1e-4)


class Known(Scenes):
    """One patch whatever is asked for: white on grey, filled nearly well."""

    def __getitem__(self, number: int) -> tuple[Any, ...]:
        truth = torch.full((1, 3, 32, 32), 100, dtype=torch.uint8)
        mask = torch.zeros(1, 1, 32, 32, dtype=torch.uint8)
        mask[0, 0, 8:16] = 1
        seen, filled = truth + 155 * mask, truth + 25 * mask
        half = torch.full_like(mask, 128)
        return seen, filled, seen, half, 255 * mask, mask, truth


def test_figures_set_a_restoration_against_photo_and_fill(fonts: Fonts) -> None:
    samples = Known([], fonts, 0)
    *_, mask, truth = samples[0]
    found = judged(Fixed(truth / 255 + 0.01 * mask), samples, 2)
    assert found["photo"] == pytest.approx(4.32, abs=0.01)
    assert found["fill"] == pytest.approx(20.13, abs=0.01)
    # An error of 40 dB counts as one of 37: what is nearer than 40 is as good.
    assert found["psnr"] == pytest.approx(37, abs=0.1)
    assert found["computed"] < found["psnr"]


def test_the_loss_falls_on_one_sample(fonts: Fonts) -> None:
    batch = [each[None] for each in Known([], fonts, 0)[0]]
    losses = descend(loss, batch, "restorer", rate=0.002)
    assert np.isfinite(losses).all()
    assert min(losses) < losses[0] - 2, "dB"
