"""The displaced probe knows a good engine from a bad one, on the photo at hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from samples import FakeFiller, Pixels, Stamped, painted, photo, stamp

from imgflow.engines.registry import Engines
from imgflow.imaging.masks import Box, dilate
from imgflow.stages.fill import Fill, Filling
from imgflow.stages.probe import ProbeResult, _thickness, displaced_probe

PLACES = [("coffee", (180, 12)), ("rocket", (110, 40)), ("chelsea", (10, 180))]


def strokes(stamped: Stamped) -> Pixels:
    return dilate(np.where(stamped.changed, 255, 0).astype(np.uint8), 1)


def probe(stamped: Stamped, engine: object, pixels: Pixels | None = None) -> ProbeResult:
    mask = strokes(stamped)
    photo = stamped.pixels if pixels is None else pixels
    fill = Fill(engine, 32, 2)  # type: ignore[arg-type]
    return displaced_probe(photo, mask, dilate(mask, 2), Filling(photo, mask, fill))


def oracle(clean: Pixels) -> FakeFiller:
    """An engine that finds the crop it is given in the clean photo, and knows what was there."""

    def work(crop: Pixels, hole: Pixels) -> Pixels:
        height, width = crop.shape[:2]
        for top in range(clean.shape[0] - height + 1):
            for left in range(clean.shape[1] - width + 1):
                there = clean[top : top + height, left : left + width]
                if np.array_equal(there[hole == 0][::7], crop[hole == 0][::7]):
                    return there.copy()
        return crop

    return FakeFiller("oracle", work)


def test_a_perfect_engine_has_a_perfect_probe() -> None:
    # A small, detailed photo with one letter: the oracle looks everywhere.
    clean = photo("chelsea", 96)
    stamped = stamp(clean, "I", at=(70, 40), size=10)
    mask = np.where(stamped.changed, 255, 0).astype(np.uint8)
    filling = Filling(stamped.pixels, mask, Fill(oracle(clean), 6, 0))
    result = displaced_probe(stamped.pixels, mask, dilate(mask, 2), filling)
    assert result.psnr is not None
    assert result.psnr > 40 or math.isinf(result.psnr)
    assert result.ssim > 0.99
    assert result.haarpsi > 0.99


@pytest.mark.parametrize(("name", "at"), PLACES)
def test_a_bad_engine_is_far_below_a_decent_one(name: str, at: tuple[int, int]) -> None:
    stamped = stamp(photo(name, 320), "24-03-15", at=at)
    good = probe(stamped, Engines().filler("telea"))
    bad = probe(stamped, FakeFiller("bad", lambda crop, hole: painted(crop, hole, (255, 0, 255))))
    assert good is not None
    assert bad is not None
    assert bad.psnr < good.psnr - 8
    assert bad.ssim < good.ssim - 0.1
    assert bad.haarpsi < good.haarpsi


@pytest.mark.parametrize(("name", "at"), PLACES)
def test_an_engine_that_does_nothing_does_not_shine(name: str, at: tuple[int, int]) -> None:
    """On clean ground the truth lies under the probe's mask: it must not be handed over."""
    stamped = stamp(photo(name, 320), "24-03-15", at=at)
    nothing = probe(stamped, FakeFiller("idle", lambda crop, hole: crop.copy()))
    good = probe(stamped, Engines().filler("telea"))
    assert nothing is not None
    assert good is not None
    assert nothing.psnr < good.psnr - 4


def test_a_probe_is_repeatable(stamped: Stamped) -> None:
    assert probe(stamped, Engines().filler("telea")) == probe(stamped, Engines().filler("telea"))


def test_sixteen_bits_are_probed_like_eight(stamped: Stamped) -> None:
    eight = probe(stamped, Engines().filler("navier-stokes"))
    wide = stamped.pixels.astype(np.uint16) * np.uint16(257)
    sixteen = probe(stamped, Engines().filler("navier-stokes"), wide)
    assert eight is not None
    assert sixteen is not None
    assert abs(eight.psnr - sixteen.psnr) < 1
    assert abs(eight.ssim - sixteen.ssim) < 0.02


def test_without_clean_ground_there_is_no_probe(stamped: Stamped) -> None:
    mask = strokes(stamped)
    everywhere = np.full_like(mask, 255)
    fill = Fill(Engines().filler("telea"), 32, 2)
    nowhere = displaced_probe(stamped.pixels, mask, everywhere, Filling(stamped.pixels, mask, fill))
    assert nowhere.psnr is None
    assert nowhere.unprobed > 0
    huge = np.zeros_like(mask)
    huge[5:-5, 5:-5] = 255
    assert (
        displaced_probe(stamped.pixels, huge, huge, Filling(stamped.pixels, huge, fill)).probes == 0
    )


def test_transparent_ground_is_no_truth(stamped: Stamped) -> None:
    mask = strokes(stamped)
    opaque = np.full((*mask.shape, 1), 255, np.uint8)
    fill = Fill(Engines().filler("telea"), 32, 2)
    clear = np.concatenate([stamped.pixels, opaque], axis=2)
    seen = displaced_probe(clear, mask, mask, Filling(clear, mask, fill))
    plain = Filling(stamped.pixels, mask, fill)
    assert seen == displaced_probe(stamped.pixels, mask, mask, plain)
    thin = np.where(mask[:, :, None] > 0, opaque, np.uint8(200))
    glass = np.concatenate([stamped.pixels, thin], axis=2)
    assert displaced_probe(glass, mask, mask, Filling(glass, mask, fill)).probes == 0


