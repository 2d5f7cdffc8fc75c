"""Luma, plain backgrounds and bit depth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgflow.imaging.colour import data_range, flatten, luma, plain_background, to_uint8


def test_data_range_is_known_for_pixel_types_only():
    assert data_range(np.uint8) == 255
    assert data_range(np.uint16) == 65535
    with pytest.raises(ValueError, match="float32"):
        data_range(np.float32)


def test_every_16_bit_value_is_rounded_to_8():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    assert (to_uint8(values) == np.rint(values / 257)).all()


def test_8_bit_pixels_are_not_copied():
    pixels = np.zeros((4, 4, 3), np.uint8)
    assert to_uint8(pixels) is pixels
    assert flatten(pixels, (1, 2, 3)) is pixels


def test_luma_is_bt601_and_the_same_for_both_depths():
    pixels = np.random.default_rng(0).integers(0, 256, (300, 5, 3), dtype=np.uint8)
    expected = pixels @ np.array([0.299, 0.587, 0.114])
    assert luma(pixels).dtype == np.float32
    np.testing.assert_allclose(luma(pixels), expected, atol=1e-3)
    np.testing.assert_allclose(luma(pixels.astype(np.uint16) * 257), expected, atol=1e-3)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([np.uint8, np.uint16]))
def test_flatten_composites_alpha_with_rounding(seed, dtype):
    rng = np.random.default_rng(seed)
    top = data_range(dtype)
    pixels = rng.integers(0, top + 1, (150, 7, 4), dtype=dtype)
    background = tuple(int(v) for v in rng.integers(0, 256, 3))
    alpha = pixels[..., 3:] / top
    exact = pixels[..., :3] * (255 / top) * alpha + np.array(background) * (1 - alpha)
    flat = flatten(pixels, background)
    assert flat.dtype == np.uint8
    assert np.abs(flat - exact).max() <= 0.501


def test_colour_under_full_transparency_never_shows():
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[..., 0] = 255
    assert (flatten(pixels, (10, 20, 30)) == (10, 20, 30)).all()


@pytest.mark.parametrize(
    ("levels", "expected"), [((20, 60), 255), ((200, 250), 0), ((0, 255), 128), ((255, 255), 128)]
)
def test_plain_background_contrasts_with_the_opaque_pixels(levels, expected):
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:2, :2, :3], pixels[:2, 2:, :3] = levels
    pixels[:2, :, 3] = 255
    assert plain_background(pixels) == (expected,) * 3


def test_plain_background_of_an_invisible_photo_is_white():
    assert plain_background(np.zeros((4, 4, 4), np.uint8)) == (255, 255, 255)
