"""How lines of text lie to each other, and how far they go."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from imgflow.imaging.lines import grown_along, place_beside
from imgflow.imaging.masks import Mask


def box(left: float, top: float, right: float, bottom: float) -> NDArray[np.float32]:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float32)


LINE = box(100, 50, 200, 70)


@pytest.mark.parametrize(
    ("letters", "size", "reach", "apart", "below"),
    [
        (box(220, 50, 260, 70), 1, 0.5, 1, -1),  # the next word
        (box(60, 55, 90, 65), 0.5, 0.25, 0.5, -0.75),  # a smaller one before it
        (box(120, 80, 180, 100), 1, 2, -4, 0.5),  # the line below
        (box(120, 10, 180, 40), 1.5, 2.5, -4, 0.5),  # a larger one above
    ],
)
@pytest.mark.parametrize("turn", [0, 30, 90, -135])
def test_places_are_in_heights_of_the_line(
    letters: NDArray[np.float32],
    size: float,
    reach: float,
    apart: float,
    below: float,
    turn: float,
) -> None:
    angle = np.radians(turn)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    place = place_beside(*((each @ matrix).astype(np.float32) for each in (LINE, letters)))
    assert place.size == pytest.approx(size, abs=1e-3)
    assert place.reach == pytest.approx(reach, abs=1e-3)
    assert place.apart == pytest.approx(apart, abs=1e-3)
    assert place.below == pytest.approx(below, abs=1e-3)


def test_a_line_of_no_height_is_no_fault() -> None:
    place = place_beside(np.zeros((4, 2), np.float32), LINE)
    assert np.isfinite([place.size, place.reach, place.apart, place.below]).all()


def letters_at(*places: int, height: int = 20, size: tuple[int, int] = (60, 400)) -> Mask:
    """Letters of that height, 12 wide, from row 20 on, at these columns."""
    plane = np.zeros(size, np.uint8)
    for left in places:
        plane[20 : 20 + height, left : left + 12] = 255
    return plane


ROW = box(100, 20, 200, 40)


@pytest.mark.parametrize(
    ("places", "left", "right"),
    [
        ((110, 130), 100, 200),  # within the line
        ((210, 226, 250), 100, 262),
        ((84, 66), 66, 200),
        ((210, 240), 100, 222),  # too far from the letter before it
        ((220,), 100, 200),
        ((200 + 16 * n for n in range(12)), 100, 360),  # it is not followed for ever
    ],
)
def test_a_line_grows_over_the_letters_that_go_on(
    places: Iterable[int], left: float, right: float
) -> None:
    grown = grown_along(ROW, letters_at(*places))
    assert grown[:, 1].tolist() == ROW[:, 1].tolist()
    assert grown[[0, 3], 0] == pytest.approx([left, left], abs=1)
    assert grown[[1, 2], 0] == pytest.approx([right, right], abs=1)


def test_it_grows_along_itself() -> None:
    """Turned, and beyond the photo's edge."""
    turn = cv2.getRotationMatrix2D((200, 150), 30, 1)
    photo = cv2.warpAffine(letters_at(210, 226, size=(300, 400)), turn, (400, 300))
    line = np.asarray(cv2.transform(ROW[None], turn)[0], np.float32)
    grown = grown_along(line, np.asarray(photo, np.uint8))
    expected = cv2.transform(ROW[None] + [[[0, 0], [38, 0], [38, 0], [0, 0]]], turn)[0]
    assert np.abs(grown - expected).max() < 2
    edge = ROW + np.float32([290, 0])
    assert np.array_equal(grown_along(edge, letters_at(390)), edge)


def test_what_is_too_little_to_be_a_letter_is_left() -> None:
    for plane in (letters_at(202, height=1), np.zeros((60, 400), np.uint8)):
        assert np.array_equal(grown_along(ROW, plane), ROW)
    speck = np.zeros((60, 400), np.uint8)
    speck[20:40, 200:203] = 255
    assert np.array_equal(grown_along(ROW, speck), ROW)


def test_a_single_letter_has_no_direction() -> None:
    letter = np.array([[100, 20], [120, 20], [120, 40], [100, 40]], np.float32)
    assert np.array_equal(grown_along(letter, letters_at(125, 140)), letter)
