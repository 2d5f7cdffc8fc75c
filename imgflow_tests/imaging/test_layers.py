"""What was drawn over a photo: opacity and colour come back, and lie over other ground."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from imgflow.imaging.layers import copies_of, estimate_layer, still_shows


def _ground(seed: int, spread: float = 40) -> NDArray[np.uint8]:
    soft = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=(80, 120, 3)), (0, 0), 6)
    return np.clip(128 + spread * soft / soft.std(), 0, 255).astype(np.uint8)


def _letters() -> NDArray[np.float32]:
    image = np.zeros((80, 120), np.uint8)
    cv2.putText(image, "Abc", (6, 60), cv2.FONT_HERSHEY_SIMPLEX, 2, 255, 5, cv2.LINE_AA)
    return image.astype(np.float32) / 255


def _draw(
    ground: NDArray[np.uint8], opacity: float, colour: tuple[int, int, int]
) -> NDArray[np.uint8]:
    share = (opacity * _letters())[:, :, None]
    return np.rint(ground * (1 - share) + np.float32(colour) * share).astype(np.uint8)


@pytest.mark.parametrize("opacity", [0.2, 0.35, 0.6])
@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (200, 30, 60)])
def test_opacity_and_colour_come_back(opacity: float, colour: tuple[int, int, int]) -> None:
    ground = _ground(1)
    mask = np.where(_letters() > 0.02, np.uint8(255), np.uint8(0))
    layer = estimate_layer(_draw(ground, opacity, colour), ground, mask)
    assert layer.opacity == pytest.approx(opacity, abs=0.03)
    assert np.abs(layer.colour[mask > 0].mean(axis=0) - colour).max() < 12


@pytest.mark.parametrize("opacity", [0.25, 0.5, 1.0])
def test_over_other_ground_it_looks_as_if_drawn_there(opacity: float) -> None:
    ground, other = _ground(1), _ground(2)
    mask = np.where(_letters() > 0.02, np.uint8(255), np.uint8(0))
    layer = estimate_layer(_draw(ground, opacity, (255, 255, 255)), ground, mask)
    error = np.abs(layer.over(other).astype(int) - _draw(other, opacity, (255, 255, 255)))
    # Of an opaque layer the fringe brings its old ground along.
    assert np.median(error[mask > 0]) <= 2
    assert not (layer.over(other) != other)[mask == 0].any()


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0)])
def test_on_even_ground_black_and_white_are_recognised(colour: tuple[int, int, int]) -> None:
    even = np.full((80, 120, 3), (180, 90, 60), np.uint8)
    mask = np.where(_letters() > 0.02, np.uint8(255), np.uint8(0))
    layer = estimate_layer(_draw(even, 0.3, colour), even, mask)
    assert layer.opacity == pytest.approx(0.3, abs=0.03)


def test_what_no_single_colour_explains_hides_the_photo() -> None:
    even = np.full((80, 120, 3), (180, 90, 60), np.uint8)
    mask = np.where(_letters() > 0.02, np.uint8(255), np.uint8(0))
    layer = estimate_layer(_draw(even, 1.0, (250, 140, 20)), even, mask)
    assert layer.opacity == 1.0
    assert (layer.over(even)[_letters() == 1] == (250, 140, 20)).all()


def test_sixteen_bits_keep_their_range() -> None:
    ground = _ground(1).astype(np.uint16) * 257
    share = (0.4 * _letters())[:, :, None]
    seen = np.rint(ground * (1 - share) + 65535 * share).astype(np.uint16)
    mask = np.where(_letters() > 0.02, np.uint8(255), np.uint8(0))
    layer = estimate_layer(seen, ground, mask)
    assert layer.opacity == pytest.approx(0.4, abs=0.03)
    assert layer.over(ground).dtype == np.uint16
    assert np.median(np.abs(layer.over(ground).astype(int) - seen)[mask > 0]) < 300


def test_nothing_drawn_is_no_layer() -> None:
    ground = _ground(1)
    layer = estimate_layer(ground, ground, np.zeros((80, 120), np.uint8))
    assert layer.opacity == 0
    assert (layer.over(ground) == ground).all()


def _tiled(
    ground: NDArray[np.uint8], opacity: float
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """White marks all over the ground, and their strokes 0..1."""
    strokes = np.zeros(ground.shape[:2], np.uint8)
    for row in range(7):
        for column in range(-1, 4):
            at = (8 + 110 * column + 55 * (row % 2), 28 + 45 * row)
            cv2.putText(strokes, "SAMPLE", at, cv2.FONT_HERSHEY_SIMPLEX, 0.7, 255, 2, cv2.LINE_AA)
    share = strokes.astype(np.float32) / 255
    mixed = ground * (1 - opacity * share[:, :, None]) + 255 * opacity * share[:, :, None]
    return np.rint(mixed).astype(np.uint8), share


@pytest.fixture(scope="module")
def rough() -> NDArray[np.uint8]:
    noise = np.random.default_rng(4).normal(size=(320, 400, 3))
    return np.clip(110 + 160 * cv2.GaussianBlur(noise, (0, 0), 1.5), 0, 255).astype(np.uint8)


def test_copies_of_a_mark_are_told_together(rough: NDArray[np.uint8]) -> None:
    seen, share = _tiled(rough, 0.4)
    mask = cv2.dilate(np.where(share > 0.02, np.uint8(255), np.uint8(0)), np.ones((5, 5), np.uint8))
    # A repair that is off, differently at each copy.
    noise = cv2.GaussianBlur(np.random.default_rng(5).normal(size=rough.shape), (0, 0), 1)
    off = np.clip(rough + 60 * noise, 0, 255).astype(np.uint8)
    clean = np.where(mask[:, :, None] > 0, off, rough)
    copies = copies_of(seen, clean, mask)
    assert copies
    assert all(d % 45 == 0 and (r - 55 * (d // 45)) % 110 == 0 for d, r in copies)
    alone = estimate_layer(seen, clean, mask).alpha
    layer = estimate_layer(seen, clean, mask, copies)
    errors = [float(np.abs(alpha - 0.4 * share)[mask > 0].mean()) for alpha in (alone, layer.alpha)]
    assert errors[1] < 0.6 * errors[0]
    assert layer.colour[mask > 0].mean() > 240
    assert not layer.alpha[mask == 0].any()


def test_one_mark_has_no_copies() -> None:
    ground = _ground(1)
    mask = np.where(_letters() > 0.02, np.uint8(255), np.uint8(0))
    assert copies_of(_draw(ground, 0.4, (255, 255, 255)), ground, mask) == []
    assert copies_of(ground, ground, np.zeros_like(mask)) == []


@pytest.mark.parametrize("left", [0.0, 0.25, 0.6])
def test_how_much_still_shows_is_told(rough: NDArray[np.uint8], left: float) -> None:
    seen, share = _tiled(rough, 0.5)
    after, _ = _tiled(rough, 0.5 * left)
    mask = np.where(share > 0.02, np.uint8(255), np.uint8(0))
    assert still_shows(seen, after, mask) == pytest.approx(left, abs=0.12)
    assert still_shows(seen, seen, mask) == 1  # nothing was taken off
    assert still_shows(seen, after, np.zeros_like(mask)) == 0  # nothing is asked for
