"""Training: samples follow from the seed, a run goes on where it stopped, and it learns."""

from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from safetensors import safe_open
from samples import default_font, photo

from imgflow.engines.networks.eraser import Eraser
from imgflow.synthesis.fonts import Fonts
from imgflow.training import eraser
from imgflow.training.eraser import PATCH, Scenes, judged, loss
from imgflow.training.loop import Recipe, export, train
from imgflow.training.photos import scene


@pytest.fixture(scope="module")
def fonts(tmp_path_factory: pytest.TempPathFactory) -> Fonts:
    path = default_font(tmp_path_factory.mktemp("fonts"))
    return Fonts(latin=(path,), cyrillic=(), chinese=())


@pytest.fixture
def samples(fonts: Fonts) -> Scenes:
    return Scenes([photo("coffee"), photo("rocket")], fonts, seed=1)


def test_a_sample_follows_from_its_number(samples: Scenes) -> None:
    for one, other in zip(samples[5], samples[5], strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(samples[5][0], samples[6][0])


def test_samples_are_photo_region_mask_fill_truth_and_text(samples: Scenes) -> None:
    for number in range(12):
        photo, region, mask, filled, truth, touched = samples[number]
        for plane in (region, mask, touched):
            assert plane.shape[1:] == (1, PATCH, PATCH)
            assert set(plane.unique().tolist()) <= {0.0, 1.0}
        for picture in (photo, filled, truth):
            assert picture.shape[1:] == (3, PATCH, PATCH)
            assert picture.min() >= 0
            assert picture.max() <= 1
        # Where nothing was drawn, JPEG alone makes a difference.
        difference = (photo - truth).abs().mean(dim=1, keepdim=True)
        assert difference[touched == 0].mean() < 0.03
        assert torch.equal(photo * (1 - mask), filled * (1 - mask)), "filled under the mask alone"


def test_scenes_keep_their_size_whatever_the_photo() -> None:
    small = np.random.default_rng(0).integers(0, 255, (100, 90, 3), np.uint8)
    for seed in range(6):
        assert scene([small, photo("coffee")], 230, 300, Random(seed)).shape == (230, 300, 3)


class _Small(Scenes):
    """Quick samples: the smallest network learns them in seconds."""

    def __getitem__(self, number: int) -> tuple[torch.Tensor, ...]:
        return tuple(each[:2, :, :64, :64] for each in super().__getitem__(number % 4))


def _train(work: Path, samples: Scenes, steps: int, until: int) -> list[str]:
    torch.manual_seed(0)
    told: list[str] = []
    network = Eraser((8, 8, 8, 8), (8, 8, 8, 8))
    recipe = Recipe(steps=steps, batch=1, warm_up=2, every=2)

    def stop(text: str) -> None:
        told.append(text)
        if f"step {until}," in text:
            raise KeyboardInterrupt

    trained = train(
        network, samples, loss, lambda n: judged(n, samples, 2), recipe, work, stop, loaders=0
    )
    export(trained, work / "weights.safetensors", recipe, {"network": "eraser"})
    return told


def test_a_run_that_is_stopped_goes_on_and_comes_out_the_same(tmp_path: Path, fonts: Fonts) -> None:
    samples = _Small([photo("coffee")], fonts, 1)
    _train(tmp_path / "whole", samples, steps=6, until=0)
    with pytest.raises(KeyboardInterrupt):
        # Stopped while it tells of step 4: its checkpoint is that of step 2.
        _train(tmp_path / "parts", samples, steps=6, until=4)
    told = _train(tmp_path / "parts", samples, steps=6, until=0)
    assert "steps 2 to 6" in told[0]
    with (
        safe_open(tmp_path / "whole" / "weights.safetensors", "pt") as one,
        safe_open(tmp_path / "parts" / "weights.safetensors", "pt") as other,
    ):
        assert "recipe" in one.metadata()
        for name in one.keys():  # noqa: SIM118
            assert torch.equal(one.get_tensor(name), other.get_tensor(name)), name


class Fixed(Eraser):
    """Knows one answer."""

    def __init__(self, clean: torch.Tensor, text: torch.Tensor) -> None:
        super().__init__((8, 8, 8, 8), (8, 8, 8, 8))
        self.clean, self.text = clean, text

    def find(self, photo: torch.Tensor, region: torch.Tensor) -> torch.Tensor:
        return (self.text - 0.5) * 20

    def restore(self, *seen: torch.Tensor) -> torch.Tensor:
        return self.clean


def test_the_loss_is_least_for_the_truth(samples: Scenes) -> None:
    batch = [each[None] for each in samples[0]]
    photo, _, _, filled, truth, touched = samples[0]
    perfect = float(loss(Fixed(truth, touched), batch))
    blind = float(loss(Fixed(truth, 1 - touched), batch))
    idle = float(loss(Fixed(photo, touched), batch))
    assert perfect < 0.01
    assert min(blind, idle, float(loss(Fixed(filled, touched), batch))) > perfect


def test_a_network_begins_as_the_classical_fill(samples: Scenes) -> None:
    photo, region, mask, filled, _, _ = samples[0]
    assert torch.equal(Eraser().restore(photo, region, mask, filled), filled)


def test_half_the_tiled_watermarks_may_be_anywhere(fonts: Fonts) -> None:
    """The network must find strokes by itself where all of a photo may hold some."""
    everywhere = 0
    for seed in range(20):
        overlay = eraser._overlay(128, 160, fonts, Random(seed))
        everywhere += int(eraser._region(overlay, Random(seed)).all())
    assert 1 <= everywhere <= 15
