"""The networks that come with imgflow: where their weights lie, and how they are used."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from imgflow.errors import EngineUnavailable

if TYPE_CHECKING:
    import torch
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


def load_part(weights: Path, part: str) -> dict[str, Tensor]:
    """The tensors of one part of a safetensors file, by their names within the part."""
    from safetensors import safe_open

    with safe_open(str(weights), "pt") as file:
        names = [name for name in file.keys() if name.startswith(f"{part}.")]  # noqa: SIM118
        return {name.removeprefix(f"{part}."): file.get_tensor(name) for name in names}


def load_weights(weights: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file; those kept as bytes, with a scale for each filter
    (imgflow.training.loop.in_bytes), as float32."""
    from safetensors.torch import load_file

    held = load_file(str(weights))
    found = {}
    for name, values in held.items():
        if name.endswith(SCALE):
            continue
        scale = held.get(f"{name}{SCALE}")
        found[name] = values if scale is None else values * scale.float().view(-1, 1, 1, 1)
    return found


def fast_dtype() -> torch.dtype:
    """bfloat16 where the processor has it in hardware (about twice as fast), else float32."""
    import torch

    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
