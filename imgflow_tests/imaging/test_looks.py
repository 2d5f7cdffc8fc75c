"""The mean of mirrored and turned looks."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from imgflow.imaging.looks import MOST_LOOKS, Planes, mean_of_looks

SEEN = np.random.default_rng(0).random((12, 20, 3), np.float32)


def doubled(planes: Planes) -> Planes:
    return np.asarray(np.kron(planes, np.ones((2, 2, 1), np.float32)))


@pytest.mark.parametrize("looks", range(1, MOST_LOOKS + 1))
def test_what_does_not_depend_on_the_side_stays_the_same(looks: int) -> None:
    assert np.allclose(mean_of_looks(doubled, SEEN, looks), doubled(SEEN), atol=1e-6)


def test_all_looks_differ() -> None:
    seen = []

    def network(planes: Planes) -> Planes:
        seen.append(planes.copy())
        return planes

    mean_of_looks(network, SEEN, MOST_LOOKS)
    assert len({each.tobytes() for each in seen}) == MOST_LOOKS


def test_errors_that_depend_on_the_side_average_out() -> None:
    """Shifted to one side by a network, the mean is shifted to none."""

    def shifting(planes: Planes) -> Planes:
        return np.asarray(np.roll(planes, 1, axis=1), np.float32)

    smooth = np.asarray(cv2.GaussianBlur(SEEN, (0, 0), 2), np.float32)
    errors = [
        np.abs(mean_of_looks(shifting, smooth, looks) - smooth)[:, 2:-2].mean() for looks in (1, 2)
    ]
    assert errors[1] < 0.5 * errors[0]


@pytest.mark.parametrize(("enough", "looks"), [(True, 1), (False, 4)])
def test_where_the_first_look_is_enough_there_are_no_others(enough: bool, looks: int) -> None:
    seen = []

    def network(planes: Planes) -> Planes:
        seen.append(planes)
        return planes

    found = mean_of_looks(network, SEEN, 4, enough=lambda first: enough)
    assert len(seen) == looks
    assert np.allclose(found, SEEN, atol=1e-6)


@pytest.mark.parametrize("looks", [0, MOST_LOOKS + 1])
def test_other_numbers_of_looks_are_refused(looks: int) -> None:
    with pytest.raises(ValueError, match="ways to look"):
        mean_of_looks(doubled, SEEN, looks)
