"""What was drawn over a photo, told from the photo with it and without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.imaging.colour import data_range
from imgflow.imaging.folding import Move, repeats, sum_of_copies
from imgflow.imaging.masks import Mask, mask_box
from imgflow.imaging.veil import fit_veil

Values = NDArray[np.float32]

# From this share on, what was drawn hides the photo: its pixels are its own.
_OPAQUE = 0.85
# Ground whose levels vary less than this (of 255) tells nothing about opacity.
_EVEN = 6.0
# Levels (of 255) that an explanation may be off.
_EXPLAINED = 6.0
# Of all pixels the share that most was taken off, where there is all of a layer for certain.
_MOST = 0.05
# Pixels, a deviation, by which ground is smoothed to see what was drawn on it.
_SMOOTH = 6.0


@dataclass(frozen=True, slots=True)
class Layer:
    """Something drawn over a photo.

    alpha: (H, W) float32 0..1, the share of the photo that it hides; 0 outside its mask.
    colour: (H, W, 3) float32 in the photo's range. opacity: of its strokes, 0..1.
    """

    alpha: Values
    colour: Values
    opacity: float

    def over(self, ground: NDArray[Any]) -> NDArray[Any]:
        """The layer over other ground of its size, (H, W, 3) of the photo's dtype."""
        share = self.alpha[:, :, None]
        mixed = ground * (1 - share) + self.colour * share
        return np.clip(np.rint(mixed), 0, data_range(ground.dtype)).astype(ground.dtype)


def estimate_layer(
    seen: NDArray[Any], clean: NDArray[Any], mask: Mask, copies: Sequence[Move] = ()
) -> Layer:
    """The layer that turns `clean` into `seen`, both (H, W, 3), under `mask` (H, W).

    Drawn with one colour C and one opacity a, `seen` is (1 - a) * clean + a * C: a straight line
    over ground that varies, whose slope and intercept give both. On even ground black and white
    are tried. Where neither explains what is seen, it hides the photo, each pixel with a colour
    of its own. A mark that is repeated all over the photo, with `copies` for moves onto itself, is
    told by all of them together, and each is as their mean: what makes them different are errors
    of `clean`.
    """
    top = data_range(seen.dtype)
    here = mask > 0
    if not here.any():
        return Layer(np.zeros(mask.shape, np.float32), np.zeros(seen.shape, np.float32), 0.0)
    if copies:
        repeated = _repeated(seen, clean, mask, copies)
        if repeated is not None:
            return repeated
    # The middle of the strokes: at their edges the opacity fades.
    core = cv2.erode(mask, np.ones((3, 3), np.uint8)) > 0
    core = core if core.sum() >= 16 else here
    over, under = (each.astype(np.float32) * (255 / top) for each in (seen, clean))
    opacity, colour = _fit(over[core], under[core])
    if opacity >= _OPAQUE:
        return Layer(here.astype(np.float32), seen.astype(np.float32), opacity)
    reach = colour - under
    length = np.square(reach).sum(axis=2)
    alpha = ((over - under) * reach).sum(axis=2) / np.maximum(length, 1.0)
    # Where the photo has the layer's own colour, nothing shows how much of it is there.
    alpha = np.where(length > 3 * _EVEN**2, alpha, opacity)
    alpha = np.where(here, np.clip(alpha, 0, 1), 0).astype(np.float32)
    filled = np.broadcast_to(colour * (top / 255), seen.shape).astype(np.float32)
    return Layer(alpha, filled, opacity)


