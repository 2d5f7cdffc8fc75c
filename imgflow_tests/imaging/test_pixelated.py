"""Pixels that were merely repeated are found out; blocks of JPEG and even patterns are not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from samples import Pixels, decoded, encoded, photo

from imgflow.imaging.blind import measure

PHOTOS = ["astronaut", "chelsea", "coffee", "motorcycle_left"]


def small(name: str) -> Pixels:
    return photo(name, 240)


@pytest.mark.parametrize("times", [2, 3, 4])
@pytest.mark.parametrize("quality", [None, 92])
@pytest.mark.parametrize("name", PHOTOS)
def test_repeated_pixels_are_counted(name: str, quality: int | None, times: int) -> None:
    large = np.repeat(np.repeat(small(name), times, axis=0), times, axis=1)
    if quality:
        large = decoded(encoded(large, "JPEG", quality=quality))
    assert measure(large).resolution == pytest.approx(1 / times)


def test_they_are_counted_in_parts_of_a_large_photo_and_where_it_was_cut() -> None:
    large = np.repeat(np.repeat(photo("coffee", 500), 3, axis=0), 3, axis=1)[1:, 2:]
    assert measure(large).resolution == pytest.approx(1 / 3)


@pytest.mark.parametrize("quality", [10, 40, 75, 100])
@pytest.mark.parametrize("name", PHOTOS)
def test_blocks_of_jpeg_are_no_repeated_pixels(name: str, quality: int) -> None:
    assert measure(decoded(encoded(small(name), "JPEG", quality=quality))).resolution == 1.0


def test_pixels_repeated_along_one_side_only_are_no_enlargement() -> None:
    assert measure(np.repeat(photo("coffee", 300), 2, axis=1)).resolution == 1.0


def test_a_few_even_edges_are_there_by_chance() -> None:
    """A box on plain ground, all of whose sides are at even places."""
    pixels = np.full((300, 300, 3), 255, np.uint8)
    for inset in range(0, 100, 20):
        cv2.rectangle(pixels, (20 + inset, 40 + inset), (280 - inset - 1, 260 - inset - 1), 9, -1)
        cv2.rectangle(pixels, (30 + inset, 50 + inset), (270 - inset - 1, 250 - inset - 1), 240, -1)
    assert measure(pixels).resolution == 1.0
