"""The upscaler: a small network that says what bicubic interpolation leaves out."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from imgflow.engines.networks.blocks import Block, begin

SCALES = (2, 3, 4)


class SuperResolver(nn.Module):
    """One trunk for all scales, with a first and a last layer for each.

    Most of its work is done on the photo's own pixels, some on half as many a side: what lies
    there sees farther at a quarter of the cost (the U-Net's idea; Ronneberger, Fischer, Brox
    2015). Enlarging is the last thing done (Shi et al. 2016).
    """

    def __init__(
        self,
        scales: Sequence[int] = SCALES,
        width: int = 48,
        blocks: int = 4,
        coarse_width: int = 80,
        coarse_blocks: int = 3,
    ) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({_name(s): nn.Conv2d(3, width, 3, padding=1) for s in scales})
        self.before = nn.Sequential(*(Block(width) for _ in range(blocks // 2)))
        self.down = nn.Conv2d(width, coarse_width, 2, stride=2)
        self.coarse = nn.Sequential(*(Block(coarse_width) for _ in range(coarse_blocks)))
        self.up = nn.Conv2d(coarse_width, 4 * width, 1)
        self.after = nn.Sequential(*(Block(width) for _ in range(blocks - blocks // 2)))
        self.tails = nn.ModuleDict(
            {_name(s): nn.Conv2d(width, 3 * s * s, 3, padding=1) for s in scales}
        )
        self.apply(begin)
        for name, weight in self.tails.named_parameters():
            if name.endswith("weight"):
                nn.init.zeros_(weight)

    def forward(self, photo: Tensor, scale: int) -> Tensor:
        """(N, 3, H * scale, W * scale) float32, not clamped, of a photo (N, 3, H, W), sRGB 0..1.

        H and W are even.
        """
        plain = functional.interpolate(photo.float(), scale_factor=float(scale), mode="bicubic")
        return plain + self.detail(photo, scale)

    def detail(self, photo: Tensor, scale: int) -> Tensor:
        """What bicubic interpolation (Keys 1981, a = -0.75) leaves out, in the network's dtype."""
        head, tail = self.heads[_name(scale)], self.tails[_name(scale)]
        features = self.before(head(2 * photo.to(self.up.weight.dtype) - 1))
        coarse = functional.pixel_shuffle(self.up(self.coarse(self.down(features))), 2)
        features = self.after(coarse.add_(features))
        return functional.pixel_shuffle(tail(features), scale)


class Detail(nn.Module):
    """A network at one scale: from (1, 3, H, W) to its detail, (1, 3, H * scale, W * scale)."""

    def __init__(self, network: SuperResolver, scale: int) -> None:
        super().__init__()
        self.network, self.scale = network, scale

    def forward(self, photo: Tensor) -> Tensor:
        return self.network.detail(photo, self.scale)


def _name(scale: int) -> str:
    return f"x{scale}"
