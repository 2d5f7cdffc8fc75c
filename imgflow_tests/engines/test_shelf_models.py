"""Models by weights file: loaded through the files that a user has, and refused with a reason."""

from __future__ import annotations

import pickle
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from samples import photo
from tiny_models import bench, compact, folder_of, lama, on_shelf, swinir, torchscript

from imgflow.engines.account import accounting
from imgflow.engines.compute import Compute
from imgflow.engines.inspect import inspect_model
from imgflow.engines.loading import kept_by
from imgflow.engines.outside import Outside
from imgflow.engines.registry import Engines
from imgflow.engines.shelf.shelf import Shelf
from imgflow.engines.spandrel_models import SpandrelUpscaler, spandrel_fill
from imgflow.engines.torchscript import torchscript_fill
from imgflow.errors import EngineUnavailable
from imgflow.imaging.tiling import TilePlan, run_tiled
from imgflow.policy.engines import EngineSettings, JoinedEngine, ModelEngine


def upscaler_shelf(
    root: Path, name: str = "net", scale: int = 2, ending: str = "safetensors"
) -> Shelf:
    compact(folder_of(root, name) / f"{name}.{ending}", scale)
    return on_shelf(
        root,
        name,
        task="upscaler",
        loader="spandrel",
        architecture="Compact",
        scale=scale,
        receptive=6,
    )


def tile_of(width: int = 32) -> Any:
    return photo("coffee", width).astype(np.float32) / 255


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_super_resolution_by_weights_file(tmp_path: Path, ending: str) -> None:
    weights = upscaler_shelf(tmp_path, ending=ending).weights("net")
    engine = SpandrelUpscaler("net", weights, 2, bench())
    tile = tile_of()
    large = engine.enlarge(tile)
    assert large.shape == (tile.shape[0] * 2, tile.shape[1] * 2, 3)
    assert large.dtype == np.float32
    assert engine.spec.weights_sha256 == weights.sha256
    np.testing.assert_array_equal(large, engine.enlarge(tile))


def test_a_model_is_loaded_once_on_the_time_of_nobody(tmp_path: Path) -> None:
    told: list[str] = []

    def keeper(what: str) -> AbstractContextManager[None]:
        told.append(what)
        return nullcontext()

    engine = SpandrelUpscaler("big", upscaler_shelf(tmp_path).weights("net"), 2, bench())
    with kept_by(keeper):
        engine.enlarge(tile_of())
        engine.enlarge(tile_of())
    assert told == ["the model 'net'"]


@pytest.mark.parametrize(("native", "scale"), [(4, 2), (4, 3), (2, 3), (2, 4)])
def test_other_scales_are_reached_by_reducing(tmp_path: Path, native: int, scale: int) -> None:
    weights = upscaler_shelf(tmp_path, scale=native).weights("net")
    tile = tile_of(24)
    large = SpandrelUpscaler("net", weights, scale, bench()).enlarge(tile)
    assert large.shape == (tile.shape[0] * scale, tile.shape[1] * scale, 3)


def test_a_scale_that_cannot_be_reached_is_an_error(tmp_path: Path) -> None:
    weights = upscaler_shelf(tmp_path).weights("net")
    with pytest.raises(EngineUnavailable) as error:
        SpandrelUpscaler("net", weights, 1, bench())
    assert error.value.code == "engine_scale"


def test_tiles_equal_the_whole(tmp_path: Path) -> None:
    engine = SpandrelUpscaler("net", upscaler_shelf(tmp_path).weights("net"), 2, bench())
    pixels = photo("coffee", 150)
    plans = [
        TilePlan.for_engine(*pixels.shape[:2], receptive=engine.spec.receptive, scale=2, core=core)
        for core in (64, 256)
    ]
    tiled, whole = (
        run_tiled(pixels, engine.enlarge, plan, out_dtype=np.float32)[0] for plan in plans
    )
    np.testing.assert_allclose(tiled, whole, atol=1e-5)


def test_a_file_is_looked_at_when_it_is_added(tmp_path: Path) -> None:
    path = compact(tmp_path / "net.pth", 3)
    facts = inspect_model(path, "spandrel", None)
    assert (facts.task, facts.architecture, facts.scale) == ("upscaler", "Compact", 3)
    # Four 3 x 3 convolutions one after the other.
    assert 3 <= facts.receptive <= 5


class Evil:
    def __reduce__(self) -> Any:
        import os

        return os.mkdir, ("/tmp/imgflow-was-here",)


def _damaged(path: Path) -> None:
    path.write_bytes(b"\x00" * 100)


def _cut(path: Path) -> None:
    compact(path)
    path.write_bytes(path.read_bytes()[:-50])


def _code(path: Path) -> None:
    path.write_bytes(pickle.dumps({"params": Evil()}))


def _zipped_code(path: Path) -> None:
    torch.save({"params": Evil()}, path)


def _other(path: Path) -> None:
    torch.save({"params": {"a.weight": torch.zeros(3, 3)}}, path)


