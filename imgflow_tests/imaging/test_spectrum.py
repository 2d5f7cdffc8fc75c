"""A photo that was blown up by interpolation is found out; one that is merely soft is not."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from samples import Pixels, decoded, encoded, photo

from imgflow.imaging import spectrum
from imgflow.imaging.blind import measure

PHOTOS = ["astronaut", "chelsea", "coffee", "motorcycle_left"]
SOFT = [
    pytest.param(lambda pixels: pixels, id="as-it-is"),
    pytest.param(lambda pixels: cv2.GaussianBlur(pixels, (0, 0), 0.7), id="mild"),
    pytest.param(lambda pixels: cv2.GaussianBlur(pixels, (0, 0), 1.5), id="soft"),
    pytest.param(lambda pixels: decoded(encoded(pixels, "JPEG", quality=60)), id="jpeg"),
    pytest.param(lambda pixels: grainy(pixels, 3), id="noise"),
]


def true(name: str, side: int) -> Pixels:
    """A photo at its true resolution."""
    whole = photo(name)
    scale = side / whole.shape[1]
    return cv2.resize(whole, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def grainy(pixels: Pixels, sigma: float) -> Pixels:
    noise = np.random.default_rng(0).normal(0, sigma, pixels.shape[:2])[:, :, None]
    return np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("method", [cv2.INTER_CUBIC, cv2.INTER_LANCZOS4])
def test_what_was_blown_up_holds_the_detail_of_its_source(method: int, scale: int) -> None:
    found = []
    for name in PHOTOS:
        large = cv2.resize(true(name, 240), None, fx=scale, fy=scale, interpolation=method)
        found.append(measure(large).resolution)
    told = [each for each in found if each < 1]
    assert len(told) >= len(PHOTOS) - 1, "not every spectrum is clear enough"
    assert told == pytest.approx([1 / scale] * len(told), rel=0.2)


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda pixels: decoded(encoded(pixels, "JPEG", quality=92)), id="jpeg"),
        pytest.param(lambda pixels: grainy(pixels, 1), id="noise"),
    ],
)
def test_light_jpeg_and_light_noise_need_not_hide_it(harm: Callable[[Pixels], Pixels]) -> None:
    large = cv2.resize(true("coffee", 300), None, fx=2, fy=2, interpolation=cv2.INTER_LANCZOS4)
    assert measure(harm(large)).resolution == 0.5


@pytest.mark.parametrize("harm", SOFT)
@pytest.mark.parametrize("name", PHOTOS)
def test_a_soft_squeezed_or_noisy_photo_was_not_blown_up(
    name: str, harm: Callable[[Pixels], Pixels]
) -> None:
    assert measure(harm(true(name, 400))).resolution == 1.0


def test_what_was_blown_up_is_found_on_a_plain_ground_and_in_16_bits() -> None:
    small = np.full((700, 700, 3), 255, np.uint8)
    product = true("motorcycle_left", 240)
    small[200 : 200 + product.shape[0], 220:460] = product
    scene = cv2.resize(small, (1400, 1400), interpolation=cv2.INTER_CUBIC)
    assert measure(scene).resolution == 0.5
    assert measure(scene.astype(np.uint16) * np.uint16(257)).resolution == 0.5


@pytest.mark.parametrize("name", PHOTOS)
def test_a_spectrum_alone_convicts_no_photo(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it looks like one of x2, but reducing the photo would lose what it shows."""
    factors = spectrum._models()[1]
    monkeypatch.setattr(spectrum, "_errors", lambda _: np.where(factors == 2, 0.0, 9.0))
    pixels = true(name, 400)
    large = cv2.resize(pixels, None, fx=2, fy=2, interpolation=cv2.INTER_LANCZOS4)
    assert measure(large).resolution == 0.5
    assert measure(pixels).resolution == 1.0


@pytest.mark.parametrize("shape", [(1, 1), (127, 127), (128, 128), (1, 3000), (500, 400)])
def test_where_nothing_tells_a_photo_counts_as_it_is(shape: tuple[int, int]) -> None:
    assert measure(np.full((*shape, 3), 200, np.uint8)).resolution == 1.0
