"""A small network over measures, as imgflow's judges of text are: numpy is all that it needs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgflow.engines.spec import EngineSpec
from imgflow.errors import EngineUnavailable

Values = NDArray[Any]

PLANES = ("mean", "scale", "hidden", "hidden_bias", "out", "out_bias")
"""Names of its tensors in a file."""

_FARTHEST = 4.0
"""Spreads from the mean beyond which a measure says no more."""


@dataclass(frozen=True, slots=True)
class Perceptron:
    """Looks are standardised; one hidden layer; one output. All float32.

    mean, scale: (F,). hidden: (F, H). hidden_bias, out: (H,). out_bias: (1,).
    """

    mean: Values
    scale: Values
    hidden: Values
    hidden_bias: Values
    out: Values
    out_bias: Values

    def logits(self, looks: Values) -> Values:
        """(N,) of looks (N, F)."""
        hidden = np.maximum(self.standard(looks) @ self.hidden + self.hidden_bias, 0)
        return np.asarray(hidden @ self.out + self.out_bias[0], np.float32)

    def standard(self, looks: Values) -> Values:
        """Looks (N, F) as what the network learns from."""
        scaled = (looks - self.mean) / self.scale
        return np.clip(scaled, -_FARTHEST, _FARTHEST).astype(np.float32)


def mean_of(networks: Sequence[Perceptron]) -> Perceptron:
    """The network whose logit is the mean of those of others: they lie side by side in it."""
    count = np.float32(len(networks))
    return Perceptron(
        networks[0].mean,
        networks[0].scale,
        hidden=np.concatenate([each.hidden for each in networks], axis=1),
        hidden_bias=np.concatenate([each.hidden_bias for each in networks]),
        out=np.concatenate([each.out for each in networks]) / count,
        out_bias=np.sum([each.out_bias for each in networks], axis=0) / count,
    )


def judge_spec(name: str, version: int, sha256: str) -> EngineSpec:
    """A judge's identity; its code version changes whenever a judgement may. version: of its
    measures."""
    return EngineSpec(
        name=name,
        kind="text_judge",
        model_id=f"{name}-{version}",
        licence="Apache-2.0",
        weights_sha256=sha256,
    )


@dataclass(frozen=True, slots=True)
class Held:
    """What a weights file holds: tensors by name, its header, and its hash."""

    planes: dict[str, Values]
    about: dict[str, str]
    sha256: str

    def perceptron(self) -> Perceptron:
        return Perceptron(**{name: self.planes[name] for name in PLANES})


def read_weights(path: Path) -> Held:
    """A file of a judge. Raises EngineUnavailable where it cannot be read or lacks a tensor."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "np") as file:
            names = file.keys()
            planes = {name: file.get_tensor(name).astype(np.float32) for name in names}
            about = file.metadata() or {}
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, SafetensorError) as error:
        raise EngineUnavailable(
            "weights_missing",
            f"the weights {path} cannot be read: {error}",
            hint="They are part of imgflow: install it again",
        ) from error
    if missing := [name for name in PLANES if name not in planes]:
        raise unfit(path, f"they lack {', '.join(missing)}")
    return Held(planes, about, digest)


def unfit(path: Path, why: str) -> EngineUnavailable:
    """An error to raise: weights that were made for something else."""
    return EngineUnavailable(
        "weights_unfit",
        f"the weights {path} do not fit: {why}",
        hint="Make them again: python -m imgflow.training origin",
    )
