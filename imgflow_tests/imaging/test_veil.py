"""What lies over a photo: its colour, opacity, and how much of it each pixel has."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from samples import photo

from imgflow.imaging.masks import dilate
from imgflow.imaging.veil import fit_veil

Values = NDArray[np.float32]


@pytest.fixture(scope="module")
def ground() -> Values:
    return np.asarray(photo("coffee", 320).astype(np.float32) / 255, np.float32)


@pytest.fixture(scope="module")
def strokes(ground: Values) -> NDArray[np.uint8]:
    drawn = np.zeros(ground.shape[:2], np.uint8)
    cv2.putText(drawn, "SAMPLE", (20, 110), cv2.FONT_HERSHEY_SIMPLEX, 2.2, 255, 5, cv2.LINE_AA)
    return drawn


def covered(
    ground: Values, strokes: NDArray[np.uint8], colour: tuple[float, ...], opacity: float
) -> tuple[Values, Values, Values]:
    """What is seen, the fill and the true opacity."""
    share = (opacity * strokes / 255).astype(np.float32)
    seen = ground + share[:, :, None] * (np.array(colour, np.float32) - ground)
    filled = cv2.inpaint(np.rint(255 * seen).astype(np.uint8), strokes, 3, cv2.INPAINT_TELEA)
    return seen.astype(np.float32), filled.astype(np.float32) / 255, share


def mean_off(share: Values, found: Values, strokes: NDArray[np.uint8]) -> float:
    return float(np.abs(share - found)[strokes > 0].mean())


@pytest.mark.parametrize("colour", [(1, 1, 1), (0, 0, 0), (0.9, 0.2, 0.1)])
@pytest.mark.parametrize("opacity", [0.3, 0.45, 0.6])
def test_colour_opacity_and_shares_are_found(
    ground: Values, strokes: NDArray[np.uint8], colour: tuple[float, ...], opacity: float
) -> None:
    seen, filled, share = covered(ground, strokes, colour, opacity)
    veil = fit_veil(seen, filled, strokes.astype(np.float32) / 255, strokes)
    assert veil.opacity == pytest.approx(opacity, abs=0.1)
    assert np.abs(veil.colour - colour).max() < 0.2
    assert mean_off(share, veil.opacity * veil.share, strokes) < 0.08
    assert not veil.share[strokes == 0].any()
    assert veil.share.min() >= 0 and veil.share.max() <= 1


def test_a_doubtful_likelihood_is_mended_by_the_pixels(
    ground: Values, strokes: NDArray[np.uint8]
) -> None:
    seen, filled, share = covered(ground, strokes, (1, 1, 1), 0.5)
    wide = dilate(strokes, 2)
    doubtful = cv2.GaussianBlur(0.7 * wide.astype(np.float32) / 255, (0, 0), 1.5)
    filled = cv2.inpaint(np.rint(255 * seen).astype(np.uint8), wide, 3, cv2.INPAINT_TELEA)
    veil = fit_veil(seen, filled.astype(np.float32) / 255, doubtful, wide)
    off = np.abs(share / 0.5 - np.where(wide > 0, doubtful, 0))[wide > 0].mean()
    assert np.abs(share / 0.5 - veil.share)[wide > 0].mean() < 0.75 * off


def test_opaque_strokes_are_opaque(ground: Values, strokes: NDArray[np.uint8]) -> None:
    seen, filled, _ = covered(ground, strokes, (1, 1, 1), 1.0)
    veil = fit_veil(seen, filled, strokes.astype(np.float32) / 255, strokes)
    assert veil.opacity > 0.85


@pytest.mark.parametrize("pixels", [0, 5])
def test_of_too_little_nothing_is_said(ground: Values, pixels: int) -> None:
    mask = np.zeros(ground.shape[:2], np.uint8)
    mask[0, :pixels] = 255
    veil = fit_veil(ground, ground, np.ones(mask.shape, np.float32), mask)
    assert np.isfinite(veil.colour).all()
    assert not veil.share[mask == 0].any()


def test_a_veil_explains_what_the_photo_shows_through(
    ground: Values, strokes: NDArray[np.uint8]
) -> None:
    likely = strokes.astype(np.float32) / 255
    seen, filled, _ = covered(ground, strokes, (1, 1, 1), 0.45)
    veil = fit_veil(seen, filled, likely, strokes)
    assert veil.explains
    assert veil.through > 0.6
    # One colour of which the same ground shows nothing.
    seen, filled, _ = covered(ground, strokes, (0.9, 0.5, 0.1), 1.0)
    veil = fit_veil(seen, filled, likely, strokes)
    assert not veil.explains


def test_on_even_ground_nothing_can_be_seen_through(strokes: NDArray[np.uint8]) -> None:
    """There a fill is as good as any explanation."""
    plain = np.full((*strokes.shape, 3), 0.4, np.float32)
    seen, filled, _ = covered(plain, strokes, (1, 0.6, 0.1), 1.0)
    veil = fit_veil(seen, filled, strokes.astype(np.float32) / 255, strokes)
    assert abs(veil.through) < 0.35
    assert not veil.explains


def test_copies_of_a_mark_tell_each_other_s_shares() -> None:
    """On ground so rough that a fill says little of it."""
    noise = np.random.default_rng(4).normal(size=(320, 400, 3))
    rough = np.clip(0.45 + 0.6 * cv2.GaussianBlur(noise, (0, 0), 1.5), 0, 1).astype(np.float32)
    strokes = np.zeros(rough.shape[:2], np.uint8)
    moves = [(0, 110), (0, -110), (45, 55), (45, -55), (-45, 55), (-45, -55), (90, 0), (-90, 0)]
    for row in range(7):
        for column in range(-1, 4):
            at = (8 + 110 * column + 55 * (row % 2), 28 + 45 * row)
            cv2.putText(strokes, "SAMPLE", at, cv2.FONT_HERSHEY_SIMPLEX, 0.7, 255, 2, cv2.LINE_AA)
    mask = dilate(strokes, 2)
    share = strokes.astype(np.float32) / 255
    seen = rough + 0.4 * share[:, :, None] * (1 - rough)
    filled = cv2.inpaint(np.rint(255 * seen).astype(np.uint8), mask, 3, cv2.INPAINT_TELEA)
    filled = filled.astype(np.float32) / 255
    likely = cv2.GaussianBlur(0.8 * mask.astype(np.float32) / 255, (0, 0), 1.5)
    one, many = (fit_veil(seen, filled, likely, mask, known) for known in ((), moves))
    errors = [float(np.abs(veil.share - share)[mask > 0].mean()) for veil in (one, many)]
    assert errors[1] < 0.6 * errors[0]
    assert many.explains
