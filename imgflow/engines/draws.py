"""Random numbers of networks that draw them without being asked for a seed, such as MAT."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from imgflow.engines.account import account

if TYPE_CHECKING:
    import torch


@contextmanager
def drawing(device: torch.device, seed: int) -> Iterator[None]:
    """What a network draws meanwhile follows from the seed, and from nothing that was drawn before;
    where it does draw, the account has the seed. Other generators of torch are left as they were.
    """
    import torch

    cards = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cards):
        torch.manual_seed(seed)
        before = _state(device)
        yield
        if not all(torch.equal(*each) for each in zip(before, _state(device), strict=True)):
            account().seed = seed


def _state(device: torch.device) -> list[torch.Tensor]:
    import torch

    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    if device.type == "mps":
        states.append(torch.mps.get_rng_state())
    return states
