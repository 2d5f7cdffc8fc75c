"""The trees of the judges of text, and their file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from imgflow.engines.trees import Trees, read_weights
from imgflow.errors import EngineUnavailable


def trees(**planes: list[float]) -> Trees:
    kinds = {"usual": np.float32, "level": np.float32, "value": np.float32}
    return Trees(
        **{name: np.array(each, kinds.get(name, np.int32)) for name, each in planes.items()}
    )


# Is measure 1 above 5? If so, is measure 0 above 2? The second tree is a leaf.
TWO = trees(
    usual=[0, 0],
    roots=[0, 5],
    measure=[1, 0, 0, 0, 0, 0],
    level=[5, 0, 2, 0, 0, 0],
    lower=[1, 1, 3, 3, 4, 5],
    higher=[2, 1, 4, 3, 4, 5],
    value=[0, 1, 0, 10, 100, 0.5],
)


@pytest.mark.parametrize(
    ("looks", "logit"), [([9, 5], 1.5), ([2, 5.1], 10.5), ([2.1, 5.1], 100.5), ([np.nan] * 2, 1.5)]
)
def test_each_tree_adds_the_value_of_the_leaf_it_leads_to(looks: list[float], logit: float) -> None:
    assert TWO.logits(np.array([looks], np.float32)).tolist() == [logit]


def test_many_looks_and_none_are_answered_each() -> None:
    looks = np.array([[9, 5], [2, 6], [3, 6]], np.float32)
    assert TWO.logits(looks).tolist() == [1.5, 10.5, 100.5]
    assert TWO.logits(looks[:0]).shape == (0,)


def test_a_file_that_is_no_judge_is_named(tmp_path: Path) -> None:
    path = tmp_path / "judge.safetensors"
    with pytest.raises(EngineUnavailable, match="cannot be read") as missing:
        read_weights(path)
    assert missing.value.code == "weights_missing"
    path.write_bytes(b"no tensors")
    with pytest.raises(EngineUnavailable, match="cannot be read"):
        read_weights(path)
    save_file({"usual": np.zeros(2, np.float32)}, str(path))
    with pytest.raises(EngineUnavailable, match="lack roots, measure") as unfit:
        read_weights(path)
    assert unfit.value.code == "weights_unfit"
