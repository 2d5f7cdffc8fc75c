"""Boosted trees over measures, as imgflow's judges of text are: numpy is all that they need."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgflow.engines.spec import EngineSpec
from imgflow.errors import EngineUnavailable

Values = NDArray[Any]

PLANES = ("usual", "roots", "measure", "level", "lower", "higher", "value")
"""Names of their tensors in a file."""


@dataclass(frozen=True, slots=True)
class Trees:
    """What many small trees of decisions add up to (gradient boosting; Friedman 2001).

    A node asks whether a measure is above a level, and names the node to go to. A leaf leads to
    itself. All trees' nodes lie one after the other; (M,) of them.

    usual: (F,) float32, a measure where nothing is known of it. roots: (T,) int32. measure: (M,)
    int32. level: (M,) float32. lower, higher: (M,) int32, for measures up to the level and above
    it. value: (M,) float32, what a leaf adds to the logit, 0 elsewhere.
    """

    usual: Values
    roots: Values
    measure: Values
    level: Values
    lower: Values
    higher: Values
    value: Values

    def logits(self, looks: Values) -> Values:
        """(N,) float32 of looks (N, F)."""
        rows = np.arange(len(looks))[:, None]
        at = np.repeat(self.roots[None], len(looks), axis=0)
        while True:
            above = looks[rows, self.measure[at]] > self.level[at]
            after = np.where(above, self.higher[at], self.lower[at])
            if np.array_equal(after, at):
                return np.asarray(self.value[at].sum(axis=1), np.float32)
            at = after


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

    def trees(self) -> Trees:
        return Trees(**{name: self.planes[name] for name in PLANES})


def read_weights(path: Path) -> Held:
    """A file of a judge. Raises EngineUnavailable where it cannot be read or lacks a tensor."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "np") as file:
            names = file.keys()
            planes = {name: file.get_tensor(name) for name in names}
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
