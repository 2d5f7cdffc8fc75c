from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage import data
from skimage.metrics import structural_similarity

from imgflow.imaging import metrics
from imgflow.imaging.metrics import (
    EDGE_CONTINUITY,
    METRICS,
    PSNR,
    downscale_area,
    edge_continuity,
    haarpsi,
    halo_score,
    psnr,
    ssim,
)

Pixels = NDArray[Any]
FULL_REFERENCE = [psnr, ssim, haarpsi]


def pattern() -> Pixels:
    """A deterministic colour image, 64 x 96."""
    y, x = np.mgrid[0:64, 0:96]
    planes = [(x * 5 + y * 3) % 256, (x * y) % 256, (x * x + y) % 256]
    return np.stack(planes, axis=-1).astype(np.uint8)


def quantised(pixels: Pixels) -> Pixels:
    return (pixels // 32 * 32 + 16).astype(np.uint8)


def blurred(pixels: Pixels, sigma: float) -> Pixels:
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma))


def luma(pixels: Pixels) -> NDArray[np.float64]:
    return np.asarray(pixels @ np.array([0.299, 0.587, 0.114]))


def test_direction_and_range_are_data() -> None:
    assert PSNR.passes(30, 30)
    assert not PSNR.passes(29.9, 30)
    assert EDGE_CONTINUITY.passes(1.2, 1.2)
    assert not EDGE_CONTINUITY.passes(1.3, 1.2)
    assert not any(metric.passes(float("nan"), 0) for metric in METRICS.values())
    assert all(name == metric.name for name, metric in METRICS.items())
    assert all(metric.lowest < metric.highest for metric in METRICS.values())


def test_psnr_is_the_definition() -> None:
    reference, test = pattern(), quantised(pattern())
    error = np.mean((reference.astype(float) - test) ** 2)
    assert psnr(reference, test, data_range=255) == pytest.approx(10 * np.log10(255**2 / error))


def test_psnr_of_opposite_16_bit_extremes_is_zero() -> None:
    black = np.zeros((300, 200, 3), np.uint16)
    assert psnr(black, ~black, data_range=65535) == pytest.approx(0)


def test_psnr_looks_under_the_mask_only() -> None:
    reference = pattern()
    test = reference.copy()
    test[:10] += 10
    mask = np.zeros(reference.shape[:2], np.uint8)
    mask[20:30] = 255
    assert psnr(reference, test, data_range=255, mask=mask) == np.inf
    mask[:10] = 255
    mask[20:30] = 0
    under = psnr(reference[:10], test[:10], data_range=255)
    assert psnr(reference, test, data_range=255, mask=mask) == pytest.approx(under)
    with pytest.raises(ValueError, match="no pixel"):
        psnr(reference, test, data_range=255, mask=np.zeros_like(mask))
    with pytest.raises(ValueError, match=r"\(5, 5\).*\(64, 96, 3\)"):
        psnr(reference, test, data_range=255, mask=np.ones((5, 5), np.uint8))


