"""How lines of text lie to each other."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from imgflow.imaging.lines import place_beside


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
