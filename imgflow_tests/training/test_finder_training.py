"""The finder's training: what its samples say a pixel is, and that it learns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from descent import descend
from safetensors import safe_open
from samples import photo

from imgflow.engines.networks.eraser import NOTHING, OVERLAY, PRODUCT, Eraser
from imgflow.synthesis.fonts import Fonts
from imgflow.synthesis.overlays import Overlay
from imgflow.synthesis.surfaces import Printed
from imgflow.training import finder
from imgflow.training.finder import PATCH, Scenes, judged, loss
from imgflow.training.loop import Recipe, export, train

GREY, RED, GREEN = (120, 120, 120), (255, 0, 0), (0, 255, 0)


@pytest.fixture
def samples(fonts: Fonts) -> Scenes:
    return Scenes([photo("coffee"), photo("rocket")], fonts, seed=1)


def test_samples_are_photo_and_what_each_pixel_is(samples: Scenes) -> None:
    kinds = set()
    for number in range(8):
        seen, what = samples[number]
        assert seen.shape[1:] == (3, PATCH, PATCH)
        assert what.shape == (seen.shape[0], 1, PATCH, PATCH)
        assert {each.dtype for each in (seen, what)} == {torch.uint8}
        kinds |= set(what.flatten().tolist())
    assert kinds == {NOTHING, OVERLAY, PRODUCT}


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """painted(share): scenes of one colour a kind: a print in green, a share of them with an
    overlay in red across it, nothing scaled or squeezed."""

    def shown(_: str, photos: Any, height: int, width: int, *__: Any) -> Printed:
        pixels, ink = np.full((height, width, 3), GREY, np.uint8), np.zeros((height, width))
        ink[40:80], pixels[40:80] = 1, GREEN
        return Printed(pixels, ink, ())

    def any_overlay(height: int, width: int, *_: Any) -> Overlay:
        colour = np.full((height, width, 3), RED, np.float32)
        alpha = np.zeros((height, width), np.float32)
        alpha[:, 60:90] = 1
        return Overlay("caption", colour, alpha, alpha, (), True)

    def prepare(share: float) -> None:
        monkeypatch.setattr(finder, "shown", shown)
        monkeypatch.setattr(finder, "any_overlay", any_overlay)
        monkeypatch.setattr(finder, "resized", lambda planes, *_: planes)
        monkeypatch.setattr(finder, "squeezed", lambda photo, _: photo)
        monkeypatch.setattr(finder, "_OVERLAID", share)

    return prepare


@pytest.mark.parametrize("share", [1.0, 0.0])
def test_overlays_are_overlays_and_print_below_them_is_hidden(
    share: float, painted: Callable[[float], None], samples: Scenes
) -> None:
    painted(share)
    kinds = set()
    for number in range(3):
        seen, what = samples[number]
        for colour, kind in ((GREY, NOTHING), (RED, OVERLAY), (GREEN, PRODUCT)):
            there = (seen == torch.tensor(colour)[:, None, None]).all(dim=1)
            assert torch.equal(there, what[:, 0] == kind)
        kinds |= set(what.flatten().tolist())
    assert kinds == {NOTHING, PRODUCT, *((OVERLAY,) if share else ())}


class Small(Scenes):
    """Quick samples: the smallest network learns them in seconds."""

    def __getitem__(self, number: int) -> tuple[torch.Tensor, ...]:
        return tuple(each[:2, :, 96:160, 96:160] for each in super().__getitem__(number % 2))


def tiny() -> Eraser:
    torch.manual_seed(0)
    return Eraser(*[(8, 8, 8, 8)] * 3)


def test_the_loss_falls_on_one_sample() -> None:
    _, what = one_of_each()
    shown = torch.cat([what == kind for kind in (NOTHING, OVERLAY, PRODUCT)], dim=1)
    batch = [each[None] for each in (255 * shown.byte(), what)]
    losses = descend(loss, batch, "finder", rate=0.1)
    assert np.isfinite(losses).all()
    assert min(losses) < 0.8 * losses[0]


class Fixed(Eraser):
    """Knows one answer."""

    def __init__(self, what: torch.Tensor) -> None:
        super().__init__(*[(8, 8, 8, 8)] * 3)
        self.what = what

    def find(self, photo: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot(self.what[:, 0].long(), 3).permute(0, 3, 1, 2) * 20.0


def one_of_each() -> tuple[torch.Tensor, ...]:
    """A photo without meaning, and a patch with 32 pixels of either text."""
    what = torch.zeros(1, 1, 32, 32, dtype=torch.uint8)
    what[0, 0, 0], what[0, 0, 1] = OVERLAY, PRODUCT
    return torch.zeros(1, 3, 32, 32, dtype=torch.uint8), what


def test_the_loss_is_least_for_the_truth_and_text_counts_more() -> None:
    seen, what = one_of_each()
    batch = [each[None] for each in (seen, what)]

    def missing(pixel: tuple[int, int], kind: int) -> float:
        answer = what.clone()
        answer[0, 0][pixel] = kind
        return float(loss(Fixed(answer), batch))

    perfect = float(loss(Fixed(what), batch))
    assert perfect < 1e-4
    invented = missing((8, 8), OVERLAY)
    for overlooked in (missing((0, 0), NOTHING), missing((1, 0), NOTHING)):
        assert overlooked > 2 * invented > perfect
    assert missing((1, 0), OVERLAY) > invented


class Known(Scenes):
    """The same patch whatever is asked for."""

    def __getitem__(self, number: int) -> tuple[torch.Tensor, ...]:
        return one_of_each()


def test_figures_tell_both_kinds_of_text_apart(fonts: Fonts) -> None:
    samples = Known([], fonts, 0)
    _, what = one_of_each()
    assert judged(Fixed(what), samples, 2) == {
        "overlay_recall": 1,
        "overlay_precision": 1,
        "product_recall": 1,
        "product_precision": 1,
        "product_as_overlay": 0,
    }
    wrong = what.clone()
    wrong[0, 0, 1, :4], wrong[0, 0, 0, :8] = OVERLAY, NOTHING
    found = judged(Fixed(wrong), samples, 2)
    assert found["overlay_recall"] == pytest.approx(24 / 32)
    assert found["overlay_precision"] == pytest.approx(24 / 28)
    assert found["product_recall"] == pytest.approx(28 / 32)
    assert found["product_as_overlay"] == pytest.approx(4 / 32)


def run(work: Path, samples: Scenes, steps: int, until: int) -> list[str]:
    told: list[str] = []
    network = tiny()
    for part in (network.filler, network.restorer):
        part.requires_grad_(False)
    recipe = Recipe(steps=steps, batch=1, warm_up=2, every=2)

    def stop(text: str) -> None:
        told.append(text)
        if f"step {until}," in text:
            raise KeyboardInterrupt

    trained = train(
        network, samples, loss, lambda n: judged(n, samples, 1), recipe, work, stop, loaders=0
    )
    export(trained, work / "weights.safetensors", recipe, {"network": "eraser"})
    return told


def test_a_run_that_is_stopped_goes_on_and_comes_out_the_same(tmp_path: Path, fonts: Fonts) -> None:
    samples = Small([photo("coffee")], fonts, 1)
    run(tmp_path / "whole", samples, steps=6, until=0)
    with pytest.raises(KeyboardInterrupt):
        # Stopped while it tells of step 4: its checkpoint is that of step 2.
        run(tmp_path / "parts", samples, steps=6, until=4)
    told = run(tmp_path / "parts", samples, steps=6, until=0)
    assert "steps 2 to 6" in told[0]
    before = tiny().state_dict()
    changed = set()
    with (
        safe_open(tmp_path / "whole" / "weights.safetensors", "pt") as one,
        safe_open(tmp_path / "parts" / "weights.safetensors", "pt") as other,
    ):
        assert "recipe" in one.metadata()
        for name in one.keys():  # noqa: SIM118
            assert torch.equal(one.get_tensor(name), other.get_tensor(name)), name
            if not torch.equal(one.get_tensor(name), before[name].to(torch.float16)):
                changed.add(name.split(".")[0])
    # What is not to learn stays, the average of it and weight decay notwithstanding.
    assert changed == {"finder"}


def test_only_what_learns_is_counted(tmp_path: Path, fonts: Fonts) -> None:
    told = run(tmp_path, Small([photo("coffee")], fonts, 1), steps=0, until=0)
    count = sum(each.numel() for each in tiny().finder.parameters())
    assert f"{count:,} weights" in told[0]
