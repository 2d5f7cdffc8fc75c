"""The upscaler's training: what its samples hold, and that it learns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from samples import encoded, photo
from typer.testing import CliRunner

from imgflow.engines.networks.upscaler import SuperResolver
from imgflow.engines.shipped import load_part
from imgflow.engines.spec import Character
from imgflow.errors import ImgflowError
from imgflow.imaging.resample import bicubic
from imgflow.training import upscaler
from imgflow.training.__main__ import app
from imgflow.training.loop import CURVE, Optimizer, Recipe, mixed_precision
from imgflow.training.upscaler import (
    PATCH,
    Pairs,
    handled,
    judged,
    loss,
    mixed,
    pyramid,
    recoloured,
    squared_loss,
)


@pytest.fixture(scope="module")
def samples() -> Pairs:
    return Pairs([photo("coffee"), photo("rocket")], "clean", seed=1)


def test_a_pair_follows_from_its_number(samples: Pairs) -> None:
    for one, other in zip(samples[5], samples[5], strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(samples[5][0][:, :, :9], samples[6][0][:, :, :9])


def test_what_is_small_is_the_full_patch_reduced(samples: Pairs) -> None:
    scales = set()
    for number in range(12):
        small, full = samples[number]
        scale = full.shape[-1] // small.shape[-1]
        scales.add(scale)
        assert small.shape[1:] == (3, PATCH, PATCH)
        assert full.shape[1:] == (3, PATCH * scale, PATCH * scale)
        truth = np.rint(full[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        again = bicubic(truth, PATCH, PATCH).astype(float)[4:-4, 4:-4]
        seen = small[0].permute(1, 2, 0).numpy()[4:-4, 4:-4] * 255
        # Rows were reduced first, rounded and clipped; the patch may have been turned since.
        assert np.abs(again - seen).mean() < 0.3
    assert scales == {2, 3, 4}


def test_various_pairs_are_small_and_full_of_the_same_all_the_same() -> None:
    plain, various = (
        Pairs([photo("coffee")], "clean", seed=1, various=each) for each in (False, True)
    )
    small, full = various[0]
    scale = full.shape[-1] // small.shape[-1]
    for number in range(len(small)):
        truth = np.rint(full[number].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        again = bicubic(truth, PATCH, PATCH).astype(float)[4:-4, 4:-4]
        seen = small[number].permute(1, 2, 0).numpy()[4:-4, 4:-4] * 255
        assert np.abs(again - seen).mean() < 0.6
    assert scale == plain[0][1].shape[-1] // PATCH
    assert not torch.equal(small, plain[0][0])
    assert torch.equal(small, various[0][0])


def test_larger_patches_are_fewer() -> None:
    small, full = Pairs([photo("coffee")], "clean", seed=1, patch=96)[0]
    assert small.shape == (4, 3, 96, 96)
    assert full.shape[0] == 4 and full.shape[-1] % 96 == 0
    # What holds no such patch at the largest scale is left out.
    with pytest.raises(ImgflowError, match="none of the photos"):
        Pairs([photo("coffee")], "clean", seed=1, patch=192)


@pytest.mark.parametrize("fast", ["bfloat16", "float32"])
def test_bfloat16_is_computed_in_only_where_it_is_fast(
    fast: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imgflow.training.loop.fast_type", lambda: fast)
    with mixed_precision(torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == getattr(torch, fast)


def test_a_patch_has_an_even_side(tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["upscaler", str(tmp_path), f"--work={tmp_path}", "--patch=49"])
    assert told.exit_code == 2 and "even" in told.output


def test_mixed_pairs_show_both() -> None:
    dark, light = (np.full((8, 8, 3), value, np.uint8) for value in (0, 200))
    for number in range(8):
        small, full = mixed((dark, dark), (light, light), Random(number))
        assert np.array_equal(small, full)
        assert 0 <= small[0, 0, 0] <= 101


def test_recoloured_planes_stay_alike() -> None:
    pixels = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    found = [recoloured((pixels, pixels), Random(number)) for number in range(40)]
    assert all(np.array_equal(one, other) for one, other in found)
    kinds = {one.tobytes() for one, _ in found}
    assert len(kinds) > 20 and pixels.tobytes() in kinds
    assert min(int(one.max()) - int(one.min()) for one, _ in found) < 160


def test_a_pyramid_fits_all_scales() -> None:
    sizes = pyramid([photo("coffee"), np.zeros((1300, 1900, 3), np.uint8)])
    assert len(sizes) == 5
    assert all(side % 12 == 0 for each in sizes for side in each.shape[:2])


def test_handled_photos_are_worse_in_many_ways() -> None:
    clean = np.ascontiguousarray(photo("coffee")[:48, :48])
    worse = [handled(clean, Random(number)).astype(float) - clean for number in range(40)]
    errors = [float(np.square(each).mean()) for each in worse]
    assert max(errors) > 20
    assert len({round(each, 3) for each in errors}) > 30


@pytest.mark.parametrize("error", [loss, squared_loss])
def test_it_learns_and_is_judged_against_interpolation(
    error: Callable[[SuperResolver, Any], torch.Tensor],
) -> None:
    """From a network that adds nothing: a gain of about 0 dB."""
    pairs = Pairs([photo("coffee")], "clean", seed=1)
    torch.manual_seed(0)
    network = SuperResolver(width=16, blocks=2, coarse_width=16, coarse_blocks=1)
    network.to(memory_format=torch.channels_last)
    # PyTorch's bicubic kernel differs a little from the one that photos are reduced with.
    assert all(abs(value) < 1 for value in judged(network, pairs, 3).values())
    batch = [each[None, :4] for each in pairs[0]]
    optimizer = Optimizer(network, Recipe(steps=40, batch=1))
    losses = []
    for _ in range(40):
        value = error(network, batch)
        losses.append(float(value.detach()))
        network.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step(1e-4)
    assert losses[-1] < 0.99 * losses[0]


@pytest.mark.parametrize("character", ["clean", "photo"])
def test_the_command_goes_on_and_names_its_part(
    character: Character, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Few(Pairs):
        def __getitem__(self, number: int) -> tuple[torch.Tensor, ...]:
            return tuple(each[:1] for each in super().__getitem__(number))

    def small(*_: Any) -> SuperResolver:
        return SuperResolver(width=16, blocks=2, coarse_width=16, coarse_blocks=1)

    monkeypatch.setattr(upscaler, "Pairs", Few)
    monkeypatch.setattr(upscaler, "judged", lambda *_: {"x2_gain": 1.0})
    monkeypatch.setattr("imgflow.engines.networks.upscaler.SuperResolver", small)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.png").write_bytes(encoded(photo("coffee")))
    for steps in (1, 2):
        told = CliRunner().invoke(
            app,
            [
                "upscaler",
                str(tmp_path / "photos"),
                f"--work={tmp_path / 'work'}",
                f"--character={character}",
                f"--steps={steps}",
                "--threads=1",
                *(["--squared"] if steps == 2 else []),
            ],
        )
        assert told.exit_code == 0, told.output
    assert "steps 1 to 2" in told.output
    assert len((tmp_path / "work" / CURVE).read_text().splitlines()) == 2
    part = load_part(tmp_path / "work" / "upscaler.safetensors", character)
    assert set(part) == set(small().state_dict())

    further = tmp_path / "further"
    told = CliRunner().invoke(
        app,
        [
            "upscaler",
            str(tmp_path / "photos"),
            f"--work={further}",
            f"--character={character}",
            f"--start={tmp_path / 'work' / 'upscaler.safetensors'}",
            "--various",
            "--steps=1",
            "--learning-rate=0",
            "--threads=1",
        ],
    )
    assert told.exit_code == 0, told.output
    begun = load_part(further / "upscaler.safetensors", character)
    assert all(torch.equal(values, part[name]) for name, values in begun.items())
