"""The subject of a photo on a plain or transparent ground: the box around it, and the ground.

The ground is a smooth surface through the photo's border (studio paper is seldom one colour:
light falls off, lenses darken the corners). What differs from it by more than its noise is the
subject, its visible shadow included. Where in doubt the box is too large.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.imaging.colour import data_range
from imgflow.imaging.masks import Box, Mask, dilate, mask_box

Side = Literal["top", "left", "bottom", "right"]
SIDES: tuple[Side, ...] = ("top", "left", "bottom", "right")
_OPPOSITES = ({"top", "bottom"}, {"left", "right"})

_REDUCED = 512
"""Longest side of the copy that the subject is looked for in."""

_SMALLEST = 8
"""Pixels; a photo with a shorter side has no border to measure a ground on."""

# Levels of 255, in the reduced copy and at full size. Calibrated on products drawn on grounds with
# noise, light fall-off and JPEG's marks, and on photos of scenes, none of which may count as plain.
_ALPHA_FLOOR = 3.0
_STRONG_FLOOR = 4.0
_FAINT_FLOOR = 1.2
_NOISIEST = 4.0
_STRONGEST_FALLOFF = 90.0

_LEAST_GROUND = 0.5
"""Share of the border that must be ground."""

_SPECK = 0.012
"""Share of the long side: a thing not longer than that is dust..."""

_SPECK_AREA = 0.02
"""...unless its area is more than this share of the largest thing's: products may be small."""

_FIT_ROUNDS = 12
_FIT_SAMPLE = 20_000
"""About this many pixels decide on a smooth surface as well as all of them."""


@dataclass(frozen=True, slots=True)
class Ground:
    """A plain ground: a polynomial surface over the photo for each channel.

    colour: its typical 8-bit RGB. noise: its standard deviation in levels of 255, at full size.
    """

    colour: tuple[int, int, int]
    noise: float
    _coefficients: NDArray[np.float64]  # (9, 3)

    def at(self, y: NDArray[Any], x: NDArray[Any]) -> NDArray[np.float32]:
        """(H, W, 3) float32, 0..255, at places (H,) by (W,) from -1 to 1 across the photo.

        Beyond the photo the ground goes on as it is at the photo's edge.
        """
        terms_y = np.vander(np.clip(y, -1, 1), 5, increasing=True)
        terms_x = np.vander(np.clip(x, -1, 1), 5, increasing=True)
        surface = np.zeros((len(terms_y), len(terms_x), 3), np.float32)
        for channel in range(3):
            # As a 5 x 5 matrix of powers, so that a large surface is two small products.
            powers = np.zeros((5, 5))
            for (py, px), value in zip(_POWERS, self._coefficients[:, channel], strict=True):
                powers[py, px] = value
            surface[:, :, channel] = (terms_y @ powers) @ terms_x.T
        return np.clip(surface, 0, 255, out=surface)


@dataclass(frozen=True, slots=True)
class Subject:
    """What a photo shows on its ground.

    box: around all of it. touches: the sides where the photo cuts it off; at most two, and
    never opposite ones. ground: None where it is transparent.
    """

    box: Box
    touches: frozenset[Side]
    ground: Ground | None


