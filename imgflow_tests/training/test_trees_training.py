"""Boosted trees: learned, taken over from LightGBM, and refused where it is missing."""

from __future__ import annotations

import sys

import lightgbm
import numpy as np
import pytest
from numpy.typing import NDArray

from imgflow.errors import ImgflowError
from imgflow.training.trees import Examples, above, learned, planted


def some_looks(count: int, seed: int) -> NDArray[np.float32]:
    """Coarse measures: many of them lie on a level of the trees."""
    drawn: NDArray[np.float32] = np.random.default_rng(seed).normal(size=(count, 4))
    return drawn.round(1).astype(np.float32)


def inside(looks: NDArray[np.float32]) -> NDArray[np.bool_]:
    """What no single measure tells."""
    return np.asarray(np.hypot(looks[:, 0], looks[:, 1]) < 1.2)


def test_the_trees_say_what_lightgbm_says() -> None:
    looks = some_looks(2000, 0)
    data = lightgbm.Dataset(looks, inside(looks).astype(np.float32))
    quiet = {"objective": "binary", "num_threads": 1, "verbose": -1, "min_data_in_leaf": 5}
    booster = lightgbm.train(quiet, data, 80)
    trees = planted(booster, looks[0])
    levels = np.repeat(np.unique(trees.level)[:, None], 4, axis=1)
    for seen in (looks, some_looks(500, 1), levels, np.nextafter(levels, np.float32(9))):
        said = booster.predict(seen.astype(np.float64), raw_score=True)
        assert trees.logits(seen) == pytest.approx(said, abs=1e-4)


def test_what_trees_learn_holds_for_others() -> None:
    looks, others = some_looks(2000, 0), some_looks(1000, 1)
    weight = np.ones(2000, np.float32)
    trees = learned(Examples(looks, inside(looks), weight), seed=3, rounds=100)
    right = (trees.logits(others) > 0) == inside(others)
    assert right.mean() > 0.9
    again = learned(Examples(looks, inside(looks), weight), seed=3, rounds=100)
    assert np.array_equal(trees.logits(others), again.logits(others))


def test_examples_that_count_nothing_teach_nothing() -> None:
    looks = some_looks(2000, 0)
    known = looks[:, 2] < 0
    # Half of the truths are wrong, and count nothing.
    truth = np.where(known, inside(looks), ~inside(looks))
    trees = learned(Examples(looks, truth, known.astype(np.float32)), seed=3, rounds=100)
    others = some_looks(1000, 1)
    right = (trees.logits(others) > 0) == inside(others)
    assert right[others[:, 2] < 0].mean() > 0.9


def test_a_machine_without_lightgbm_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    looks = some_looks(10, 0)
    with pytest.raises(ImgflowError, match="LightGBM") as error:
        learned(Examples(looks, inside(looks), np.ones(10, np.float32)), seed=0)
    assert "'training'" in (error.value.hint or "")


@pytest.mark.parametrize(("share", "reach"), [(0.0, 0), (0.02, 2), (0.1, 10)])
def test_a_threshold_lets_no_more_than_its_share_through(share: float, reach: int) -> None:
    scores = np.random.default_rng(0).permutation(100).astype(np.float32)
    assert int((scores >= above(scores, share)).sum()) <= reach
