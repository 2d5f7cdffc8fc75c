"""Edges of an enlargement and what it made up: good results before damaged ones."""

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
from samples import photo

from imgflow.engines.classical import Lanczos, UnsharpMask
from imgflow.imaging import enlarged
from imgflow.imaging.enlarged import artifact_rate, edge_fidelity
from imgflow.imaging.metrics import downscale_area
from imgflow.policy.policy import EnlargeGates

Pixels = NDArray[Any]
Damage = Callable[[Pixels, int], Pixels]

LIMITS = EnlargeGates()
SCALES = (2, 3, 4)
BOTH = (edge_fidelity, artifact_rate)


def scene(height: int = 360, width: int = 480) -> Pixels:
    """Smooth ground, oblique edges, circles, thin lines and a patch of texture."""
    row, column = np.mgrid[:height, :width].astype(np.float32)
    ground = 90 + 60 * column / width + 30 * row / height
    pixels = np.stack([ground, ground * 0.9 + 10, 200 - ground * 0.6], axis=-1)
    shapes = pixels.copy()
    cv2.ellipse(shapes, (width // 3, height // 3), (90, 60), 20, 0, 360, (230, 210, 40), -1)
    triangle = np.array([(250, 60), (430, 110), (300, 200)])
    cv2.fillPoly(shapes, [triangle], (30, 60, 160))
    for number in range(5):
        cv2.line(shapes, (20, 220 + 20 * number), (220, 240 + 27 * number), (20, 20, 20), 3)
    weave = 40 * np.sin(column / 3) * np.sin(row / 4 + column / 9)
    patch = np.s_[230:330, 270:450]
    shapes[patch] += weave[patch][..., None]
    # As a lens and a sensor give it: no edge is harder than a pixel.
    return as_pixels(cv2.GaussianBlur(shapes, (0, 0), 0.8))


def as_pixels(values: Pixels) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def interpolated(source: Pixels, scale: int) -> Pixels:
    return as_pixels(Lanczos(scale).enlarge(source.astype(np.float32) / 255) * 255)


def blurred(pixels: Pixels, sigma: float) -> Pixels:
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma))


def sharpened(pixels: Pixels, scale: int) -> Pixels:
    values = pixels.astype(np.float32)
    return as_pixels(values + 2.5 * (values - blurred(values, scale)))


def checkered(pixels: Pixels, scale: int) -> Pixels:
    row, column = np.indices(pixels.shape[:2])
    return as_pixels(pixels + 3.0 * ((row % scale + column % scale) % 2 * 2 - 1)[..., None])


def grainy(pixels: Pixels, scale: int) -> Pixels:
    return as_pixels(pixels + np.random.default_rng(0).normal(0, 5, pixels.shape))


def patterned(pixels: Pixels, scale: int) -> Pixels:
    texture = blurred(np.random.default_rng(0).normal(0, 1, pixels.shape), scale / 2)
    return as_pixels(pixels + 5 * texture / texture.std())


def tiled(pixels: Pixels, scale: int) -> Pixels:
    row, column = np.indices(pixels.shape[:2])
    return as_pixels(pixels + 4.0 * ((row // 96 + column // 96) % 2)[..., None])


def squeezed(pixels: Pixels, scale: int) -> Pixels:
    data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 20])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))


def stepped(pixels: Pixels, scale: int) -> Pixels:
    return downscale_area(pixels, scale).repeat(scale, axis=0).repeat(scale, axis=1)


