"""What was drawn over a photo, told from the photo with it and without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.imaging.colour import data_range
from imgflow.imaging.masks import Mask

Values = NDArray[np.float32]

# From this share on, what was drawn hides the photo: its pixels are its own.
_OPAQUE = 0.85
# Ground whose levels vary less than this (of 255) tells nothing about opacity.
_EVEN = 6.0
# Levels (of 255) that an explanation may be off.
_EXPLAINED = 6.0


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


def estimate_layer(seen: NDArray[Any], clean: NDArray[Any], mask: Mask) -> Layer:
    """The layer that turns `clean` into `seen`, both (H, W, 3), under `mask` (H, W).

    Drawn with one colour C and one opacity a, `seen` is (1 - a) * clean + a * C: a straight line
    over ground that varies, whose slope and intercept give both. On even ground black and white
    are tried. Where neither explains what is seen, it hides the photo, each pixel with a colour
    of its own.
    """
    top = data_range(seen.dtype)
    here = mask > 0
    if not here.any():
        return Layer(np.zeros(mask.shape, np.float32), np.zeros(seen.shape, np.float32), 0.0)
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
