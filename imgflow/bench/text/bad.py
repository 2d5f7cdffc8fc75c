"""Engines that are bad on purpose: the gates must stop what they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from imgflow.engines.registry import Engines
from imgflow.engines.spec import EngineSpec, Eraser, Found, TextMap
from imgflow.imaging.colour import data_range
from imgflow.imaging.folding import Move

BAD = {
    "a fill that paints grey": {"fill": "grey"},
    "an eraser that takes off a quarter": {"eraser": "weak", "fill": "weak"},
}
"""What they are, and what the policy's `detext` names them by."""


def register_bad(engines: Engines) -> None:
    """Let a policy name them."""
    engines.register_filler("grey", GreyFill)
    engines.register_eraser("weak", lambda: WeakEraser(engines.eraser("eraser")))


class GreyFill:
    """Paints holes grey: any gate should see that."""

    spec = EngineSpec(name="grey", kind="filler", model_id="grey", licence="Apache-2.0")

    def fill(
        self,
        pixels: NDArray[np.generic],
        mask: NDArray[np.uint8],
        *,
        prompt: str | None = None,
        negative_prompt: str | None = None,
        seed: int | None = None,
    ) -> NDArray[np.generic]:
        filled = pixels.copy()
        filled[mask > 0] = data_range(pixels.dtype) // 2
        return filled


class WeakEraser:
    """Takes off a quarter of what a good one does: less than a repair must win."""

    _SHARE = 0.25

    def __init__(self, good: Eraser) -> None:
        self._good = good
        self.spec = replace(good.spec, name="weak", model_id=f"weak-{good.spec.model_id}")

    def survey(self, pixels: NDArray[np.generic]) -> TextMap:
        return self._good.survey(pixels)

    def find(self, pixels: NDArray[np.generic], region: NDArray[np.uint8]) -> Found:
        return self._good.find(pixels, region)

    def restore(
        self,
        pixels: NDArray[np.generic],
        mask: NDArray[np.uint8],
        *,
        opaque: bool = False,
        copies: Sequence[Move] | None = None,
    ) -> NDArray[np.generic]:
        before = pixels.astype(np.float64)
        made = self._good.restore(pixels, mask, opaque=opaque, copies=copies)
        clean = made.astype(np.float64)
        return np.rint(before + self._SHARE * (clean - before)).astype(pixels.dtype)
