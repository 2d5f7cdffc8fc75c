from __future__ import annotations

import sys
import tracemalloc
import types
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from imgflow.imaging.tiling import MIN_CORE, TilePlan, run_tiled, seam_score

Pixels = NDArray[Any]


def noise(height: int, width: int, channels: int = 3, dtype: Any = np.float32) -> Pixels:
    rng = np.random.default_rng(height * 1000 + width)
    if np.issubdtype(dtype, np.integer):
        return rng.integers(0, np.iinfo(dtype).max, (height, width, channels), dtype, True)
    return rng.random((height, width, channels), np.float32)


def convolving(receptive: int, scale: int) -> Callable[[Pixels], Pixels]:
    """A random filter that looks `receptive` pixels far, then nearest enlargement."""
    rng = np.random.default_rng(receptive)
    kernel = rng.normal(0, 1, (2 * receptive + 1, 2 * receptive + 1)).astype(np.float32)
    kernel /= np.abs(kernel).sum()

    def engine(tile: Pixels) -> Pixels:
        # A border of its own: what the engine makes of the window's edge must not matter.
        out = cv2.filter2D(tile, -1, kernel, borderType=cv2.BORDER_CONSTANT).reshape(tile.shape)
        return np.kron(out, np.ones((scale, scale, 1), np.float32))

    return engine


def untiled(pixels: Pixels, engine: Callable[[Pixels], Pixels], unit: int, scale: int) -> Pixels:
    """What the engine makes of the whole photo, its sides rounded up to multiples of `unit`."""
    height, width = pixels.shape[:2]
    rounded = pixels
    for axis in (0, 1):
        widths = [(0, -pixels.shape[i] % unit if i == axis else 0) for i in range(3)]
        rounded = np.pad(rounded, widths, mode="reflect" if pixels.shape[axis] > 1 else "edge")
    return engine(rounded)[: height * scale, : width * scale]


@settings(max_examples=120, deadline=None)
@given(
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    channels=st.sampled_from([1, 3, 4]),
    core=st.integers(1, 80),
    scale=st.integers(1, 4),
    receptive=st.integers(1, 12),
    levels=st.integers(0, 4),
)
def test_tiled_equals_untiled(
    height: int, width: int, channels: int, core: int, scale: int, receptive: int, levels: int
) -> None:
    core = max(core, max(height, width) // 4)  # at most a few dozen tiles
    plan = TilePlan.for_engine(
        height, width, receptive=receptive, scale=scale, core=core, levels=levels
    )
    pixels = noise(height, width, channels)
    engine = convolving(receptive, scale)
    result, used = run_tiled(pixels, engine, plan)
    assert used == plan
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, untiled(pixels, engine, plan.unit, scale), rtol=0, atol=1e-5)


@pytest.mark.parametrize("levels", [2, 3, 4])
def test_a_halo_one_unit_smaller_is_not_enough(levels: int) -> None:
    """The bound in the module's docstring holds and is tight."""
    receptive = 2**levels
    plan = TilePlan.for_engine(160, 160, receptive=receptive, scale=1, core=48, levels=levels)
    short = TilePlan(160, 160, plan.core, plan.margin, 1, levels)
    pixels = noise(160, 160)

    def engine(tile: Pixels) -> Pixels:
        out = tile.copy()
        for edge in (out[:receptive], out[-receptive:], out[:, :receptive], out[:, -receptive:]):
            edge[:] = 1e4
        return out

    # What it makes of the photo's own edge is its business.
    inside = np.s_[receptive:-receptive, receptive:-receptive]
    error, with_less = (
        np.abs(run_tiled(pixels, engine, each)[0] - engine(pixels)) for each in (plan, short)
    )
    assert error[inside].max() < 0.01
    assert with_less[inside].max() > 0.1