# What is wrong, and which of the two sees it.
DAMAGES: dict[str, tuple[Damage, Callable[..., float]]] = {
    "moved by a pixel": (lambda pixels, scale: np.roll(pixels, 1, axis=1), edge_fidelity),
    "moved by two": (lambda pixels, scale: np.roll(pixels, 2, axis=0), edge_fidelity),
    "blurred": (lambda pixels, scale: blurred(pixels, 1.2 * scale), edge_fidelity),
    "doubled": (
        lambda pixels, scale: as_pixels(
            pixels * 0.5 + np.roll(pixels, scale, axis=1).astype(float) * 0.5
        ),
        edge_fidelity,
    ),
    "stairs": (stepped, edge_fidelity),
    "stairs, too": (stepped, artifact_rate),
    "halos": (sharpened, artifact_rate),
    "checkerboard": (checkered, artifact_rate),
    "grain": (grainy, artifact_rate),
    "texture": (patterned, artifact_rate),
    "tiles": (tiled, artifact_rate),
    "JPEG": (squeezed, artifact_rate),
    "colour": (lambda pixels, scale: as_pixels(pixels + np.array([4.0, 0, -4.0])), artifact_rate),
}


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("kind", ["scene", "coffee"])
def test_the_truth_and_interpolation_are_good(kind: str, scale: int) -> None:
    truth = scene() if kind == "scene" else np.array(photo("coffee", 480)[:312])
    source = downscale_area(truth, scale)
    sharp = as_pixels(truth * 0.7 + interpolated(source, scale) * 0.3)
    for result in (truth, sharp, interpolated(source, scale)):
        assert edge_fidelity(result, source, scale) > LIMITS.edge_fidelity + 0.1
        assert artifact_rate(result, source, scale) < LIMITS.artifact_rate / 2
    assert edge_fidelity(truth, source, scale) > 0.97, "sharper than interpolation is no fault"
    assert edge_fidelity(truth, source, scale) > edge_fidelity(sharp, source, scale)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", DAMAGES)
def test_damage_of_good_results_does_not_pass(name: str, scale: int) -> None:
    truth = scene()
    source = downscale_area(truth, scale)
    damage, measure = DAMAGES[name]
    for good in (truth, interpolated(source, scale)):
        value = measure(damage(good, scale), source, scale)
        if measure is edge_fidelity:
            assert value < LIMITS.edge_fidelity < measure(good, source, scale)
        else:
            assert value > LIMITS.artifact_rate > measure(good, source, scale)


