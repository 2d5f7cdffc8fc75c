"""How well an enlargement keeps to its source: whether its edges live on, and what it made up.

Both measures compare an enlargement with its source alone, so a result that is sharper than any
interpolation is as good as a soft one where, made small again, it gives the source back. At scale
1 (sharpened, denoised) they hold as well, but for what can only be seen within a source pixel.

Pixels are read in bands of rows, so that 48 megapixels hold a few megabytes of floats. Below, a
value is in 0..255 whatever the dtype, a pixel is one of the source, and a cell is the scale x scale
pixels of the enlargement that cover it. Photos go on past their rim with the pixels of the rim.

Calibration: 44 photos of at most 720 pixels a side, reduced by area means and MATLAB's bicubic and
enlarged x2, x3 and x4. Of 1,056 good results (the photo itself, 70 % of it with 30 % Lanczos,
clamped Lanczos, cubic; sources with noise of 4 or JPEG 50, too) none has an edge_fidelity below
0.64 (least: 0.79) or an artifact_rate above 0.1 (most: 0.06). The share of damaged ones, 132 each,
that these limits stop: nearest neighbour, shifts by 1 and 2 pixels of the enlargement, half of it
doubled a source pixel beside, checkerboard of 3, colour shift of 4, unsharp mask of amount 2 100 %;
blur of 1.2 source pixels 99 %; tiles brighter and darker by 3 98 %; texture of 5 93 %; JPEG 20
92 %; noise of 6 75 % (the rest are photos that are as rough); unsharp mask of amount 1 11 % (78 %
with halo_score of the reduced result at 0.1).

Limits: what an engine restores of a photo that JPEG took it from cannot be told from invention: the
photo itself, against its source as JPEG 75, has an artifact_rate of 0.4. What it takes away can.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.imaging.colour import data_range
from imgflow.imaging.metrics import require_enlargement

Pixels = NDArray[Any]
Plane = NDArray[np.float32]

_BAND = 192  # rows of the enlargement

# ---- edge_fidelity -------------------------------------------------------------------------

_LEAST_STEP = 10.0  # between neighbouring pixels: weaker edges are not asked for
_WINDOW = 13  # pixels a side, in which an edge's place and smoothness are measured
_EDGE_REACH = _WINDOW // 2 + 1
_MISPLACED = 0.15  # pixels of displacement that halve an edge's worth
_SHARPENED = 2.0
_SMOOTH_SHARE = 0.5
_LEVEL, _ALONG = 0.2, 0.1  # of a straight step: what goes on of it, and along it

# ---- artifact_rate -------------------------------------------------------------------------

_BLOCK = 8  # pixels a side
_GROUND = 9  # pixels a side of the mean that detail stands out from
_BLOCK_REACH = _GROUND // 2
_GAIN = (-1.0, 0.25)
_GAIN_OF_SHARPENING = (-1.0, 1.0)


@dataclass(frozen=True, slots=True)
class _Band:
    """Rows of a source with what the enlargement made of them.

    source: (h, w[, C]). excess: (h * scale, w * scale[, C]), the enlargement less the source that
    is replicated into cells. mean, variance: (h, w[, C]), of the excess within each cell. own: the
    rows that this band answers for; the others are surroundings.
    """

    source: Plane
    excess: Plane
    mean: Plane
    variance: Plane
    own: slice


def edge_fidelity(upscaled: Pixels, source: Pixels, scale: int) -> float:
    """How well the source's edges live on in an enlargement: 0 not at all, 1 all of them.

    Mean over the source's edge pixels, those where the gradient g of its luma (Sobel / 8) has a
    magnitude of 10 or more, of the product of

    - agreement, max(0, 2 g.h / (|g|^2 + |h|^2)), h being the gradient of the enlargement made small
      again (mean of each cell): gradient magnitude similarity (Xue, Zhang, Mou, Bovik 2014, IEEE
      TIP 23(2)) without its constant, on vectors, so that direction counts as well as strength. At
      scale 1, h is divided by |h| / |g| clipped to 1..2 first: to sharpen is what was asked for.
    - place, 1 / (1 + (d / 0.15)^2), d pixels being the displacement of the reduced enlargement in
      the 13 x 13 pixels around, by least squares (Lucas and Kanade 1981, IJCAI), with 4 added per
      pixel to the diagonal of its matrix. Doubled edges are displaced ones, too.
    - smoothness, min(1, 2 v / e), v being the mean variance within the cells of the same 13 x 13
      pixels and e what a plane of the reduced enlargement's slope has in a cell,
      |h|^2 (1 - 1 / scale^2) / 12: stairs of source pixels, as nearest neighbours make them, have
      no slope within a cell. Straight steps (below) are not asked for it. 1 at scale 1.

    A straight step is a hard edge along a row or column of the source, as drawings and cut-outs
    have them: between two neighbours in luma, level to a fifth on either side, the gradient within
    a tenth of it across the step; the pixels around count with it. Enlarged, it is as hard.

    1 for a source without edges. upscaled: (H * scale, W * scale[, 3]) uint8 or uint16, the dtype
    of `source`. ValueError otherwise.
    """
    require_enlargement(upscaled, source, scale)
    total, count = 0.0, 0
    for band in _bands(upscaled, source, scale, 1, _EDGE_REACH, grey=True):
        worth = _edges_worth(band, scale)
        total += float(worth.sum(dtype=np.float64))
        count += worth.size
    return total / count if count else 1.0


def _edges_worth(band: _Band, scale: int) -> Plane:
    """(N,) of the band's edge pixels."""
    x, y = _gradient(band.source)
    got_x, got_y = _gradient(band.source + band.mean)
    power = x * x + y * y
    edges = np.zeros(power.shape, bool)
    edges[band.own] = power[band.own] >= _LEAST_STEP**2
    if not edges.any():
        return np.empty(0, np.float32)
    got_power = got_x * got_x + got_y * got_y
    moved = _displacement(x, y, power, band.mean)[edges]
    oblique = np.where(_straight_steps(band.source), np.float32(0), got_power)
    smooth = _smoothness(band.variance, oblique, scale)[edges]
    common, power, got_power = ((x * got_x + y * got_y)[edges], power[edges], got_power[edges])
    if scale == 1:
        gain = np.clip(np.sqrt(got_power / power), 1, _SHARPENED)
        common, got_power = common / gain, got_power / gain**2
    agreement = np.maximum(2 * common / (power + got_power), 0)
    return np.asarray(agreement * smooth / (1 + moved / np.float32(_MISPLACED**2)), np.float32)


