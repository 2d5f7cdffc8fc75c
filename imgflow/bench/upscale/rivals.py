"""Published networks of about the same size, for their time alone: their weights are random."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imgflow.engines.spec import EngineSpec

if TYPE_CHECKING:
    import torch
    from torch import nn


class RandomNetwork:
    """An upscaler with random weights. receptive: pixels that it sees beyond its own."""

    def __init__(
        self, name: str, network: nn.Module, scale: int, receptive: int, dtype: torch.dtype
    ) -> None:
        import torch

        self.spec = EngineSpec(
            name=name,
            kind="upscaler",
            model_id=f"{name}-random-x{scale}",
            licence="none: random weights",
            scale=scale,
            receptive=receptive,
            tiling="tiles",
            dtypes=("float32",),
        )
        self._network = network.to(dtype).to(memory_format=torch.channels_last).eval()
        self._dtype = dtype

    def enlarge(self, tile: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        planes = torch.from_numpy(np.ascontiguousarray(tile)).permute(2, 0, 1)[None]
        planes = planes.to(self._dtype).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            large = self._network(planes).float()
        return np.ascontiguousarray(large[0].permute(1, 2, 0).numpy())


def compact(scale: int, dtype: torch.dtype) -> RandomNetwork:
    """Compact, the network of realesr-general and -animevideo: 64 features, 16 convolutions."""
    from spandrel.architectures.Compact.__arch.SRVGG import (  # type: ignore[import-untyped]
        SRVGGNetCompact,
    )

    network = SRVGGNetCompact(
        num_in_ch=3, num_out_ch=3, num_feat=64, num_conv=16, upscale=scale, act_type="prelu"
    )
    return RandomNetwork("compact", network, scale, 18, dtype)


def span(scale: int, dtype: torch.dtype) -> RandomNetwork:
    """SPAN (Wan et al. 2024), 48 features, its convolutions merged as for use."""
    from spandrel.architectures.SPAN import SPAN  # type: ignore[import-untyped]

    network = SPAN(num_in_ch=3, num_out_ch=3, feature_channels=48, upscale=scale)
    return RandomNetwork("span", _merged(network), scale, 21, dtype)


RIVALS: dict[str, Callable[[int, torch.dtype], RandomNetwork]] = {"compact": compact, "span": span}


def _merged(network: nn.Module) -> nn.Module:
    """SPAN merges its convolutions anew for each tile: here once, so that it is not held back."""
    from spandrel.architectures.SPAN.__arch.span import Conv3XC  # type: ignore[import-untyped]

    network.eval()
    for name, child in list(network.named_children()):
        if isinstance(child, Conv3XC):
            child.update_params()
            setattr(network, name, child.eval_conv)
        else:
            _merged(child)
    return network
