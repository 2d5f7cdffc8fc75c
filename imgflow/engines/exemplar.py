"""Large textured holes filled with a piece of another photo, or of the photo itself.

After Hays, Efros 2007, "Scene Completion Using Millions of Photographs": the best piece is the one
whose surroundings look most like those of the hole. The library is the user's and is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.engines.account import account
from imgflow.engines.spec import EngineSpec
from imgflow.imaging.colour import data_range, to_uint8
from imgflow.imaging.masks import Box, dilate, mask_box

# Pieces are looked for in copies where the hole with its rim has about this long side.
_SEARCH_SIDE = 48
# Pixels around the hole that a piece must agree with, as a share of its long side.
_RIM_SHARE, _RIM_LEAST = 0.2, 6
# Pieces may be this much off in tone: they are shifted to it; more counts against them.
_MOST_SHIFT = 60.0


@dataclass(frozen=True, slots=True)
class _Piece:
    """A place in a source (index) that could fill a hole; cost: how badly its rim fits."""

    cost: float
    source: int
    top: int
    left: int


class ExemplarFill:
    """Fills a hole by the piece that fits best; the seed chooses among the best few.

    library: (H, W, 3) uint8 photos. choices: how many pieces the seed chooses from.
    """

    def __init__(
        self,
        name: str,
        library: Sequence[NDArray[np.uint8]],
        *,
        seed: int = 0,
        choices: int = 3,
    ) -> None:
        digest = hashlib.sha256()
        for photo in library:
            digest.update(str(photo.shape).encode() + np.ascontiguousarray(photo).tobytes())
        self.spec = EngineSpec(
            name=name,
            kind="filler",
            model_id="exemplars-1",
            licence="Apache-2.0",
            weights_sha256=digest.hexdigest() if library else None,
            tiling="crop",
            dtypes=("uint8", "uint16"),
            seeded=True,
            parameters=(("choices", choices), ("seed", seed)),
        )
        self._library, self._seed, self._choices = tuple(library), seed, choices

    def fill(
        self,
        pixels: NDArray[np.generic],
        mask: NDArray[np.uint8],
        *,
        prompt: str | None = None,
        negative_prompt: str | None = None,
        seed: int | None = None,
    ) -> NDArray[np.generic]:
        drawn = self._seed if seed is None else seed
        account().seed = drawn
        box = mask_box(mask)
        if box is None:
            return pixels
        rim = max(_RIM_LEAST, round(_RIM_SHARE * max(box.height, box.width)))
        window = box.padded(rim, *mask.shape)
        photo = to_uint8(pixels)
        hole = mask[window.slices]
        known = np.ascontiguousarray(photo[window.slices])
        sources = [photo, *self._library]
        pieces = self._pieces(known, hole, sources, mask, window)
        if not pieces:
            # Nothing is large enough: what a diffusion makes is at least no lie.
            account().note("no piece of the library or the photo was large enough for the hole")
            filled = cv2.inpaint(photo, mask, 3, cv2.INPAINT_TELEA)
            return _as(np.asarray(filled, np.uint8), pixels.dtype)
        best = sorted(pieces, key=lambda each: (each.cost, each.source, each.top, each.left))
        chance = np.random.default_rng(drawn)
        piece = best[int(chance.integers(min(self._choices, len(best))))]
        rows = slice(piece.top, piece.top + known.shape[0])
        columns = slice(piece.left, piece.left + known.shape[1])
        taken = sources[piece.source][rows, columns]
        result = photo.copy()
        result[window.slices] = _joined(known, taken, hole)
        return _as(result, pixels.dtype) if pixels.dtype != np.uint8 else result

    def _pieces(
        self,
        known: NDArray[np.uint8],
        hole: NDArray[np.uint8],
        sources: Sequence[NDArray[np.uint8]],
        mask: NDArray[np.uint8],
        window: Box,
    ) -> list[_Piece]:
        """The best places of each source."""
        shrink = max(max(known.shape[:2]) // _SEARCH_SIDE, 1)
        pattern = _small(known, shrink)
        rim = np.where(_small(hole, shrink) == 0, np.float32(1), np.float32(0))
        if not rim.any():
            return []
        found: list[_Piece] = []
        for number, source in enumerate(sources):
            if source.shape[0] < known.shape[0] or source.shape[1] < known.shape[1]:
                continue
            ground = _small(source, shrink)
            if ground.shape[0] < pattern.shape[0] or ground.shape[1] < pattern.shape[1]:
                continue
            cost = _cost(ground, pattern, rim)
            if number == 0:
                # The photo's own holes fill nothing.
                taken = cv2.dilate(_small(mask, shrink), np.ones((3, 3), np.uint8)) > 0
                covered = cv2.boxFilter(
                    taken.astype(np.float32),
                    -1,
                    pattern.shape[1::-1],
                    anchor=(0, 0),
                    normalize=False,
                    borderType=cv2.BORDER_CONSTANT,
                )[: cost.shape[0], : cost.shape[1]]
                cost = np.where(covered > 0, np.inf, cost)
            found += _best(cost, number, shrink, source, known, self._choices)
        return found


def _cost(
    ground: NDArray[np.uint8], pattern: NDArray[np.uint8], rim: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Mean squared difference on the rim at each place, tone apart, with a price for its shift."""
    total = float(rim.sum())
    weight = np.repeat(rim[:, :, None], 3, axis=2)
    source, wanted = ground.astype(np.float32), pattern.astype(np.float32)
    squares = cv2.matchTemplate(source, wanted, cv2.TM_SQDIFF, mask=weight) / (3 * total)
    # The mean over the rim at each place, by correlation with it.
    shift: NDArray[Any] = np.zeros(squares.shape, np.float64)
    for channel in range(3):
        mean = (
            cv2.matchTemplate(np.ascontiguousarray(source[:, :, channel]), rim, cv2.TM_CCORR)
            / total
        )
        here = float((wanted[:, :, channel] * rim).sum()) / total
        off = mean - here
        shift = shift + off * off / 3
    # Where tones differ by more than can be shifted, the whole difference counts.
    return np.maximum(squares - np.minimum(shift, _MOST_SHIFT**2), 0) + 0.05 * shift


