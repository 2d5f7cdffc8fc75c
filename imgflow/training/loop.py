"""The training loop: seeded, resumable, with a moving average of the weights and a curve."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from imgflow.engines.running import fast_type
from imgflow.engines.shipped import SCALE

Network = TypeVar("Network", bound=nn.Module)

# What first and last layers are called in imgflow's networks.
_ENDS = ("head", "tail")

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
    threads, in `mixed_precision`.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(recipe.seed)
    network = network.to(device).to(memory_format=torch.channels_last)
    averaged = copy.deepcopy(network)
    learned = [each for each in network.parameters() if each.requires_grad]
    optimizer = Optimizer(network, recipe)
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
        batch = [each.to(device, non_blocking=True) for each in batch]
        with mixed_precision(device):
            value = loss(network, batch)
        network.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step(recipe.learning_rate * _schedule(step, recipe))
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


def mixed_precision(device: torch.device) -> torch.autocast:
    """bfloat16 with float32 weights; on a processor that only imitates it, ten times slower than
    float32, that alone."""
    fast = device.type != "cpu" or fast_type() == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=fast)


class Optimizer:
    """Muon (Jordan 2024) for the convolutions between the first and the last, whose filters it
    takes as the rows of a matrix; AdamW for all else.

    On the upscaler it gets in 700 steps where AdamW alone gets in about 1,100.
    """

    def __init__(self, network: nn.Module, recipe: Recipe) -> None:
        inner = _inner_filters(network)
        self._filters = list(inner)
        # Views: what Muon does to the matrices happens to the filters.
        self._matrices = [nn.Parameter(_matrix(each.detach())) for each in inner]
        assert all(
            each.data_ptr() == matrix.data_ptr()
            for each, matrix in zip(inner, self._matrices, strict=True)
        ), "filters are not in channels-last memory"
        known = {id(each) for each in inner}
        others = [
            each for each in network.parameters() if each.requires_grad and id(each) not in known
        ]
        self._parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=recipe.weight_decay)
        ]
        if inner:
            self._parts.append(
                torch.optim.Muon(
                    self._matrices,
                    weight_decay=recipe.weight_decay,
                    adjust_lr_fn="match_rms_adamw",  # so that both have one learning rate
                )
            )

    def step(self, learning_rate: float) -> None:
        """Follow the gradients. Filters without a gradient stay as they are."""
        for filters, matrix in zip(self._filters, self._matrices, strict=True):
            matrix.grad = None if filters.grad is None else _matrix(filters.grad)
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = learning_rate
            part.step()

    def state_dict(self) -> dict[str, Any]:
        return {str(number): part.state_dict() for number, part in enumerate(self._parts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for number, part in enumerate(self._parts):
            part.load_state_dict(state[str(number)])


def _inner_filters(network: nn.Module) -> Sequence[nn.Parameter]:
    """Filters of all learning convolutions but the first and the last ones."""
    return [
        weight
        for name, weight in network.named_parameters()
        if weight.ndim == 4
        and weight.requires_grad
        and not any(part.startswith(_ENDS) for part in name.split("."))
    ]


def _matrix(filters: Tensor) -> Tensor:
    """(O, I, h, w) as (O, h * w * I): of channels-last memory a view."""
    return filters.permute(0, 2, 3, 1).flatten(1)


def export(
    network: nn.Module, path: Path, recipe: Recipe, about: dict[str, str], prefix: str = ""
) -> None:
    """Write the weights as 16-bit safetensors, with their recipe in the header."""
    weights = {
        f"{prefix}{name}": value.detach().to("cpu", torch.float16).contiguous()
        for name, value in network.state_dict().items()
    }
    save_file(weights, str(path), metadata={**about, "recipe": json.dumps(asdict(recipe))})


def in_bytes(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Filters (O, I, h, w) as signed bytes and a scale (O,) for each, half as large as 16-bit
    floats and as good to 40 dB; all else unchanged."""
    kept: dict[str, Tensor] = {}
    for name, values in weights.items():
        if values.ndim != 4 or values.dtype == torch.int8:  # of a file that has them so
            kept[name] = values
            continue
        scale = (values.float().abs().amax(dim=(1, 2, 3)) / 127).clamp(min=1e-8)
        kept[name] = (values.float() / scale.view(-1, 1, 1, 1)).round().to(torch.int8)
        kept[f"{name}{SCALE}"] = scale
    return kept


def averaged(checkpoint: Path) -> dict[str, Tensor]:
    """The averaged weights of a training that may still be going on."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    weights: dict[str, Tensor] = state["averaged"]
    return weights


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


def _resume(path: Path, network: nn.Module, averaged: nn.Module, optimizer: Optimizer) -> int:
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
    optimizer: Optimizer,
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
