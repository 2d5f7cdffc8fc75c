"""A fill changes what is masked, and not one pixel more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import FakeFiller, Pixels, painted, photo

from imgflow.engines.registry import Engines
from imgflow.stages.fill import Fill, fill_holes

FILLERS = ["telea", "navier-stokes", "biharmonic"]


def ground(dtype: Any = np.uint8, alpha: bool = False) -> Pixels:
    """A part of a photo, (60, 80, 3|4)."""
    pixels = photo("coffee", 320)[10:70, 200:280].astype(dtype)
    if dtype == np.uint16:
        pixels = pixels * np.uint16(257)
    if not alpha:
        return pixels
    top = np.iinfo(dtype).max
    opacity = np.full((60, 80, 1), top, dtype)
    opacity[:, 50:] = 0
    opacity[40:, :50] = top // 2
    return np.concatenate([pixels, opacity], axis=2)


def mask_of(*boxes: tuple[int, int, int, int], shape: tuple[int, int] = (60, 80)) -> Pixels:
    mask = np.zeros(shape, np.uint8)
    for top, left, bottom, right in boxes:
        mask[top:bottom, left:right] = 255
    return mask


@pytest.mark.parametrize("alpha", [False, True], ids=["RGB", "RGBA"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("name", FILLERS)
@pytest.mark.parametrize("feather", [0, 3])
def test_outside_the_mask_every_pixel_is_bit_exact(
    name: str, dtype: Any, alpha: bool, feather: int
) -> None:
    pixels = ground(dtype, alpha)
    mask = mask_of((5, 10, 12, 20), (30, 30, 36, 52), (0, 0, 3, 3), (55, 76, 60, 80))
    before = pixels.copy()
    filled = fill_holes(pixels, mask, Fill(Engines().filler(name), 12, feather))
    assert np.array_equal(pixels, before), "the input is not touched"
    assert filled.shape == pixels.shape
    assert filled.dtype == dtype
    assert np.array_equal(filled[mask == 0], before[mask == 0])
    assert np.array_equal(filled[:, :, 3:], before[:, :, 3:]), "alpha is carried"
    assert not np.array_equal(filled[:, :, :3][mask > 0], before[:, :, :3][mask > 0])


@settings(max_examples=20, deadline=None)
@given(
    boxes=st.lists(
        st.tuples(st.integers(0, 50), st.integers(0, 70), st.integers(1, 10), st.integers(1, 10)),
        max_size=4,
    ),
    context=st.integers(4, 40),
    feather=st.integers(0, 6),
)
def test_an_engine_that_repaints_everything_changes_only_the_holes(
    boxes: list[tuple[int, int, int, int]], context: int, feather: int
) -> None:
    pixels = ground()
    mask = mask_of(*[(top, left, top + h, left + w) for top, left, h, w in boxes])
    inverting = FakeFiller("inverting", lambda crop, hole: 255 - crop)
    filled = fill_holes(pixels, mask, Fill(inverting, context, feather))
    assert np.array_equal(filled[mask == 0], pixels[mask == 0])


def test_an_empty_mask_asks_no_engine() -> None:
    engine = FakeFiller("idle", lambda crop, hole: crop)
    filled = fill_holes(ground(), mask_of(), Fill(engine, 12, 2))
    assert np.array_equal(filled, ground())
    assert engine.calls == 0


@pytest.mark.parametrize("name", FILLERS)
def test_what_lies_under_the_mask_has_no_say(name: str) -> None:
    mask = mask_of((20, 20, 30, 40))
    fill = Fill(Engines().filler(name), 12, 2)
    one, other = ground(), painted(ground(), mask, (255, 0, 255))
    assert np.array_equal(fill_holes(one, mask, fill), fill_holes(other, mask, fill))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("name", FILLERS)
def test_garbage_under_transparent_pixels_never_leaks(name: str, dtype: Any) -> None:
    mask = mask_of((10, 40, 20, 50))  # beside the transparent part
    fill = Fill(Engines().filler(name), 12, 2)
    clean = ground(dtype, alpha=True)
    garbage = clean.copy()
    garbage[:, 50:, :3] = (np.iinfo(dtype).max, 0, np.iinfo(dtype).max)
    filled = fill_holes(garbage, mask, fill)
    expected = fill_holes(clean, mask, fill)
    assert np.array_equal(filled[mask > 0], expected[mask > 0])
    assert np.array_equal(filled[mask == 0], garbage[mask == 0])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_offset_in_tone_is_joined(dtype: Any) -> None:
    """An engine that repaints its crop 20 levels too light leaves no step at the rim."""
    unit = int(np.iinfo(dtype).max) // 255
    flat = np.full((60, 80, 3), 100 * unit, dtype)
    mask = mask_of((20, 20, 40, 50))
    lighter = FakeFiller("lighter", lambda crop, hole: crop + np.array(20 * unit, crop.dtype))

    def rim_step(feather: int) -> float:
        filled = fill_holes(flat, mask, Fill(lighter, 16, feather)).astype(float)
        return float(np.abs(filled[20:40, 20] - filled[20:40, 19]).mean()) / unit

    assert rim_step(0) == 20
    assert rim_step(4) < 6
    assert rim_step(8) < 4


def test_an_engine_that_keeps_known_pixels_is_not_changed_by_the_join() -> None:
    mask = mask_of((20, 20, 40, 50))
    engine = Engines().filler("telea")
    hard, feathered = (fill_holes(ground(), mask, Fill(engine, 16, each)) for each in (0, 8))
    assert np.array_equal(hard, feathered)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda crop, hole: crop[:-1],
        lambda crop, hole: crop[:, :, :1],
        lambda crop, hole: crop.astype(np.float32),
    ],
    ids=["too small", "grey", "float"],
)
def test_an_engine_that_returns_another_shape_or_type_is_an_error(wrong: Any) -> None:
    with pytest.raises(ValueError, match="'broken' returned"):
        fill_holes(ground(), mask_of((20, 20, 30, 30)), Fill(FakeFiller("broken", wrong), 8, 2))


def test_the_engine_sees_a_hole_with_its_context_and_what_it_is_told() -> None:
    seen: dict[str, Any] = {}

    class Noting(FakeFiller):
        def fill(self, pixels: Pixels, mask: Pixels, **asked: Any) -> Pixels:
            seen.update(asked, shape=pixels.shape, hole=int((mask > 0).sum()))
            return pixels

    engine = Noting("noting", lambda crop, hole: crop)
    fill = Fill(engine, 10, 2, prompt="wood", negative_prompt="text", seed=3)
    fill_holes(ground(), mask_of((20, 20, 30, 40)), fill)
    assert seen == {
        "prompt": "wood",
        "negative_prompt": "text",
        "seed": 3,
        "shape": (30, 40, 3),
        "hole": 200,
    }


def test_far_holes_are_filled_one_by_one() -> None:
    engine = FakeFiller("counting", lambda crop, hole: crop)
    fill_holes(ground(), mask_of((5, 5, 8, 8), (50, 70, 54, 74)), Fill(engine, 8, 2))
    assert engine.calls == 2
