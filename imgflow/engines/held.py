"""A model from the shelf, loaded when it first works, held in the process's cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from imgflow.engines.compute import Compute, ModelCache
from imgflow.engines.loading import loading
from imgflow.engines.shelf.shelf import Weights
from imgflow.engines.spec import EngineSpec, Kind

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


def spec_of(
    name: str, kind: Kind, weights: Weights, *, variant: str = "", **fields: Any
) -> EngineSpec:
    """What an engine says of itself, as far as its model's card and files tell.

    variant: what is appended to the model's id. fields: the rest of the spec.
    """
    card = weights.card
    return EngineSpec(
        name=name,
        kind=kind,
        model_id=f"{weights.name}-{card.architecture or card.loader}{variant}",
        licence=card.licence,
        weights_sha256=weights.sha256,
        **fields,
    )


def seed_parameter(seed: int) -> tuple[tuple[str, Any], ...]:
    """A seed of the policy's among an engine's parameters; that it is 0 goes without saying."""
    return (("seed", seed),) if seed else ()


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
        return self.bench.cache.get(key, expected, lambda: self._loaded(device), self.measure)

    def _loaded(self, device: torch.device) -> Any:
        with loading(f"the model '{self.weights.name}'"):
            return self.load(device)
