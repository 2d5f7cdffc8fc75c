"""The eraser's training: photos with text drawn over them, and the photos as they were."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from imgflow.engines.eraser import strokes_in, telea
from imgflow.engines.networks.eraser import Eraser
from imgflow.imaging.masks import polygon_mask
from imgflow.synthesis.fonts import Fonts
from imgflow.synthesis.overlays import KINDS, Canvas, Overlay, draw_overlay, scatter
from imgflow.synthesis.phrases import TRAINING
from imgflow.training.photos import Photo, scene, squeezed

PATCH = 128
"""Pixels a side of what the network sees in training."""
_PATCHES = 8
# How often each kind of overlay comes. "scatter": lines without meaning, in any style.
_OFTEN = {
    "date": 0.08, "caption": 0.14, "watermark": 0.22, "tiled": 0.24, "chrome": 0.06,
    "scatter": 0.26,
}  # fmt: skip
# Text that leaves the photo less PSNR than this, in dB, mostly hides it.
_HIDDEN = 15.0
# Below this share of the photo hidden, a pixel counts as untouched.
_TOUCHED = 0.02


class Scenes(Dataset[Any]):
    """Sample n: eight patches as the photo with text (8, 3, P, P), region (8, 1, P, P), a rough
    mask of the text (8, 1, P, P), the photo filled under that mask (8, 3, P, P), the clean photo
    (8, 3, P, P) and where text is (8, 1, P, P).

    Pixels are 0..1. All of a sample follows from the seed and its number.
    """

    def __init__(self, photos: Sequence[Photo], fonts: Fonts, seed: int) -> None:
        self._photos, self._fonts, self._seed = list(photos), fonts, seed

    def __getitem__(self, number: int) -> tuple[Tensor, ...]:
        # One thread: the cores are the network's.
        cv2.setNumThreads(1)
        chance = Random(f"{self._seed}/{number}")
        height, width = chance.randint(224, 480), chance.randint(224, 560)
        clean = scene(self._photos, height, width, chance)
        overlay = _overlay(height, width, self._fonts, chance)
        region = _region(overlay, chance)
        dirty = overlay.over(clean)
        touched = (overlay.alpha > _TOUCHED).astype(np.uint8)
        clean, dirty, touched, region = _resized((clean, dirty, touched, region), chance)
        if chance.random() < 0.8:
            dirty = squeezed(dirty, chance)
        patches = []
        for _ in range(_PATCHES):
            place = _place(touched, chance)
            mask = _rough(touched[place] & region[place], chance)
            filled = telea(dirty[place], mask)
            patches.append(
                (dirty[place], region[place], mask, filled, clean[place], touched[place])
            )
        return tuple(
            torch.stack([_tensor(each) for each in plane]) for plane in zip(*patches, strict=True)
        )


def loss(network: Eraser, batch: Sequence[Tensor], *, own_masks: bool = False) -> Tensor:
    """Error of the pixels and of their differences under the mask, and of the text found.

    Nothing but the pixels under a mask, and strokes within the region, is ever used. own_masks:
    every second patch is restored under the mask that the finder gives, as it is in use.
    """
    photo, region, mask, filled, truth, touched = (
        each.flatten(0, 1).contiguous(memory_format=torch.channels_last) for each in batch
    )
    found = network.find(photo, region).float()
    if own_masks:
        mask, filled = _with_own_masks(photo, region, mask, filled, found.detach())
    result = network.restore(photo, region, mask, filled).float()
    # Rings that a detector's mask may have around the strokes count as well.
    weight = functional.max_pool2d(torch.maximum(mask, touched * region), 3, stride=1, padding=1)
    error = result - truth
    pixels = (error.abs() * weight).sum() / (3 * weight.sum() + 1)
    edges = sum(
        (torch.diff(error, dim=dim).abs() * weight.narrow(dim, 1, error.shape[dim] - 1)).sum()
        for dim in (2, 3)
    ) / (6 * weight.sum() + 1)
    text = functional.binary_cross_entropy_with_logits(
        found, touched, weight=region, reduction="sum"
    ) / (region.sum() + 1)
    return pixels + 0.5 * edges + text


@torch.inference_mode()
def judged(network: Eraser, samples: Scenes, count: int) -> dict[str, float]:
    """Median PSNR in dB under the mask of the photo, its classical fill and its restoration, for
    opaque and for translucent text; and how well strokes are found (mean IoU)."""
    device = next(network.parameters()).device
    figures: dict[str, list[float]] = {}
    for number in range(count):
        batch = [each.to(device) for each in samples[number]]
        photo, region, mask, filled, truth, touched = batch
        with torch.autocast(device.type, torch.bfloat16):
            found = network.find(photo, region).float() > 0
            clean = network.restore(photo, region, mask, filled).float().clamp(0, 1)
        for patch in range(len(photo)):
            where, within = mask[patch, 0] > 0, region[patch, 0] > 0
            if where.sum() < 30:
                continue
            before, fill, after = (
                _psnr(values[patch], truth[patch], where) for values in (photo, filled, clean)
            )
            kind = "opaque" if before < _HIDDEN else "translucent"
            figures.setdefault(f"{kind}_fill", []).append(fill)
            figures.setdefault(f"{kind}_psnr", []).append(after)
            text, seen = (touched[patch, 0] > 0) & within, found[patch, 0] & within
            overlap = float((seen & text).sum() / (seen | text).sum().clamp(min=1))
            figures.setdefault(f"{kind}_iou", []).append(overlap)
    return {name: float(np.median(values)) for name, values in sorted(figures.items())}


def _psnr(test: Tensor, truth: Tensor, where: Tensor) -> float:
    error = (test - truth)[:, where].square().mean()
    return float(-10 * torch.log10(error + 1e-8))


def _with_own_masks(
    photo: Tensor, region: Tensor, mask: Tensor, filled: Tensor, found: Tensor
) -> tuple[Tensor, Tensor]:
    """The masks and fills, every second one replaced by what the finder's logits lead to."""
    strokes = strokes_in(torch.sigmoid(found[::2, 0]).cpu().numpy(), _levels(region[::2])[..., 0])
    seen = _levels(photo[::2])
    fills = np.stack([telea(each, where) for each, where in zip(seen, strokes, strict=True)])
    mask, filled = mask.clone(), filled.clone()
    mask[::2, 0] = torch.from_numpy((strokes > 0).astype(np.float32)).to(mask.device)
    planes = fills.transpose(0, 3, 1, 2).astype(np.float32) / 255
    filled[::2] = torch.from_numpy(planes).to(filled.device)
    return mask, filled


