"""The networks at work: ncnn's layers are the networks', and compute what they compute."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from exact import exactly
from numpy.typing import NDArray
from torch import nn

from imgflow.engines import running
from imgflow.engines.running import NcnnTask, TorchTask, fast_type, layers_of
from imgflow.errors import EngineUnavailable
from imgflow.training.layers import layers, tasks

TASKS = dict(tasks())
PLANES = {"eraser-fill": 4, "eraser-restore": 12}


def random(task: nn.Module) -> dict[str, NDArray[np.generic]]:
    """The task's network gets random weights: one that changes something everywhere."""
    torch.manual_seed(0)
    for value in task.parameters():
        nn.init.normal_(value, std=0.05)
    return {name: each.numpy() for name, each in task.network.state_dict().items()}


@pytest.mark.parametrize("name", TASKS)
def test_the_shipped_layers_are_the_networks(name: str) -> None:
    """If not: python -m imgflow.training layers"""
    assert layers_of(name) == layers(TASKS[name])


def test_no_layers_lie_there_for_nothing() -> None:
    folder = Path(running.__file__).parent / "networks" / "layers"
    assert {each.stem for each in folder.iterdir()} == set(TASKS)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [(32, 64), (96, 32)])
@pytest.mark.parametrize("name", TASKS)
def test_ncnn_computes_what_the_network_does(
    name: str, size: tuple[int, int], threads: int
) -> None:
    weights = random(TASKS[name])
    seen = np.random.default_rng(0).random((*size, PLANES.get(name, 3)), np.float32)
    given = seen.copy()
    made = NcnnTask(name, weights, threads)(seen)
    expected = exactly(TASKS[name])(seen)
    assert made.dtype == np.float32
    assert made.shape == expected.shape
    assert np.abs(made - expected).max() < 1e-5 * np.abs(expected).max()
    assert np.array_equal(seen, given)


def test_what_was_made_stays_when_more_is_made() -> None:
    run = NcnnTask("upscaler-x2", random(TASKS["upscaler-x2"]), 1)
    first = run(np.zeros((8, 8, 3), np.float32))
    kept = first.copy()
    run(np.ones((8, 8, 3), np.float32))
    assert np.array_equal(first, kept)


def test_a_full_disk_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(running, "TemporaryDirectory", full)
    with pytest.raises(EngineUnavailable, match="No space left on device") as caught:
        NcnnTask("upscaler-x2", random(TASKS["upscaler-x2"]), 1)
    assert "TMPDIR" in str(caught.value.hint)


def test_memory_that_ran_out_is_an_error_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the photo is tried in smaller tiles."""

    class Failing:
        def input(self, *_: object) -> None: ...

        def extract(self, *_: object) -> tuple[int, None]:
            return -100, None

    class Net:
        create_extractor = Failing

    run = NcnnTask("upscaler-x2", random(TASKS["upscaler-x2"]), 1)
    monkeypatch.setattr(run, "_net", Net)
    with pytest.raises(MemoryError):
        run(np.zeros((8, 8, 3), np.float32))


@pytest.mark.parametrize("name", ["upscaler-x3", "eraser-find"])
def test_torch_computes_about_the_same_in_bfloat16(name: str) -> None:
    weights = random(TASKS[name])
    seen = np.random.default_rng(0).random((32, 32, 3), np.float32)
    exact = NcnnTask(name, weights, 1)(seen)
    rounded = TorchTask(next(task for each, task in tasks_with(weights) if each == name), 1)(seen)
    assert rounded.shape == exact.shape
    assert 0 < np.abs(exact - rounded).mean() < 0.02 * np.abs(exact).max()


def tasks_with(weights: dict[str, NDArray[np.generic]]) -> list[tuple[str, nn.Module]]:
    """The tasks that these weights are of."""
    found = []
    for name, task in tasks():
        if task.network.state_dict().keys() == weights.keys():
            state = {key: torch.from_numpy(value.copy()) for key, value in weights.items()}
            task.network.load_state_dict(state)
            found.append((name, task))
    return found


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags : fpu avx2 avx512f avx512_bf16 amx_tile", "bfloat16"),
        ("flags : fpu avx2 avx512f avx512_bf16x", "float32"),
        ("Features : fp asimd bf16", "float32"),
    ],
)
def test_bfloat16_is_used_where_the_processor_has_it(
    flags: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_: flags)
    assert fast_type.__wrapped__() == expected


def test_this_processor_is_known_as_torch_knows_it() -> None:
    assert (fast_type() == "bfloat16") == torch.cpu._is_avx512_bf16_supported()


class Unknown(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.network = layer

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        return self.network(planes).tanh()


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, groups=2), nn.BatchNorm2d(4)]
)
def test_layers_without_a_rule_are_refused(layer: nn.Module) -> None:
    with pytest.raises(TypeError, match="no rule"):
        layers(Unknown(layer))


@pytest.mark.skipif(fast_type() == "bfloat16", reason="this processor computes in bfloat16")
def test_in_float32_a_photo_is_repaired_and_enlarged_without_torch() -> None:
    """It takes seconds to load, and 400 MB."""
    code = """
import sys
import numpy as np
from imgflow.engines.eraser import NeuralEraser
from imgflow.engines.upscaler import NeuralUpscaler
photo = np.zeros((64, 64, 3), np.uint8)
mask = np.zeros((64, 64), np.uint8)
mask[20:24, 20:40] = 255
eraser = NeuralEraser()
eraser.restore(photo, eraser.find(photo, mask).mask | mask)
NeuralUpscaler(4).enlarge(photo.astype(np.float32) / 255)
assert "torch" not in sys.modules, "torch was loaded"
"""
    subprocess.run([sys.executable, "-c", code], check=True)