def _displacement(x: Plane, y: Plane, power: Plane, change: Plane) -> Plane:
    """(h, w): squared, in pixels."""
    xx, xy = _windowed(x * x), _windowed(x * y)
    yy = _windowed(power) - xx
    # A ridge: where edges run one way only, they tell nothing of the other.
    xx, yy = xx + 4, yy + 4
    along_x, along_y = _windowed(x * change), _windowed(y * change)
    scale = 1 / (xx * yy - xy * xy)
    moved_x = (yy * along_x - xy * along_y) * scale
    moved_y = (xx * along_y - xy * along_x) * scale
    return np.asarray(moved_x**2 + moved_y**2, np.float32)


def _smoothness(variance: Plane, power: Plane, scale: int) -> Plane:
    if scale == 1:
        return np.ones_like(variance)
    expected = _windowed(power) * np.float32(_SMOOTH_SHARE * (1 - 1 / scale**2) / 12)
    tiny = np.float32(1e-3)
    return np.clip((_windowed(variance) + tiny) / (np.maximum(expected, 0) + tiny), 0, 1)


def _gradient(plane: Plane) -> tuple[Plane, Plane]:
    """Change per pixel along x and y."""
    border = cv2.BORDER_REPLICATE
    x = cv2.Sobel(plane, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8, borderType=border)
    y = cv2.Sobel(plane, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8, borderType=border)
    return np.asarray(x, np.float32), np.asarray(y, np.float32)


def _windowed(plane: Plane) -> Plane:
    return _mean_around(plane, _WINDOW)


