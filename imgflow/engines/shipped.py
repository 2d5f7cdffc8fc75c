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


def fast_dtype() -> torch.dtype:
    """bfloat16 where the processor has it in hardware (about twice as fast), else float32."""
    import torch

    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
