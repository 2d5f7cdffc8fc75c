"""How the judges of text learn: boosted trees over measures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from imgflow.engines.trees import PLANES, Trees
from imgflow.errors import ImgflowError

ROUNDS = 600
"""Trees of a judge."""

# A tree has so many leaves, each of so many lines at least; a node may choose among so many of the
# measures, a tree sees so many of the lines: none of them may be relied on alone.
_BOOSTING = {
    "objective": "binary",
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 30,
    "lambda_l2": 10.0,
    "feature_fraction_bynode": 0.3,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "use_missing": False,
    # The same on every machine.
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}


@dataclass(frozen=True, slots=True)
class Examples:
    """looks: (N, F) float32. truth: (N,) bool. weight: (N,) float32, how much each counts."""

    looks: NDArray[np.float32]
    truth: NDArray[np.bool_]
    weight: NDArray[np.float32]

    def chosen(self, where: NDArray[np.bool_]) -> Examples:
        """Those of them that (N,) bool names."""
        return Examples(self.looks[where], self.truth[where], self.weight[where])


def learned(examples: Examples, seed: int, rounds: int = ROUNDS) -> Trees:
    """Trees that tell true examples from others. Raises ImgflowError without LightGBM."""
    try:
        import lightgbm
    except (ImportError, OSError) as error:
        raise ImgflowError(
            "package_missing",
            f"the judges of text learn with LightGBM, which does not load: {error}",
            hint="Install imgflow with its extra 'training', and the system's libgomp "
            "(libgomp1 on Debian)",
        ) from error
    data = lightgbm.Dataset(
        examples.looks, examples.truth.astype(np.float32), weight=examples.weight
    )
    booster = lightgbm.train({**_BOOSTING, "seed": seed}, data, rounds)
    return planted(booster, np.median(examples.looks, axis=0).astype(np.float32))


def planted(booster: Any, usual: NDArray[np.float32]) -> Trees:
    """A lightgbm.Booster's trees, node by node, one after the other. usual: as in Trees."""
    nodes: list[tuple[int, np.float32, int, int, float]] = []

    def plant(node: dict[str, Any]) -> int:
        at = len(nodes)
        nodes.append((0, np.float32(0), at, at, float(node.get("leaf_value", 0.0))))
        if "split_feature" in node:
            lower, higher = plant(node["left_child"]), plant(node["right_child"])
            nodes[at] = (node["split_feature"], _below(node["threshold"]), lower, higher, 0.0)
        return at

    roots = [plant(tree["tree_structure"]) for tree in booster.dump_model()["tree_info"]]
    measure, level, lower, higher, value = zip(*nodes, strict=True)
    return Trees(
        usual,
        roots=np.array(roots, np.int32),
        measure=np.array(measure, np.int32),
        level=np.array(level, np.float32),
        lower=np.array(lower, np.int32),
        higher=np.array(higher, np.int32),
        value=np.array(value, np.float32),
    )


def _below(level: float) -> np.float32:
    """The highest float32 that is not above a level: measures fall to the same side of both."""
    near = np.float32(level)
    return near if float(near) <= level else np.nextafter(near, np.float32(-np.inf))


def above(scores: NDArray[np.float32], share: float) -> float:
    """The least threshold that at most this share of the scores reaches."""
    return float(np.nextafter(np.quantile(scores, 1 - share, method="higher"), np.float32(np.inf)))


def save(
    trees: Trees,
    path: Path,
    looks: Sequence[str],
    about: dict[str, str],
    **planes: NDArray[np.float32],
) -> None:
    """Write a judge as engines.trees reads it: its tensors, and what its looks are named."""
    held = {name: np.ascontiguousarray(getattr(trees, name)) for name in PLANES}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({**held, **planes}, str(path), metadata={**about, "looks": json.dumps(looks)})