def test_lanczos_enlargement_has_no_seam() -> None:
    def engine(tile: Pixels) -> Pixels:
        return cv2.resize(tile, None, fx=3, fy=3, interpolation=cv2.INTER_LANCZOS4)

    pixels = noise(90, 70)
    plan = TilePlan.for_engine(90, 70, receptive=5, scale=3, core=32)
    result, _ = run_tiled(pixels, engine, plan)
    np.testing.assert_allclose(result, untiled(pixels, engine, plan.unit, 3), rtol=0, atol=1e-5)


@given(
    height=st.integers(1, 5000),
    width=st.integers(1, 5000),
    core=st.integers(1, 700),
    levels=st.integers(0, 5),
)
@settings(max_examples=100, deadline=None)
def test_cores_partition_the_image_evenly_on_the_grid(
    height: int, width: int, core: int, levels: int
) -> None:
    plan = TilePlan.for_engine(height, width, receptive=3, scale=2, core=core, levels=levels)
    for edges, size in ((plan.row_edges(), height), (plan.column_edges(), width)):
        assert edges[0] == 0
        assert edges[-1] == size
        sizes = [b - a for a, b in pairwise(edges)]
        assert all(0 < side <= plan.core for side in sizes)
        assert all(edge % plan.unit == 0 for edge in edges[:-1])
        assert max(sizes) - min(sizes) < 2 * plan.unit


def test_tiles_come_row_by_row() -> None:
    plan = TilePlan.for_engine(100, 130, receptive=1, scale=1, core=64)
    corners = [(tile.top, tile.left) for tile in plan.tiles()]
    assert corners == sorted(corners)
    assert len(corners) == 2 * 3


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integers_keep_their_full_range_and_are_rounded(dtype: Any) -> None:
    pixels = noise(70, 90, 3, dtype)
    plan = TilePlan.for_engine(70, 90, receptive=0, scale=1, core=32)
    result, _ = run_tiled(pixels, lambda tile: tile, plan)
    assert result.dtype == dtype
    assert np.array_equal(result, pixels)


def test_values_outside_the_range_are_clipped_for_integers_only() -> None:
    pixels = noise(40, 40, 3, np.uint8)
    plan = TilePlan.for_engine(40, 40, receptive=0, scale=1, core=16)
    result, _ = run_tiled(pixels, lambda tile: tile * 2 - 0.5, plan)
    assert result.min() == 0
    assert result.max() == 255
    kept, _ = run_tiled(pixels, lambda tile: tile * 2 - 0.5, plan, out_dtype=np.float32)
    assert kept.dtype == np.float32
    assert kept.max() > 1.2


def test_blending_hides_tiles_that_disagree() -> None:
    def moody(tile: Pixels) -> Pixels:
        # Like a network with instance normalisation: brightness depends on the whole tile.
        return np.asarray(tile - tile.mean() + 0.5)

    ramp = np.linspace(0, 1, 300, dtype=np.float32)
    pixels = np.repeat((ramp[:, None] * ramp)[:, :, None], 3, axis=2)
    naive = TilePlan.for_engine(300, 300, receptive=2, scale=1, core=64, levels=0)
    ours = TilePlan.for_engine(300, 300, receptive=2, scale=1, core=64, levels=3)
    naive_seam = seam_score(run_tiled(pixels, moody, naive)[0], pixels, naive)
    our_seam = seam_score(run_tiled(pixels, moody, ours)[0], pixels, ours)
    assert naive_seam > 0.05
    assert our_seam < naive_seam / 5


def test_seam_score_sees_steps_at_borders_only() -> None:
    plan = TilePlan.for_engine(64, 64, receptive=0, scale=1, core=32, levels=0)
    reference = np.full((64, 64, 3), 100, np.uint8)
    assert seam_score(reference + np.uint8(9), reference, plan) == 0
    step = reference.copy()
    step[:, 32:] += 51
    assert seam_score(step, reference, plan) == pytest.approx(0.2, abs=1e-6)
    elsewhere = reference.copy()
    elsewhere[:, 10:12] = 0
    assert seam_score(elsewhere, reference, plan) == 0


