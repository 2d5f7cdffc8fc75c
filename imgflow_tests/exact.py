"""Networks as they are written, to compare what engines make of them with."""

from __future__ import annotations

import numpy as np
import torch

from imgflow.engines.running import Planes, Task


def exactly(task: torch.nn.Module) -> Task:
    """A task of a network in float32, pixel by pixel."""
    task.eval()

    @torch.inference_mode()
    def run(planes: Planes) -> Planes:
        made = task(torch.from_numpy(np.ascontiguousarray(planes)).permute(2, 0, 1)[None])
        return np.array(made[0].permute(1, 2, 0).numpy())

    return run
