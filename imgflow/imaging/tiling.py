"""Running an engine over tiles of a photo, blended without seams, in bounded memory.

Every tile owns a rectangular core; the cores partition the photo. A tile sees its core plus a
halo, as far as the photo goes, and contributes

    collapse( GaussianPyramid(indicator of its core)_l * LaplacianPyramid(its output)_l )

(Burt and Adelson 1983). For an engine whose output depends on no input farther away than its
receptive radius, the sum of all contributions equals the output on the whole photo (with sides
rounded up to multiples of 2**levels by reflection), up to float32 rounding. What lies beyond the
photo is for the engine to say: networks learn at the edges of what they are shown. The proof, in
output pixels, with s the scale, L the levels, q = 2**L, R = receptive * s rounded up to a multiple
of q, and H = halo * s a multiple of q:

1. Windows start on multiples of q, so all tiles sample their pyramids on one common grid, and as
   the indicators sum to one, so do their Gaussian pyramids at every level. (Cores at the photo's
   edge go on to the grid's next line for that reason.)
2. What lies within R of a window's edge inside the photo may be wrong. A reduction with 5 taps
   makes c wrong samples into at most ceil(c / 2) + 1, so at most R / 2**l + 2 at level l, and
   subtracting the expansion of the next level spoils positions up to R + 2 * 2**(l+1). The wrong
   coefficients end at R + 2q, at the coarsest level (samples lie q apart, nothing is subtracted) at
   R + q.
3. A reduction to level l looks 2 * (2**l - 1) pixels far. Cores begin on the grid, so outside
   the core only the nearest sample, 2**l away, has a weight. Wrong coefficients inside the photo
   therefore have weight zero if H - q / 2 > R + 2q and H - q > R + q: H >= R + 3q is enough.
4. Windows that reach the photo's edge all end there, and their pyramids treat it alike: what it
   does to them is the same in all, and in the whole.
5. By 3 and 4 a contribution ends less than 3q outside its core: it lies inside its window, and
   only what lies nearer than 3q to a border between cores has to wait for the next tile.

Hence halo * s >= receptive * s + 3 * 2**levels, both aligned to 2**levels.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from imgflow.imaging import pyramid

Engine = Callable[[NDArray[np.float32]], NDArray[np.float32]]

MIN_CORE = 64
"""Tiles are not halved below this many pixels: the halo would cost more than it saves."""

MAX_SCALE = 4

_ROWS = 16


@dataclass(frozen=True, slots=True)
class Tile:
    """The core of one tile, in input pixels."""

    top: int
    left: int
    bottom: int
    right: int


@dataclass(frozen=True, slots=True)
class TilePlan:
    """How a photo is cut into tiles; small enough to be kept in a record.

    Raises ValueError where the values cannot give a seamless result.
    """

    height: int
    """Rows of the input, at least 1."""

    width: int
    """Columns of the input, at least 1."""

    core: int
    """Most input pixels a side that one tile owns; a multiple of 2**levels."""

    halo: int
    """Input pixels that a tile sees beyond its core on each side, as far as the photo goes; a
    multiple of 2**levels."""

    scale: int
    """Output pixels per input pixel along a side, 1 to 4."""

    levels: int
    """Levels of the blending pyramid; 0 sets tiles hard against each other."""

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"an image of {self.height} x {self.width} pixels has no tiles")
        if not 1 <= self.scale <= MAX_SCALE:
            raise ValueError(f"scale must be 1 to {MAX_SCALE}, not {self.scale}")
        if self.levels < 0:
            raise ValueError(f"levels must not be negative: {self.levels}")
        if self.core < 1 or self.core % self.unit or self.halo % self.unit:
            raise ValueError(
                f"core {self.core} and halo {self.halo} must be multiples of {self.unit}"
            )
        if not self.whole and self.halo * self.scale < self.margin:
            raise ValueError(
                f"a halo of {self.halo} is too small to blend {self.levels} levels at scale "
                f"{self.scale}: it takes {self.margin} output pixels"
            )

    @classmethod
    def for_engine(
        cls,
        height: int,
        width: int,
        *,
        receptive: int,
        scale: int,
        core: int = 512,
        levels: int = 3,
    ) -> TilePlan:
        """The plan for an engine that looks `receptive` input pixels far.

        Core and halo are rounded up to multiples of 2**levels, so the engine sees sides that are
        multiples of that too. A photo that is one tile has nothing to blend, and needs no halo
        for that.
        """
        unit = 2**levels
        core = _align(core, unit)
        blending = 0 if max(height, width) <= core else -(-_blend_margin(levels) // scale)
        return cls(
            height=height,
            width=width,
            core=core,
            halo=_align(receptive + blending, unit),
            scale=scale,
            levels=levels,
        )

    @property
    def whole(self) -> bool:
        """Whether the photo is one tile."""
        return max(self.height, self.width) <= self.core

    @property
    def unit(self) -> int:
        """Grid that all cores and windows start on, in input pixels."""
        return 1 << self.levels

    @property
    def margin(self) -> int:
        """Output pixels beyond its core that a tile contributes to."""
        return _blend_margin(self.levels)

    def tiles(self) -> Iterator[Tile]:
        """Cores row by row. Their sides differ by one unit at most, so no sliver is left."""
        for top, bottom in pairwise(self.row_edges()):
            for left, right in pairwise(self.column_edges()):
                yield Tile(top, left, bottom, right)

    def row_edges(self) -> list[int]:
        """Input rows where cores begin, and the height."""
        return _even_edges(self.height, self.core, self.unit)

    def column_edges(self) -> list[int]:
        """Input columns where cores begin, and the width."""
        return _even_edges(self.width, self.core, self.unit)

    def halved(self) -> TilePlan | None:
        """The plan with cores of half the size, or None where they are at MIN_CORE already."""
        largest = min(self.core, _align(max(self.height, self.width), self.unit))
        smaller = _align(max(largest // 2, MIN_CORE), self.unit)
        blending = _align(-(-self.margin // self.scale), self.unit) if self.whole else 0
        if smaller >= largest:
            return None
        return replace(self, core=smaller, halo=self.halo + blending)

    def as_dict(self) -> dict[str, int]:
        """The fields, for the record."""
        return asdict(self)


def run_tiled(
    pixels: NDArray[Any],
    engine: Engine,
    plan: TilePlan,
    *,
    out_dtype: DTypeLike | None = None,
) -> tuple[NDArray[Any], TilePlan]:
    """Run an engine over all of a photo, tile by tile.

    pixels: (H, W, C), uint8 or uint16 over their full range, or float32 in 0..1.
    engine: maps (h, w, C) float32 in 0..1 to (h * scale, w * scale, C) float32.
    out_dtype: dtype of the result, by default that of `pixels`. Integers are rounded and clipped
        to their full range; float32 is left as the engine made it.

    Returns (H * scale, W * scale, C) and the plan that was used: when memory runs out, tiles are
    halved and the photo is begun again. Beside input and output it holds one tile, and the
    borders that are still being blended.

    Raises MemoryError or torch.OutOfMemoryError when even the smallest tile does not fit, and
    ValueError when the plan is for another size or the engine returns something unusable.
    """
    if pixels.ndim != 3 or pixels.shape[:2] != (plan.height, plan.width):
        raise ValueError(
            f"the plan is for {plan.height} x {plan.width} pixels with channels, "
            f"the image has shape {pixels.shape}"
        )
    shape = (plan.height * plan.scale, plan.width * plan.scale, pixels.shape[2])
    result = np.empty(shape, pixels.dtype if out_dtype is None else out_dtype)
    while True:
        try:
            _run(pixels, engine, plan, result)
        except _out_of_memory_errors() as error:
            smaller = plan.halved()
            if smaller is None:
                error.add_note(f"memory ran out even with the smallest tiles: {plan.as_dict()}")
                raise
        else:
            return result, plan
        # Set outside the except clause: the error's traceback keeps the engine's arrays alive.
        plan = smaller


def seam_score(result: NDArray[Any], reference: NDArray[Any], plan: TilePlan) -> float:
    """How visible the tile borders are: 0 not at all, 1 a step from black to white.

    result, reference: (H * scale, W * scale, C) of one dtype, tiled and untiled. The score is the
    largest step between neighbouring pixels of `result - reference`, across the direction of a
    border and within 2 pixels of it. An error that is the same on both sides is not a seam.
    """
    if result.shape != reference.shape or result.dtype != reference.dtype:
        raise ValueError(
            f"result {result.shape} {result.dtype} and reference {reference.shape} "
            f"{reference.dtype} differ in kind"
        )
    worst = 0.0
    for axis, edges in enumerate((plan.row_edges(), plan.column_edges())):
        for edge in edges[1:-1]:
            near = [slice(None), slice(None)]
            near[axis] = slice(max(edge * plan.scale - 2, 0), edge * plan.scale + 2)
            error = _to_float(result[tuple(near)]) - _to_float(reference[tuple(near)])
            worst = max(worst, float(np.abs(np.diff(error, axis=axis)).max()))
    return worst


def _run(pixels: NDArray[Any], engine: Engine, plan: TilePlan, result: NDArray[Any]) -> None:
    """Fill `result`, keeping in float32 only what later tiles still add to: of the tiles above
    and of the tile before, the rows and columns that they share with the next."""
    if plan.whole:
        # A single tile has nothing to be blended with; the blending would cost more than many
        # an engine.
        _run_whole(pixels, engine, plan, result)
        return
    above = np.empty((0, *result.shape[1:]), np.float32)
    for (top, bottom), tiles in groupby(plan.tiles(), key=lambda tile: (tile.top, tile.bottom)):
        rows = _Side(top, bottom, plan.height, plan)
        below = np.empty((rows.end - rows.done, *result.shape[1:]), np.float32)
        before = np.empty((rows.end - rows.begin, 0, result.shape[2]), np.float32)
        for tile in tiles:
            columns = _Side(tile.left, tile.right, plan.width, plan)
            share = _share(pixels, engine, plan, rows, columns)
            known = before.shape[1]  # these columns hold what the tiles above gave already
            share[:, :known] += before
            share[: len(above), known:] += above[:, columns.begin + known : columns.end]
            finished = share[: rows.done - rows.begin, : columns.done - columns.begin]
            _write(finished, result[rows.begin : rows.done, columns.begin : columns.done])
            below[:, columns.begin : columns.done] = share[len(finished) :, : finished.shape[1]]
            before = share[:, finished.shape[1] :].copy()
        above = below


def _run_whole(pixels: NDArray[Any], engine: Engine, plan: TilePlan, result: NDArray[Any]) -> None:
    rows, columns = (_read(0, size, size, plan) for size in (plan.height, plan.width))
    window = _to_float(pixels[np.ix_(rows, columns)])
    output = _checked(engine(window), window.shape, plan.scale)
    _write(output[: result.shape[0], : result.shape[1]], result)


def _share(
    pixels: NDArray[Any], engine: Engine, plan: TilePlan, rows: _Side, columns: _Side
) -> NDArray[np.float32]:
    """What a tile contributes to the output rows and columns that it reaches."""
    window = _to_float(pixels[np.ix_(rows.reflected, columns.reflected)])
    share = pyramid.weighted(
        _checked(engine(window), window.shape, plan.scale), rows.weights, columns.weights
    )
    return share[
        rows.begin - rows.origin : rows.end - rows.origin,
        columns.begin - columns.origin : columns.end - columns.origin,
    ]


class _Side:
    """One direction of a tile: which input it reads, its weights, and the output that it reaches.

    begin, end: output that it contributes to, cut to the photo. done: where the next tile begins
    to contribute, so that nothing is added to what lies before.
    """

    def __init__(self, start: int, stop: int, size: int, plan: TilePlan) -> None:
        scale, margin = plan.scale, plan.margin
        before = _seen_before(start, plan)
        self.origin = (start - before) * scale
        self.begin = max(start * scale - margin, 0)
        self.end = min(stop * scale + margin, size * scale)
        self.done = size * scale if stop == size else max(stop * scale - margin, 0)
        self.reflected = _read(start, stop, size, plan)
        length = len(self.reflected)
        owned_to = length if stop == size else before + stop - start
        self.weights = pyramid.indicator_pyramid(
            before * scale, owned_to * scale, length * scale, plan.levels
        )


def _read(start: int, stop: int, size: int, plan: TilePlan) -> NDArray[np.int_]:
    """Indices of the input that the window of a tile from `start` to `stop` is read from."""
    end = _align(min(stop + plan.halo, size), plan.unit)
    return _reflect(np.arange(start - _seen_before(start, plan), end), size)


def _seen_before(start: int, plan: TilePlan) -> int:
    """Input that a tile sees before its core."""
    return min(start, plan.halo)


def _checked(
    output: NDArray[np.float32], window_shape: tuple[int, ...], scale: int
) -> NDArray[np.float32]:
    height, width, channels = window_shape
    expected = (height * scale, width * scale, channels)
    if output.shape != expected:
        raise ValueError(
            f"the engine made {output.shape} of a tile of {window_shape}, not {expected}"
        )
    if not np.isfinite(output).all():
        raise ValueError(f"the engine returned NaN or infinity for a tile of {window_shape}")
    return output.astype(np.float32, copy=False)


def _write(finished: NDArray[np.float32], result: NDArray[Any]) -> None:
    if not np.issubdtype(result.dtype, np.integer):
        result[...] = finished
        return
    highest = np.iinfo(result.dtype).max
    # A few rows at a time stay in the processor's cache: three times as fast as all at once.
    for start in range(0, len(finished), _ROWS):
        rows = finished[start : start + _ROWS] * np.float32(highest)
        np.rint(rows, out=rows)
        np.clip(rows, 0, highest, out=rows)
        result[start : start + _ROWS] = rows


def _to_float(pixels: NDArray[Any]) -> NDArray[np.float32]:
    if np.issubdtype(pixels.dtype, np.integer):
        return pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)
    return pixels.astype(np.float32)


def _reflect(index: NDArray[np.int_], size: int) -> NDArray[np.int_]:
    """Indices reflected about the first and last sample as often as it takes."""
    if size == 1:
        return np.zeros_like(index)
    period = 2 * (size - 1)
    index = index % period
    return np.minimum(index, period - index)


def _even_edges(size: int, core: int, unit: int) -> list[int]:
    units = -(-size // unit)
    count = -(-size // core)
    return [units * i // count * unit for i in range(count)] + [size]


def _align(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def _blend_margin(levels: int) -> int:
    return 3 * 2**levels if levels else 0


def _out_of_memory_errors() -> tuple[type[BaseException], ...]:
    # Whoever did not import torch cannot get its error; importing it here would take seconds.
    torch = sys.modules.get("torch")
    return (MemoryError,) if torch is None else (MemoryError, torch.OutOfMemoryError)