@pytest.mark.parametrize("sigma", [0.7, 3])
def test_ssim_equals_scikit_image(sigma: float) -> None:
    reference = data.chelsea()
    test = blurred(reference, sigma)
    expected = structural_similarity(
        luma(reference),
        luma(test),
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert ssim(reference, test, data_range=255) == pytest.approx(expected, abs=1e-6)


# Computed with piq 0.8.0, haarpsi(..., data_range=255.0), in float64.
@pytest.mark.parametrize(
    ("view", "change", "expected"),
    [
        (lambda p: p, quantised, 0.9358297239324921),
        (lambda p: p, lambda p: np.roll(p, 1, axis=1), 0.5984544052388183),
        (lambda p: p[:63, :95], quantised, 0.9487545594350194),
        (lambda p: p[..., 0], quantised, 0.7116286483468055),
    ],
    ids=["colour", "shifted", "odd sides", "grey"],
)
def test_haarpsi_equals_an_independent_implementation(
    view: Callable[[Pixels], Pixels], change: Callable[[Pixels], Pixels], expected: float
) -> None:
    reference = pattern()
    value = haarpsi(view(reference), view(change(reference)), data_range=255)
    assert value == pytest.approx(expected, abs=1e-6)


def test_haarpsi_of_a_photo_equals_an_independent_implementation() -> None:
    # From piq 0.8.0 as well.
    photo = data.chelsea()
    assert haarpsi(photo, blurred(photo, 1), data_range=255) == pytest.approx(0.9524305, abs=1e-5)
    assert haarpsi(photo, blurred(photo, 4), data_range=255) == pytest.approx(0.6739229, abs=1e-5)


@pytest.mark.parametrize("band", [2, 7, 64])
@pytest.mark.parametrize("measure", [ssim, haarpsi])
def test_bands_give_the_value_of_the_whole(
    measure: Callable[..., float], band: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = data.astronaut()[:201, :150]
    test = blurred(reference, 2)
    monkeypatch.setattr(metrics, "_BAND", 10**6)
    whole = measure(reference, test, data_range=255)
    monkeypatch.setattr(metrics, "_BAND", band)
    assert measure(reference, test, data_range=255) == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize("band", [1, 5])
def test_bands_give_the_continuity_and_halo_of_the_whole(
    band: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = data.astronaut()[:120, :120]
    large = cv2.resize(photo, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    mask = disc(photo)

    def values() -> tuple[float, float]:
        return edge_continuity(photo, mask, data_range=255), halo_score(large, photo, 2)

    monkeypatch.setattr(metrics, "_BAND", 10**6)
    whole = values()
    monkeypatch.setattr(metrics, "_BAND", band)
    assert values() == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize("measure", FULL_REFERENCE)
def test_equal_images_are_best_and_damage_is_worse(measure: Callable[..., float]) -> None:
    photo = data.chelsea()[:160, :160]
    metric = METRICS[measure.__name__]
    assert measure(photo, photo, data_range=255) == pytest.approx(metric.highest, abs=1e-6)
    mild = measure(photo, blurred(photo, 1), data_range=255)
    strong = measure(photo, blurred(photo, 4), data_range=255)
    assert metric.lowest <= strong < mild < metric.highest


@pytest.mark.parametrize("measure", FULL_REFERENCE)
def test_16_bits_measure_as_8_do(measure: Callable[..., float]) -> None:
    reference, test = pattern(), quantised(pattern())
    wide = measure(
        reference.astype(np.uint16) * 257, test.astype(np.uint16) * 257, data_range=65535
    )
    assert wide == pytest.approx(measure(reference, test, data_range=255), abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 24), width=st.integers(1, 24), seed=st.integers(0, 99))
def test_small_images_are_measured_too(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference, test = rng.integers(0, 256, (2, height, width, 3), np.uint8)
    assert -1 <= ssim(reference, test, data_range=255) <= 1
    assert 0 <= haarpsi(reference, test, data_range=255) <= 1
    assert ssim(reference, reference, data_range=255) == pytest.approx(1)


@pytest.mark.parametrize("measure", FULL_REFERENCE)
def test_black_images_are_equal(measure: Callable[..., float]) -> None:
    black = np.zeros((20, 20, 3), np.uint8)
    assert measure(black, black, data_range=255) >= 1


@pytest.mark.parametrize("measure", FULL_REFERENCE)
def test_images_that_differ_in_kind_are_refused(measure: Callable[..., float]) -> None:
    pixels = pattern()
    with pytest.raises(ValueError, match=r"\(64, 96, 3\) .*\(63, 96, 3\)"):
        measure(pixels, pixels[:-1], data_range=255)
    with pytest.raises(ValueError, match=r"uint8 .* uint16"):
        measure(pixels, pixels.astype(np.uint16), data_range=255)
    with pytest.raises(ValueError, match="without alpha"):
        measure(np.zeros((9, 9, 4)), np.zeros((9, 9, 4)), data_range=255)


def test_a_large_photo_needs_no_float_copy() -> None:
    photo = np.full((2000, 1500, 3), 128, np.uint8)
    for measure in FULL_REFERENCE:
        tracemalloc.start()
        try:
            measure(photo, photo, data_range=255)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 3 * photo.nbytes


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_area_downscaling_is_the_rounded_mean_of_blocks(dtype: Any, scale: int) -> None:
    rng = np.random.default_rng(scale)
    shape = (6 * scale, 5 * scale, 3)
    pixels = rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    blocks = pixels.reshape(6, scale, 5, scale, 3).mean(axis=(1, 3))
    smaller = downscale_area(pixels, scale)
    assert smaller.dtype == dtype
    assert np.abs(smaller - blocks).max() <= 0.5 + 1e-2


def test_area_downscaling_keeps_channels_and_refuses_remainders() -> None:
    assert downscale_area(np.zeros((4, 6), np.uint8), 2).shape == (2, 3)
    assert downscale_area(np.zeros((4, 6, 1), np.uint8), 2).shape == (2, 3, 1)
    with pytest.raises(ValueError, match="5 x 6"):
        downscale_area(np.zeros((5, 6, 3), np.uint8), 2)


def disc(photo: Pixels) -> NDArray[np.uint8]:
    mask = np.zeros(photo.shape[:2], np.uint8)
    height, width = photo.shape[:2]
    cv2.circle(mask, (width // 2, height // 2), min(height, width) // 6, 255, -1)
    return mask


def caption(photo: Pixels) -> NDArray[np.uint8]:
    mask = np.zeros(photo.shape[:2], np.uint8)
    cv2.putText(mask, "12 05 2024", (30, 150), cv2.FONT_HERSHEY_SIMPLEX, 0.9, 255, 4)
    return mask


@pytest.mark.parametrize("photo", [data.astronaut(), data.chelsea(), data.coffee()])
@pytest.mark.parametrize("shape", [disc, caption])
def test_continuity_tells_a_joint_from_a_seamless_fill(
    photo: Pixels, shape: Callable[[Pixels], NDArray[np.uint8]]
) -> None:
    mask = shape(photo)
    inside = mask > 0
    constant, pasted = photo.copy(), photo.copy()
    constant[inside] = photo[inside].mean(axis=0)
    pasted[inside] = np.roll(photo, (photo.shape[0] // 3, photo.shape[1] // 3), (0, 1))[inside]
    filled = cv2.inpaint(photo, mask, 3, cv2.INPAINT_TELEA)
    assert edge_continuity(photo, mask, data_range=255) == pytest.approx(1, abs=0.3)
    assert edge_continuity(filled, mask, data_range=255) < 1.3
    assert edge_continuity(constant, mask, data_range=255) > 1.6
    assert edge_continuity(pasted, mask, data_range=255) > 1.6


def test_sensor_noise_on_flat_ground_is_no_joint() -> None:
    rng = np.random.default_rng(0)
    ground = np.full((100, 100, 3), 240, np.uint8)
    noisy = (ground + np.rint(rng.normal(0, 1, ground.shape))).astype(np.uint8)
    mask = disc(ground)
    smooth = np.where(mask[..., None] > 0, ground, noisy)
    assert edge_continuity(ground, mask, data_range=255) == 1
    assert edge_continuity(smooth, mask, data_range=255) < 1.3
    smooth[mask > 0] -= 12
    assert edge_continuity(smooth, mask, data_range=255) > 2


def test_continuity_of_odd_masks() -> None:
    photo = data.chelsea()[:60, :60]
    point = np.zeros((60, 60), np.uint8)
    point[30, 30] = 255
    assert edge_continuity(photo, point, data_range=255) < 3
    corner = np.zeros((60, 60), np.uint8)
    corner[:20, 40:] = 255
    assert edge_continuity(photo, corner, data_range=255) == pytest.approx(1, abs=0.5)
    for nothing in (np.zeros_like(point), np.full_like(point, 255)):
        with pytest.raises(ValueError, match="no border"):
            edge_continuity(photo, nothing, data_range=255)
    with pytest.raises(ValueError, match=r"\(9, 9\).*\(60, 60, 3\)"):
        edge_continuity(photo, np.ones((9, 9), np.uint8), data_range=255)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_halo_score_is_the_overshoot(dtype: Any) -> None:
    unit = np.iinfo(dtype).max // 255
    edge = np.full((40, 40, 3), 60 * unit, dtype)
    edge[:, 20:] = 180 * unit
    nearest = np.repeat(np.repeat(edge, 2, axis=0), 2, axis=1)
    assert halo_score(nearest, edge, 2) == 0
    ringing = nearest.copy()
    ringing[:, 40] += np.array(51 * unit, dtype)
    ringing[:, 39] -= np.array(51 * unit, dtype)
    assert halo_score(ringing, edge, 2) == pytest.approx(0.2, abs=1e-3)


def test_linear_enlargement_has_no_halo_and_sharpening_has() -> None:
    photo = data.coffee()
    linear = cv2.resize(photo, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    sharpened = cv2.addWeighted(linear, 3, blurred(linear, 2), -2, 0)
    assert halo_score(linear, photo, 2) == 0
    assert halo_score(sharpened, photo, 2) > 0.05


def test_halo_score_refuses_other_sizes() -> None:
    with pytest.raises(ValueError, match=r"\(9, 8, 3\).*\(4, 4, 3\)"):
        halo_score(np.zeros((9, 8, 3), np.uint8), np.zeros((4, 4, 3), np.uint8), 2)
