"""The training loop: seeded, resumable, with a moving average of the weights and a curve."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

Network = TypeVar("Network", bound=nn.Module)

CHECKPOINT = "checkpoint.pt"
CURVE = "curve.jsonl"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a training does. The same recipe and data give the same weights on one machine.

    batch: samples a step. warm_up: steps until the full learning rate. average: of the moving
    average that is kept as the result. every: steps between two points of the curve.
    """

    steps: int
    batch: int
    learning_rate: float = 1e-3
    warm_up: int = 300
    weight_decay: float = 1e-4
    average: float = 0.999
    seed: int = 0
    every: int = 250


def train(
    network: Network,
    samples: Dataset[Any],
    loss: Callable[[Network, Any], Tensor],
    judge: Callable[[Network], dict[str, float]],
    recipe: Recipe,
    work: Path,
    tell: Callable[[str], None],
    *,
    loaders: int = 1,
) -> Network:
    """Train until the recipe's last step, going on from the checkpoint in `work` if there is one.

    samples: by number; sample n is the same whenever it is asked for. loss: of the network on a
    batch. judge: figures of a network on what it is not trained on, for the curve. Returns the
    average of the weights over the last steps. On a GPU if there is one, else on all of torch's
    threads, in bfloat16 with float32 weights.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(recipe.seed)
    network = network.to(device).to(memory_format=torch.channels_last)
    averaged = copy.deepcopy(network)
    learned = [each for each in network.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(
        learned,
        lr=recipe.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=recipe.weight_decay,
    )
    work.mkdir(parents=True, exist_ok=True)
    done = _resume(work / CHECKPOINT, network, averaged, optimizer)
    tell(f"{device}, steps {done} to {recipe.steps}, {_count(network):,} weights")
    batches = DataLoader(
        samples,
        batch_size=recipe.batch,
        sampler=_From(done * recipe.batch, recipe.steps * recipe.batch),
        num_workers=loaders,
        pin_memory=device.type == "cuda",
    )
    total, since, clock = 0.0, 0, time.perf_counter()
    for step, batch in enumerate(batches, start=done + 1):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * _schedule(step, recipe)
        batch = [each.to(device, non_blocking=True) for each in batch]
        with torch.autocast(device.type, torch.bfloat16):
            value = loss(network, batch)
        optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        # A young average forgets its first steps sooner.
        _follow(averaged, network, min(recipe.average, step / (step + 10)))
        total, since = total + float(value.detach()), since + 1
        if step % recipe.every == 0 or step == recipe.steps:
            figures = judge(averaged)
            seconds = (time.perf_counter() - clock) / since
            point = {"step": step, "loss": total / since, "seconds_per_step": seconds, **figures}
            with (work / CURVE).open("a") as curve:
                curve.write(json.dumps(point) + "\n")
            tell(", ".join(f"{name} {value:.4g}" for name, value in point.items()))
            _save(work / CHECKPOINT, step, network, averaged, optimizer)
            total, since, clock = 0.0, 0, time.perf_counter()
    return averaged


def export(network: nn.Module, path: Path, recipe: Recipe, about: dict[str, str]) -> None:
    """Write the weights as 16-bit safetensors, with their recipe in the header."""
    weights = {
        name: value.detach().to("cpu", torch.float16).contiguous()
        for name, value in network.state_dict().items()
    }
    save_file(weights, str(path), metadata={**about, "recipe": json.dumps(asdict(recipe))})


class _From(Sampler[int]):
    """Sample numbers from `first` up to `last`."""

    def __init__(self, first: int, last: int) -> None:
        self._numbers = range(first, last)

    def __iter__(self) -> Iterator[int]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)


def _schedule(step: int, recipe: Recipe) -> float:
    """Share of the learning rate: linear warm-up, then half a cosine."""
    if step < recipe.warm_up:
        return step / recipe.warm_up
    done = (step - recipe.warm_up) / max(recipe.steps - recipe.warm_up, 1)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


@torch.no_grad()
def _follow(averaged: nn.Module, network: nn.Module, share: float) -> None:
    for mean, value in zip(averaged.parameters(), network.parameters(), strict=True):
        mean.lerp_(value, 1 - share)


def _resume(
    path: Path, network: nn.Module, averaged: nn.Module, optimizer: torch.optim.Optimizer
) -> int:
    """Steps that the checkpoint has done; 0 without one."""
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    network.load_state_dict(state["network"])
    averaged.load_state_dict(state["averaged"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def _save(
    path: Path,
    step: int,
    network: nn.Module,
    averaged: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    partial = path.with_suffix(".part")
    state = {
        "step": step,
        "network": network.state_dict(),
        "averaged": averaged.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    torch.save(state, partial)
    partial.replace(path)


def _count(network: nn.Module) -> int:
    return sum(each.numel() for each in network.parameters() if each.requires_grad)
