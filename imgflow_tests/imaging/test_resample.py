"""Bicubic resampling: MATLAB's weights, order and rounding."""

from __future__ import annotations

import tracemalloc
from math import ceil, floor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from samples import photo

from imgflow.imaging.resample import bicubic, bicubic_down, bicubic_weights, keys_kernel

Pixels = NDArray[Any]

# Keys' kernel at 0.25, 0.75, 1.25 and 1.75 samples, worked out by hand.
NEAR, NEXT, FAR, LAST = 111 / 128, 29 / 128, -9 / 128, -3 / 128


def textbook(pixels: Pixels, wanted: int) -> Pixels:
    """Axis 0 at another size, sample by sample, in the words of MATLAB's `contributions`."""
    size = len(pixels)
    scale = wanted / size
    wide = min(scale, 1.0)
    made = np.zeros((wanted, *pixels.shape[1:]))
    for x in range(1, wanted + 1):
        u = x / scale + 0.5 * (1 - 1 / scale)
        left = floor(u - 2 / wide)
        shares: dict[int, float] = {}
        for index in range(left, left + ceil(4 / wide) + 2):
            d = abs(wide * (u - index))
            weight = 0.0
            if d <= 1:
                weight = 1.5 * d**3 - 2.5 * d**2 + 1
            elif d <= 2:
                weight = -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
            aux = [*range(1, size + 1), *range(size, 0, -1)]
            at = aux[(index - 1) % len(aux)]
            shares[at] = shares.get(at, 0.0) + weight
        total = sum(shares.values())
        for at, weight in shares.items():
            made[x - 1] += pixels[at - 1].astype(float) * (weight / total)
    return made


def rounded(values: Pixels) -> Pixels:
    return np.clip(np.floor(values + 0.5), 0, 255)


def random_pixels(*shape: int) -> Pixels:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


def test_kernel_is_that_of_keys() -> None:
    at = np.array([0, 0.25, -0.75, 1, 1.25, -1.75, 2, 2.5])
    assert np.allclose(keys_kernel(at), [1, NEAR, NEXT, 0, FAR, LAST, 0, 0], atol=1e-15)


def test_doubling_a_ramp_by_hand() -> None:
    ramp = np.array([[10.0, 20, 30, 40]])
    made = bicubic(ramp, 1, 8)
    first = (NEAR + NEXT) * 10 + (FAR + LAST) * 20  # the edge repeats: ... 20 10 | 10 20 ...
    second = (FAR + NEAR) * 10 + NEXT * 20 + LAST * 30
    # Inside, a cubic kernel keeps a straight line straight.
    assert np.allclose(made[0, [0, 1, 3, 4]], [first, second, 22.5, 27.5])
    assert first == 9.0625
    assert second == 11.796875
    assert np.allclose(made + made[:, ::-1], 50)


def test_halving_widens_the_kernel() -> None:
    impulse = np.zeros((1, 16))
    impulse[0, 7] = 128
    assert np.allclose(bicubic(impulse, 1, 8)[0], [0, 0, -4.5, 55.5, 14.5, -1.5, 0, 0])


@pytest.mark.parametrize("wanted", [1, 2, 3, 5, 9, 10, 13, 20, 40])
@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_agrees_with_the_textbook_at_all_sizes(size: int, wanted: int) -> None:
    column = random_pixels(size, 1).astype(np.float64)
    assert np.allclose(bicubic(column, wanted, 1), textbook(column, wanted), atol=1e-10)


def test_integers_are_rounded_after_each_pass() -> None:
    pixels = random_pixels(12, 12)
    between = rounded(textbook(pixels, 6))
    both = rounded(textbook(between.T, 6).T)
    once = rounded(textbook(textbook(pixels, 6).T, 6).T)
    assert (both != once).any()
    assert np.array_equal(bicubic(pixels, 6, 6), both)


@pytest.mark.parametrize(("height", "width"), [(24, 6), (6, 24), (6, 5), (18, 30)])
def test_the_smaller_scale_goes_first(height: int, width: int) -> None:
    pixels = random_pixels(12, 12)
    rows = rounded(textbook(rounded(textbook(pixels, height)).T, width).T)
    columns = rounded(textbook(rounded(textbook(pixels.T, width)).T, height))
    assert (rows != columns).any()
    assert np.array_equal(bicubic(pixels, height, width), rows if height <= width else columns)


def test_rows_go_first_where_both_scales_are_equal() -> None:
    pixels = random_pixels(8, 12)
    rows = rounded(textbook(rounded(textbook(pixels, 4)).T, 6).T)
    assert (rows != rounded(textbook(rounded(textbook(pixels.T, 6)).T, 4))).any()
    assert np.array_equal(bicubic(pixels, 4, 6), rows)


def test_halves_are_rounded_up() -> None:
    # Interior samples of x2 are sums of (111, 29, -9, -3) / 128: 64 / 128 is half a level.
    row = np.array([[0, 0, 0, 0]], np.uint8)
    row[0, 1:3] = 4, 100
    assert bicubic(row.astype(float), 1, 8)[0, 3] == 4 * NEAR + 100 * NEXT
    ties = [(a, b) for a in range(256) for b in range(256) if (111 * a + 29 * b) % 128 == 64]
    a, b = ties[len(ties) // 2]
    row[0, 1:3] = a, b
    exact = (111 * a + 29 * b) / 128
    assert exact % 1 == 0.5
    assert bicubic(row, 1, 8)[0, 3] == min(floor(exact) + 1, 255)


@given(
    st.integers(1, 9), st.integers(1, 9), st.integers(1, 30), st.integers(1, 30),
    st.sampled_from([np.uint8, np.uint16, np.float32, np.float64]),
)  # fmt: skip
@settings(max_examples=50, deadline=None)
def test_one_colour_stays_that_colour(h: int, w: int, height: int, width: int, kind: Any) -> None:
    pixels = np.full((h, w, 3), 201, kind)
    made = bicubic(pixels, height, width)
    assert made.shape == (height, width, 3)
    assert made.dtype == kind
    assert np.allclose(made, 201, atol=1e-4)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32, np.float64])