def artifact_rate(upscaled: Pixels, source: Pixels, scale: int) -> float:
    """Share of an enlargement that shows what its source does not support: 0 nothing, 1 all of it.

    The share of the source's blocks of 8 x 8 pixels that show any of these. Means are over the
    block, in each channel; r is the difference between the enlargement made small again (mean of
    each cell) and the source s; H takes from each pixel the mean of the 9 x 9 pixels around it.

    - another colour: |mean r| > 2 + 0.1 S, S = rms of H(s). Colour shifts, tiles that differ.
    - added structure: rms of H(r) - g H(s) > 1.5 + 0.35 S, and the block's energy grows by more
      than half the rms of H(r), squared. g is the gain of least squares, held to -1..0.25 (at scale
      1, to -1..1): a source's detail may be lost (edge_fidelity sees to that), and noise may, but
      only a little of it may be added. Halos, texture, JPEG.
    - invented detail: rms of the variation within cells > 2 + 0.4 scale F, F = rms of the steps
      between a source pixel and its neighbours to the right and below.
    - stairs: that variation < 0.08 G while G > 6, G being F of the reduced enlargement without
      what are straight steps in the source (see `edge_fidelity`).
    - a pattern: what the means over the block of each of the scale x scale places in a cell, in
      luma, deviate from a plane, in rms > 0.5 + 0.3 of the variation within cells (mean of the
      channels): checkerboards (Odena, Dumoulin, Olah 2016, Distill).

    The last three need cells of several pixels: scale 1 has the first two. Blocks at the right and
    lower rim are made whole by repeating the last column and row.

    upscaled: (H * scale, W * scale[, 3]) uint8 or uint16, the dtype of `source`. ValueError
    otherwise.
    """
    require_enlargement(upscaled, source, scale)
    found = blocks = 0
    for band in _bands(upscaled, source, scale, _BLOCK, _BLOCK_REACH):
        faulty = _changed(band, scale)
        if scale > 1:
            faulty |= _made_up_within_cells(band, scale)
        found += int(np.count_nonzero(faulty))
        blocks += faulty.size
    return found / blocks


def _changed(band: _Band, scale: int) -> NDArray[np.bool_]:
    """(blocks down, blocks across): another colour or added structure."""
    own, r = band.own, band.mean
    detail = (band.source - _mean_around(band.source, _GROUND))[own]
    change = (r - _mean_around(r, _GROUND))[own]
    power, change_power = _blocks(detail * detail), _blocks(change * change)
    common = _blocks(detail * change)
    structure = np.sqrt(power)
    recoloured = np.abs(_blocks(r[own])) > 2 + 0.1 * structure
    gain = np.clip(common / (power + 1), *(_GAIN if scale > 1 else _GAIN_OF_SHARPENING))
    unexplained = np.sqrt(np.maximum(change_power - 2 * gain * common + gain**2 * power, 0))
    added = (unexplained > 1.5 + 0.35 * structure) & (4 * common + change_power > 0)
    return np.asarray((recoloured | added).any(axis=2))


def _made_up_within_cells(band: _Band, scale: int) -> NDArray[np.bool_]:
    """(blocks down, blocks across): invented detail, stairs or a pattern."""
    own = band.own
    inner = np.sqrt(np.maximum(_blocks(band.variance[own]), 0))
    steps = np.sqrt(_blocks(_steps_squared(band.source)[own]))
    climbed = _steps_squared(band.source + band.mean)
    climbed[_straight_steps(np.asarray(_luma(band.source)))] = 0
    reduced_steps = np.sqrt(_blocks(climbed[own]))
    invented = inner > 2 + 0.4 * scale * steps
    stairs = (inner < 0.08 * reduced_steps) & (reduced_steps > 6)
    cells = slice(own.start * scale, own.stop * scale)
    pattern = _pattern(_luma(band.excess[cells]), scale) > 0.5 + 0.3 * inner.mean(axis=2)
    return np.asarray((invented | stairs).any(axis=2) | pattern)


def _steps_squared(plane: Plane) -> Plane:
    """Of each pixel to its right and lower neighbours, summed."""
    border = cv2.BORDER_REPLICATE
    kernel = np.array([[0, -1, 1]], np.float32)
    right = cv2.filter2D(plane, -1, kernel, borderType=border)
    below = cv2.filter2D(plane, -1, kernel.T, borderType=border)
    return np.asarray(right * right + below * below, np.float32)


