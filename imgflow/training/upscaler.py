"""The upscaler's training: what a photo looked like before it was made small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from imgflow.engines.networks.upscaler import SuperResolver
from imgflow.engines.spec import Character
from imgflow.errors import ImgflowError
from imgflow.imaging.resample import bicubic
from imgflow.training.loop import mixed_precision
from imgflow.training.photos import Photo

PATCH = 48
"""Pixels a side of what the network sees in training, unless told otherwise."""
# Of all patches of a sample.
_PIXELS = 16 * 48 * 48
# How often each scale comes.
_OFTEN = {2: 0.4, 3: 0.2, 4: 0.4}
# Photos of at least this many pixels a side are pictures for a screen, saved as JPEG: reduced,
# their pixels are as sharp as a camera's, and the JPEG is gone.
_LARGE = 1000
_REDUCTIONS = {True: (1.5, 2.2, 3.2), False: (1.0, 1.33)}
_MORE_REDUCTIONS = {True: (1.5, 1.8, 2.2, 2.6, 3.2, 4.0), False: (1.0, 1.15, 1.33, 1.6)}
# How often a patch gets other colours, other contrast, and another patch shining through; and how
# little contrast is left.
_RECOLOURED, _FLATTER, _MIXED, _LEAST_CONTRAST = 0.5, 0.5, 0.25, 0.5
_LEAST_SIDE = 240
_BRIGHTNESS = (0.299, 0.587, 0.114)


class Pairs(Dataset[Any]):
    """Sample n: patches (N, 3, P, P) of photos made small, and the same in full (N, 3, sP, sP).

    All of a sample has one scale s. Pixels are 0..1. All of it follows from the seed and its
    number. For the character "photo" what is small has been through a shop's hands as well.
    various: patches are of more sizes, mixed and recoloured: a network cannot learn few photos by
    heart then. patch: P, even. A sample has about as many pixels whatever P is; of small patches
    more photos are seen at once, of large ones fewer pixels lack what is around them.

    Raises ImgflowError where no photo is large enough for a patch.
    """

    def __init__(
        self,
        photos: Sequence[Photo],
        character: Character,
        seed: int,
        *,
        various: bool = False,
        patch: int = PATCH,
    ) -> None:
        self._character, self._seed, self._various, self._patch = character, seed, various, patch
        reductions = _MORE_REDUCTIONS if various else _REDUCTIONS
        self._full = pyramid(photos, reductions, least=patch * max(_OFTEN))
        if not self._full:
            raise ImgflowError(
                "photos_too_small",
                f"none of the photos is large enough for patches of {patch} x {patch} pixels",
            )
        self._small = {
            scale: [
                bicubic(each, each.shape[0] // scale, each.shape[1] // scale) for each in self._full
            ]
            for scale in _OFTEN
        }
        # As often as they have pixels.
        self._often = [each.size for each in self._full]

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        # One thread: the cores are the network's.
        cv2.setNumThreads(1)
        chance = Random(f"{self._seed}/{number}")
        (scale,) = chance.choices(list(_OFTEN), list(_OFTEN.values()))
        pairs = []
        for which in self._some(max(1, round(_PIXELS / self._patch**2)), chance):
            part, truth = self._pair(which, scale, chance)
            if self._various:
                part, truth = self._varied((part, truth), scale, chance)
            if self._character == "photo":
                part = handled(part, chance)
            pairs.append((part, truth))
        small_batch, full_batch = zip(*pairs, strict=True)
        return _tensor(small_batch), _tensor(full_batch)

    def _some(self, count: int, chance: Random) -> list[int]:
        """Numbers of photos, the larger ones more often."""
        return chance.choices(range(len(self._full)), self._often, k=count)

    def _varied(self, pair: Sequence[Photo], scale: int, chance: Random) -> Sequence[Photo]:
        """The pair, sometimes mixed with another, sometimes in other colours."""
        if chance.random() < _MIXED:
            (other,) = self._some(1, chance)
            pair = mixed(pair, self._pair(other, scale, chance), chance)
        return recoloured(pair, chance)

    def _pair(self, which: int, scale: int, chance: Random) -> list[Photo]:
        """A patch of a photo made small, and the same in full."""
        small, full, side = self._small[scale][which], self._full[which], self._patch
        top = chance.randint(0, small.shape[0] - side)
        left = chance.randint(0, small.shape[1] - side)
        part = small[top : top + side, left : left + side]
        truth = full[scale * top :, scale * left :][: scale * side, : scale * side]
        return _turned((part, truth), chance)


def mixed(one: Sequence[Photo], other: Sequence[Photo], chance: Random) -> list[Photo]:
    """Two pairs of patches, the one shining through the other (mixup; Feng et al. 2019, against
    overfitting of such networks)."""
    share = chance.uniform(0.5, 1)
    pairs = [map(np.ascontiguousarray, pair) for pair in zip(one, other, strict=True)]
    return [np.asarray(cv2.addWeighted(a, share, b, 1 - share, 0), np.uint8) for a, b in pairs]


def recoloured(planes: Sequence[Photo], chance: Random) -> list[Photo]:
    """All planes with their colours changed for each other, or with less contrast, alike."""
    found: list[Photo] = list(planes)
    if chance.random() < _RECOLOURED:
        order = chance.sample(range(3), 3)
        found = [each[:, :, order] for each in found]
    if chance.random() < _FLATTER:
        contrast = chance.uniform(_LEAST_CONTRAST, 1)
        darkest = chance.uniform(0, 255 * (1 - contrast))
        found = [
            np.asarray(np.rint(each * np.float32(contrast) + np.float32(darkest)), np.uint8)
            for each in found
        ]
    return found


def pyramid(
    photos: Sequence[Photo],
    reductions: Mapping[bool, Sequence[float]] = _REDUCTIONS,
    least: int = 0,
) -> list[Photo]:
    """The photos in several sizes, each side a multiple of 12: of all scales. reductions: of large
    photos and of others. least: pixels a side; smaller ones are left out."""
    sizes = []
    for photo in photos:
        for factor in reductions[max(photo.shape[:2]) > _LARGE]:
            height, width = (round(side / factor) // 12 * 12 for side in photo.shape[:2])
            if min(height, width) >= max(_LEAST_SIDE, least):
                same = factor == 1
                sizes.append(photo[:height, :width] if same else bicubic(photo, height, width))
    return sizes


def handled(photo: Photo, chance: Random) -> Photo:
    """As a shop gets it: sometimes soft or noisy, mostly squeezed by JPEG. (H, W, 3) uint8."""
    values: NDArray[Any] = photo.astype(np.float32)
    if chance.random() < 0.2:
        values = cv2.GaussianBlur(values, (0, 0), chance.uniform(0.2, 0.9))
    if chance.random() < 0.2:
        draw = np.random.default_rng(chance.getrandbits(32))
        grey = chance.random() < 0.4
        noise = draw.normal(size=(*values.shape[:2], 1 if grey else 3)).astype(np.float32)
        values = values + chance.uniform(0.5, 7) * noise
    found = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    if chance.random() < 0.95:
        found = _squeezed(found, chance)
    return found


def _squeezed(photo: Photo, chance: Random) -> Photo:
    sampling = chance.choice(
        (cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    )
    quality = chance.randint(30, 95)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    _, data = cv2.imencode(".jpg", photo[:, :, ::-1], options)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)[:, :, ::-1]


def loss(network: SuperResolver, batch: Sequence[Tensor]) -> Tensor:
    """Mean error of colours, and of brightness: that is where detail is seen."""
    error, brightness = _errors(network, batch)
    return 0.5 * error.abs().mean() + 0.5 * brightness.abs().mean()


def squared_loss(network: SuperResolver, batch: Sequence[Tensor]) -> Tensor:
    """The same of each patch's root mean square, which PSNR tells of: to end a training with.

    Where much is uncertain, the mean of what may be is nearer in PSNR than the median.
    """
    error, brightness = _errors(network, batch)
    return 0.5 * _rms(error) + 0.5 * _rms(brightness)


def _errors(network: SuperResolver, batch: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Of colours (N, 3, H, W) and of brightness (N, 1, H, W)."""
    small, full = (
        each.flatten(0, 1).contiguous(memory_format=torch.channels_last) for each in batch
    )
    error = network(small, full.shape[-1] // small.shape[-1]).float() - full
    weights = torch.tensor(_BRIGHTNESS, device=error.device).view(1, 3, 1, 1)
    return error, (error * weights).sum(dim=1, keepdim=True)


def _rms(error: Tensor) -> Tensor:
    return (error.square().mean(dim=(1, 2, 3)) + 1e-6).sqrt().mean()


@torch.inference_mode()
def judged(network: SuperResolver, samples: Pairs, count: int) -> dict[str, float]:
    """Mean PSNR of brightness in dB that a patch wins over its bicubic enlargement, by scale."""
    device = next(network.parameters()).device
    weights = torch.tensor(_BRIGHTNESS, device=device).view(1, 3, 1, 1)
    won: dict[str, list[float]] = {}
    for number in range(count):
        small, full = (each.to(device) for each in samples[number])
        scale = full.shape[-1] // small.shape[-1]
        with mixed_precision(device):
            large = network(small, scale).float().clamp(0, 1)
        plain = torch.stack([_plainly(each, scale) for each in small.cpu()]).to(device)
        # The rim of a patch has no surroundings.
        rim = 8 * scale
        inner = (slice(None), slice(None), slice(rim, -rim), slice(rim, -rim))
        errors = [
            ((each - full) * weights).sum(dim=1, keepdim=True)[inner].square().mean(dim=(1, 2, 3))
            for each in (plain, large)
        ]
        gain = 10 * torch.log10((errors[0] + 1e-7) / (errors[1] + 1e-7))
        won.setdefault(f"x{scale}_gain", []).extend(gain.tolist())
    return {name: float(np.mean(values)) for name, values in sorted(won.items())}


def _plainly(small: Tensor, scale: int) -> Tensor:
    """(3, h, w) 0..1 enlarged by bicubic interpolation."""
    pixels = small.permute(1, 2, 0).numpy()
    large = bicubic(pixels, pixels.shape[0] * scale, pixels.shape[1] * scale)
    return torch.from_numpy(np.clip(large, 0, 1)).permute(2, 0, 1)


def _turned(planes: Sequence[Photo], chance: Random) -> list[Photo]:
    """All planes mirrored and turned alike, in one of the eight ways."""
    way = chance.randrange(8)
    return [_turn(each, way) for each in planes]


def _turn(plane: Photo, way: int) -> Photo:
    if way & 1:
        plane = plane[::-1]
    if way & 2:
        plane = plane[:, ::-1]
    return plane.transpose(1, 0, 2) if way & 4 else plane


def _tensor(photos: Sequence[NDArray[np.uint8]]) -> Tensor:
    """(N, 3, H, W), 0..1."""
    return torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2).float().div(255)
