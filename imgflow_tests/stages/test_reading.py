"""OCR reads around what may be letters: less of a photo, and the same words."""

from __future__ import annotations

import numpy as np
import pytest
from samples import FakeDetector, Pixels, photo, stamp

from imgflow.engines.spec import TextMap
from imgflow.imaging.lettergroups import grouped
from imgflow.imaging.masks import Box
from imgflow.lineage.record import TextRegion
from imgflow.stages.reading import read_around, traces


class Noting(FakeDetector):
    """Notes how large what it is shown is."""

    def __init__(self, *shown: object) -> None:
        super().__init__(*shown)  # type: ignore[arg-type]
        self.sizes: list[tuple[int, ...]] = []

    def detect(self, pixels: Pixels) -> list[TextRegion]:
        self.sizes.append(pixels.shape[:2])
        return super().detect(pixels)


def seen(*boxes: Box, value: int = 200, size: tuple[int, int] = (300, 400)) -> TextMap:
    letters = np.zeros(size, np.uint8)
    for box in boxes:
        letters[box.slices] = value
    return TextMap(np.zeros_like(letters), letters)


def test_traces_are_clear_print() -> None:
    near = seen(Box(50, 60, 60, 70), Box(50, 75, 60, 85))
    (one,) = traces(near, [])
    assert one.top <= 50 and one.left <= 60 and one.bottom >= 60 and one.right >= 85
    assert len(traces(seen(Box(50, 60, 60, 70), Box(200, 60, 210, 70)), [])) == 2
    # Too few pixels, and too unsure ones.
    assert traces(seen(Box(50, 60, 55, 65)), []) == []
    assert traces(seen(Box(50, 60, 60, 70), value=170), []) == []


def test_drawn_letters_are_read_where_they_may_be_some() -> None:
    leaves, letters = Box(50, 60, 60, 70), Box(200, 60, 210, 90)
    drawn = seen(leaves, letters, value=170).product
    groups = [each for each in grouped(drawn, 128, 40) if each.strokes[:, 1].min() == letters.top]
    assert traces(TextMap(drawn, np.zeros_like(drawn)), []) == []
    (one,) = traces(TextMap(drawn, np.zeros_like(drawn)), groups)
    assert one.top <= letters.top and one.bottom >= letters.bottom


def test_a_word_is_read_in_a_window_and_told_in_the_photos_pixels() -> None:
    stamped = stamp(photo("rocket", 1400), at=(900, 700))
    detector = Noting(stamped)
    x, y = (round(float(each)) for each in np.array(stamped.region.polygon).mean(axis=0))
    (found,) = read_around(stamped.pixels, [Box(y - 4, x - 20, y + 4, x + 20)], detector)
    assert np.allclose(found.polygon, stamped.region.polygon, atol=1)
    assert detector.sizes == [(480, 480)]


@pytest.mark.parametrize("where", [(0, 0), (0, 1390), (920, 0), (920, 1390)])
def test_windows_stay_in_the_photo(where: tuple[int, int]) -> None:
    pixels = np.zeros((930, 1400, 3), np.uint8)
    detector = Noting()
    read_around(pixels, [Box(where[0], where[1], where[0] + 9, where[1] + 9)], detector)
    assert detector.sizes == [(480, 480)]


@pytest.mark.parametrize(
    ("places", "sizes"),
    [
        ([], []),
        ([Box(100, 100, 120, 160), Box(150, 100, 170, 160)], [(480, 480)]),
        ([Box(20, 20, 40, 60), Box(900, 1300, 910, 1390)], [(480, 480), (480, 480)]),
        # One window nearly as large as the photo.
        ([Box(20, 20, 900, 1300)], [(930, 1400)]),
    ],
)
def test_places_that_are_near_are_read_together(
    places: list[Box], sizes: list[tuple[int, int]]
) -> None:
    detector = Noting()
    read_around(np.zeros((930, 1400, 3), np.uint8), places, detector)
    assert detector.sizes == sizes


def test_many_places_are_read_as_one_photo() -> None:
    places = [Box(0, left, 20, left + 20) for left in range(0, 6000, 1000)]
    detector = Noting()
    read_around(np.zeros((500, 6000, 3), np.uint8), places, detector)
    assert detector.sizes == [(500, 6000)]


def test_a_small_photo_is_read_whole() -> None:
    detector = Noting()
    read_around(np.zeros((200, 300, 3), np.uint8), [Box(10, 10, 30, 30)], detector)
    assert detector.sizes == [(200, 300)]
