"""imgflow's network on a graphics card: photos of 640 x 480 a second, and the work that is done."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from imgflow.bench.upscale.results import GpuReading

if TYPE_CHECKING:
    import torch
    from torch import nn

_SCALE = 4
_SIZE = (480, 640)
_BATCHES = (1, 8)
_SECONDS = 3.0


def read_gpu() -> list[GpuReading]:
    """Readings of the first card that torch sees; none without one."""
    import torch

    if not torch.cuda.is_available():
        return []
    return [read_network(torch.device("cuda"), batch, _SIZE, _SECONDS) for batch in _BATCHES]


def read_network(
    device: torch.device, batch: int, size: tuple[int, int], seconds: float
) -> GpuReading:
    """The network alone in bfloat16: random weights take as long as the shipped ones.

    size: (height, width) of a photo, both even. Photos lie on the device before and after.
    """
    import torch

    from imgflow.engines.networks.upscaler import SuperResolver

    network = SuperResolver((_SCALE,)).to(device, torch.bfloat16).eval()
    network = network.to(memory_format=torch.channels_last)
    photos = torch.rand(batch, 3, *size, device=device)
    with torch.inference_mode():
        with counted_flops(network) as counted:
            network(photos, _SCALE)
        times = _repeated(network, photos, seconds)
    return GpuReading(
        device=_name(device),
        batch=batch,
        images_per_s=batch / times,
        flops_per_image=sum(counted) // batch,
    )


@contextmanager
def counted_flops(network: nn.Module) -> Iterator[list[int]]:
    """The floating point operations of every convolution that the network does meanwhile.

    A multiplication and an addition count as two; biases, activations and the rest do not count.
    """
    from torch import nn

    counted: list[int] = []

    def count(module: nn.Module, _: Any, made: torch.Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        # Of every output value: one multiplication and addition per weight of its channel.
        counted.append(2 * made.numel() * module.weight[0].numel())

    convolutions = [each for each in network.modules() if isinstance(each, nn.Conv2d)]
    hooks = [each.register_forward_hook(count) for each in convolutions]
    try:
        yield counted
    finally:
        for hook in hooks:
            hook.remove()


def _repeated(network: nn.Module, photos: torch.Tensor, seconds: float) -> float:
    """Mean seconds of one pass, over about as many seconds as asked for."""
    once = _timed(network, photos, 3)  # convolutions choose their algorithms meanwhile
    return _timed(network, photos, max(int(seconds / once), 1))


def _timed(network: nn.Module, photos: torch.Tensor, times: int) -> float:
    _wait(photos)
    started = time.perf_counter()
    for _ in range(times):
        network(photos, _SCALE)
    _wait(photos)
    return (time.perf_counter() - started) / times


def _wait(photos: torch.Tensor) -> None:
    """Until the device is done with what it was given."""
    import torch

    if photos.is_cuda:
        torch.cuda.synchronize(photos.device)


def _name(device: torch.device) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
