"""How the judges of text learn: a small network over measures, the mean of several."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import nn
from torch.nn import functional

from imgflow.engines.perceptron import PLANES, Perceptron

HIDDEN = 32
NETWORKS = 8
"""A judge is the mean of so many networks: one alone is a matter of chance."""

# How often a measure, and what is said besides, is hidden in training: none may be relied on
# alone, least of all the words.
_HIDDEN, _UNSAID = 0.25, 0.3
_NOISE = 0.1
_RATE, _DECAY = 4e-3, 0.3


@dataclass(frozen=True, slots=True)
class Examples:
    """looks: (N, F) float32. truth: (N,) bool. weight: (N,) float32, how much each counts. said:
    (N, W) float32, what adds to the logit besides, within `most` of it."""

    looks: NDArray[np.float32]
    truth: NDArray[np.bool_]
    weight: NDArray[np.float32]
    said: NDArray[np.float32]
    most: float = 0.0


def learned(examples: Examples, seed: int, steps: int) -> tuple[Perceptron, NDArray[np.float32]]:
    """A network, and the weights (W,) of what is said besides."""
    torch.set_num_threads(1)  # the network is so small that threads only wait for each other
    torch.manual_seed(seed)
    looks = examples.looks
    mean, scale = looks.mean(axis=0), looks.std(axis=0) + np.float32(1e-3)
    nothing = np.zeros(0, np.float32)
    standard = torch.from_numpy(
        Perceptron(mean, scale, nothing, nothing, nothing, nothing).standard(looks)
    )
    words = torch.from_numpy(examples.said)
    truth = torch.from_numpy(examples.truth.astype(np.float32))
    weight = torch.from_numpy(examples.weight)
    hidden, out = nn.Linear(looks.shape[1], HIDDEN), nn.Linear(HIDDEN, 1)
    said = nn.Parameter(torch.zeros(words.shape[1]))
    parameters = [*hidden.parameters(), *out.parameters(), said]
    optimizer = torch.optim.AdamW(parameters, lr=_RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        shown = standard * (torch.rand_like(standard) > _HIDDEN)
        shown = shown + _NOISE * torch.randn_like(standard)
        logit = out(torch.relu(hidden(shown)))[:, 0]
        spoken = (words @ said).clamp(-examples.most, examples.most)
        logit = logit + spoken * (torch.rand_like(spoken) > _UNSAID)
        losses = functional.binary_cross_entropy_with_logits(logit, truth, reduction="none")
        loss = (losses * weight).sum() / weight.sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    network = Perceptron(
        mean=mean,
        scale=scale,
        hidden=hidden.weight.detach().numpy().T.copy(),
        hidden_bias=hidden.bias.detach().numpy(),
        out=out.weight.detach().numpy()[0],
        out_bias=out.bias.detach().numpy(),
    )
    return network, said.detach().numpy()


def above(scores: NDArray[np.float32], share: float) -> float:
    """The least threshold that at most this share of the scores reaches."""
    return float(np.nextafter(np.quantile(scores, 1 - share, method="higher"), np.float32(np.inf)))


def save(
    network: Perceptron,
    path: Path,
    looks: Sequence[str],
    about: dict[str, str],
    **planes: NDArray[np.float32],
) -> None:
    """Write a judge as engines.perceptron reads it: its tensors, and what its looks are named."""
    held = {name: np.ascontiguousarray(getattr(network, name)) for name in PLANES}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({**held, **planes}, str(path), metadata={**about, "looks": json.dumps(looks)})
