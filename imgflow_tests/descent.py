"""A few steps of learning without an optimizer: torch takes seconds to load one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from imgflow.engines.networks.eraser import Eraser


def descend(
    loss: Callable[[Eraser, Any], Tensor], batch: Any, part: str, rate: float, steps: int = 12
) -> list[float]:
    """Losses of the smallest eraser while one part of it learns one batch.

    rate: how far the weights move in each step. Fails where the loss depends on the other part.
    """
    torch.manual_seed(0)
    network = Eraser((8, 8, 8, 8), (8, 8, 8, 8))
    losses = []
    for _ in range(steps):
        value = loss(network, batch)
        losses.append(float(value.detach()))
        network.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        slopes = {
            name: (weight, weight.grad)
            for name, weight in network.named_parameters()
            if weight.grad is not None
        }
        assert slopes and all(name.startswith(f"{part}.") for name in slopes)
        length = torch.stack([slope.norm() for _, slope in slopes.values()]).norm()
        with torch.no_grad():
            for weight, slope in slopes.values():
                weight.sub_(rate / length * slope)
    return losses
