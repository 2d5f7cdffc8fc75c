"""The eraser: small networks that find text, fill what it hides, and recover what it veils."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from imgflow.engines.networks.blocks import Block, begin

# Photo pixels that the networks' coarsest level sees as one: sides must be multiples of it.
STRIDE = 32
# What the finder calls a pixel, by the channel of its logits.
NOTHING, OVERLAY, PRODUCT = range(3)
# Opacities between which a photo is hidden more and more, and at last all but hidden.
_DENSE, _HIDDEN = 0.75, 0.9


class Eraser(nn.Module):
    """Finder, filler and restorer. Where text is, is one question; what was there before, where
    nothing of it shows and where some of it does, are two others."""

    def __init__(
        self,
        finder: Sequence[int] = (16, 32, 48, 72, 96),
        filler: Sequence[int] = (24, 36, 48, 56),
        restorer: Sequence[int] = (20, 32, 44, 56),
    ) -> None:
        super().__init__()
        self.finder = UNet(3, 3, finder, depths=(1, 2, 2, 2, 2)[: len(finder)])
        self.filler = UNet(4, 3, filler, depths=(1, 2, 2, 2)[: len(filler)])
        self.restorer = UNet(11, 5, restorer, depths=(1, 2, 2, 2)[: len(restorer)])

    def find(self, photo: Tensor) -> Tensor:
        """Logits (N, 3, H, W) of what each pixel is: nothing, drawn over the photo, or text of
        what the photo shows.

        photo: (N, 3, H, W) sRGB 0..1; H and W are multiples of STRIDE.
        """
        logits: Tensor = self.finder(photo)
        return logits

    def fill(self, filled: Tensor, mask: Tensor) -> Tensor:
        """What is under the mask, of a photo with a classical fill there: (N, 3, H, W), not
        clamped; meant for use under the mask. A new network changes nothing.

        filled: (N, 3, H, W) sRGB 0..1. mask: (N, 1, H, W), 1 on text.
        """
        change = self.filler(torch.cat([filled, mask], dim=1))
        made: Tensor = filled + change.to(filled.dtype)
        return made

    def restore(
        self,
        photo: Tensor,
        filled: Tensor,
        colour: Tensor,
        opacity: Tensor,
        share: Tensor,
        mask: Tensor,
    ) -> Tensor:
        """The clean photo, (N, 3, H, W), not clamped; meant for use under `mask`.

        filled: the photo with a fill under the mask. colour (N, 3, H, W), opacity and
        share (N, 1, H, W): the overlay's, as imgflow.imaging.veil computes them, the share as
        each pixel by itself tells it. mask: (N, 1, H, W), 1 on text. All 0..1.

        With the true share m the overlay is taken off exactly, as long as it lets the photo
        through: (photo - a m C) / (1 - a m). Where it hides the photo, the fill is the better
        guess. The network mends the share, says how far to go from one to the other, and what to
        change besides; a new one changes nothing.
        """
        bare, _ = lifted(photo, colour, opacity)
        seen = torch.cat([photo, filled, bare, opacity * share, mask], dim=1)
        # In the precision of what was seen.
        mended, trust, rest = torch.split(self.restorer(seen).to(seen.dtype), [1, 1, 3], dim=1)
        share = torch.sigmoid(mended + torch.logit(share, 0.02))
        bare, shows = lifted(photo, colour, opacity * share)
        clean: Tensor = filled + (shows + trust) * (bare - filled) + rest
        return clean


class Find(nn.Module):
    """From a photo (1, 3, H, W) to probabilities (1, 3, H, W): of overlaid text, of product text,
    and again of overlaid text. As many planes come out as go in: that is what tiling joins."""

    def __init__(self, network: Eraser) -> None:
        super().__init__()
        self.network = network

    def forward(self, photo: Tensor) -> Tensor:
        chances = self.network.find(photo).float().softmax(dim=1)
        _, overlay, product = torch.split(chances, [1, 1, 1], dim=1)
        return torch.cat([overlay, product, overlay], dim=1)


class Fill(nn.Module):
    """From a photo with a classical fill, and its mask, (1, 4, H, W) to a better fill and the mask,
    (1, 4, H, W)."""

    def __init__(self, network: Eraser) -> None:
        super().__init__()
        self.network = network

    def forward(self, planes: Tensor) -> Tensor:
        begun, mask = torch.split(planes, [3, 1], dim=1)
        return torch.cat([self.network.fill(begun, mask).float(), mask], dim=1)


class Restore(nn.Module):
    """From photo, fill, the text's colour, opacity and share, and the mask, (1, 12, H, W), to the
    clean photo, that without what the network knows, and what came in after these, (1, 12, H, W).
    """

    def __init__(self, network: Eraser) -> None:
        super().__init__()
        self.network = network

    def forward(self, planes: Tensor) -> Tensor:
        photo, filled, colour, opacity, share, mask = torch.split(planes, [3, 3, 3, 1, 1, 1], dim=1)
        clean = self.network.restore(photo, filled, colour, opacity, share, mask).float()
        bare, shows = lifted(photo, colour, opacity * share)
        computed = filled + shows * (bare - filled)
        return torch.cat([clean, computed, colour, opacity, share, mask], dim=1)


def lifted(photo: Tensor, colour: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """A photo (N, 3, H, W) without the overlay that hides the share `hidden` (N, 1, H, W) of it,
    and how far to believe that, 0..1: where the photo is all but hidden, not at all."""
    through = hidden.clamp(max=_HIDDEN)
    bare = ((photo - through * colour) / (1 - through)).clamp(0, 1)
    return bare, ((_HIDDEN - hidden) / (_HIDDEN - _DENSE)).clamp(0, 1)


class UNet(nn.Module):
    """U-Net (Ronneberger, Fischer, Brox 2015) of residual blocks, on pixels folded 2 x 2.

    Most of its arithmetic is done at 1/4 size and below, most of its weights lie at 1/8 and
    below: a line of text is seen as a whole, at a cost that a processor can pay. It begins as a
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
        folded = functional.pixel_unshuffle(2 * seen - 1, 2)
        features = self.head(folded.to(self.head.weight.dtype))
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