def test_the_probe_avoids_what_is_not_clean() -> None:
    """Beside the hole lies other text: the probe must go elsewhere."""
    pixels = np.full((120, 120, 3), 90, np.uint8)
    pixels[:, :60] = 200
    mask = np.zeros((120, 120), np.uint8)
    mask[50:60, 20:30] = 255
    avoid = np.zeros_like(mask)
    avoid[:, :60] = 255
    crops = []

    def noting(crop: Pixels, hole: Pixels) -> Pixels:
        crops.append(crop[hole == 0].mean())
        return crop

    fill = Fill(FakeFiller("noting", noting), 4, 0)
    displaced_probe(pixels, mask, avoid, Filling(pixels, mask, fill))
    assert crops == [] or min(crops) == 90


def tiled() -> tuple[Pixels, Pixels]:
    """A photo with a mark all over it, and a mask of that."""
    clean = photo("coffee", 320)
    pixels = stamp(clean, "SAMPLE", at=(10, 10), size=16).pixels
    for row in range(5):
        for column in range(4):
            pixels = stamp(pixels, "SAMPLE", at=(5 + 80 * column, 5 + 42 * row), size=16).pixels
    mask = np.where((pixels != clean).any(axis=2), 255, 0).astype(np.uint8)
    return pixels, dilate(mask, 3)


def test_a_mark_all_over_the_photo_is_probed_between_its_lines() -> None:
    pixels, mask = tiled()
    shown = []

    def work(crop: Pixels, hole: Pixels) -> Pixels:
        shown.append(hole)
        return crop

    fill = Fill(FakeFiller("showing", work), 32, 2)
    result = displaced_probe(pixels, mask, mask, Filling(pixels, mask, fill))
    assert result.probes == 1  # of all copies together: one tells of the others
    assert result.unprobed == 0
    area = sum(np.count_nonzero(hole) for hole in shown)
    assert 0.4 * np.count_nonzero(mask) <= area <= np.count_nonzero(mask)


def test_a_mark_that_leaves_no_room_is_probed_in_pieces() -> None:
    pixels, mask = tiled()
    avoid = np.full_like(mask, 255)
    avoid[: mask.shape[0] // 3] = 0
    filling = Filling(pixels, mask, Fill(Engines().filler("telea"), 32, 2))
    assert displaced_probe(pixels, mask, avoid, filling).probes != 1


def test_a_thick_hole_is_not_probed_in_parts() -> None:
    # A fill does well on small parts of what it cannot fill as a whole.
    pixels = photo("coffee", 320)
    mask = np.zeros(pixels.shape[:2], np.uint8)
    mask[20:190, 40:280] = 255
    filling = Filling(pixels, mask, Fill(Engines().filler("telea"), 32, 2))
    result = displaced_probe(pixels, mask, mask, filling)
    assert not result.probes
    assert result.unprobed == np.count_nonzero(mask)


def test_a_long_bar_is_probed_in_parts() -> None:
    # It is as thick as it is high: between what is not clean there is ground for parts of it.
    pixels = photo("coffee", 320)
    mask = np.zeros(pixels.shape[:2], np.uint8)
    mask[100:110, 10:310] = 255
    avoid = np.zeros_like(mask)
    avoid[:, 150:170] = 255
    filling = Filling(pixels, mask, Fill(Engines().filler("telea"), 32, 2))
    result = displaced_probe(pixels, mask, avoid, filling)
    assert result.probes
    assert result.unprobed < np.count_nonzero(mask)


@pytest.mark.parametrize(
    ("hole", "box", "thick"),
    [
        pytest.param(Box(20, 20, 60, 90), Box(20, 20, 60, 90), 40, id="fills-its-box"),
        pytest.param(Box(20, 20, 26, 90), Box(20, 20, 26, 90), 6, id="bar"),
        pytest.param(Box(20, 20, 60, 90), Box(20, 40, 60, 60), 40, id="box-cut-from-it"),
        pytest.param(Box(0, 0, 100, 120), Box(0, 0, 100, 120), 100, id="all-of-the-photo"),
        pytest.param(Box(99, 119, 100, 120), Box(99, 119, 100, 120), 2, id="one-pixel"),
    ],
)
def test_a_hole_is_as_thick_as_it_is_across(hole: Box, box: Box, thick: float) -> None:
    mask = np.zeros((100, 120), np.uint8)
    mask[hole.slices] = 255
    assert _thickness(mask, box) == pytest.approx(thick, rel=0.06)


def test_a_large_hole_at_the_edge_of_an_odd_photo_is_probed() -> None:
    """What is looked for in a smaller copy may end a pixel beyond it."""
    pixels = np.random.default_rng(1).integers(90, 110, (321, 481, 3), np.uint8)
    mask = np.zeros((321, 481), np.uint8)
    mask[111:, 271:] = 255
    filling = Filling(pixels, mask, Fill(Engines().filler("telea"), 32, 2))
    assert displaced_probe(pixels, mask, mask, filling).probes
