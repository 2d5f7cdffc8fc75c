"""Fills that come as TorchScript: LaMa as it is mostly passed around."""

from __future__ import annotations

import warnings
from pathlib import Path
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


def torchscript_fill(name: str, weights: Weights, bench: Bench, *, seed: int = 0) -> NetworkFill:
    """A fill whose file holds its program too: it is run only with the hash that the catalog or
    the user has pinned. seed: as in NetworkFill."""

    def load(device: torch.device) -> Any:
        return load_script(weights.file, device)

    return NetworkFill(name, weights, bench, load, module_bytes, seed=seed, unit=_UNIT)


def load_script(path: Path, device: torch.device | str) -> Any:
    """The network of a TorchScript file, for inference; nothing of it is run.

    Raises EngineUnavailable (code weights_unfit).
    """
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network = torch.jit.load(  # type: ignore[no-untyped-call]
                str(path), map_location=device
            )
    except (RuntimeError, OSError, ValueError) as error:
        raise unfit(path, f"it is no TorchScript ({first_line(error)})") from error
    return network.eval()
