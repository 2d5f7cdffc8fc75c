"""A model from the shelf, loaded when it first works, held in the process's cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from imgflow.engines.compute import Compute, ModelCache
from imgflow.engines.shelf.shelf import Weights

if TYPE_CHECKING:
    import torch

Model = TypeVar("Model")


class Bench:
    """What all engines of a process share: where they work, and the models that are held.

    threads: of torch, for the whole process.
    """

    def __init__(self, compute: Compute, threads: int = 1) -> None:
        self.compute = compute
        self.threads = threads

    @cached_property
    def cache(self) -> ModelCache:
        return ModelCache(self.compute.budget(self.compute.torch_device()))


@dataclass(frozen=True, slots=True)
class Held:
    """A model's weights and how it is loaded: load(device) gives it ready to work there.

    factor: bytes in memory, at most, over bytes of the files.
    """

    bench: Bench
    weights: Weights
    load: Callable[[torch.device], Any]
    measure: Callable[[Any], int]
    factor: float = 1.0
    variant: str = ""

    def on(self, device: torch.device) -> Any:
        """The model on a device. Keep no reference to it. Raises EngineUnavailable."""
        import torch

        torch.set_num_threads(self.bench.threads)
        key = (self.weights.name, self.weights.sha256, str(device), self.variant)
        expected = round(self.weights.bytes * self.factor)
        return self.bench.cache.get(key, expected, lambda: self.load(device), self.measure)
