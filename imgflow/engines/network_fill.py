"""Fills by a network of the shelf that maps a photo and a mask to a photo, whatever loads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgflow.engines.account import account
from imgflow.engines.compute import is_full, on_card_or_processor
from imgflow.engines.draws import drawing
from imgflow.engines.held import Bench, Held, seed_parameter, spec_of
from imgflow.engines.shelf.shelf import Weights
from imgflow.engines.torchfile import first_line, unfit
from imgflow.imaging.colour import data_range

if TYPE_CHECKING:
    import torch


class NetworkFill:
    """A network (photo 0..1, mask 0..1) to photo, in float32. It sees a hole with its surroundings.

    load, measure: as for Held. seed: of what it draws, if it draws and none is asked for. unit:
    what both sides of a picture must be multiples of, where the network does not see to that
    itself.
    """

    def __init__(
        self,
        name: str,
        weights: Weights,
        bench: Bench,
        load: Callable[[torch.device], Any],
        measure: Callable[[Any], int],
        *,
        seed: int = 0,
        unit: int = 1,
    ) -> None:
        self.spec = spec_of(
            name,
            "filler",
            weights,
            tiling="crop",
            dtypes=("uint8", "uint16"),
            parameters=seed_parameter(seed),
        )
        self._weights, self._bench, self._unit, self._seed = weights, bench, unit, seed
        self._held = Held(bench, weights, load, measure)

    def fill(
        self,
        pixels: NDArray[np.generic],
        mask: NDArray[np.uint8],
        *,
        prompt: str | None = None,
        negative_prompt: str | None = None,
        seed: int | None = None,
    ) -> NDArray[np.generic]:
        height, width = mask.shape
        sides = ((0, -height % self._unit), (0, -width % self._unit))
        padded = np.pad(pixels, (*sides, (0, 0)), mode="symmetric")
        hole = np.pad(mask, sides, mode="symmetric")
        filled = on_card_or_processor(
            self._bench.compute,
            lambda device: self._work(padded, hole, device, self._seed if seed is None else seed),
            smaller_helps=False,
        )
        if filled.shape != padded.shape:
            raise unfit(self._weights.file, f"it makes {filled.shape} of {padded.shape}")
        return filled[:height, :width]

    def _work(
        self,
        pixels: NDArray[np.generic],
        mask: NDArray[np.uint8],
        device: torch.device,
        seed: int,
    ) -> NDArray[np.generic]:
        network = self._held.on(device)
        account().dtype = "float32"
        try:
            with drawing(device, seed):
                return _filled(network, pixels, mask, device)
        # What a program says that came with its weights, or a network of another shape.
        except (RuntimeError, TypeError, AttributeError, IndexError) as error:
            if is_full(error):
                raise
            why = f"it does not fill photos ({first_line(error)})"
            raise unfit(self._weights.file, why) from error


def _filled(
    network: Any, pixels: NDArray[np.generic], mask: NDArray[np.uint8], device: torch.device
) -> NDArray[np.generic]:
    """(H, W, 3) of the network, in the photo's dtype."""
    import torch

    top = data_range(pixels.dtype)
    shares = pixels.astype(np.float32) / np.float32(top)
    photo = torch.from_numpy(shares).permute(2, 0, 1)[None].to(device)
    hole = torch.from_numpy((mask > 0).astype(np.float32))[None, None].to(device)
    with torch.inference_mode():
        filled = network(photo, hole)[0].permute(1, 2, 0).float().cpu().numpy()
    if not np.isfinite(filled).all():
        raise ValueError("the fill returned NaN or infinity")
    return np.rint(np.clip(filled, 0, 1) * top).astype(pixels.dtype)
