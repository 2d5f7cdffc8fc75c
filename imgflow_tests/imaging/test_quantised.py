"""What JPEG rounded to is read from the pixels, of small photos too; of others nothing is."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from samples import Pixels, decoded, encoded, photo

from imgflow.imaging.blind import measure

PHOTOS = ["astronaut", "chelsea", "coffee", "motorcycle_left"]
# Of the standard's table for luma at quality 50, the places that are looked at.
AT_50 = np.array([11, 12, 12, 10, 14, 14, 13, 16, 14])


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("width", [120, 400])
@pytest.mark.parametrize("quality", [85, 80, 70, 60, 40])
def test_the_step_is_that_of_the_quality(name: str, width: int, quality: int) -> None:
    share = (200 - 2 * quality if quality >= 50 else 5000 / quality) / 100
    expected = np.maximum(np.floor(AT_50 * share + 0.5), 1).mean()
    squeezed = decoded(encoded(photo(name, width), "JPEG", quality=quality))
    assert measure(squeezed).jpeg_step == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("name", PHOTOS)
def test_it_is_seen_in_part_of_a_photo_in_16_bits_and_in_grey(name: str) -> None:
    squeezed = decoded(encoded(photo(name, 300), "JPEG", quality=70))
    found = measure(squeezed).jpeg_step
    assert measure(squeezed[16:176, 8:200]).jpeg_step == pytest.approx(found, rel=0.15)
    assert measure(squeezed.astype(np.uint16) * np.uint16(257)).jpeg_step == found
    grey = np.repeat(squeezed[:, :, 1:2], 3, axis=2)
    squeezed = decoded(encoded(grey, "JPEG", quality=70))
    assert measure(squeezed).jpeg_step == pytest.approx(found, rel=0.15)


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("width", [60, 120, 400])
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda pixels: pixels, id="as-it-is"),
        pytest.param(lambda pixels: cv2.GaussianBlur(pixels, (0, 0), 1), id="soft"),
        pytest.param(lambda pixels: pixels // 2 + 60, id="fewer-levels"),
        pytest.param(lambda pixels: decoded(encoded(pixels, "JPEG", quality=96)), id="fine-jpeg"),
    ],
)
def test_other_photos_have_none(name: str, width: int, change: Callable[[Pixels], Pixels]) -> None:
    assert measure(change(photo(name, width))).jpeg_step == 0


def test_what_was_made_smaller_since_has_none() -> None:
    squeezed = decoded(encoded(photo("coffee", 400), "JPEG", quality=50))
    smaller = cv2.resize(squeezed, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)
    assert measure(smaller).jpeg_step == 0


@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (8, 8), (300, 300)])
def test_where_nothing_tells_there_is_none(shape: tuple[int, int]) -> None:
    assert measure(np.full((*shape, 3), 200, np.uint8)).jpeg_step == 0
