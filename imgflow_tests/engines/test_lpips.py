"""LPIPS against a plain implementation of the paper, with made weights: the real loading code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from samples import photo

from imgflow.engines import lpips
from imgflow.engines.lpips import Lpips, WeightsMissing, weights_folder
from imgflow.errors import EngineUnavailable

Pixels = NDArray[Any]
Weights = dict[str, torch.Tensor]

SHAPES = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}


@pytest.fixture(scope="module")
def made() -> tuple[Weights, Weights]:
    draw = torch.Generator().manual_seed(1)
    backbone: Weights = {"classifier.1.weight": torch.zeros(4, 4)}
    linear: Weights = {}
    for layer, (number, (outputs, inputs, side)) in enumerate(SHAPES.items()):
        spread = (2 / (inputs * side * side)) ** 0.5
        weight = torch.randn(outputs, inputs, side, side, generator=draw) * spread
        backbone[f"features.{number}.weight"] = weight
        backbone[f"features.{number}.bias"] = torch.randn(outputs, generator=draw) * 0.05
        linear[f"lin{layer}.model.1.weight"] = torch.rand(1, outputs, 1, 1, generator=draw)
    return backbone, linear


@pytest.fixture(scope="module")
def folder(made: tuple[Weights, Weights], tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("lpips")
    save_file(made[0], place / "alexnet.safetensors")
    save_file(made[1], place / "lpips-alex.safetensors")
    return place


def plainly(reference: Pixels, test: Pixels, backbone: Weights, linear: Weights) -> float:
    """The paper's sum, layer by layer, in float64, with modules."""
    stages: list[torch.nn.Sequential] = []
    for number, (outputs, inputs, side) in SHAPES.items():
        stride, padding = (4, 2) if number == 0 else (1, side // 2)
        convolution = torch.nn.Conv2d(inputs, outputs, side, stride, padding)
        convolution.load_state_dict(
            {name: backbone[f"features.{number}.{name}"] for name in ("weight", "bias")}
        )
        pool = [torch.nn.MaxPool2d(3, 2)] if number in (3, 6) else []
        stages.append(torch.nn.Sequential(*pool, convolution, torch.nn.ReLU()).double())
    total = 0.0
    seen = []
    for pixels in (reference, test):
        values = torch.tensor(pixels.astype(np.float64) / np.iinfo(pixels.dtype).max * 2 - 1)
        shift = torch.tensor([-0.030, -0.088, -0.188])
        scale = torch.tensor([0.458, 0.448, 0.450])
        seen.append(((values - shift) / scale).permute(2, 0, 1)[None].double())
    for layer, stage in enumerate(stages):
        seen = [stage(each).detach() for each in seen]
        unit = [torch.nn.functional.normalize(each, dim=1, eps=1e-10) for each in seen]
        weight = linear[f"lin{layer}.model.1.weight"].double()
        total += float(torch.nn.functional.conv2d((unit[0] - unit[1]) ** 2, weight).mean())
    return total


@pytest.mark.parametrize("size", [(64, 64), (97, 131)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_it_is_the_paper_s_distance(
    size: tuple[int, int], dtype: Any, folder: Path, made: tuple[Weights, Weights]
) -> None:
    height, width = size
    sharp = photo("astronaut")[:height, 100 : 100 + width].astype(dtype)
    sharp = sharp * dtype(np.iinfo(dtype).max // 255)
    soft = cv2.GaussianBlur(sharp, (0, 0), 2)
    value = Lpips(folder).score(sharp, soft)
    assert value == pytest.approx(plainly(sharp, soft, *made), abs=1e-5)
    assert value > 1e-3, "the made weights see the difference"
    assert Lpips(folder).score(sharp, sharp) == 0


def test_pth_files_are_read_too(
    made: tuple[Weights, Weights], folder: Path, tmp_path: Path
) -> None:
    torch.save(made[0], tmp_path / "alexnet.pth")
    torch.save(made[1], tmp_path / "lpips-alex.pth")
    first, second = photo("coffee", 80), photo("coffee", 80)[::-1].copy()
    assert Lpips(tmp_path).score(first, second) == Lpips(folder).score(first, second)


def test_a_large_photo_is_the_mean_of_its_tiles(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lpips, "_TILE", 80)
    first = photo("astronaut")[:150, :70]
    second = cv2.GaussianBlur(first, (0, 0), 1)
    both = Lpips(folder).score(first, second)
    halves = [Lpips(folder).score(first[part], second[part]) for part in (np.s_[:75], np.s_[75:])]
    assert both == pytest.approx(np.mean(halves), abs=1e-6)


@pytest.mark.parametrize("side", [1, 7, 63])
def test_small_photos_are_scored(side: int, folder: Path) -> None:
    grey = np.full((side, side, 3), 100, np.uint8)
    assert Lpips(folder).score(grey, grey) == 0
    assert Lpips(folder).score(grey, grey + np.uint8(80)) > 0


def test_photos_that_differ_in_kind_are_refused(folder: Path) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    for other in (pixels[:7], pixels.astype(np.uint16)):
        with pytest.raises(ValueError, match="cannot compare"):
            Lpips(folder).score(pixels, other)
    with pytest.raises(ValueError, match="without alpha"):
        Lpips(folder).score(np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 4), np.uint8))


def test_without_weights_it_says_what_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match=r"not installed: alexnet\.safetensors") as caught:
        Lpips(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "lpips-alex.safetensors" in caught.value.hint


class Hostile:
    """What a pickle must never get to run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("hostile"),))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
@pytest.mark.parametrize("content", [b"", b"{}", b"no weights at all" * 9])
def test_a_damaged_file_is_named(
    ending: str, content: bytes, made: tuple[Weights, Weights], tmp_path: Path
) -> None:
    (tmp_path / f"alexnet{ending}").write_bytes(content)
    save_file(made[1], tmp_path / "lpips-alex.safetensors")
    refused(tmp_path, f"alexnet{ending} cannot be used: it cannot be read")


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_a_file_that_was_cut_is_named(
    ending: str, made: tuple[Weights, Weights], tmp_path: Path
) -> None:
    save_file(made[0], tmp_path / "alexnet.safetensors")
    path = tmp_path / f"lpips-alex{ending}"
    if ending == ".pth":
        torch.save(made[1], path)
    else:
        save_file(made[1], path)
    cut(path)
    refused(tmp_path, f"lpips-alex{ending} cannot be used: it cannot be read")


def test_weights_of_something_else_are_refused(
    made: tuple[Weights, Weights], tmp_path: Path
) -> None:
    backbone, linear = made
    save_file(linear, tmp_path / "lpips-alex.safetensors")
    file = tmp_path / "alexnet.safetensors"
    save_file(linear, file)
    refused(tmp_path, r"no weights named features\.0\.weight")
    save_file({**backbone, "features.3.weight": torch.zeros(192, 64, 3, 3)}, file)
    refused(tmp_path, r"features\.3\.weight has the shape \(192, 64, 3, 3\)")
    save_file({**backbone, "features.8.bias": torch.full((256,), torch.nan)}, file)
    refused(tmp_path, r"features\.8\.bias has values that are no finite numbers")
    file.unlink()
    torch.save([1, 2], tmp_path / "alexnet.pth")
    refused(tmp_path, "holds no weights by name")


def test_a_pickle_that_runs_code_is_refused(
    made: tuple[Weights, Weights], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"features.0.weight": Hostile()}, tmp_path / "alexnet.pth")
    save_file(made[1], tmp_path / "lpips-alex.safetensors")
    refused(tmp_path, "cannot be read")
    assert not (tmp_path / "hostile").exists()


def refused(folder: Path, why: str) -> None:
    """A bad file is an error, and not the same as no file."""
    pixels = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(EngineUnavailable, match=why) as caught:
        Lpips(folder).score(pixels, pixels)
    assert not isinstance(caught.value, WeightsMissing)


def test_the_folder_follows_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("IMGFLOW_MODELS", raising=False)
    monkeypatch.setenv("IMGFLOW_HOME", str(tmp_path / "home"))
    assert weights_folder() == tmp_path / "home/models/lpips"
    monkeypatch.setenv("IMGFLOW_MODELS", str(tmp_path / "shelf"))
    assert weights_folder() == tmp_path / "shelf/lpips"
