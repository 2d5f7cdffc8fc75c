"""imgflow's own upscaler: enlarges x2, x3 and x4, photos as they should be and as they come."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.engines.running import Computed, NcnnTask, Task, TorchTask, fast_type
from imgflow.engines.shipped import as_tensors, read_part, shipped_weights, weights_sha256
from imgflow.engines.spec import Character, EngineSpec
from imgflow.errors import EngineUnavailable

WEIGHTS = "upscaler.safetensors"
SCALES = (2, 3, 4)
RECEPTIVE = 23
"""Source pixels beyond its own that a pixel of the result depends on: what the network's layers
see, one after the other, those on half as many pixels twice as far."""

# What neighbours on a plain ground may differ by, for JPEG's sake.
_ALIKE = 1.5 / 255

Precision = Literal["auto", "bfloat16", "float32"]


class NeuralUpscaler:
    """The shipped network for one scale and character (imgflow/engines/networks/upscaler.py).

    weights: a file with other networks of the same shape. precision: auto is bfloat16 where the
    processor has it in hardware, else float32.

    Raises EngineUnavailable for a scale that there is none for, or without its weights.
    """

    def __init__(
        self,
        scale: int,
        character: Character = "clean",
        *,
        weights: Path | None = None,
        threads: int = 1,
        precision: Precision = "auto",
    ) -> None:
        if scale not in SCALES:
            raise EngineUnavailable(
                "engine_scale", f"the engine 'sr' enlarges x2, x3 and x4, not x{scale}"
            )
        self._weights = weights or shipped_weights(WEIGHTS)
        self._character = character
        self._threads, self._precision = threads, precision
        self.spec = EngineSpec(
            name="sr",
            kind="upscaler",
            model_id=f"imgflow-sr-3-{character}-x{scale}",
            licence="Apache-2.0",
            weights_sha256=weights_sha256(self._weights),
            scale=scale,
            receptive=RECEPTIVE,
            tiling="tiles",
            dtypes=("float32",),
        )

    def enlarge(self, tile: NDArray[np.float32]) -> NDArray[np.float32]:
        height, width = tile.shape[:2]
        even = np.pad(tile, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        scale = self.spec.scale
        size = (even.shape[1] * scale, even.shape[0] * scale)
        detail = self._detail(even)
        weight = _structure(even)
        if weight.min() < 1:
            detail *= cv2.resize(weight, size, interpolation=cv2.INTER_LINEAR)[:, :, None]
        # The same as PyTorch's, in a third of the time; after the network, for memory's sake.
        large = np.asarray(cv2.resize(even, size, interpolation=cv2.INTER_CUBIC), np.float32)
        large += detail
        return large[: height * scale, : width * scale]

    @property
    def computed_in(self) -> Computed:
        return fast_type() if self._precision == "auto" else self._precision

    @cached_property
    def _detail(self) -> Task:
        scale, weights = self.spec.scale, read_part(self._weights, self._character)
        if self.computed_in == "float32":
            return NcnnTask(f"upscaler-x{scale}", weights, self._threads)
        from imgflow.engines.networks.upscaler import Detail, SuperResolver

        network = SuperResolver()
        network.load_state_dict(as_tensors(weights))
        return TorchTask(Detail(network, scale), self._threads)


def _structure(tile: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W) from 0, where the 5 x 5 pixels around are all alike, to 1, where they differ.

    On the plain ground of a product there is nothing to add, and no ring of an edge shall be seen.
    """
    around = np.ones((5, 5), np.uint8)
    spread = (cv2.dilate(tile, around) - cv2.erode(tile, around)).max(axis=2)
    return np.clip((spread - _ALIKE) / _ALIKE, 0, 1, dtype=np.float32)
