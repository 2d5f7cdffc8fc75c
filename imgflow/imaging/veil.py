"""A translucent overlay's colour and opacity: the same all over, so that they can be computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.imaging.folding import Move, sum_of_copies

Values = NDArray[np.float32]

# An overlay's opacity is hardly less, and before anything is known it is about the second.
_LEAST_OPACITY, _USUAL_OPACITY = 0.12, 0.45
# How firmly that is believed: as much as ground whose levels (0..1) vary by so much says.
_BELIEF = 0.03
# Levels that an explanation may be off before a pixel counts less.
_OFF = 0.06
# Likelihoods (0..1) that mean no overlay and all of it; the deviation of what is between.
_NONE, _ALL, _UNSURE = 0.15, 0.8, 0.3
# Variance of what one copy of a repeated mark says of another's share, besides its own noise; and
# of what all of them say: they do not lie on each other to a part of a pixel.
_COPY, _TOGETHER = 0.05, 0.12**2
# Most opacity of a translucent overlay, most levels off where it explains what is seen, and how
# much of the ground's own changes must then be seen through it (a correlation). Marks all over a
# photo are made to let it through, and their copies tell them well.
_TRANSLUCENT, _EXPLAINED, _THROUGH = 0.7, 0.05, 0.4
# The correlation that hints at it.
_SOME = 0.3
# From this share of the overlay on a pixel is one of a stroke's middle.
_CORE = 0.75
# Pixels from its rim within which a fill is near to the truth, and by which it is softened.
_NEAR, _SOFT = 3.0, 1.0
_FEWEST, _MOST = 16, 30_000
"""Pixels that a fit looks at, at least and at most: more tell no more."""
_ROUNDS, _FITS = 4, 4


@dataclass(frozen=True, slots=True)
class Veil:
    """What lies over a photo.

    colour: (3,) float32 0..1. opacity: 0..1. share: (H, W) float32 0..1, how much of it is at a
    pixel, as far as the pixel itself and its copies tell; 0 outside the mask. off: levels, 0..1,
    by which the middles of its strokes are seen otherwise than that explains. through: correlation,
    -1..1, of what is seen in those middles with a fill of them. repeated: whether it is all over
    the photo.
    """

    colour: Values
    opacity: float
    share: Values
    off: float
    through: float
    repeated: bool = False

    @property
    def explains(self) -> bool:
        """Whether one colour and one opacity, that lets the photo through, are what is seen."""
        return self.repeated or (
            self.opacity <= _TRANSLUCENT and self.off <= _EXPLAINED and self.through >= _THROUGH
        )

    @property
    def unclear(self) -> bool:
        """Whether what is seen is no one colour, or some of the ground may show through, and it
        does not explain that."""
        return self.off > _EXPLAINED or (not self.explains and self.through > _SOME)


def fit_veil(
    photo: Values,
    filled: Values,
    likely: Values,
    mask: NDArray[np.uint8],
    moves: Sequence[Move] = (),
) -> Veil:
    """The overlay under a mask.

    photo: (H, W, 3) float32 0..1. filled: the same with a fill under `mask` (H, W; not 0 where
    the overlay is). likely: (H, W) float32 0..1, how likely a pixel belongs to it. An overlay of
    colour C and opacity a, of which a pixel has the share m, over a clean photo B, is seen as
    (1 - a m) B + a m C. The fill is near to B, and smoother: so least squares over the middles
    of all strokes give a and C, those give each pixel's m, and that the middles, in turns. moves:
    those of imaging.folding that bring the overlay's copies onto each other; what its copies show
    then tells of a pixel's m as well.
    """
    share = np.zeros(mask.shape, np.float32)
    rows, columns = np.nonzero(mask)
    # Every so manieth pixel is enough.
    some = np.s_[:: max(rows.size // _MOST, 1)]
    soft = np.asarray(cv2.GaussianBlur(filled, (0, 0), _SOFT), np.float32)
    seen, ground = photo[rows, columns], soft[rows, columns]
    guess = _clipped((likely[rows, columns] - _NONE) / (_ALL - _NONE))
    inward = cv2.distanceTransform((mask > 0).astype(np.uint8), cv2.DIST_L2, 3)[rows, columns]
    trust = _clipped(1 / (1 + np.square(np.minimum(inward, 1e3) / _NEAR)))
    own = guess.copy()
    core = own >= max(float(np.quantile(own, 0.6)), 0.3) if own.size else own > 0
    colour, opacity, off = np.full(3, 0.5, np.float32), 1.0, 1.0
    for _ in range(_FITS):
        if np.count_nonzero(core[some]) < _FEWEST:
            break
        chosen = core[some]
        colour, opacity, off = _fit(
            seen[some][chosen], ground[some][chosen], own[some][chosen], trust[some][chosen]
        )
        told = _told(seen, ground, colour, opacity, off)
        copies = _of_copies(told, mask, moves) if moves else None
        own = _weighed([told, (guess, _UNSURE**2), *([copies] if copies else [])])
        core = own > _CORE
    share[rows, columns] = own
    through = _correlation(seen[core], filled[rows, columns][core])
    return Veil(colour, opacity, share, off, through, bool(moves))


def _fit(seen: Values, ground: Values, share: Values, trust: Values) -> tuple[Values, float, float]:
    """Colour, opacity and how far off (0..1) they are, of pixels (N, 3): least squares of
    seen - ground = share * (opacity * colour - opacity * ground), pixels that fit badly counting
    less (iteratively reweighted, Cauchy's weights)."""
    counts: NDArray[Any] = trust
    off: NDArray[Any] = np.zeros(len(seen))
    colour, opacity = np.full(3, 0.5), 1.0
    for _ in range(_ROUNDS):
        squares = counts * share**2
        total = max(float(squares.sum()), 1e-9)
        mean = squares @ ground / total
        rise = (counts * share) @ (seen - ground) / total
        # The slope over ground that varies says how opaque.
        spread = ground - mean
        varied = float((squares[:, None] * spread**2).sum())
        slope = float(((counts * share)[:, None] * spread * (seen - ground)).sum())
        belief = 3 * _BELIEF**2 * total
        opacity = float((belief * _USUAL_OPACITY - slope) / (belief + varied))
        opacity = min(max(opacity, _LEAST_OPACITY), 1.0)
        colour = np.clip(mean + rise / opacity, 0, 1)
        # No colour is lighter than white: then there is more of it.
        reach = colour - mean
        needed = float(rise @ reach) / max(float(reach @ reach), 1e-6)
        opacity = min(max(opacity, needed), 1.0)
        made = ground + (opacity * share)[:, None] * (colour - ground)
        off = np.abs(made - seen).mean(axis=1)
        counts = trust / (1 + (off / _OFF) ** 2)
    return colour.astype(np.float32), opacity, float(np.median(off))


# What is known of shares (N,), and its variance (N,).
_Known = tuple[Values, Any]


def _told(seen: Values, ground: Values, colour: Values, opacity: float, off: float) -> _Known:
    """How much of the overlay each pixel (N, 3) shows, not clamped, and the variance of that: the
    more, the nearer the ground is to the overlay's colour."""
    reach = colour - ground
    length = np.square(reach).sum(axis=1)
    shown = ((seen - ground) * reach).sum(axis=1) / np.maximum(length * opacity, 1e-6)
    noise = (1.5 * off + 0.01) ** 2 / np.maximum(opacity**2 * length, 1e-6)
    return shown, noise


def _of_copies(own: _Known, mask: NDArray[np.uint8], moves: Sequence[Move]) -> _Known:
    """What the copies of each pixel under the mask say together."""
    rows, columns = np.nonzero(mask)
    shown, noise = own
    says, weighs = np.zeros((2, *mask.shape), np.float32)
    weighs[rows, columns] = 1 / (noise + _COPY)
    says[rows, columns] = np.clip(shown, -0.5, 1.5) * weighs[rows, columns]
    together, weight = (sum_of_copies(plane, moves)[rows, columns] for plane in (says, weighs))
    weight = np.maximum(weight, 1e-6)
    return together / weight, 1 / weight + _TOGETHER


def _weighed(known: Sequence[_Known]) -> Values:
    """(N,) 0..1: the mean of all that is known, each by its variance."""
    total = sum(values / variance for values, variance in known)
    return _clipped(np.asarray(total) / sum(1 / variance for _, variance in known))


def _correlation(one: Values, other: Values) -> float:
    """Of values (N, 3), all channels together, each about its own mean; 0 where nothing varies."""
    if len(one) < _FEWEST:
        return 0.0
    one, other = (each - each.mean(axis=0) for each in (one, other))
    scale = float(np.sqrt(np.square(one).sum() * np.square(other).sum()))
    return float((one * other).sum()) / scale if scale > 0 else 0.0


def _clipped(values: NDArray[Any]) -> Values:
    """Within 0..1."""
    return np.clip(values, 0, 1).astype(np.float32)