def test_the_same_size_is_a_copy(kind: Any) -> None:
    pixels = random_pixels(7, 5, 3).astype(kind)
    made = bicubic(pixels, 7, 5)
    assert np.array_equal(made, pixels)
    assert not np.shares_memory(made, pixels)


@pytest.mark.parametrize("size", [(50, 70), (33, 21), (300, 130), (7, 400)])
def test_channels_grey_and_turned_photos_agree(size: tuple[int, int]) -> None:
    pixels = photo("coffee", 101)
    made = bicubic(pixels, *size)
    for channel in range(3):
        assert np.array_equal(made[:, :, channel], bicubic(pixels[:, :, channel], *size))
    assert np.array_equal(made[:, ::-1], bicubic(pixels[:, ::-1], *size))
    turned = bicubic(pixels.transpose(1, 0, 2), *size[::-1]).transpose(1, 0, 2)
    assert np.abs(made.astype(int) - turned).max() <= 1  # the tie goes to the other side


def test_16_bits_are_as_fine_as_they_say() -> None:
    # Far from black and white, where clipping between the passes would count.
    shares = 0.25 + photo("chelsea", 96).astype(np.float64) / 510
    wide = np.rint(shares * 65535).astype(np.uint16)
    for size in ((24, 31), (150, 200)):
        exact = bicubic(wide.astype(np.float64), *size)
        assert np.abs(bicubic(wide, *size) - exact).max() <= 1.5


def test_overshoot_is_clipped_in_integers_only() -> None:
    edge = np.zeros((4, 16), np.uint8)
    edge[:, 8:] = 255
    assert bicubic(edge, 8, 32).min() == 0
    assert bicubic(edge, 8, 32).max() == 255
    assert bicubic(edge.astype(np.float32), 8, 32).min() < -5
    assert bicubic(edge.astype(np.float32), 8, 32).max() > 260


@pytest.mark.parametrize(("width", "height"), [(120, 80), (77, 41), (480, 400), (333, 81)])
def test_pillow_agrees_inside(width: int, height: int) -> None:
    """Pillow's kernel is the same; at the edges it leaves out what lies beyond."""
    # Far from black and white: Pillow clips between the passes too, and begins with the width.
    plane = photo("astronaut", 160)[:, :, 1] // 2 + 64
    made = bicubic(plane.astype(np.float32), height, width)
    theirs = Image.fromarray(plane.astype(np.float32)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    inside = np.s_[12:-12, 12:-12]
    assert np.abs(made[inside] - np.asarray(theirs)[inside]).max() < 0.01
    bytes_ = Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC)
    difference = bicubic(plane, height, width)[inside].astype(int) - np.asarray(bytes_)[inside]
    # Two roundings, in another order.
    assert np.abs(difference).max() <= 2
    assert (np.abs(difference) > 1).mean() < 1e-3


def test_bands_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = photo("coffee", 150)
    sizes = [(40, 50), (301, 77), (60, 450)]
    whole = [bicubic(pixels, *size) for size in sizes]
    monkeypatch.setattr("imgflow.imaging.resample._BAND_SAMPLES", 1)
    for size, made in zip(sizes, whole, strict=True):
        assert np.array_equal(bicubic(pixels, *size), made)


def test_memory_is_bounded() -> None:
    pixels = np.zeros((3000, 2000, 3), np.uint8)
    tracemalloc.start()
    try:
        bicubic(pixels, 1500, 1000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    between, result = 1500 * 2000 * 3, 1500 * 1000 * 3
    assert peak < between + result + (24 << 20)


def test_weights_sum_to_one_and_are_narrow() -> None:
    weights = bicubic_weights(1000, 250)
    assert weights.shape == (250, 1000)
    assert np.allclose(weights.sum(axis=1), 1)
    assert np.diff(weights.indptr).max() <= 17


def test_down_crops_to_a_multiple() -> None:
    pixels = random_pixels(29, 41, 3)
    cropped, small = bicubic_down(pixels, 4)
    assert np.array_equal(cropped, pixels[:28, :40])
    assert np.array_equal(small, bicubic(pixels[:28, :40], 7, 10))


def test_what_cannot_be_resampled_is_refused() -> None:
    pixels = random_pixels(4, 4)
    with pytest.raises(ValueError, match="int64"):
        bicubic(pixels.astype(np.int64), 2, 2)  # type: ignore[type-var]
    with pytest.raises(ValueError, match=r"\(4,\)"):
        bicubic(pixels[0], 2, 2)
    with pytest.raises(ValueError, match="0 x 2"):
        bicubic(pixels, 0, 2)
    with pytest.raises(ValueError, match=r"\(0, 4\)"):
        bicubic(pixels[:0], 2, 2)
    with pytest.raises(ValueError, match="not 0"):
        bicubic_down(pixels, 0)
    with pytest.raises(ValueError, match=r"\(0, 0\)"):
        bicubic_down(pixels, 5)