def _not_a_number(path: Path) -> None:
    compact(path)
    state = torch.load(path, weights_only=True)
    next(iter(state["params"].values()))[0] = float("nan")
    torch.save(state, path)


@pytest.mark.parametrize("make", [_damaged, _cut, _code, _zipped_code, _other, _not_a_number])
def test_weights_that_are_not_right_are_refused_and_never_run(tmp_path: Path, make: Any) -> None:
    path = folder_of(tmp_path, "net") / "net.pth"
    make(path)
    shelf = on_shelf(tmp_path, "net", task="upscaler", loader="spandrel", scale=2)
    with pytest.raises(EngineUnavailable) as error:
        SpandrelUpscaler("net", shelf.weights("net"), 2, bench()).enlarge(tile_of())
    assert error.value.code == "weights_unfit"
    assert "imgflow models" in error.value.hint
    assert not Path("/tmp/imgflow-was-here").exists()


def test_a_network_of_another_scale_or_purpose_is_refused(tmp_path: Path) -> None:
    compact(folder_of(tmp_path, "net") / "net.safetensors", 2)
    wrong_scale = on_shelf(tmp_path, "net", task="upscaler", loader="spandrel", scale=4)
    with pytest.raises(EngineUnavailable, match="enlarges x2, its card says x4"):
        SpandrelUpscaler("net", wrong_scale.weights("net"), 4, bench()).enlarge(tile_of())
    wrong_task = on_shelf(tmp_path, "net", task="filler", loader="spandrel")
    pixels = photo("coffee", 40)
    with pytest.raises(EngineUnavailable, match="not for filling"):
        spandrel_fill("net", wrong_task.weights("net"), bench()).fill(pixels, hole(pixels))


def hole(pixels: Any) -> Any:
    mask = np.zeros(pixels.shape[:2], np.uint8)
    mask[5:12, 7:19] = 255
    return mask


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_fill_as_torchscript(tmp_path: Path, dtype: Any) -> None:
    torchscript(folder_of(tmp_path, "lama2") / "lama2.pt")
    shelf = on_shelf(tmp_path, "lama2", task="filler", loader="torchscript")
    engine = torchscript_fill("lama2", shelf.weights("lama2"), bench())
    pixels = photo("coffee", 43).astype(dtype) * (257 if dtype == np.uint16 else 1)
    mask = hole(pixels)
    filled = engine.fill(pixels, mask)
    assert filled.shape == pixels.shape
    assert filled.dtype == dtype
    assert (filled[mask > 0] == filled[mask > 0][0]).all()
    np.testing.assert_array_equal(filled[mask == 0], pixels[mask == 0])


def test_lama_as_spandrel_knows_it(tmp_path: Path) -> None:
    lama(folder_of(tmp_path, "lama2") / "lama.safetensors")
    assert inspect_model(tmp_path / "lama2" / "lama.safetensors", "spandrel", None).task == "filler"
    shelf = on_shelf(tmp_path, "lama2", task="filler", loader="spandrel", architecture="LaMa")
    engine = spandrel_fill("lama2", shelf.weights("lama2"), bench())
    assert engine.spec.model_id == "lama2-LaMa"
    pixels = photo("coffee", 43)
    mask = hole(pixels)
    filled = engine.fill(pixels, mask)
    assert filled.shape == pixels.shape
    assert (filled[mask > 0] != pixels[mask > 0]).any()
    np.testing.assert_array_equal(filled[mask == 0], pixels[mask == 0])
    np.testing.assert_array_equal(engine.fill(pixels, mask), filled)


class OneInput(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image


def test_torchscript_of_another_shape_is_refused(tmp_path: Path) -> None:
    torchscript(folder_of(tmp_path, "bad") / "bad.pt", OneInput())
    shelf = on_shelf(tmp_path, "bad", task="filler", loader="torchscript")
    pixels = photo("coffee", 43)
    with pytest.raises(EngineUnavailable) as error:
        torchscript_fill("bad", shelf.weights("bad"), bench()).fill(pixels, hole(pixels))
    assert error.value.code == "weights_unfit"


# -- by name -----------------------------------------------------------------------------


def engines_of(root: Path, **declared: EngineSettings) -> Engines:
    engines = Engines()
    engines.outside = Outside(
        root=root, models=root / "models", declared=declared, compute=Compute("cpu", "float32")
    )
    return engines


def test_a_name_is_declared_or_on_the_shelf(tmp_path: Path) -> None:
    upscaler_shelf(tmp_path / "models", "net")
    engines = engines_of(tmp_path, mine=ModelEngine(use="model", model="net"))
    assert engines.upscaler("net", 2).spec.model_id == "net-Compact-x2"
    assert engines.upscaler("mine", 4).spec.name == "mine"
    assert engines.upscaler("net", 2, "photo") is engines.upscaler("net", 2, "clean")
    assert {"net", "mine", "sr", "realesrgan-x4plus"} <= set(engines.names("upscaler"))


def test_a_model_for_something_else_is_named_so(tmp_path: Path) -> None:
    upscaler_shelf(tmp_path / "models", "net")
    with pytest.raises(EngineUnavailable, match="is an upscaler, and a filler is needed") as error:
        engines_of(tmp_path).filler("net")
    assert error.value.code == "engine_of_other_kind"


def test_missing_weights_name_what_fetches_them(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="lama") as error:
        engines_of(tmp_path).filler("lama")
    assert error.value.code == "weights_missing"
    assert "imgflow models pull lama" in error.value.hint


def test_a_name_that_nobody_knows_lists_those_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable) as error:
        engines_of(tmp_path).filler("magic")
    assert error.value.code == "engine_unknown"


