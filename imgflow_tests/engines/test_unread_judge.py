"""The judge of letters that OCR does not read: its candidates, its measures, its weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from samples import Pixels, photo, stamp

from imgflow.engines.eraser import NeuralEraser
from imgflow.engines.spec import TextMap
from imgflow.engines.trees import PLANES
from imgflow.engines.unread import LOOKS, candidates, load_weights, look, spec
from imgflow.errors import EngineUnavailable


def letters(height: int, width: int) -> TextMap:
    """A map with one row of four strokes, of which two are sure, and a speck."""
    drawn = np.zeros((height, width), np.uint8)
    for column, level in enumerate((255, 255, 100, 100)):
        drawn[20:40, 20 + 8 * column : 24 + 8 * column] = level
    drawn[2:4, 2:4] = 255
    return TextMap(drawn, np.zeros_like(drawn))


def test_letters_are_candidates_at_every_level() -> None:
    found = candidates(letters(80, 120).overlay)
    assert [(each.level, each.ink) for each in found] == [(128, 160), (77, 320)]


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(np.s_[30:33, 5:115:2], id="thin"),
        pytest.param(np.s_[10:70, 10:110], id="filled"),
        pytest.param(np.s_[5:9, 5:9], id="speck"),
    ],
)
def test_what_can_be_no_letters_is_no_candidate(place: tuple[slice, slice]) -> None:
    drawn = np.zeros((80, 120), np.uint8)
    drawn[place] = 255
    assert candidates(drawn) == []


def test_photos_of_any_size_are_looked_at() -> None:
    seen = letters(80, 120)
    groups = candidates(seen.overlay)
    for factor in (1, 2):
        pixels = np.full((80 * factor, 120 * factor, 3), 90, np.uint8)
        looks = look(pixels, seen, groups, [np.array([[0, 0], [9, 0], [9, 9], [0, 9]], np.float32)])
        assert looks.shape == (2, len(LOOKS))
        assert np.isfinite(looks).all()
    assert look(pixels, seen, [], []).shape == (0, len(LOOKS))


def test_the_shipped_judge_is_named_and_asks_a_person_sooner_than_it_takes_off() -> None:
    weights = load_weights()
    assert 0 <= weights.alone <= weights.beside
    assert spec().weights_sha256 == weights.sha256
    assert spec().code_version.startswith("unread:")


def scores(pixels: Pixels) -> list[float]:
    """What the shipped judge says of the groups that the shipped finder sees in a photo."""
    seen = NeuralEraser().survey(pixels)
    groups = candidates(seen.overlay)
    logits = load_weights().trees.logits(look(pixels, seen, groups, []))
    return [float(each) for each in logits]


@pytest.mark.parametrize("name", ["rocket", "chelsea", "coffee", "astronaut"])
def test_the_shipped_judge_finds_no_letters_in_what_a_photo_shows(name: str) -> None:
    assert all(score < load_weights().alone for score in scores(photo(name, 480)))


@pytest.mark.parametrize("name", ["chelsea", "coffee", "astronaut"])
def test_the_shipped_judge_knows_letters_over_a_photo(name: str) -> None:
    stamped = stamp(photo(name, 480), "SAMPLE", at=(140, 120), size=60, colour=(250, 250, 250))
    assert max(scores(stamped.pixels)) >= load_weights().alone


def test_weights_for_other_measures_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "older.safetensors"
    planes = {name: np.zeros(4, np.float32) for name in PLANES}
    about = {"looks": json.dumps(LOOKS[1:]), "alone": "1", "beside": "1"}
    save_file(planes, str(path), metadata=about)
    with pytest.raises(EngineUnavailable, match="other measures"):
        load_weights(path)
