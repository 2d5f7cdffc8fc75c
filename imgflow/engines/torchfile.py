"""Reading weights that others made: safetensors first, pickles only as plain tensors."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgflow.errors import EngineUnavailable

if TYPE_CHECKING:
    import torch


def read_state(path: Path) -> dict[str, Any]:
    """What a weights file holds, by name, on the processor. No code of the file is ever run.

    Raises EngineUnavailable (code weights_unfit).
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(str(path))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (
        OSError,
        EOFError,
        RuntimeError,
        ValueError,
        KeyError,
        AttributeError,
        TypeError,
        pickle.UnpicklingError,
        SafetensorError,
    ) as error:
        if "TorchScript" in str(error):
            raise unfit(path, "it is TorchScript, which the loader torchscript reads") from error
        if isinstance(error, pickle.UnpicklingError):
            # torch's own words advise to load it all the same.
            why = "it is damaged, no weights file, or holds more than plain weights"
            raise unfit(path, why) from error
        raise unfit(path, f"it cannot be read as plain weights ({first_line(error)})") from error
    if not isinstance(found, dict):
        raise unfit(path, "it holds no weights by name")
    return found


def require_finite(path: Path, network: torch.nn.Module) -> None:
    """Raises EngineUnavailable for weights that are no finite numbers."""
    for name, weight in network.state_dict().items():
        if weight.is_floating_point() and not bool(weight.isfinite().all()):
            raise unfit(path, f"{name} has values that are no finite numbers")


def unfit(path: Path, why: str) -> EngineUnavailable:
    """The error of weights that are not what they should be; the shelf names them by folder."""
    return EngineUnavailable(
        "weights_unfit",
        f"the weights {path} cannot be used: {why}",
        hint=f"Fetch the right ones: imgflow models rm {path.parent.name}, then "
        f"imgflow models pull {path.parent.name} or imgflow models add",
    )


def first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]