# (power of y, power of x) of the surface's terms. On the border x²y² cannot be told from
# x² + y² - 1: it and the fourth powers come in once the ground inside the photo is known.
_POWERS = ((0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (2, 2), (0, 4), (4, 0))
_BORDER_TERMS = 6


def find_subject(pixels: NDArray[Any]) -> Subject | None:
    """The subject of (H, W, 3|4) uint8 or uint16 pixels; None for a scene.

    A scene is a photo whose border is not plain for the most part, that shows nothing but its
    ground, or whose subject is cut off on opposite or on more than two sides. A subject that one
    side cuts off, or two that meet, is one: it must stay at those sides.

    Dust is no subject; a shadow belongs to it. A photo narrower than 8 pixels counts as a scene.
    """
    height, width = pixels.shape[:2]
    if min(height, width) < _SMALLEST:
        return None
    small = _reduced(pixels)
    if min(small.shape[:2]) < _SMALLEST:
        return None
    ground: Ground | None = None
    if _ground_is_transparent(small):
        mask = np.where(small[:, :, 3] > _ALPHA_FLOOR, np.uint8(255), np.uint8(0))
    else:
        found = _plain(small, pixels)
        if found is None:
            return None
        ground, mask = found
    mask = _without_dust(mask)
    coarse = mask_box(mask)
    if coarse is None or _is_cut_apart(_touched(coarse, mask.shape)):
        return None
    box, seen = _refined(pixels, coarse, mask.shape, ground)
    touches = _touched(seen, pixels.shape)
    return None if _is_cut_apart(touches) else Subject(box, touches, ground)


def _reduced(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """(h, w, 3|4) float32, 0..255: a copy with a long side of at most 512 pixels."""
    height, width = pixels.shape[:2]
    ratio = min(_REDUCED / max(height, width), 1.0)
    size = (max(round(width * ratio), 1), max(round(height * ratio), 1))
    copy = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if ratio < 1 else pixels
    return copy.astype(np.float32) * np.float32(255 / data_range(pixels.dtype))


def _ring(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """(H, W): the photo's border, about a hundredth of its long side wide."""
    wide = max(2, round(max(shape[:2]) / 100))
    ring = np.ones(shape[:2], np.bool_)
    ring[wide:-wide, wide:-wide] = False
    return ring


def _ground_is_transparent(small: NDArray[np.float32]) -> bool:
    if small.shape[2] == 3:
        return False
    border = small[_ring(small.shape)][:, 3]
    return float((border <= _ALPHA_FLOOR).mean()) >= _LEAST_GROUND


def _plain(small: NDArray[np.float32], pixels: NDArray[Any]) -> tuple[Ground, Mask] | None:
    """The ground of a photo and what stands out from it, in its reduced copy; None for a scene."""
    ring = _ring(small.shape)
    y, x = _places(small.shape[0]), _places(small.shape[1])
    columns = np.stack([np.multiply.outer(y**py, x**px) for py, px in _POWERS], axis=2)
    fit = _fitted(columns[ring][:, :_BORDER_TERMS], small[ring][:, :3])
    residual = _residual(small, columns[:, :, :_BORDER_TERMS], fit)
    noise = _noise(residual[ring])
    if not _is_plain(residual[ring], noise, columns[ring][:, :_BORDER_TERMS] @ fit):
        return None
    inside = _stands_out(residual, ring, noise) == 0
    # The ground between the subject and the border bends the surface to the true fall-off.
    every = max(1, np.count_nonzero(inside) // _FIT_SAMPLE)
    fit = _fitted(columns[inside][::every], small[inside][::every, :3])
    residual = _residual(small, columns, fit)
    ground = Ground(
        colour=_as_colour(np.median((columns @ fit)[ring], axis=0)),
        noise=_full_size_noise(pixels, inside & ring, columns, fit),
        _coefficients=fit,
    )
    return ground, _stands_out(residual, ring, _noise(residual[ring]))


def _places(count: int) -> NDArray[np.float64]:
    """Centres of `count` pixels between -1 and 1."""
    return np.asarray((np.arange(count) + 0.5) * (2 / count) - 1, np.float64)


def _fitted(columns: NDArray[np.float64], values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Coefficients (terms, 3) of a surface through most of the values (N, 3).

    Least squares, re-weighted after Welsch: what is far off, such as a subject that reaches the
    border, soon has no weight.
    """
    values64 = values.astype(np.float64)
    fit = np.zeros((columns.shape[1], 3))
    fit[0] = np.median(values64, axis=0)
    for _ in range(_FIT_ROUNDS):
        off = np.abs(values64 - columns @ fit).max(axis=1)
        scale = max(2 * float(np.median(off)), 1.0)
        weights = np.exp(-((off / scale) ** 2))[:, None]
        normal = columns.T @ (columns * weights) + 1e-6 * np.eye(columns.shape[1])
        fit = np.linalg.solve(normal, columns.T @ (values64 * weights))
    return fit


def _residual(
    small: NDArray[np.float32], columns: NDArray[np.float64], fit: NDArray[np.float64]
) -> NDArray[np.float32]:
    """(H, W, 3) levels that the photo is off its ground; a hole in it is off by all that it is."""
    residual = (small[:, :, :3] - columns @ fit).astype(np.float32)
    if small.shape[2] == 4:
        residual += np.where(small[:, :, 3:] < 255 - _ALPHA_FLOOR, 255 - small[:, :, 3:], 0)
    return residual


def _noise(residual: NDArray[np.float32]) -> float:
    """Standard deviation of the ground, taken from its calmer part: others are not ground."""
    off = np.abs(residual)
    # 0.524 deviations hold two fifths of a normal distribution. Clipped noise is none, and what
    # a surface misses of a fall-off is none either: the rest that may be ground has its say.
    calm = float(np.quantile(off, 0.4)) / 0.524
    return float(np.sqrt(np.mean(np.square(off[off <= _strong(calm)]))))


def _is_plain(border: NDArray[np.float32], noise: float, surface: NDArray[np.float64]) -> bool:
    if noise > _NOISIEST or float(np.ptp(surface, axis=0).max()) > _STRONGEST_FALLOFF:
        return False
    off = np.abs(border).max(axis=1)
    return float((off <= _strong(noise)).mean()) >= _LEAST_GROUND


def _strong(noise: float) -> float:
    """Levels off the ground that one pixel must be to stand out."""
    return max(_STRONG_FLOOR, 6 * noise)


def _stands_out(residual: NDArray[np.float32], ring: NDArray[np.bool_], noise: float) -> Mask:
    """255 where a pixel stands out, or where several together do though none alone does."""
    strong = np.abs(residual).max(axis=2) > _strong(noise)
    # Strong pixels do not count among the several: sharp edges would grow a seam of faint ones.
    calm = np.where(dilate(_mask(strong), 1)[:, :, None] > 0, np.float32(0), residual)
    means = cv2.blur(calm, (5, 5), borderType=cv2.BORDER_REFLECT_101)
    off = np.abs(means).max(axis=2)
    least = max(_FAINT_FLOOR, 5 * _noise(means[ring].astype(np.float32)))
    # What is hardly there counts beside something clearer alone: JPEG leaves such blotches.
    return _with_a_core(_mask(strong | (off > least)), strong | (off > 2 * least))


def _with_a_core(mask: Mask, core: NDArray[np.bool_]) -> Mask:
    """The parts of a mask that have something of the core in them."""
    count, labels = cv2.connectedComponents(mask, connectivity=8)
    kept = np.zeros(count, np.bool_)
    kept[labels[core & (mask > 0)]] = True
    return _mask(kept[labels])


def _mask(where: NDArray[np.bool_]) -> Mask:
    return np.where(where, np.uint8(255), np.uint8(0))


def _full_size_noise(
    pixels: NDArray[Any],
    ground: NDArray[np.bool_],
    columns: NDArray[np.float64],
    fit: NDArray[np.float64],
) -> float:
    """The ground's deviation before averaging: of the full photo's pixels amid the reduced's."""
    rows, cols = np.nonzero(ground)
    height, width = ground.shape
    sample = pixels[
        (2 * rows + 1) * pixels.shape[0] // (2 * height),
        (2 * cols + 1) * pixels.shape[1] // (2 * width),
        :3,
    ]
    levels = sample * np.float64(255 / data_range(pixels.dtype))
    return _noise((levels - columns[ground] @ fit).astype(np.float32))


def _as_colour(levels: NDArray[np.float64]) -> tuple[int, int, int]:
    red, green, blue = (int(each) for each in np.rint(np.clip(levels, 0, 255)))
    return red, green, blue


def _without_dust(mask: Mask) -> Mask:
    """The mask without specks that lie apart from all that is larger."""
    # Grown first: a thin strap may show as a row of dashes, which are no dust.
    count, labels, stats, _ = cv2.connectedComponentsWithStats(dilate(mask, 2), connectivity=8)
    if count <= 1:
        return mask
    sizes = stats[1:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max(axis=1) - 4
    areas = np.bincount(labels[mask > 0], minlength=count)[1:]
    specks = sizes <= max(_SPECK * max(mask.shape), 1)
    largest = areas.max()
    dust = specks & ((areas < _SPECK_AREA * largest) | specks.all())
    kept = np.concatenate([[False], ~dust])[labels]
    return np.where(kept, mask, np.uint8(0))


def _touched(box: Box, size: tuple[int, ...]) -> frozenset[Side]:
    """Sides of the photo (of that size) that the subject's box reaches."""
    reached = (box.top == 0, box.left == 0, box.bottom == size[0], box.right == size[1])
    return frozenset(side for side, is_reached in zip(SIDES, reached, strict=True) if is_reached)


def _is_cut_apart(touches: frozenset[Side]) -> bool:
    """Whether a photo cuts its subject off on so many sides that there is no framing it anew."""
    return len(touches) > 2 or any(pair <= touches for pair in _OPPOSITES)


# The box at full size


@dataclass(frozen=True, slots=True)
class _Off:
    """Where the full photo is off its ground, for a part of it at a time."""

    pixels: NDArray[Any]
    ground: Ground | None

    def __call__(self, part: Box) -> NDArray[np.bool_]:
        """(H, W) of the part: True where a pixel is the subject's."""
        height, width = self.pixels.shape[:2]
        seen = self.pixels[part.slices].astype(np.float32)
        seen *= np.float32(255 / data_range(self.pixels.dtype))
        if self.ground is None:
            return np.asarray(seen[:, :, 3] > _ALPHA_FLOOR)
        y = _places(height)[part.top : part.bottom]
        x = _places(width)[part.left : part.right]
        off = np.abs(seen[:, :, :3] - self.ground.at(y, x)).max(axis=2)
        result = off > _strong(self.ground.noise)
        if seen.shape[2] == 4:
            result |= seen[:, :, 3] < 255 - _ALPHA_FLOOR
        return np.asarray(result)


def _refined(
    pixels: NDArray[Any], coarse: Box, small: tuple[int, ...], ground: Ground | None
) -> tuple[Box, Box]:
    """The reduced copy's box at full size: with room for what is faint, and as far as is seen.

    Each reduced pixel stands for some full ones. The box moves outwards while there is more of
    the subject just outside (a tip too thin for the copy), and inwards by less than a reduced
    pixel, over lines that are nothing but ground. A side on which the copy alone saw something,
    for it is too faint at full size, gets a reduced pixel more.
    """
    height, width = pixels.shape[:2]
    down, across = height / small[0], width / small[1]
    box = Box(
        int(coarse.top * down),
        int(coarse.left * across),
        min(math.ceil(coarse.bottom * down), height),
        min(math.ceil(coarse.right * across), width),
    )
    steps = {"top": down, "left": across, "bottom": down, "right": across}
    off = _Off(pixels, ground)
    faint: list[Side] = []
    for side in SIDES:
        step = math.ceil(steps[side])
        moved = _moved_side(off, box, side, step, (height, width))
        if moved is None:
            faint.append(side)
        else:
            box = moved
    roomy = box
    for side in faint:
        room = _strip(roomy, side, math.ceil(steps[side]), (height, width))
        roomy = roomy.union(room)
    return roomy, box


def _moved_side(off: _Off, box: Box, side: Side, step: int, size: tuple[int, int]) -> Box | None:
    """The box with one side where the full photo has it; None where nothing is seen there.

    step: pixels of the full photo to a reduced pixel.
    """
    grown = box
    while depth := _depth(off(_strip(grown, side, 2 * step, size)), side):
        grown = _shifted(grown, side, depth)
    if grown != box:
        return grown
    # The strip inside the box, seen from its inner line. A reduced pixel may begin amid a full one.
    inwards = min(step + 1, box.height if side in ("top", "bottom") else box.width)
    inner = _shifted(box, side, -inwards)
    depth = _depth(off(_strip(inner, side, inwards, size)), side)
    return _shifted(inner, side, depth) if depth else None


def _strip(box: Box, side: Side, depth: int, size: tuple[int, int]) -> Box:
    """Lines just outside one side of a box, at most `depth`; empty at the photo's edge."""
    match side:
        case "top":
            return Box(max(box.top - depth, 0), box.left, box.top, box.right)
        case "left":
            return Box(box.top, max(box.left - depth, 0), box.bottom, box.left)
        case "bottom":
            return Box(box.bottom, box.left, min(box.bottom + depth, size[0]), box.right)
        case "right":
            return Box(box.top, box.right, box.bottom, min(box.right + depth, size[1]))


def _depth(off: NDArray[np.bool_], side: Side) -> int:
    """How many lines from the box outwards until the last with something of the subject."""
    lines = np.flatnonzero(off.any(axis=1 if side in ("top", "bottom") else 0))
    if lines.size == 0:
        return 0
    count = off.shape[0 if side in ("top", "bottom") else 1]
    return int(count - lines[0]) if side in ("top", "left") else int(lines[-1]) + 1


def _shifted(box: Box, side: Side, outwards: int) -> Box:
    match side:
        case "top":
            return Box(box.top - outwards, box.left, box.bottom, box.right)
        case "left":
            return Box(box.top, box.left - outwards, box.bottom, box.right)
        case "bottom":
            return Box(box.top, box.left, box.bottom + outwards, box.right)
        case "right":
            return Box(box.top, box.left, box.bottom, box.right + outwards)
