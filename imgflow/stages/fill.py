"""Filling holes: crop around each, fill, join without a seam, keep all other pixels bit-exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.engines.spec import Filler
from imgflow.imaging.colour import data_range
from imgflow.imaging.masks import Box, Mask, dilate, hole_boxes

# Pixels around a hole that tell an engine's tones, how many it takes, and how far contrast goes.
_TONE_RING, _LEAST_RING = 12, 64
_GAINS = (0.8, 1.25)


@dataclass(frozen=True, slots=True)
class Fill:
    """An engine and the settings to fill with: the same for a repair and for its probe.

    context: pixels around a hole that the engine sees. feather: pixels over which a difference
    in tone is joined. colour_transfer: whether a fill that repaints known pixels as well is
    brought to their tones.
    """

    engine: Filler
    context: int
    feather: int
    prompt: str | None = None
    negative_prompt: str | None = None
    seed: int | None = None
    colour_transfer: bool = False


def fill_holes(pixels: NDArray[Any], mask: Mask, fill: Fill) -> NDArray[Any]:
    """A copy of (H, W, 3|4) pixels with the holes of `mask` (H, W; 255 = fill) filled.

    Each hole is cut out with its context; holes nearer than that share a crop. Pixels outside
    the mask stay bit-exact. Transparent pixels are never read: what is under them is garbage;
    in a hole alpha becomes that of its nearest known pixel. Raises ValueError for an engine
    that returns another shape or dtype.
    """
    height, width = mask.shape
    result = pixels.copy()
    for box in hole_boxes(mask, fill.context):
        window = box.padded(fill.context, height, width).slices
        hole = mask[window]
        crop = pixels[window][:, :, :3].copy()
        unknown = hole
        if pixels.shape[2] == 4:
            transparent = pixels[window][:, :, 3] == 0
            crop[transparent] = 0
            unknown = np.where(transparent, np.uint8(255), hole)
            alpha = nearest_known(pixels[window][:, :, 3], hole)
            result[window][:, :, 3][hole > 0] = alpha[hole > 0]
        if unknown.all():
            continue
        filled = fill.engine.fill(
            crop,
            unknown,
            prompt=fill.prompt,
            negative_prompt=fill.negative_prompt,
            seed=fill.seed,
        )
        if filled.shape != crop.shape or filled.dtype != crop.dtype:
            raise ValueError(
                f"the fill '{fill.engine.spec.name}' returned {filled.dtype} {filled.shape} "
                f"for {crop.dtype} {crop.shape}"
            )
        if fill.colour_transfer:
            filled = _toned(crop, filled, unknown)
        joined = _join(crop, filled, unknown, fill.feather)
        result[window][:, :, :3][hole > 0] = joined[hole > 0]
    return result


@dataclass(frozen=True, slots=True)
class Filling:
    """A repair by filling, as the probe repeats it. pixels: (H, W, 3|4) before it. mask: its
    holes."""

    pixels: NDArray[Any]
    mask: Mask
    fill: Fill

    @property
    def context(self) -> int:
        return self.fill.context

    def lay(self, truth: NDArray[Any], box: Box) -> NDArray[Any]:
        # A fill does not look at what is to go; but one that copies its input must not shine.
        damaged = truth.copy()
        marked = self.mask[box.slices] > 0
        damaged[:, :, :3][marked] = self.pixels[box.slices][:, :, :3][marked]
        return damaged

    def mend(self, damaged: NDArray[Any], hole: Mask) -> NDArray[Any]:
        return fill_holes(damaged, hole, self.fill)


def nearest_known(alpha: NDArray[Any], hole: Mask) -> NDArray[Any]:
    """Alpha continued into the hole: what was drawn on transparent ground brought its own."""
    if hole.all() or (alpha == alpha[0, 0]).all():
        return alpha
    _, labels = cv2.distanceTransformWithLabels(
        hole, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    alpha_of = np.zeros(labels.max() + 1, alpha.dtype)
    alpha_of[labels[hole == 0]] = alpha[hole == 0]
    return np.asarray(alpha_of[labels])


def _toned(known: NDArray[Any], filled: NDArray[Any], hole: Mask) -> NDArray[Any]:
    """The fill in the tones of its surroundings, all of it.

    An engine that repaints its whole crop shows by the known pixels near the hole how far off it
    is, in mean and contrast of each channel (Reinhard et al. 2001). One that leaves them alone is
    not changed.
    """
    ring = (dilate(hole, _TONE_RING) > 0) & (hole == 0)
    if np.count_nonzero(ring) < _LEAST_RING:
        return filled
    truth, made = known[ring].astype(np.float32), filled[ring].astype(np.float32)
    if not (truth - made).any():
        return filled
    gain = np.clip((truth.std(axis=0) + 1) / (made.std(axis=0) + 1), *_GAINS)
    shifted = (filled - made.mean(axis=0)) * gain + truth.mean(axis=0)
    return np.clip(np.rint(shifted), 0, data_range(filled.dtype)).astype(filled.dtype)


def _join(known: NDArray[Any], filled: NDArray[Any], hole: Mask, feather: int) -> NDArray[Any]:
    """The fill, shifted in colour so that it meets its surroundings.

    An engine that repaints its whole crop may be off in tone. How far off is seen on the
    `feather` pixels just outside the hole; that offset is carried inwards and fades out. An
    engine that leaves known pixels alone is not changed.
    """
    ring = (dilate(hole, feather) > 0) & (hole == 0)
    if feather == 0 or not ring.any():
        return filled
    offset = np.where(ring[:, :, None], known.astype(np.float32) - filled, np.float32(0))
    if not offset.any():
        return filled
    size, sigma = 4 * feather + 1, feather
    weight = cv2.GaussianBlur(ring.astype(np.float32), (size, size), sigma)[:, :, None]
    spread = cv2.GaussianBlur(offset, (size, size), sigma) / np.maximum(weight, 1e-6)
    inward = cv2.distanceTransform(hole, cv2.DIST_L2, 3)[:, :, None]
    shifted = filled + spread * np.exp(-inward / feather)
    return np.clip(np.rint(shifted), 0, data_range(filled.dtype)).astype(filled.dtype)
