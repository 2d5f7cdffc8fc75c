"""Fills that come as TorchScript: LaMa as it is mostly passed around."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from imgflow.engines.compute import module_bytes
from imgflow.engines.held import Bench
from imgflow.engines.network_fill import NetworkFill
from imgflow.engines.shelf.shelf import Weights
from imgflow.engines.torchfile import first_line, unfit

if TYPE_CHECKING:
    import torch

# LaMa halves its picture three times.
_UNIT = 8


def torchscript_fill(name: str, weights: Weights, bench: Bench) -> NetworkFill:
    """A fill whose file holds its program too: it is run only with the hash that the catalog or
    the user has pinned."""

    def load(device: torch.device) -> Any:
        import torch

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                network = torch.jit.load(  # type: ignore[no-untyped-call]
                    str(weights.file), map_location=device
                )
        except (RuntimeError, OSError, ValueError) as error:
            raise unfit(weights.file, f"it is no TorchScript ({first_line(error)})") from error
        return network.eval()

    return NetworkFill(name, weights, bench, load, module_bytes, unit=_UNIT)
