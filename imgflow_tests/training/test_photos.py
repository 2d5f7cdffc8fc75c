"""The photos that networks learn from: parts of few, seen in many ways."""

from random import Random

import numpy as np
import pytest
from samples import photo

from imgflow.training import photos
from imgflow.training.photos import scene


@pytest.mark.parametrize("far", [0.0, 1.0])
def test_a_scene_has_the_size_that_is_asked_for(
    far: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photos, "_FAR", far)
    known = [photo("coffee", 320), photo("rocket", 90)]
    for number in range(12):
        made = scene(known, 96 + 8 * number, 120, Random(number))
        assert made.shape == (96 + 8 * number, 120, 3)
        assert made.dtype == np.uint8


def test_from_far_more_is_in_the_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """Detail that is as fine as pixels is rougher there."""
    known, unrest = [photo("coffee", 320)], []
    for far in (0.0, 1.0):
        monkeypatch.setattr(photos, "_FAR", far)
        made = [photos._cut(known[0], 160, 200, Random(number)) for number in range(20)]
        unrest.append(np.mean([each.shape[0] / 160 for each in made]))
    assert unrest[1] > 1.3 * unrest[0]
