"""A mark that is repeated all over a photo gives its faint copies away."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from imgflow.imaging.folding import folded, repeats, sum_of_copies

Plane = NDArray[np.float32]
SHAPE = (240, 360)
# Where the mark stands; every second row is shifted.
PLACES = [
    (x + 60 * (row % 2), 30 + 45 * row) for row in range(5) for x in (-140, -20, 100, 220, 340)
]


def mark(place: tuple[int, int], strength: float, text: str = "SAMPLE") -> Plane:
    plane = np.zeros(SHAPE, np.uint8)
    cv2.putText(plane, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.7, 255, 2, cv2.LINE_AA)
    return np.asarray(strength * plane.astype(np.float32) / 255, np.float32)


def marks(faint: tuple[int, ...] = (), strength: float = 0.9) -> Plane:
    drawn = [mark(p, 0.05 if n in faint else strength) for n, p in enumerate(PLACES)]
    return np.asarray(np.max(drawn, axis=0), np.float32)


@pytest.mark.parametrize("faint", [(7,), (1, 12), (6, 13, 18)])
def test_faint_copies_become_as_clear_as_the_others(faint: tuple[int, ...]) -> None:
    seen = marks(faint)
    made = folded(seen, repeats(seen))
    there = np.max([mark(PLACES[number], 1) for number in faint], axis=0) > 0.9
    assert seen[there].max() < 0.1
    assert np.median(made[there]) > 0.8
    # Between the marks is nothing.
    beyond = cv2.dilate(marks(), np.ones((9, 9))) == 0
    assert made[beyond].max() < 0.1
    assert (made >= seen).all()


@pytest.mark.parametrize(
    "plane",
    [
        pytest.param(np.zeros(SHAPE, np.float32), id="nothing"),
        pytest.param(mark((60, 100), 0.9, "ONE MARK ALONE"), id="one"),
        pytest.param(np.maximum(mark((20, 40), 0.9), mark((200, 190), 0.9)), id="two"),
        pytest.param(mark((10, 120), 0.9, "OOOOOOOOOOOOOOOO"), id="letters alike"),
        pytest.param(np.random.default_rng(0).random(SHAPE).astype(np.float32), id="noise"),
    ],
)
def test_what_is_not_repeated_stays_as_it_is(plane: Plane) -> None:
    assert not repeats(plane)
    assert (folded(plane, ()) == plane).all()


def test_a_faint_plane_is_never_made_sure() -> None:
    """Copies say as much as they are sure of themselves."""
    seen = marks(strength=0.45)
    assert folded(seen, repeats(seen)).max() < 0.5


def test_a_texture_of_its_own_is_not_spread() -> None:
    seen = marks((7,))
    seen[200:230, 10:60] = 0.8
    made = folded(seen, repeats(seen))
    away = np.zeros(SHAPE, bool)
    away[150:180, 70:120] = True
    away &= cv2.dilate(marks(), np.ones((9, 9))) == 0
    assert made[away].max() < 0.3


def test_moves_bring_the_mark_onto_its_copies() -> None:
    moves = repeats(marks())
    assert len(moves) >= 4
    for down, right in moves:
        assert down % 45 == 0
        assert (right - 60 * (down // 45)) % 120 == 0
        assert (-down, -right) in moves


def test_copies_are_summed_where_they_lie_on_each_other() -> None:
    plane = np.arange(12, dtype=np.float32).reshape(3, 4)
    total = sum_of_copies(plane, [(1, 0), (-1, 2)])
    # From above, and from the row below two columns to the left.
    assert total[1].tolist() == [0, 1, 2 + 8, 3 + 9]
    assert total[0].tolist() == [0, 0, 4, 5]
    assert total[2].tolist() == [4, 5, 6, 7]
    assert not sum_of_copies(plane, [(3, 0), (-5, 1), (0, 9)]).any()
