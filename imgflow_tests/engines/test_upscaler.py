"""imgflow's own upscaler: what it loads, what it sees, and that it works in any precision."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest
import torch
from exact import exactly
from samples import photo

from imgflow.engines import upscaler as module
from imgflow.engines.networks.upscaler import SCALES, Detail, SuperResolver
from imgflow.engines.shipped import load_part
from imgflow.engines.spec import Character
from imgflow.engines.upscaler import RECEPTIVE, NeuralUpscaler
from imgflow.errors import EngineUnavailable
from imgflow.imaging.tiling import TilePlan, run_tiled
from imgflow.training.loop import Recipe, export


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with both characters, of random numbers."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("weights")
    parts = {}
    for seed, character in enumerate(get_args(Character)):
        torch.manual_seed(seed)
        network = SuperResolver()
        for value in network.parameters():
            torch.nn.init.normal_(value, std=0.05)
        path = folder / f"{character}.safetensors"
        export(network, path, Recipe(steps=1, batch=1), {}, prefix=f"{character}.")
        parts |= load_file(path)
    save_file(parts, folder / "both.safetensors")
    return folder / "both.safetensors"


def pixels(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).random((height, width, 3), np.float32)


def network_of(weights: Path) -> SuperResolver:
    network = SuperResolver()
    network.load_state_dict(load_part(weights, "clean"))
    return network


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", [(20, 30), (21, 33), (1, 1)])
def test_any_size_is_enlarged(weights: Path, scale: int, size: tuple[int, int]) -> None:
    large = NeuralUpscaler(scale, weights=weights).enlarge(pixels(*size))
    assert large.shape == (size[0] * scale, size[1] * scale, 3)
    assert large.dtype == np.float32


def test_each_character_has_weights_of_its_own(weights: Path) -> None:
    clean, squeezed = (
        NeuralUpscaler(2, character, weights=weights, precision="float32")
        for character in get_args(Character)
    )
    assert clean.spec.model_id != squeezed.spec.model_id
    assert np.abs(clean.enlarge(pixels(8, 8)) - squeezed.enlarge(pixels(8, 8))).max() > 0.01


@pytest.mark.parametrize("scale", SCALES)
def test_no_pixel_depends_on_what_is_beyond_the_stated_reach(weights: Path, scale: int) -> None:
    """What tiles rest on. The reach is stated as it is, not larger."""
    engine = NeuralUpscaler(scale, weights=weights, precision="float32")
    engine._detail = exactly(Detail(network_of(weights), scale))
    seen = pixels(64, 64)
    reaches = []
    for at in (30, 31):
        other = seen.copy()
        other[at, at] = 1 - other[at, at]
        changed = np.abs(engine.enlarge(seen) - engine.enlarge(other)).max(axis=2) > 0
        rows, columns = (each // scale for each in np.nonzero(changed))
        reaches.append(max(np.abs(rows - at).max(), np.abs(columns - at).max()))
    assert max(reaches) == RECEPTIVE


@pytest.mark.parametrize("scale", SCALES)
def test_tiles_give_what_the_whole_gives(weights: Path, scale: int) -> None:
    engine = NeuralUpscaler(scale, weights=weights, precision="float32")
    seen = pixels(150, 200)
    whole, tiled = (
        run_tiled(
            seen,
            engine.enlarge,
            TilePlan.for_engine(150, 200, receptive=RECEPTIVE, scale=scale, core=core),
        )[0]
        for core in (256, 64)
    )
    # Random weights make values far beyond 0..1.
    assert np.abs(whole - tiled).max() < 1e-5 * np.abs(whole).max()


@pytest.mark.parametrize("scale", SCALES)
def test_the_engine_gives_what_the_network_learned(weights: Path, scale: int) -> None:
    engine = NeuralUpscaler(scale, weights=weights, precision="float32")
    network = network_of(weights)
    seen = pixels(24, 30)
    with torch.inference_mode():
        learned = network(torch.from_numpy(seen).permute(2, 0, 1)[None], scale)
    expected = learned[0].permute(1, 2, 0).numpy()
    assert np.abs(engine.enlarge(seen) - expected).max() < 1e-5 * np.abs(expected).max()


def test_on_plain_ground_nothing_is_added(weights: Path) -> None:
    """Not even by a network of random numbers."""
    ground = np.full((40, 40, 3), 0.97, np.float32)
    ground[18:22, 18:22] = 0.2
    large = NeuralUpscaler(4, weights=weights).enlarge(ground)
    assert np.abs(large[:56] - 0.97).max() < 1e-6
    assert np.abs(large[72:88, 72:88] - 0.2).max() > 0.01


def test_both_precisions_agree(weights: Path) -> None:
    exact, fast = (
        NeuralUpscaler(2, weights=weights, precision=each).enlarge(pixels(40, 40))
        for each in ("float32", "bfloat16")
    )
    assert np.abs(exact - fast).mean() < 0.005
    assert np.abs(exact - fast).max() > 0, "they are not the same computation"


def test_other_scales_are_refused() -> None:
    with pytest.raises(EngineUnavailable, match="x5"):
        NeuralUpscaler(5)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match=r"gone\.safetensors"):
        NeuralUpscaler(2, weights=tmp_path / "gone.safetensors")


def test_the_upscaler_costs_no_torch_until_it_works() -> None:
    code = (
        "import sys; from imgflow.engines.registry import Engines; "
        "Engines().upscaler('sr', 4, 'photo').spec; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_shipped_upscaler_is_small_and_known() -> None:
    path = Path(module.__file__).parent / "weights" / module.WEIGHTS
    assert path.stat().st_size <= 3_000_000
    card = path.with_name("upscaler.md").read_text()
    assert NeuralUpscaler(2).spec.weights_sha256 in card


@pytest.mark.parametrize("character", get_args(Character))
@pytest.mark.parametrize("scale", SCALES)
def test_the_shipped_upscaler_beats_interpolation(scale: int, character: Character) -> None:
    """On a photo of the scikit-image wheel, whatever happens to the networks' figures."""
    from imgflow.imaging.metrics import psnr
    from imgflow.imaging.resample import bicubic

    truth = photo("coffee")[:240, :360]
    small = bicubic(truth, 240 // scale, 360 // scale)
    plain = bicubic(small, 240, 360)
    large = NeuralUpscaler(scale, character).enlarge(small.astype(np.float32) / 255)
    ours = np.rint(np.clip(large, 0, 1) * 255).astype(np.uint8)
    gain = psnr(truth, ours, data_range=255) - psnr(truth, plain, data_range=255)
    assert gain > (0.5 if character == "clean" else 0.0)


@pytest.mark.parametrize("character", get_args(Character))
@pytest.mark.parametrize("scale", SCALES)
def test_the_shipped_upscaler_keeps_white_white_and_colours_as_they_are(
    scale: int, character: Character
) -> None:
    """No rings on the ground of a product, and none of its colours shifted."""
    product = np.full((96, 96, 3), 1.0, np.float32)
    product[24:48, 24:72] = (0.8, 0.1, 0.1)
    product[48:72, 24:72] = (0.1, 0.3, 0.7)
    # A camera's edges: not harder than its pixels.
    product = cv2.GaussianBlur(product, (0, 0), 0.6)
    large = np.rint(np.clip(NeuralUpscaler(scale, character).enlarge(product), 0, 1) * 255)
    near = 4 * scale
    ground = np.ones(large.shape[:2], bool)
    ground[24 * scale - near : 72 * scale + near, 24 * scale - near : 72 * scale + near] = False
    assert large[ground].min() >= 252
    for rows, colour in (((30, 42), (0.8, 0.1, 0.1)), ((54, 66), (0.1, 0.3, 0.7))):
        part = large[rows[0] * scale : rows[1] * scale, 32 * scale : 64 * scale]
        assert np.abs(part.mean(axis=(0, 1)) - 255 * np.array(colour)).max() < 2.5
