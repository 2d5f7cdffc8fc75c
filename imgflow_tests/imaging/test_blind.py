from __future__ import annotations

import io
import time
import tracemalloc
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from imgflow.imaging.blind import BlindMeasures, measure

Pixels = NDArray[Any]
PHOTOS = [
    pytest.param(data.astronaut(), id="astronaut"),
    pytest.param(data.chelsea(), id="chelsea"),
    pytest.param(data.coffee(), id="coffee"),
]


def blurred(pixels: Pixels, sigma: float) -> Pixels:
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma))


def noisy(pixels: Pixels, sigma: float) -> Pixels:
    """Noise in the luma: the same in all channels."""
    noise = np.random.default_rng(0).normal(0, sigma, pixels.shape[:2])[..., None]
    return np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))


@pytest.mark.parametrize("photo", PHOTOS)
def test_sharpness_falls_with_blur(photo: Pixels) -> None:
    values = [measure(photo).sharpness]
    values += [measure(blurred(photo, sigma)).sharpness for sigma in (0.5, 1, 1.5, 2, 3, 4, 6)]
    assert all(sharper > softer for sharper, softer in pairwise(values))
    assert values[0] > 0.35
    assert values[-1] < 0.05


def test_sharpness_is_the_width_of_the_edges() -> None:
    step = np.zeros((200, 200, 3), np.uint8)
    step[:, 100:] = 200
    for width in (1, 2, 4):
        expected = 1 / (1 + width**2 + 0.7**2)
        assert measure(blurred(step, width)).sharpness == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("photo", PHOTOS)
@pytest.mark.parametrize("blur", [0, 2])
def test_noise_is_not_taken_for_sharpness(photo: Pixels, blur: float) -> None:
    clean = blurred(photo, blur) if blur else photo
    base = measure(clean).sharpness
    for sigma in (3, 6, 12, 20):
        assert measure(noisy(clean, sigma)).sharpness < base + 0.02


@pytest.mark.parametrize("photo", PHOTOS)
def test_plain_ground_is_not_taken_for_blur(photo: Pixels) -> None:
    product = photo[40:290, 100:350]
    scene = np.full((1000, 1000, 3), 255, np.uint8)
    scene[300:550, 400:650] = product
    tight = scene[280:570, 380:670]
    assert measure(scene).sharpness == pytest.approx(measure(tight).sharpness, abs=0.02)
    assert measure(scene).noise == pytest.approx(measure(tight).noise, rel=0.1)
    soft = blurred(scene, 3)
    assert measure(soft).sharpness == pytest.approx(
        measure(soft[280:570, 380:670]).sharpness, abs=0.02
    )
    assert measure(soft).sharpness < 0.2


@pytest.mark.parametrize("photo", PHOTOS)
@pytest.mark.parametrize("sigma", [3, 5, 10, 20])
def test_noise_is_estimated_within_a_quarter(photo: Pixels, sigma: float) -> None:
    assert measure(noisy(photo, sigma)).noise == pytest.approx(sigma, rel=0.25)


def chain(ground: int) -> Pixels:
    """A thin chain across a plain ground, as a camera would see it."""
    pixels = np.full((1800, 1800, 3), ground, np.uint8)
    for place in range(200, 1600, 24):
        cv2.circle(pixels, (place, 1800 - place), 8, (120, 95, 30), 3)
    return cv2.resize(pixels, (900, 900), interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize("ground", [255, 200])
@pytest.mark.parametrize("quality", [None, 90])
def test_a_thin_thing_on_plain_ground_is_neither_noise_nor_blur(
    ground: int, quality: int | None
) -> None:
    pixels = chain(ground)
    measured = measure(pixels if quality is None else jpeg(pixels, quality))
    assert measured.noise < 1
    assert measured.sharpness > 0.5


def test_noise_on_the_ground_around_a_thin_thing_is_found() -> None:
    assert measure(noisy(chain(200), 6)).noise == pytest.approx(6, rel=0.25)


@pytest.mark.parametrize("photo", PHOTOS)
def test_blockiness_rises_as_jpeg_quality_falls(photo: Pixels) -> None:
    values = [measure(photo).blockiness]
    values += [measure(jpeg(photo, quality)).blockiness for quality in (80, 60, 40, 25, 15, 8)]
    assert all(less < more for less, more in pairwise(values))
    assert values[0] < 1.05
    assert values[-1] > 2


def test_blocks_are_found_where_a_crop_has_moved_the_grid() -> None:
    squeezed = jpeg(data.chelsea(), 15)
    moved = measure(squeezed[3:, 5:]).blockiness
    assert moved == pytest.approx(measure(squeezed).blockiness, rel=0.05)


def test_16_bits_measure_as_8_do() -> None:
    photo = data.coffee()
    narrow, wide = measure(photo), measure(photo.astype(np.uint16) * 257)
    assert wide.sharpness == pytest.approx(narrow.sharpness, abs=1e-3)
    assert wide.noise == pytest.approx(narrow.noise, abs=1e-2)
    assert wide.blockiness == pytest.approx(narrow.blockiness, abs=1e-3)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (9, 9), (1, 500), (1500, 17)])
def test_any_size_is_measured(shape: tuple[int, int]) -> None:
    assert measure(np.full((*shape, 3), 77, np.uint8)) == BlindMeasures(0.0, 0.0, 1.0)
    grain = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    result = measure(grain)
    assert 0 <= result.sharpness <= 1
    assert result.noise >= 0
    assert result.blockiness >= 1


def test_alpha_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(9, 9, 4\)"):
        measure(np.zeros((9, 9, 4), np.uint8))


def test_a_large_photo_needs_bounded_memory() -> None:
    photo = np.tile(data.astronaut(), (6, 8, 1))  # 3072 x 4096
    tracemalloc.start()
    try:
        measure(photo)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60e6


def test_a_web_photo_is_measured_at_once() -> None:
    photo = cv2.resize(data.astronaut(), (1024, 768))
    measure(photo)
    started = time.perf_counter()
    measure(photo)
    assert time.perf_counter() - started < 0.5  # 0.06 s on an idle core
