"""The small network of the judges of text, and its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from imgflow.engines.perceptron import Perceptron, mean_of, read_weights
from imgflow.errors import EngineUnavailable


def made(seed: int, looks: int = 5, hidden: int = 4) -> Perceptron:
    draw = np.random.default_rng(seed)
    shapes = ((looks, hidden), (hidden,), (hidden,), (1,))
    rest = [draw.normal(size=shape).astype(np.float32) for shape in shapes]
    return Perceptron(np.zeros(looks, np.float32), np.ones(looks, np.float32), *rest)


def test_looks_are_standardised_and_bounded() -> None:
    network = Perceptron(*(np.full(2, each, np.float32) for each in (10, 2)), *([np.zeros(0)] * 4))
    looks = np.array([[10, 12], [6, 1e9]], np.float32)
    assert network.standard(looks).tolist() == [[0, 1], [-2, 4]]


def test_the_mean_of_networks_says_the_mean_of_what_they_say() -> None:
    networks = [made(seed) for seed in range(3)]
    looks = np.random.default_rng(9).normal(size=(20, 5)).astype(np.float32)
    said = np.mean([each.logits(looks) for each in networks], axis=0)
    assert mean_of(networks).logits(looks) == pytest.approx(said, abs=1e-5)
    assert mean_of(networks).logits(looks).shape == (20,)


def test_a_file_that_is_no_judge_is_named(tmp_path: Path) -> None:
    path = tmp_path / "judge.safetensors"
    with pytest.raises(EngineUnavailable, match="cannot be read") as missing:
        read_weights(path)
    assert missing.value.code == "weights_missing"
    path.write_bytes(b"no tensors")
    with pytest.raises(EngineUnavailable, match="cannot be read"):
        read_weights(path)
    save_file({"mean": np.zeros(2, np.float32)}, str(path))
    with pytest.raises(EngineUnavailable, match="lack scale, hidden") as unfit:
        read_weights(path)
    assert unfit.value.code == "weights_unfit"
