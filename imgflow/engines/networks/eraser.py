"""The eraser: one small network finds text, another recovers what is under it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from imgflow.engines.networks.blocks import Block, begin

# Photo pixels that the networks' coarsest level sees as one: sides must be multiples of it.
STRIDE = 16
# What the finder calls a pixel, by the channel of its logits.
NOTHING, OVERLAY, PRODUCT = range(3)


class Eraser(nn.Module):
    """Finder and restorer. Where text is, is one question; what was there before, another."""

    def __init__(
        self,
        finder: Sequence[int] = (16, 32, 40, 56),
        restorer: Sequence[int] = (24, 40, 56, 64),
    ) -> None:
        super().__init__()
        self.finder = UNet(4, 3, finder, depths=(1, 2, 2, 2))
        self.restorer = UNet(8, 4, restorer, depths=(1, 2, 2, 2))

    def find(self, photo: Tensor, hint: Tensor) -> Tensor:
        """Logits (N, 3, H, W) of what each pixel is: nothing, drawn over the photo, or text of
        what the photo shows.

        photo: (N, 3, H, W) sRGB 0..1. hint: (N, 1, H, W), 1 where a detector reads text of either
        kind; it may have missed some. H and W are multiples of STRIDE.
        """
        logits: Tensor = self.finder(torch.cat([photo, hint], dim=1))
        return logits

    def restore(self, photo: Tensor, region: Tensor, mask: Tensor, filled: Tensor) -> Tensor:
        """The clean photo, (N, 3, H, W), not clamped; meant for use under `mask`.

        mask: (N, 1, H, W), 1 on text. filled: the photo with a classical fill under the mask.

        Text of colour C and opacity a over a clean photo B is seen as (1 - a) B + a C. With any
        fill F, B = F + g (seen - F) + r, where the gain g = 1 / (1 - a) and the rest r are smooth
        along the text: so the network says those two. Under opaque text g is 0.
        """
        result = self.restorer(torch.cat([photo, filled, mask, region], dim=1))
        gain, rest = result[:, :1], result[:, 1:]
        clean: Tensor = filled + gain * (photo - filled) + rest
        return clean


class UNet(nn.Module):
    """U-Net (Ronneberger, Fischer, Brox 2015) of residual blocks, on pixels folded 2 x 2.

    Most of its arithmetic is done at 1/4 size and below, most of its weights lie at 1/8 and
    1/16: a line of text is seen as a whole, at a cost that a processor can pay. It begins as a
    network that returns zero.
    """

    def __init__(
        self, channels: int, out: int, widths: Sequence[int], depths: Sequence[int]
    ) -> None:
        super().__init__()
        self.head = nn.Conv2d(4 * channels, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(
            nn.Sequential(*(Block(width) for _ in range(depth)))
            for width, depth in zip(widths, depths, strict=True)
        )
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairs)
        self.up = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in pairs)
        self.decoder = nn.ModuleList(
            nn.Sequential(*(Block(width) for _ in range(depth)))
            for width, depth in zip(widths[:-1], depths[:-1], strict=True)
        )
        self.tail = nn.Conv2d(widths[0], 4 * out, 3, padding=1)
        self.apply(begin)
        nn.init.zeros_(self.tail.weight)

    def forward(self, seen: Tensor) -> Tensor:
        features = self.head(functional.pixel_unshuffle(2 * seen - 1, 2))
        kept: list[Tensor] = []
        for level, blocks in enumerate(self.encoder):
            features = blocks(features)
            if level < len(self.down):
                kept.append(features)
                features = self.down[level](features)
        for level in reversed(range(len(self.up))):
            features = functional.pixel_shuffle(self.up[level](features), 2) + kept[level]
            features = self.decoder[level](features)
        return functional.pixel_shuffle(self.tail(features), 2)