def _levels(planes: Tensor) -> NDArray[np.uint8]:
    """(N, H, W, C) uint8 of (N, C, H, W) shares."""
    levels = (planes * 255).round().permute(0, 2, 3, 1).contiguous()
    return np.asarray(levels.to(torch.uint8).cpu().numpy())


def _overlay(height: int, width: int, fonts: Fonts, chance: Random) -> Overlay:
    (kind,) = chance.choices(list(_OFTEN), list(_OFTEN.values()))
    for known in KINDS:
        if kind == known:
            return draw_overlay(known, height, width, TRAINING, fonts, chance)
    canvas = Canvas(height, width)
    scatter(canvas, chance.randint(1, 6), (9, 90), fonts, chance)
    return canvas.overlay(kind)


def _region(overlay: Overlay, chance: Random) -> NDArray[np.uint8]:
    """Where text may be taken off, as roughly as a detector says it. (H, W), 0 or 1."""
    height, width = overlay.alpha.shape
    if chance.random() < (0.5 if overlay.kind == "tiled" else 0.12):
        return np.ones((height, width), np.uint8)
    region = np.zeros((height, width), np.uint8)
    for line in overlay.lines:
        side = float(np.linalg.norm(line.polygon[3] - line.polygon[0]))
        middle = line.polygon.mean(axis=0)
        grown = middle + (line.polygon - middle) * chance.uniform(1.0, 1.08)
        grown += np.array([chance.uniform(-1, 1), chance.uniform(-1, 1)], np.float32) * 0.06 * side
        reach = 2 * round(side * chance.uniform(0.12, 0.3) + 2) + 1
        part = polygon_mask([grown], height, width) // 255
        region |= np.asarray(cv2.dilate(part, np.ones((reach, reach), np.uint8)), np.uint8)
    return region


def _resized(planes: Sequence[NDArray[np.uint8]], chance: Random) -> tuple[NDArray[np.uint8], ...]:
    """All planes at another size, sometimes: shops scale what they are given."""
    if chance.random() > 0.25:
        return tuple(planes)
    height, width = planes[0].shape[:2]
    factor = max(chance.uniform(0.55, 1.3), (PATCH + 1) / min(height, width))
    size = (round(width * factor), round(height * factor))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    resized = [
        np.asarray(
            cv2.resize(plane * (1 if plane.ndim == 3 else 255), size, interpolation=how), np.uint8
        )
        for plane in planes
    ]
    return tuple(
        plane if plane.ndim == 3 else (plane > 255 * 0.1).astype(np.uint8) for plane in resized
    )


def _place(touched: NDArray[np.uint8], chance: Random) -> tuple[slice, slice]:
    """A patch, mostly around some of the text."""
    height, width = touched.shape
    rows, columns = np.nonzero(touched)
    if rows.size and chance.random() < 0.9:
        at = chance.randrange(rows.size)
        top = int(rows[at]) - chance.randint(0, PATCH - 1)
        left = int(columns[at]) - chance.randint(0, PATCH - 1)
    else:
        top, left = chance.randint(0, height - PATCH), chance.randint(0, width - PATCH)
    top, left = min(max(top, 0), height - PATCH), min(max(left, 0), width - PATCH)
    return slice(top, top + PATCH), slice(left, left + PATCH)


def _rough(text: NDArray[np.uint8], chance: Random) -> NDArray[np.uint8]:
    """A mask, 0 or 1, as a finder may give it: grown, thinned, with false spots."""
    grow = chance.choice((0, 1, 1, 2, 3, -1))
    if grow > 0:
        mask = cv2.dilate(text, np.ones((2 * grow + 1, 2 * grow + 1), np.uint8))
    else:
        mask = cv2.erode(text, np.ones((2, 2), np.uint8)) if grow else text.copy()
    for _ in range(chance.choice((0, 0, 0, 1, 3))):
        at = chance.randrange(PATCH), chance.randrange(PATCH)
        cv2.circle(mask, at, chance.randint(1, 5), 1, -1)
    return np.asarray(mask, np.uint8)


def _tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """(C, H, W) float32 0..1 of (H, W, 3) pixels, or of a plane of 0 and 1."""
    if pixels.ndim == 2:
        return torch.from_numpy(pixels[None].astype(np.float32))
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float() / 255