def test_a_detector_joined_of_itself_is_an_error(tmp_path: Path) -> None:
    joined = JoinedEngine(use="joined", detectors=["both", "rapidocr"])
    with pytest.raises(EngineUnavailable, match="of itself"):
        engines_of(tmp_path, both=joined).text_detector("both")


def test_nothing_of_the_shelf_is_read_for_a_spec_but_hashes(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "models", "net") / "net.pth"
    path.write_bytes(b"no weights at all")
    on_shelf(tmp_path / "models", "net", task="upscaler", loader="spandrel", scale=2)
    assert engines_of(tmp_path).upscaler("net", 2).spec.weights_sha256


class DrawingFill(torch.nn.Module):
    """Fills with noise that it draws without being asked to, as MAT does."""

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return image * (1 - mask) + torch.rand_like(image) * mask


def test_a_network_that_draws_does_so_by_its_seed(tmp_path: Path) -> None:
    torchscript(folder_of(tmp_path, "noise") / "noise.pt", DrawingFill())
    shelf = on_shelf(tmp_path, "noise", task="filler", loader="torchscript")

    def fill(seed: int | None = None, own: int = 0) -> tuple[bytes, int | None]:
        engine = torchscript_fill("noise", shelf.weights("noise"), bench(), seed=own)
        pixels = photo("coffee", 32)
        mask = np.zeros(pixels.shape[:2], np.uint8)
        mask[4:12, 4:12] = 255
        with accounting() as told:
            return engine.fill(pixels, mask, seed=seed).tobytes(), told.seed

    before = torch.get_rng_state()
    first = fill()
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert fill() == first
    assert first[1] == 0
    assert fill(7) == fill(own=7)
    assert fill(7)[1] == 7
    assert fill(7)[0] != first[0]
    weights = shelf.weights("noise")
    one, other = (torchscript_fill("noise", weights, bench(), seed=each) for each in (0, 7))
    assert one.spec.code_version != other.spec.code_version


def test_a_network_that_does_not_draw_has_no_seed_in_the_account(tmp_path: Path) -> None:
    torchscript(folder_of(tmp_path, "plain") / "plain.pt")
    shelf = on_shelf(tmp_path, "plain", task="filler", loader="torchscript")
    engine = torchscript_fill("plain", shelf.weights("plain"), bench())
    pixels = photo("coffee", 32)
    mask = np.zeros(pixels.shape[:2], np.uint8)
    mask[4:12, 4:12] = 255
    with accounting() as told:
        engine.fill(pixels, mask, seed=7)
    assert told.seed is None


def test_a_network_that_mixes_precisions_works_in_float32_and_says_so(tmp_path: Path) -> None:
    swinir(folder_of(tmp_path, "net") / "net.pth")
    weights = on_shelf(
        tmp_path, "net", task="upscaler", loader="spandrel", scale=2, receptive=16
    ).weights("net")
    tile = tile_of(40)
    exact = SpandrelUpscaler("net", weights, 2, bench()).enlarge(tile)
    engine = SpandrelUpscaler("net", weights, 2, bench(precision="bfloat16"))
    for _ in range(2):
        with accounting() as told:
            np.testing.assert_array_equal(engine.enlarge(tile), exact)
        assert told.dtype == "float32"
        assert told.notes == ["the model does not bear less precision: float32 was used"]


def test_ten_models_of_the_shelf_in_turn_stay_within_a_budget_for_two(tmp_path: Path) -> None:
    for number in range(10):
        shelf = upscaler_shelf(tmp_path, f"net{number}")
    shared = bench()
    size = shelf.weights("net0").bytes
    shared.cache.budget = 2 * size
    engines = [
        SpandrelUpscaler(name, shelf.weights(name), 2, shared)
        for name in (f"net{number}" for number in range(10))
    ]
    tile = tile_of(16)
    for engine in [*engines, *engines]:
        engine.enlarge(tile)
        assert shared.cache.bytes <= shared.cache.budget
        assert len(shared.cache) <= 2
    assert size < shared.cache.peak <= shared.cache.budget


def test_architectures_that_a_user_has_installed_besides_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from imgflow.engines.spandrel_models import load_network

    path = compact(tmp_path / "net.safetensors")
    package = folder_of(tmp_path, "spandrel_extra_arches")
    (package / "__init__.py").write_text(
        "asked = []\ndef install(*, ignore_duplicates=False): asked.append(ignore_duplicates)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        load_network(path)
        assert sys.modules["spandrel_extra_arches"].asked == [True]
    finally:
        sys.modules.pop("spandrel_extra_arches", None)
