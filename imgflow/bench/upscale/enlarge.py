"""Enlargement as the `upscaled` version does it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imgflow.engines.spec import Upscaler
from imgflow.imaging.tiling import run_tiled
from imgflow.policy.policy import UpscaleSettings
from imgflow.stages.upscale import tile_plan, with_alpha


def enlarge(pixels: NDArray[np.uint8], engine: Upscaler) -> NDArray[np.uint8]:
    """(H, W, 3) to (H * scale, W * scale, 3), in the tiles of the default policy."""
    height, width = pixels.shape[:2]
    plan = tile_plan(height, width, engine.spec, UpscaleSettings().tile)
    return run_tiled(pixels, with_alpha(engine), plan)[0]
