"""Fills that come as TorchScript: LaMa as it is mostly passed around."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgflow.engines.account import account
from imgflow.engines.compute import module_bytes, on_card_or_processor
from imgflow.engines.held import Bench, Held
from imgflow.engines.shelf.shelf import Weights
from imgflow.engines.spandrel_models import fill_with
from imgflow.engines.spec import EngineSpec
from imgflow.engines.torchfile import first_line, unfit

if TYPE_CHECKING:
    import torch

# LaMa halves its picture three times.
_UNIT = 8


class TorchScriptFill:
    """A network (photo 0..1, mask 0..1) to photo. The file holds its program too: it is run only
    with the hash that the catalog or the user has pinned."""

    def __init__(self, name: str, weights: Weights, bench: Bench) -> None:
        self.spec = EngineSpec(
            name=name,
            kind="filler",
            model_id=f"{weights.name}-{weights.card.architecture or 'torchscript'}",
            licence=weights.card.licence,
            weights_sha256=weights.sha256,
            tiling="crop",
            dtypes=("uint8", "uint16"),
        )
        self._weights, self._bench = weights, bench
        self._held = Held(bench, weights, self._load, module_bytes)

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
        sides = ((0, -height % _UNIT), (0, -width % _UNIT))
        padded = np.pad(pixels, (*sides, (0, 0)), mode="symmetric")
        hole = np.pad(mask, sides, mode="symmetric")

        def work(device: torch.device) -> NDArray[np.generic]:
            network = self._held.on(device)
            account().dtype = "float32"
            try:
                return fill_with(network, padded, hole, device)
            except (RuntimeError, TypeError, AttributeError, IndexError) as error:
                if _is_memory(error):
                    raise
                raise unfit(
                    self._weights.file, f"it does not fill photos ({first_line(error)})"
                ) from error

        filled = on_card_or_processor(self._bench.compute, work, smaller_helps=False)
        if filled.shape != padded.shape:
            raise unfit(self._weights.file, f"it makes {filled.shape} of {padded.shape}")
        return filled[:height, :width]

    def _load(self, device: torch.device) -> Any:
        import torch

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                network = torch.jit.load(  # type: ignore[no-untyped-call]
                    str(self._weights.file), map_location=device
                )
        except (RuntimeError, OSError, ValueError) as error:
            raise unfit(
                self._weights.file, f"it is no TorchScript ({first_line(error)})"
            ) from error
        return network.eval()


def _is_memory(error: BaseException) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError)