def drawing(height: int = 240, width: int = 320) -> Pixels:
    """A size chart with hard lines, and a hard-edged box: drawn, not photographed."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    pixels[::24], pixels[:, ::40] = 0, 0
    pixels[100:180, 60:130] = (20, 40, 200)
    return pixels


@pytest.mark.parametrize("scale", SCALES)
def test_hard_edges_along_rows_and_columns_may_stay_hard(scale: int) -> None:
    source = drawing()
    exact = source.repeat(scale, axis=0).repeat(scale, axis=1)
    assert edge_fidelity(exact, source, scale) > LIMITS.edge_fidelity
    assert artifact_rate(exact, source, scale) < LIMITS.artifact_rate


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("drawn", [cv2.LINE_AA, cv2.LINE_8])
def test_an_oblique_edge_in_stairs_does_not_pass(drawn: int, scale: int) -> None:
    source = np.full((240, 320, 3), 255, np.uint8)
    corners = np.array([[40, 200], [160, 20], [300, 160]])
    cv2.fillPoly(source, [corners], (30, 90, 30), drawn)
    stairs = source.repeat(scale, axis=0).repeat(scale, axis=1)
    assert edge_fidelity(stairs, source, scale) < LIMITS.edge_fidelity
    assert edge_fidelity(interpolated(source, scale), source, scale) > LIMITS.edge_fidelity


@pytest.mark.parametrize("scale", SCALES)
def test_more_damage_is_worse(scale: int) -> None:
    source = downscale_area(scene(), scale)
    good = interpolated(source, scale)
    soft = [edge_fidelity(blurred(good, sigma * scale), source, scale) for sigma in (0.3, 0.6, 1.2)]
    assert soft == sorted(soft, reverse=True)
    noise = np.random.default_rng(0).normal(0, 1, good.shape)
    rates = [artifact_rate(as_pixels(good + sigma * noise), source, scale) for sigma in (2, 4, 8)]
    assert rates == sorted(rates)
    assert rates[0] < rates[2]


def test_an_artifact_counts_by_its_area() -> None:
    truth = scene()
    spoiled = truth.copy()
    spoiled[:160, :160] = checkered(truth, 2)[:160, :160]
    rate = artifact_rate(spoiled, downscale_area(truth, 2), 2)
    assert rate == pytest.approx(160 * 160 / (truth.shape[0] * truth.shape[1]), abs=0.03)


def test_noise_that_is_taken_off_is_no_artifact() -> None:
    truth = scene()
    clean = downscale_area(truth, 2)
    noisy = as_pixels(clean + np.random.default_rng(0).normal(0, 4, clean.shape))
    assert artifact_rate(truth, noisy, 2) < LIMITS.artifact_rate
    assert artifact_rate(interpolated(noisy, 2), clean, 2) > LIMITS.artifact_rate
    # At its own size too.
    assert artifact_rate(clean, noisy, 1) < LIMITS.artifact_rate
    assert artifact_rate(noisy, clean, 1) > LIMITS.artifact_rate


def test_sharpening_at_its_own_size_is_judged_too() -> None:
    soft = blurred(scene(), 1.2)
    sharp = as_pixels(UnsharpMask().enlarge(soft.astype(np.float32) / 255) * 255)
    assert edge_fidelity(sharp, soft, 1) > 0.9
    assert artifact_rate(sharp, soft, 1) < 0.01
    assert edge_fidelity(np.roll(sharp, 1, axis=1), soft, 1) < LIMITS.edge_fidelity
    assert edge_fidelity(blurred(soft, 2.5), soft, 1) < LIMITS.edge_fidelity
    assert (
        artifact_rate(as_pixels(sharp + np.array([4.0, 0, -4.0])), soft, 1) > LIMITS.artifact_rate
    )


@pytest.mark.parametrize("measure", BOTH)
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_grey_and_16_bits_measure_as_8_bits_in_colour(
    measure: Callable[..., float], scale: int
) -> None:
    grey = scene()[:120, :180, 1]
    source = downscale_area(grey, scale)
    result = blurred(grey, 1.0)
    value = measure(result, source, scale)
    colour = [np.repeat(each[..., None], 3, axis=2) for each in (result, source)]
    assert measure(*colour, scale) == pytest.approx(value, abs=1e-5)
    wide = [each.astype(np.uint16) * np.uint16(257) for each in colour]
    assert measure(*wide, scale) == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize("measure", BOTH)
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_bands_give_the_value_of_the_whole(
    measure: Callable[..., float], scale: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = scene()[:333, :411]
    source = (
        downscale_area(truth, scale) if scale == 3 else downscale_area(truth[:332, :410], scale)
    )
    large = sharpened(truth[: source.shape[0] * scale, : source.shape[1] * scale], scale)
    monkeypatch.setattr(enlarged, "_BAND", 10**6)
    whole = measure(large, source, scale)
    monkeypatch.setattr(enlarged, "_BAND", 1)
    assert measure(large, source, scale) == pytest.approx(whole, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    scale=st.integers(1, 4),
    channels=st.sampled_from([(), (3,)]),
    seed=st.integers(0, 99),
)
def test_small_photos_are_measured(
    height: int, width: int, scale: int, channels: tuple[int, ...], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    source = rng.integers(0, 256, (height, width, *channels), np.uint8)
    large = rng.integers(0, 256, (height * scale, width * scale, *channels), np.uint8)
    for measure in BOTH:
        assert 0 <= measure(large, source, scale) <= 1
    assert artifact_rate(source, source, 1) == 0
    assert edge_fidelity(source, source, 1) == pytest.approx(1)


def test_a_photo_without_edges_has_none_to_lose() -> None:
    plain = np.full((40, 40, 3), 77, np.uint8)
    assert edge_fidelity(plain.repeat(2, 0).repeat(2, 1), plain, 2) == 1
    assert artifact_rate(plain.repeat(2, 0).repeat(2, 1), plain, 2) == 0


@pytest.mark.parametrize("measure", BOTH)
def test_what_is_no_enlargement_is_refused(measure: Callable[..., float]) -> None:
    source = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match=r"\(9, 8, 3\).*\(4, 4, 3\)"):
        measure(np.zeros((9, 8, 3), np.uint8), source, 2)
    with pytest.raises(ValueError, match="uint16"):
        measure(np.zeros((8, 8, 3), np.uint16), source, 2)
    with pytest.raises(ValueError, match="uint8 or uint16"):
        measure(np.zeros((8, 8, 3)), np.zeros((4, 4, 3)), 2)


@pytest.mark.parametrize("measure", BOTH)
def test_a_large_result_has_no_float_twin(measure: Callable[..., float]) -> None:
    source = np.full((1000, 800, 3), 128, np.uint8)
    large = source.repeat(2, 0).repeat(2, 1)
    tracemalloc.start()
    try:
        measure(large, source, 2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * large.nbytes
