"""The networks that come with imgflow: where their weights lie, and how they are used."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imgflow.errors import EngineUnavailable

if TYPE_CHECKING:
    from torch import Tensor


SCALE = ".scale"
"""What is appended to the name of a tensor of bytes for the scales of its filters."""


def shipped_weights(name: str) -> Path:
    """The file of that name in imgflow/engines/weights."""
    return Path(str(files("imgflow.engines") / "weights" / name))


@lru_cache
def weights_sha256(weights: Path) -> str:
    """Hash of a weights file, as records name it. Raises EngineUnavailable if it cannot be read."""
    try:
        return hashlib.sha256(weights.read_bytes()).hexdigest()
    except OSError as error:
        raise EngineUnavailable(
            "weights_missing",
            f"the weights {weights} cannot be read: {error.strerror or error}",
            hint="They come with imgflow: install it again",
        ) from error


def read_part(weights: Path, part: str) -> dict[str, NDArray[np.generic]]:
    """The arrays of one part of a safetensors file, by their names within the part."""
    from safetensors import safe_open

    with safe_open(str(weights), "np") as file:
        names = [name for name in file.keys() if name.startswith(f"{part}.")]  # noqa: SIM118
        return {name.removeprefix(f"{part}."): file.get_tensor(name) for name in names}


def read_weights(weights: Path) -> dict[str, NDArray[np.generic]]:
    """All arrays of a safetensors file; those kept as bytes, with a scale for each filter
    (imgflow.training.loop.in_bytes), as float32."""
    from safetensors.numpy import load_file

    held = load_file(str(weights))
    found = {}
    for name, values in held.items():
        if name.endswith(SCALE):
            continue
        scale = held.get(f"{name}{SCALE}")
        if scale is None:
            found[name] = values
        else:
            found[name] = values * scale.astype(np.float32)[:, None, None, None]
    return found


def load_part(weights: Path, part: str) -> dict[str, Tensor]:
    """`read_part` for PyTorch."""
    return as_tensors(read_part(weights, part))


def load_weights(weights: Path) -> dict[str, Tensor]:
    """`read_weights` for PyTorch."""
    return as_tensors(read_weights(weights))


def as_tensors(arrays: dict[str, NDArray[np.generic]]) -> dict[str, Tensor]:
    """PyTorch's tensors of the same memory."""
    import torch

    return {name: torch.from_numpy(values) for name, values in arrays.items()}
