"""Engines without weights: they invent nothing, and change nothing they need not."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import Pixels, photo

from imgflow.engines.classical import Lanczos, UnsharpMask
from imgflow.engines.registry import Engines
from imgflow.imaging.blind import measure

FILLERS = ["telea", "navier-stokes", "biharmonic"]


def fill(name: str, pixels: Pixels, mask: Pixels) -> Pixels:
    return Engines().filler(name).fill(pixels, mask)


def hole(height: int, width: int) -> Pixels:
    mask = np.zeros((height, width), np.uint8)
    mask[height // 3 : height // 2, width // 3 : width // 2] = 255
    return mask


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("name", FILLERS)
def test_a_constant_photo_stays_constant(name: str, dtype: Any) -> None:
    top = np.iinfo(dtype).max
    pixels = np.full((24, 30, 3), (0, top // 3, top), dtype)
    before = pixels.copy()
    mask = hole(24, 30)
    pixels[mask > 0] = top // 2
    # OpenCV's Telea dithers by a level or two of whatever depth.
    tolerance = 2 if name == "telea" else 0
    error = np.abs(fill(name, pixels, mask).astype(int) - before)
    assert error.max() <= tolerance
    assert not error[mask == 0].any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("name", FILLERS)
def test_a_slope_is_continued_through_the_hole(name: str, dtype: Any) -> None:
    ramp = np.linspace(0.2, 0.8, 40)[None, :, None] * np.ones((32, 1, 3))
    pixels = np.rint(ramp * np.iinfo(dtype).max).astype(dtype)
    mask = hole(32, 40)
    damaged = pixels.copy()
    damaged[mask > 0] = 0
    filled = fill(name, damaged, mask)
    error = np.abs(filled.astype(float) - pixels)[mask > 0].max() / np.iinfo(dtype).max
    assert error < 0.06


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (16, 23)])
@pytest.mark.parametrize("name", FILLERS)
def test_shape_dtype_and_input_stay(name: str, shape: tuple[int, int], dtype: Any) -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, np.iinfo(dtype).max, (*shape, 3), dtype)
    mask = np.zeros(shape, np.uint8)
    mask[shape[0] // 2, shape[1] // 2] = 255
    before = pixels.copy()
    filled = fill(name, pixels, mask)
    assert filled.shape == pixels.shape
    assert filled.dtype == dtype
    assert np.array_equal(pixels, before)
    assert np.array_equal(filled[mask == 0], before[mask == 0])


def test_fillers_state_what_they_are() -> None:
    for name in FILLERS:
        spec = Engines().filler(name).spec
        assert (spec.name, spec.kind) == (name, "filler")
        assert spec.model_id
        assert spec.licence
        assert spec.deterministic
        assert not spec.prompted
        assert not spec.seeded


# ---- enlarging ---------------------------------------------------------------------------


def tile(height: int = 40, width: int = 50) -> Pixels:
    """A detailed part of a photo, float32 0..1."""
    return photo("motorcycle_left", 320)[60 : 60 + height, 80 : 80 + width].astype(
        np.float32
    ) / np.float32(255)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_lanczos_enlarges_and_shifts_nothing(scale: int) -> None:
    source = tile()
    large = Lanczos(scale).enlarge(source)
    assert large.shape == (40 * scale, 50 * scale, 3)
    assert large.dtype == np.float32
    small = cv2.resize(large, (50, 40), interpolation=cv2.INTER_AREA)
    error = np.abs(small - source)
    assert error.mean() < 0.02, "a shift by half a pixel would be far more"


@settings(max_examples=30, deadline=None)
@given(
    colour=st.tuples(*[st.floats(0, 1, width=32)] * 3),
    scale=st.integers(2, 4),
    sides=st.tuples(st.integers(1, 20), st.integers(1, 20)),
)
def test_a_constant_keeps_its_colour(
    colour: tuple[float, float, float], scale: int, sides: tuple[int, int]
) -> None:
    flat = np.full((*sides, 3), colour, np.float32)
    large = Lanczos(scale).enlarge(flat)
    assert large.shape == (sides[0] * scale, sides[1] * scale, 3)
    assert np.array_equal(large, np.broadcast_to(np.float32(colour), large.shape))
    assert np.allclose(UnsharpMask().enlarge(flat), flat, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.integers(1, 4))
def test_nothing_leaves_the_range_of_its_neighbours(seed: int, scale: int) -> None:
    source = np.random.default_rng(seed).random((9, 11, 3), np.float32)
    engine = Lanczos(scale) if scale > 1 else UnsharpMask()
    large = engine.enlarge(source)
    padded = np.pad(source, ((1, 1), (1, 1), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))
    around = np.ones((scale, scale, 1), np.float32)
    low, high = (np.kron(side(windows, axis=(3, 4)), around) for side in (np.min, np.max))
    assert (large >= low).all()
    assert (large <= high).all()


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_the_stated_reach_is_enough_for_tiles(scale: int) -> None:
    """A window that sees `receptive` pixels more than its core gives the core of the whole."""
    engine = Lanczos(scale) if scale > 1 else UnsharpMask()
    source = tile(60, 60)
    whole = engine.enlarge(source)
    reach = engine.spec.receptive
    for top, left in ((20, 20), (17, 23), (30, 11)):
        core = 16
        window = source[top - reach : top + core + reach, left - reach : left + core + reach]
        part = engine.enlarge(np.ascontiguousarray(window))
        inner = slice(reach * scale, (reach + core) * scale)
        expected = whole[top * scale : (top + core) * scale, left * scale : (left + core) * scale]
        assert np.abs(part[inner, inner] - expected).max() < 1e-5


def test_lanczos_is_sharper_than_bilinear() -> None:
    source = tile(100, 100)
    large = Lanczos(2).enlarge(source)
    linear = cv2.resize(source, (200, 200), interpolation=cv2.INTER_LINEAR)
    assert cv2.Laplacian(large, cv2.CV_32F).var() > 1.2 * cv2.Laplacian(linear, cv2.CV_32F).var()


def test_unsharp_sharpens_a_soft_photo() -> None:
    soft = cv2.GaussianBlur(photo("coffee", 320), (0, 0), 1.5)
    sharp = UnsharpMask().enlarge(soft.astype(np.float32) / 255)
    assert sharp.shape == soft.shape
    assert sharp.dtype == np.float32
    after = measure(np.rint(sharp * 255).astype(np.uint8)).sharpness
    assert after > 1.1 * measure(soft).sharpness


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_upscalers_state_what_they_are(scale: int) -> None:
    spec = Engines().upscaler("lanczos", scale).spec
    assert (spec.kind, spec.scale, spec.tiling) == ("upscaler", scale, "tiles")
    assert str(scale) in spec.model_id


def noisy(clean: Pixels, sigma: float) -> Pixels:
    noise = np.random.default_rng(0).normal(0, sigma, clean.shape[:2])[:, :, None]
    return np.clip(clean + noise, 0, 255).astype(np.float32)


@pytest.mark.parametrize("sigma", [8, 15])
def test_nlmeans_takes_noise_out_and_leaves_edges(sigma: int) -> None:
    clean = photo("coffee", 160)
    given = noisy(clean, sigma)
    result = Engines().denoiser("nlmeans", sigma).enlarge(given / 255) * 255
    before, after = (np.sqrt(np.mean((each - clean) ** 2)) for each in (given, result))
    assert after < 0.75 * before
    again = Engines().denoiser("nlmeans", sigma).enlarge(given / 255) * 255
    assert np.array_equal(result, again)


def test_nlmeans_is_as_strong_as_it_is_told() -> None:
    given = noisy(photo("coffee", 120), 15) / 255
    weak, strong = (Engines().denoiser("nlmeans", each).enlarge(given) for each in (4, 15))
    assert np.abs(strong - given).mean() > 2 * np.abs(weak - given).mean()
    with pytest.raises(ValueError, match="at least 1"):
        Engines().denoiser("nlmeans", 0)


def test_nlmeans_sees_no_farther_than_it_says() -> None:
    engine = Engines().denoiser("nlmeans", 10)
    reach = engine.spec.receptive
    given = noisy(photo("coffee", 120), 10)[:64, :96] / 255
    whole = engine.enlarge(given)
    part = engine.enlarge(np.ascontiguousarray(given[:, :60]))
    assert np.abs(part[:, : 60 - reach] - whole[:, : 60 - reach]).max() < 1e-5


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (3, 4)])
def test_nlmeans_takes_any_size(shape: tuple[int, int]) -> None:
    flat = np.full((*shape, 3), 0.5, np.float32)
    assert np.allclose(Engines().denoiser("nlmeans", 5).enlarge(flat), flat, atol=1e-6)