def _best(
    cost: NDArray[np.float64],
    number: int,
    shrink: int,
    source: NDArray[np.uint8],
    known: NDArray[np.uint8],
    count: int,
) -> list[_Piece]:
    found = []
    cost = cost.copy()
    apart = max(min(known.shape[:2]) // shrink // 4, 1)
    for _ in range(count):
        place = int(np.argmin(cost))
        row, column = divmod(place, cost.shape[1])
        if not np.isfinite(cost[row, column]):
            break
        top = min(row * shrink, source.shape[0] - known.shape[0])
        left = min(column * shrink, source.shape[1] - known.shape[1])
        found.append(_Piece(float(cost[row, column]), number, top, left))
        cost[max(row - apart, 0) : row + apart + 1, max(column - apart, 0) : column + apart + 1] = (
            np.inf
        )
    return found


def _joined(
    known: NDArray[np.uint8], piece: NDArray[np.uint8], hole: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """The piece under the hole, in the tones of the surroundings.

    The difference on the rim is carried inwards smoothly (a membrane, as in Poisson blending).
    """
    inside = dilate(hole, 1)
    difference = known.astype(np.float32) - piece.astype(np.float32)
    membrane = _membrane(difference, inside)
    mixed = np.clip(np.rint(piece + membrane), 0, 255).astype(np.uint8)
    return np.where(hole[:, :, None] > 0, mixed, known)


def _membrane(values: NDArray[np.float32], hole: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Values continued into a hole by averages of ever wider surroundings."""
    weight = (hole == 0).astype(np.float32)
    total = values * weight[:, :, None]
    result, filled = total.copy(), weight.copy()
    sigma = 1.0
    while (filled < 1).any() and sigma < 2 * max(hole.shape):
        spread = cv2.GaussianBlur(total, (0, 0), sigma)
        share = cv2.GaussianBlur(weight, (0, 0), sigma)
        new = (filled < 1) & (share > 1e-3)
        result[new] = spread[new] / share[new][:, None]
        filled[new] = 1
        sigma *= 1.6
    smooth = cv2.GaussianBlur(result, (0, 0), 2.0)
    return np.where(hole[:, :, None] > 0, smooth, result)


def _small(values: NDArray[np.uint8], shrink: int) -> NDArray[np.uint8]:
    if shrink == 1:
        return values
    size = max(values.shape[1] // shrink, 1), max(values.shape[0] // shrink, 1)
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA), np.uint8)


def _as(pixels: NDArray[np.uint8], dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    return (pixels.astype(np.uint32) * (data_range(dtype) // 255)).astype(dtype)
