"""Made-up textures: of a photo's colours, rough, and the same for the same chance."""

from __future__ import annotations

from random import Random

import numpy as np
from samples import photo

from imgflow.training.textures import texture


def test_a_texture_has_its_size_and_follows_from_its_chance() -> None:
    coffee = photo("coffee")
    for seed in range(12):
        first, again = (texture(coffee, 90, 130, Random(seed)) for _ in range(2))
        assert first.shape == (90, 130, 3) and first.dtype == np.uint8
        np.testing.assert_array_equal(first, again)
    assert (texture(coffee, 90, 130, Random(0)) != texture(coffee, 90, 130, Random(1))).any()


def test_textures_are_rough_in_the_colours_of_their_photo() -> None:
    red = np.zeros((60, 60, 3), np.uint8)
    red[:, :, 0] = np.random.default_rng(0).integers(60, 255, (60, 60))
    made = [texture(red, 90, 130, Random(seed)).astype(float) for seed in range(12)]
    assert all(each[:, :, 0].mean() > each[:, :, 1].mean() for each in made)
    steps = [np.abs(np.diff(each[:, :, 0], axis=1)).mean() for each in made]
    assert np.median(steps) > 3


def test_small_photos_have_textures_too() -> None:
    assert texture(np.full((1, 1, 3), 80, np.uint8), 70, 64, Random(2)).shape == (70, 64, 3)
