"""imgflow's own eraser: takes drawn text off a photo and recovers what is under it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.engines.classical import OpenCvFill
from imgflow.engines.shipped import fast_dtype, shipped_weights, weights_sha256
from imgflow.engines.spec import EngineSpec, Found, TextMap
from imgflow.imaging.colour import data_range, to_uint8
from imgflow.imaging.looks import mean_of_looks
from imgflow.imaging.masks import dilate
from imgflow.imaging.tiling import TilePlan, run_tiled

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from imgflow.engines.networks.eraser import Eraser

WEIGHTS = "eraser.safetensors"
RECEPTIVE = 192
"""Pixels that the result of either network depends on, at most: the sum over its convolutions of
what one of them sees beyond its own pixel, times the size of its pixels."""
_UNIT = 16
# Photos up to this many pixels go through a network at once; a tile of a larger one is as large.
_AT_ONCE = 1 << 20
_TILE = 768
# From which probability on a pixel counts as text: the networks are trained with masks that are
# rather too wide than too narrow.
_TEXT = 0.2
# How often a photo is looked at for all its text, and a region for its strokes.
_SURVEY_LOOKS, _FIND_LOOKS = 2, 2
# Share of the strokes seen with a hint that must be seen without for the hint to be left out.
_UNASKED = 0.4
# What JPEG smears beyond the fringe.
_FRINGE = 1
# The plain fill.
_TELEA = OpenCvFill("telea", "telea-2004-opencv", cv2.INPAINT_TELEA)

Planes = NDArray[np.float32]


class NeuralEraser:
    """The shipped networks (imgflow/engines/networks/eraser.py), or others of the same shape.

    threads: of torch, for the whole process.
    """

    def __init__(self, *, weights: Path | None = None, threads: int = 1) -> None:
        self._weights = weights or shipped_weights(WEIGHTS)
        self._threads = threads
        self.spec = EngineSpec(
            name="eraser",
            kind="eraser",
            model_id="imgflow-eraser-2",
            licence="Apache-2.0",
            weights_sha256=weights_sha256(self._weights),
            receptive=RECEPTIVE,
            tiling="crop",
            dtypes=("uint8", "uint16"),
        )

    def survey(self, pixels: NDArray[np.generic], read: NDArray[np.uint8]) -> TextMap:
        planes = np.rint(255 * self._kinds(_shares(pixels), read, _SURVEY_LOOKS)).astype(np.uint8)
        return TextMap(planes[:, :, 0], planes[:, :, 1])

    def find(self, pixels: NDArray[np.generic], region: NDArray[np.uint8]) -> Found:
        photo = _shares(pixels)
        # The hint has the network see faint strokes, and in rough places more than there are:
        # where it sees most of them unasked, that is the better answer.
        asked, unasked = (
            self._kinds(photo, hint, _FIND_LOOKS) for hint in (region, np.zeros_like(region))
        )
        sees = _by_place(region, unasked.sum(axis=2)) > _UNASKED * _by_place(
            region, asked.sum(axis=2)
        )
        kinds = np.where(sees[:, :, None], unasked, (asked + unasked) / 2)
        chance = _wanted(kinds, region)
        sure = chance[(chance > _TEXT) & (region > 0)]
        confidence = float(sure.mean()) if sure.size else 0.0
        return Found(_strokes(chance, region), confidence)

    def restore(
        self,
        pixels: NDArray[np.generic],
        region: NDArray[np.uint8],
        mask: NDArray[np.uint8],
    ) -> NDArray[np.generic]:
        photo, here = _shares(pixels), mask > 0
        filled = _shares(telea(to_uint8(pixels), mask))
        seen = np.dstack([photo, filled, here, region > 0]).astype(np.float32)
        clean = np.clip(self._run(seen, self._restore)[:, :, :3], 0, 1)
        top = data_range(pixels.dtype)
        return np.rint(clean * top).astype(pixels.dtype)

    def _kinds(self, photo: Planes, read: NDArray[np.uint8], looks: int) -> Planes:
        """Probabilities of overlaid text and of product text, (H, W, 2), in a photo of shares.

        looks: mirrored copies that are looked at as well.
        """
        seen = np.dstack([photo, read > 0]).astype(np.float32)
        return mean_of_looks(lambda planes: self._run(planes, self._find)[:, :, :2], seen, looks)

    def _run(self, seen: Planes, network: Callable[[Planes], Planes]) -> Planes:
        """A network on (H, W, C) planes of any size."""
        height, width = seen.shape[:2]
        if height * width > _AT_ONCE:
            plan = TilePlan.for_engine(
                height, width, receptive=RECEPTIVE, scale=1, core=_TILE, levels=4
            )
            return run_tiled(seen, network, plan)[0]
        down, right = -height % _UNIT, -width % _UNIT
        padded = np.pad(seen, ((0, down), (0, right), (0, 0)), mode="symmetric")
        return network(padded)[:height, :width]

    def _find(self, seen: Planes) -> Planes:
        """Planes (h, w, 4) of photo and hint; the first two of the result are the probabilities
        of overlaid text and of product text."""
        import torch

        from imgflow.engines.networks.eraser import OVERLAY, PRODUCT

        planes = self._tensor(seen)
        with torch.inference_mode():
            chances = self._network.find(planes[:, :3], planes[:, 3:]).float().softmax(dim=1)
        # As many planes as came in: that is what tiling joins.
        return _planes(chances[:, [OVERLAY, PRODUCT, OVERLAY, PRODUCT]])

    def _restore(self, seen: Planes) -> Planes:
        """Planes (h, w, 8) of photo, fill, mask and region; the first three of the result are the
        clean photo."""
        import torch

        planes = self._tensor(seen)
        photo, filled, mask, region = torch.split(planes, [3, 3, 1, 1], dim=1)
        with torch.inference_mode():
            clean = self._network.restore(photo, region, mask, filled).float()
        return _planes(torch.cat([clean, planes[:, 3:].float()], dim=1))

    def _tensor(self, seen: Planes) -> Tensor:
        import torch

        planes = torch.from_numpy(np.ascontiguousarray(seen)).permute(2, 0, 1)[None]
        return planes.to(self.dtype).contiguous(memory_format=torch.channels_last)

    @cached_property
    def dtype(self) -> torch.dtype:
        """What the networks compute in."""
        return fast_dtype()

    @cached_property
    def _network(self) -> Eraser:
        import torch
        from safetensors.torch import load_file

        from imgflow.engines.networks.eraser import Eraser

        torch.set_num_threads(self._threads)
        network = Eraser()
        network.load_state_dict(load_file(str(self._weights)))
        return network.to(self.dtype).to(memory_format=torch.channels_last).eval()


def _shares(pixels: NDArray[np.generic]) -> Planes:
    return pixels.astype(np.float32) / np.float32(data_range(pixels.dtype))


def _planes(result: Tensor) -> Planes:
    return np.ascontiguousarray(result[0].permute(1, 2, 0).numpy(), np.float32)


def _wanted(kinds: Planes, region: NDArray[np.uint8]) -> Planes:
    """(H, W) probability of the text that a region is named for: where drawn letters prevail,
    print behind them stays.

    kinds: (H, W, 2) of overlaid and of product text.
    """
    drawn, printed = (_by_place(region, kinds[:, :, kind]) for kind in (0, 1))
    return np.where(drawn > printed, kinds[:, :, 0], kinds.sum(axis=2)).astype(np.float32)


def _by_place(region: NDArray[np.uint8], values: Planes) -> Planes:
    """(H, W) sum of the values over the connected part of the region that a pixel is in; 0
    outside the region."""
    count, places = cv2.connectedComponents((region > 0).astype(np.uint8))
    sums = np.bincount(places.ravel(), weights=values.ravel(), minlength=count)
    sums[0] = 0
    return np.asarray(sums[places], np.float32)


def _strokes(chance: Planes, region: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mask (H, W; 0 or 255) of probabilities of text, within a region."""
    text = np.where((chance > _TEXT) & (region > 0), np.uint8(255), np.uint8(0))
    return np.where(region > 0, dilate(text, _FRINGE), np.uint8(0))


def telea(pixels: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 with what lies under `mask` filled from its rim (Telea 2004).

    What the network starts from. mask: (H, W), not 0 where to fill.
    """
    return np.asarray(_TELEA.fill(pixels, mask), np.uint8)