class DeviceMemoryError(RuntimeError):
    """Stands for torch.OutOfMemoryError, a RuntimeError that is no MemoryError."""


@pytest.mark.parametrize("error", [MemoryError, DeviceMemoryError])
def test_out_of_memory_halves_the_tiles(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = types.SimpleNamespace(OutOfMemoryError=DeviceMemoryError)
    monkeypatch.setitem(sys.modules, "torch", torch)
    work = convolving(2, 2)

    def engine(tile: Pixels) -> Pixels:
        if tile.shape[0] > 150:
            raise error("too large")
        return work(tile)

    pixels = noise(300, 200)
    plan = TilePlan.for_engine(300, 200, receptive=2, scale=2, core=512)
    result, used = run_tiled(pixels, engine, plan)
    assert used.core < plan.core
    np.testing.assert_allclose(result, untiled(pixels, work, plan.unit, 2), rtol=0, atol=1e-5)


def test_out_of_memory_at_the_floor_is_raised_with_a_note() -> None:
    cores = []

    def engine(tile: Pixels) -> Pixels:
        cores.append(tile.shape[0])
        raise MemoryError("never enough")

    plan = TilePlan.for_engine(400, 400, receptive=2, scale=1, core=512)
    with pytest.raises(MemoryError, match="never enough") as caught:
        run_tiled(noise(400, 400), engine, plan)
    assert "smallest tiles" in caught.value.__notes__[0]
    assert cores == sorted(set(cores), reverse=True), "each attempt tries smaller tiles"
    assert len(cores) > 1


def test_halving_ends_at_the_floor() -> None:
    plan: TilePlan | None = TilePlan.for_engine(5000, 5000, receptive=9, scale=4, core=512)
    cores = []
    while plan:
        cores.append(plan.core)
        plan = plan.halved()
    assert cores == [512, 256, 128, MIN_CORE]
    assert TilePlan.for_engine(50, 50, receptive=9, scale=1, core=512).halved() is None


def test_other_errors_of_the_engine_are_not_retried() -> None:
    def engine(tile: Pixels) -> Pixels:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        run_tiled(noise(9, 9), engine, TilePlan.for_engine(9, 9, receptive=0, scale=1))


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        (lambda tile: tile[:-1], "the engine made"),
        (lambda tile: tile * np.float32(np.nan), "NaN or infinity"),
        (lambda tile: tile + np.float32(np.inf), "NaN or infinity"),
    ],
)
def test_unusable_output_is_an_error(engine: Callable[[Pixels], Pixels], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_tiled(noise(9, 9), engine, TilePlan.for_engine(9, 9, receptive=0, scale=1))


def test_a_plan_for_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"9 x 9 .* \(8, 9, 3\)"):
        run_tiled(noise(8, 9), lambda tile: tile, TilePlan.for_engine(9, 9, receptive=0, scale=1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"height": 0}, "has no tiles"),
        ({"scale": 5}, "scale"),
        ({"levels": -1}, "levels"),
        ({"core": 60}, "multiples of 8"),
        ({"core": 0}, "multiples of 8"),
        ({"halo": 36}, "multiples of 8"),
        ({"halo": 16}, "too small"),
    ],
)
def test_a_plan_that_cannot_be_seamless_is_refused(changes: dict[str, int], message: str) -> None:
    good = TilePlan.for_engine(100, 100, receptive=1, scale=1, core=64).as_dict()
    with pytest.raises(ValueError, match=message):
        TilePlan(**(good | changes))


def test_memory_is_a_few_strips_not_the_whole_float_image() -> None:
    height, width = 3000, 4000
    pixels = np.zeros((height, width, 3), np.uint8)
    plan = TilePlan.for_engine(height, width, receptive=8, scale=1, core=256)
    strip = (plan.core + 2 * plan.halo) * width * 3 * 4
    tracemalloc.start()
    try:
        run_tiled(pixels, lambda tile: tile, plan)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < pixels.nbytes + 2 * strip
    assert 2 * strip < 4 * pixels.nbytes / 3
