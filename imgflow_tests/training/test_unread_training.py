"""The training of the judge of unread letters: what a group is, and weights that come of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from imgflow.engines.spec import TextMap
from imgflow.engines.unread import LOOKS, load_weights
from imgflow.imaging.lettergroups import MEASURES
from imgflow.lineage.record import TextRegion
from imgflow.synthesis.overlays import DrawnLine
from imgflow.training.origin import Labelled
from imgflow.training.unread import Groups, export, figures, groups_of, teach, together


def line(y: float) -> DrawnLine:
    return DrawnLine(np.array([[10, y], [90, y], [90, y + 20], [10, y + 20]], np.float32), "Sale")


def letters(*tops: int, shape: tuple[int, int] = (160, 120)) -> TextMap:
    """A map of strokes in lines at some heights."""
    drawn = np.zeros(shape, np.uint8)
    for top in tops:
        drawn[top : top + 20, 10:90:4] = 255
    return TextMap(drawn, np.zeros_like(drawn))


def labels(over: float, read: float | None = None, kind: str = "caption") -> Labelled:
    """A photo with a line drawn over it, and maybe one that OCR reads, an overlay as well."""
    regions = []
    if read is not None:
        polygon = line(read).polygon.tolist()
        regions.append(TextRegion(polygon=polygon, text="Sale", confidence=0.9))
    photo = np.full((320, 240, 3), 90, np.uint8)
    over_line = DrawnLine(line(over).polygon * 2, "Sale")
    read_too = tuple(
        each.model_copy(update={"polygon": (2 * np.array(each.polygon)).tolist()})
        for each in regions
    )
    truth = (True,) * len(regions)
    return Labelled(photo, read_too, truth, ("",) * len(regions), (over_line,), kind)


def truths(found: Labelled, seen: TextMap) -> list[bool]:
    looks, truth = groups_of(found, seen)
    assert looks.shape == (len(truth), len(LOOKS))
    return [bool(each) for each in truth]


def test_groups_are_named_by_what_was_drawn() -> None:
    # Each at two levels.
    assert truths(labels(20), letters(20)) == [True, True]
    assert truths(labels(20), letters(100)) == [False, False]
    assert sorted(truths(labels(20), letters(20, 100))) == [False, False, True, True]
    # Partly on a drawn line: nobody knows.
    assert truths(labels(34), letters(20)) == []


def test_signs_in_a_bar_are_no_lines_and_yet_no_mistakes() -> None:
    assert truths(labels(20, kind="chrome"), letters(20, 100)) == [True, True]


def test_what_ocr_reads_is_known_and_counts_as_a_mark() -> None:
    looks, truth = groups_of(labels(20, read=100), letters(20, 100))
    assert truth.tolist() == [True, True]
    assert (looks[:, MEASURES.index("marks")] > 0).all()
    none, _ = groups_of(labels(20), letters(20))
    assert (none[:, MEASURES.index("marks")] == 0).all()


def some_groups(count: int, seed: int) -> Groups:
    """Groups that some measures tell apart, one in each photo, half of the photos with marks."""
    chance = np.random.default_rng(seed)
    truth = chance.random(count) < 0.5
    looks: NDArray[np.float32] = chance.normal(size=(count, len(LOOKS))).astype(np.float32)
    looks[:, :6] += 4 * truth[:, None]
    looks[:, MEASURES.index("marks")] = np.arange(count) % 2
    return Groups(count, np.arange(count), looks, truth)


def test_a_judge_learns_and_comes_back_from_its_file(tmp_path: Path) -> None:
    taught, kept = some_groups(300, 1), some_groups(200, 2)
    weights = teach(taught, kept, seed=5, rounds=150)
    known = figures(weights, kept)
    assert known["photos"] == 200
    assert known["alone_found"] > 0.9
    assert known["beside_found"] > 0.9
    assert known["alone_photos_wronged"] <= 0.004
    assert known["beside_photos_wronged"] <= 0.03
    path = tmp_path / "unread.safetensors"
    export(weights, path, {"seed": "5"})
    again = load_weights(path)
    assert (again.alone, again.beside) == (weights.alone, weights.beside)
    assert np.array_equal(again.trees.logits(kept.looks), weights.trees.logits(kept.looks))


def test_photos_without_groups_count_among_those_looked_at() -> None:
    nothing = np.zeros((0, len(LOOKS)), np.float32), np.zeros(0, bool)
    two = np.zeros((2, len(LOOKS)), np.float32), np.array([True, False])
    found = together([nothing, two, nothing])
    assert found.photos == 3
    assert found.photo.tolist() == [1, 1]
    assert found.truth.tolist() == [True, False]


@pytest.mark.parametrize("marked", [True, False])
def test_the_threshold_is_never_below_an_even_chance(marked: bool) -> None:
    """Where nothing else was ever taken for an overlay, nothing says how far to go."""
    groups = some_groups(60, 3)
    groups.looks[:, MEASURES.index("marks")] = marked
    weights = teach(groups, groups, seed=1, rounds=50)
    assert min(weights.alone, weights.beside) >= 0