def _pattern(luma: Plane, scale: int) -> Plane:
    """(blocks down, blocks across): rms of what repeats in every cell and is no slope."""
    places = np.stack(
        [
            np.stack([_blocks(luma[row::scale, column::scale])[..., 0] for column in range(scale)])
            for row in range(scale)
        ]
    )
    places -= places.mean(axis=(0, 1))
    ramp = np.arange(scale, dtype=np.float32) - np.float32((scale - 1) / 2)
    for slope in (ramp[:, None, None, None], ramp[None, :, None, None]):
        places -= slope * (places * slope).mean(axis=(0, 1)) / (ramp**2).mean()
    return np.asarray(np.sqrt((places**2).mean(axis=(0, 1))), np.float32)


def _blocks(plane: Plane) -> Plane:
    """Means of blocks: (h, w[, C]) to (ceil(h / 8), ceil(w / 8), C)."""
    height, width = plane.shape[:2]
    below, right = -height % _BLOCK, -width % _BLOCK
    whole = cv2.copyMakeBorder(plane, 0, below, 0, right, cv2.BORDER_REPLICATE)
    size = (whole.shape[1] // _BLOCK, whole.shape[0] // _BLOCK)
    means = cv2.resize(whole, size, interpolation=cv2.INTER_AREA)
    return np.asarray(means, np.float32).reshape(*size[::-1], -1)


# ---- both ----------------------------------------------------------------------------------


def _bands(
    upscaled: Pixels, source: Pixels, scale: int, unit: int, reach: int, *, grey: bool = False
) -> Iterator[_Band]:
    """Bands of a multiple of `unit` rows of the source, with `reach` rows around each.

    grey: of the luma alone.
    """
    height = len(source)
    factor = np.float32(255 / data_range(source.dtype))
    rows = max(_BAND // scale // unit, 1) * unit
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        first, last = max(start - reach, 0), min(stop + reach, height)
        small, large = source[first:last], upscaled[first * scale : last * scale]
        if grey:
            small, large = _luma(small), _luma(large)
        cells = cv2.resize(small, large.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        excess = cv2.subtract(large.reshape(cells.shape), cells, dtype=cv2.CV_32F) * factor
        mean = _reduced(excess, scale)
        yield _Band(
            source=small.astype(np.float32) * factor,
            excess=excess,
            mean=mean,
            variance=_reduced(excess * excess, scale) - mean * mean,
            own=slice(start - first, stop - first),
        )


def _reduced(plane: Plane, scale: int) -> Plane:
    """Mean of each cell."""
    if scale == 1:
        return plane
    size = (plane.shape[1] // scale, plane.shape[0] // scale)
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), np.float32)


def _luma(pixels: Pixels) -> Pixels:
    """(H, W) of the same dtype; rounded where that is an integer."""
    return pixels if pixels.ndim == 2 else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))


def _straight_steps(luma: Plane) -> NDArray[np.bool_]:
    """(h, w): pixels at hard edges along a row or column of the source."""
    x, y = _gradient(luma)
    x, y = np.abs(x), np.abs(y)
    found = (_beside_step(luma, 1) & (y < _ALONG * x)) | (_beside_step(luma, 0) & (x < _ALONG * y))
    return np.asarray(cv2.dilate(found.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)


def _beside_step(luma: Plane, axis: int) -> NDArray[np.bool_]:
    """(h, w): pixels with a step to a neighbour along an axis that is no part of a slope."""
    step = np.diff(luma, axis=axis)
    size = np.abs(step)
    flat = np.zeros_like(np.take(luma, [0], axis=axis))
    padded = np.concatenate([flat, step, flat], axis=axis)
    before, after = (
        np.take(padded, np.arange(start, start + step.shape[axis]), axis=axis) * np.sign(step)
        for start in (0, 2)
    )
    hard = (size >= _LEAST_STEP) & (np.maximum(before, after) <= _LEVEL * size)
    one = np.zeros_like(flat, dtype=bool)
    return np.concatenate([hard, one], axis=axis) | np.concatenate([one, hard], axis=axis)


def _mean_around(plane: Plane, size: int) -> Plane:
    return np.asarray(cv2.blur(plane, (size, size), borderType=cv2.BORDER_REPLICATE), np.float32)