def still_shows(before: NDArray[Any], after: NDArray[Any], mask: Mask) -> float:
    """Share of what was taken off a photo under a mask that still shows there, about 0..1.

    before, after: (H, W, 3|4). What was taken off is the difference; how much of it `after` has is
    told by least squares, both without what changes slowly (the ground does not follow strokes).
    """
    box = mask_box(mask)
    if box is None:
        return 0.0
    around = box.padded(round(3 * _SMOOTH), *mask.shape).slices
    one, other = (
        cv2.cvtColor(np.ascontiguousarray(each[around][:, :, :3], np.float32), cv2.COLOR_RGB2GRAY)
        for each in (before, after)
    )
    here = mask[around] > 0
    taken, left = (
        (each - cv2.GaussianBlur(each, (0, 0), _SMOOTH))[here] for each in (one - other, other)
    )
    energy = float(np.square(taken).sum())
    if not energy:  # nothing was taken off
        return 1.0
    ratio = float((taken * left).sum()) / energy
    return ratio / (1 + ratio) if ratio > 0 else 0.0


def copies_of(seen: NDArray[Any], clean: NDArray[Any], mask: Mask) -> list[Move]:
    """Moves that bring the copies of what was taken off under a mask onto each other; none where
    it is not repeated all over the photo."""
    return repeats(_likely(seen, clean, mask)) if mask.any() else []


def _likely(seen: NDArray[Any], clean: NDArray[Any], mask: Mask) -> Values:
    """(H, W) 0..1: how likely there is all of a layer, by how much was taken off. A mask may be
    bars, which are alike however they are moved along themselves."""
    likely = np.zeros(mask.shape, np.float32)
    box = mask_box(mask)
    if box is None:
        return likely
    here = mask[box.slices] > 0
    # In whole numbers: of a large photo, all colours as floats would be too much.
    taken = cv2.absdiff(seen[box.slices], clean[box.slices]).sum(axis=2, dtype=np.float32)
    taken /= np.float32(seen.shape[2] * data_range(seen.dtype))
    most = float(np.quantile(taken[here], 1 - _MOST))
    likely[box.slices][here] = np.clip(taken[here] / max(most, 1e-3), 0, 1)
    return likely


def _levels(pixels: NDArray[Any]) -> Values:
    """0..1."""
    return np.asarray(pixels.astype(np.float32) / np.float32(data_range(pixels.dtype)))


def _repeated(
    seen: NDArray[Any], clean: NDArray[Any], mask: Mask, moves: Sequence[Move]
) -> Layer | None:
    """The layer of a mark that is all over the photo; None where it hides what is under it."""
    veil = fit_veil(_levels(seen), _levels(clean), _likely(seen, clean, mask), mask, moves)
    if not veil.explains:
        return None
    here = (mask > 0).astype(np.float32)
    share, there = (plane + sum_of_copies(plane, moves) for plane in (veil.share, here))
    alpha = here * np.float32(veil.opacity) * share / np.maximum(there, 1)
    colour = np.broadcast_to(veil.colour * np.float32(data_range(seen.dtype)), seen.shape)
    return Layer(np.asarray(alpha, np.float32), colour.astype(np.float32), veil.opacity)


def _fit(over: Values, under: Values) -> tuple[float, Values]:
    """Opacity and colour (3,) of strokes, from their pixels (N, 3); opacity 1 where none fits."""
    mean_over, mean_under = over.mean(axis=0), under.mean(axis=0)
    spread = under - mean_under
    variance = float(np.square(spread).mean())
    if variance >= _EVEN**2:
        slope = float(((over - mean_over) * spread).mean() / variance)
        opacity = 1 - min(max(slope, 0.0), 1.0)
        if opacity > 0.05:
            colour = (mean_over - (1 - opacity) * mean_under) / opacity
            if opacity >= _OPAQUE or ((colour > -20).all() and (colour < 275).all()):
                return opacity, np.clip(colour, 0, 255).astype(np.float32)
        return 1.0, mean_over
    for level in (255.0, 0.0):
        reach = level - mean_under
        opacity = float((mean_over - mean_under) @ reach / max(float(reach @ reach), 1.0))
        missed = np.abs(mean_under + opacity * reach - mean_over).max()
        if 0.05 < opacity < _OPAQUE and missed < _EXPLAINED:
            return opacity, np.full(3, level, np.float32)
    return 1.0, mean_over
