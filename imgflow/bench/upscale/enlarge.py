"""Enlargement as the `upscaled` version does it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imgflow.engines.spec import Upscaler
from imgflow.imaging.looks import mean_of_looks
from imgflow.imaging.tiling import run_tiled
from imgflow.policy.policy import UpscaleSettings
from imgflow.stages.upscale import tile_plan, with_alpha


def enlarge(pixels: NDArray[np.uint8], engine: Upscaler, looks: int = 1) -> NDArray[np.uint8]:
    """(H, W, 3) to (H * scale, W * scale, 3), in the tiles of the default policy."""
    height, width = pixels.shape[:2]
    plan = tile_plan(height, width, engine.spec, UpscaleSettings().tile)
    once = with_alpha(engine)
    return run_tiled(pixels, lambda tile: mean_of_looks(once, tile, looks), plan)[0]
