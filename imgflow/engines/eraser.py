"""imgflow's own eraser: takes drawn text off a photo and recovers what is under it."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.engines.classical import OpenCvFill
from imgflow.engines.running import NcnnTask, Planes, Task, TorchTask, fast_type
from imgflow.engines.shipped import as_tensors, read_weights, shipped_weights, weights_sha256
from imgflow.engines.spec import EngineSpec, Found, TextMap
from imgflow.imaging.colour import data_range, to_uint8
from imgflow.imaging.folding import Move, folded, repeats
from imgflow.imaging.masks import dilate, hole_boxes, thickness
from imgflow.imaging.tiling import TilePlan, run_tiled
from imgflow.imaging.veil import Veil, fit_veil

WEIGHTS = "eraser.safetensors"
FINDER_RECEPTIVE, RESTORER_RECEPTIVE = 416, 192
"""Pixels that the result of a network depends on, at most: the sum over its convolutions of what
one of them sees beyond its own pixel, times the size of its pixels. Filler and restorer are alike.
"""
# Sides of what a network sees are multiples of 2 to this.
_LEVELS = 5
# Photos up to this many pixels go through a network at once; a tile of a larger one is as large.
_AT_ONCE = 1_400_000
_FINDER_TILE, _RESTORER_TILE = 1024, 768
# From which probability on a pixel counts as text, and from which share of the surest one within so
# many pixels: a mask that also covers what is between letters hides what its ground looks like.
_TEXT, _SURE, _NEIGHBOURS = 0.2, 0.6, 8
# The same shares where no veil explains what is seen under such a mask, one after the other; how
# clearly the ground must then be seen through it (a correlation), and what hints at it.
_SUREST, _CLEARLY, _HARDLY = (0.75, 0.85), 0.5, 0.3
# A photo is looked at twice for its text: enlarged, where its short side has fewer pixels than
# this, for small letters are seen better then; else mirrored, around pixels that have at least this
# probability at the first look, if there are so many.
_CLOSE, _HINT, _HINTS = 600, 0.25, 60
CLOSEST = 2.0
"""Most times that a small photo is looked at enlarged."""
# How large a place is looked at, where that goes through the network at once, to tell strokes from
# what is between them, with so many pixels around it; and how much more the surer looks count. Not
# where the region is thicker than so many pixels: strokes of such letters are no clearer then.
_NEARER, _AROUND, _SURER, _SMALL = (2, 3), 64, 4, 32
# Pixels around text that tell what its ground looks like. Text nearer than that is of one veil.
_CONTEXT = 96
# What JPEG smears beyond the fringe.
_FRINGE = 1
# Pixels of photos and crops of which is remembered what was seen in them: strokes are looked for,
# and taken off, where text was seen before.
_REMEMBERED = 4 * _AT_ONCE
# The plain fill.
_TELEA = OpenCvFill("telea", "telea-2004-opencv", cv2.INPAINT_TELEA)


@dataclass(frozen=True, slots=True)
class _Letters:
    """What is seen of text in a photo.

    planes: probabilities of overlaid text and of product text, (H, W, 2) float32 0..1. moves:
    those that bring the copies of a repeated mark onto each other.
    """

    planes: Planes
    moves: Sequence[Move] = ()

    @property
    def either(self) -> Planes:
        """(H, W) how likely each pixel belongs to a text of either kind."""
        return np.asarray(self.planes.sum(axis=2), np.float32)


class NeuralEraser:
    """The shipped networks (imgflow/engines/networks/eraser.py), or others of the same shape."""

    def __init__(self, *, weights: Path | None = None, threads: int = 1) -> None:
        self._weights = weights or shipped_weights(WEIGHTS)
        self._threads = threads
        self._seen: OrderedDict[bytes, _Letters] = OrderedDict()
        self.spec = EngineSpec(
            name="eraser",
            kind="eraser",
            model_id="imgflow-eraser-12",
            licence="Apache-2.0",
            weights_sha256=weights_sha256(self._weights),
            receptive=FINDER_RECEPTIVE,
            tiling="crop",
            dtypes=("uint8", "uint16"),
        )

    def survey(self, pixels: NDArray[np.generic]) -> TextMap:
        planes = np.rint(255 * self._letters(pixels).planes).astype(np.uint8)
        return TextMap(planes[:, :, 0], planes[:, :, 1])

    def find(self, pixels: NDArray[np.generic], region: NDArray[np.uint8]) -> Found:
        letters = self._letters(pixels)
        planes = letters.planes
        if not letters.moves:  # copies of a mark tell more of each other
            planes = self._nearer(_shares(pixels), planes, region)
        chance = _wanted(planes, region)
        sure = chance[(chance > _TEXT) & (region > 0)]
        confidence = float(sure.mean()) if sure.size else 0.0
        return Found(_strokes(chance, region), confidence)

    def restore(
        self,
        pixels: NDArray[np.generic],
        mask: NDArray[np.uint8],
        *,
        opaque: bool = False,
        copies: Sequence[Move] | None = None,
    ) -> NDArray[np.generic]:
        if opaque:  # what is believed to hide all needs no look
            letters = None
        elif copies is None:
            letters = self._letters(pixels)
        else:
            letters = self._glance(pixels, copies)
        clean = pixels.copy()
        for box in hole_boxes(mask, _CONTEXT):
            window = box.padded(_CONTEXT, *mask.shape).slices
            here = None if letters is None else _Letters(letters.planes[window], letters.moves)
            clean[window] = self._restored(pixels[window], np.ascontiguousarray(mask[window]), here)
        return clean

    def _restored(
        self, pixels: NDArray[np.generic], mask: NDArray[np.uint8], letters: _Letters | None
    ) -> NDArray[np.generic]:
        """A crop, (H, W, 3) of the photo's dtype, clean under its mask. letters: of the crop;
        None: nothing that shows through is believed."""
        photo = _shares(pixels)
        clean = filled = self._filled(pixels, mask)
        veil = letters and fit_veil(photo, filled, letters.either, mask, letters.moves)
        if letters and veil and veil.unclear:
            found = self._looked_through(pixels, mask, letters)
            if found:
                filled, mask, veil = found
        if veil and veil.explains:
            here = (mask > 0).astype(np.float32)
            colour = np.broadcast_to(veil.colour, filled.shape)
            opacity = np.full_like(here, veil.opacity)
            seen = np.dstack([photo, filled, colour, opacity, veil.share, here])
            planes = self._run(seen, self._tasks.restore, RESTORER_RECEPTIVE)
            # What is computed errs in other ways than the network: their mean is nearer.
            bare = np.clip((planes[:, :, :3] + planes[:, :, 3:6]) / np.float32(2), 0, 1)
            clean = np.where(here[:, :, None] > 0, bare, filled)
        return np.rint(clean * data_range(pixels.dtype)).astype(pixels.dtype)

    def _looked_through(
        self, pixels: NDArray[np.generic], mask: NDArray[np.uint8], letters: _Letters
    ) -> tuple[Planes, NDArray[np.uint8], Veil] | None:
        """A fill, strokes, and a veil that explains them, where it does not explain all of a mask.

        Where the mask holds more than letters, the fill is far from the ground; and where it holds
        much more, no veil explains all of it. So the fill is of ever surer strokes, as long as
        there is a hint of the ground.
        """
        photo = _shares(pixels)
        for share in _SUREST:
            surest = mask & _surest(letters.either, mask, share)
            ground = self._filled(pixels, surest)
            veils = [
                (strokes, fit_veil(photo, ground, letters.either, strokes, letters.moves))
                for strokes in (mask, surest)
            ]
            for strokes, veil in veils:
                if veil.explains and veil.through >= _CLEARLY:
                    return ground, strokes, veil
            if max(veil.through for _, veil in veils) < _HARDLY:
                break
        return None

    def filled(self, pixels: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 with what is under `mask` (H, W; not 0 where to fill) made up from what
        is around it."""
        return np.rint(255 * self._filled(pixels, mask)).astype(np.uint8)

    def _filled(self, pixels: NDArray[np.generic], mask: NDArray[np.uint8]) -> Planes:
        """(H, W, 3) float32 0..1, clamped."""
        begun = _shares(telea(to_uint8(pixels), mask))
        here = (mask > 0).astype(np.float32)
        made = self._run(np.dstack([begun, here]), self._tasks.fill, RESTORER_RECEPTIVE)[:, :, :3]
        return np.clip(made, np.float32(0), np.float32(1))

    def likely(self, pixels: NDArray[np.generic]) -> Planes:
        """(H, W) float32 0..1: how likely each pixel belongs to a text of either kind."""
        return self._letters(pixels).either

    def _glance(self, pixels: NDArray[np.generic], copies: Sequence[Move]) -> _Letters:
        """What one look shows, of a mark whose copies are known."""
        return _read(self._look(_shares(pixels)), copies)

    def _letters(self, pixels: NDArray[np.generic]) -> _Letters:
        digest = hashlib.blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=16)
        digest.update(str((pixels.shape, pixels.dtype)).encode())
        key = digest.digest()
        if key in self._seen:
            self._seen.move_to_end(key)
            return self._seen[key]
        planes = self._looked(_shares(pixels))
        letters = _read(planes, repeats(planes[:, :, 0]))
        if pixels.shape[0] * pixels.shape[1] <= _AT_ONCE:  # of larger ones all would be too much
            self._seen[key] = letters
            while sum(each.planes[:, :, 0].size for each in self._seen.values()) > _REMEMBERED:
                self._seen.popitem(last=False)
        return letters

    def _looked(self, photo: Planes) -> Planes:
        """Probabilities of overlaid and of product text, (H, W, 2), of a photo (H, W, 3); all
        0..1."""
        height, width = photo.shape[:2]
        closer = min(_CLOSE / max(min(height, width), 1), CLOSEST)
        if closer <= 1:
            return self._mirrored_too(photo, self._look(photo))
        both = self._look_closer(photo, closer) + self._look(photo)
        return np.asarray(both / np.float32(2), np.float32)

    def _mirrored_too(self, photo: Planes, seen: Planes) -> Planes:
        """What a look at a photo shows, (H, W, 2), with what a mirrored one shows where there is a
        hint of text."""
        hints = np.where(seen.sum(axis=2) >= _HINT, np.uint8(255), np.uint8(0))
        if np.count_nonzero(hints) < _HINTS:
            return seen
        both = seen.copy()
        for box in hole_boxes(hints, _CONTEXT):
            window = box.padded(_CONTEXT, *hints.shape).slices
            mirrored = self._look(np.ascontiguousarray(photo[window][:, ::-1]))[:, ::-1]
            both[window] = (seen[window] + mirrored) / np.float32(2)
        return both

    def _nearer(self, photo: Planes, seen: Planes, region: NDArray[np.uint8]) -> Planes:
        """What is seen of text in a photo, (H, W, 2), sharper in a region."""
        sharper = seen.copy()
        for box in hole_boxes(region, _CONTEXT):
            window = box.padded(_AROUND, *region.shape).slices
            if thickness(region[window]) > _SMALL:
                continue
            part = photo[window]
            looks = [seen[window]]
            for times in _NEARER:
                if times**2 * part.shape[0] * part.shape[1] <= _AT_ONCE:
                    looks.append(self._look_closer(part, times))
            sharper[window] = _surer_mean(looks, region[window] > 0)
        return sharper

    def _look_closer(self, photo: Planes, closer: float) -> Planes:
        """One look at a photo that many times as large."""
        height, width = photo.shape[:2]
        size = round(width * closer), round(height * closer)
        large = self._look(np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_CUBIC)))
        return np.asarray(cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA))

    def _look(self, seen: Planes) -> Planes:
        """One look at (H, W, 3), 0..1."""
        return self._run(seen, self._tasks.find, FINDER_RECEPTIVE)[:, :, :2]

    def _run(self, seen: Planes, task: Task, receptive: int) -> Planes:
        """A network's task on (H, W, C) planes of any size."""
        height, width = seen.shape[:2]
        if height * width > _AT_ONCE:
            core = _FINDER_TILE if receptive == FINDER_RECEPTIVE else _RESTORER_TILE
            plan = TilePlan.for_engine(
                height, width, receptive=receptive, scale=1, core=core, levels=_LEVELS
            )
            return run_tiled(seen, task, plan)[0]
        down, right = -height % (1 << _LEVELS), -width % (1 << _LEVELS)
        padded = np.pad(seen, ((0, down), (0, right), (0, 0)), mode="symmetric")
        return task(padded)[:height, :width]

    @cached_property
    def _tasks(self) -> _Tasks:
        weights, threads = read_weights(self._weights), self._threads
        if fast_type() == "float32":
            names = "eraser-find", "eraser-fill", "eraser-restore"
            return _Tasks(*(NcnnTask(name, weights, threads) for name in names))
        from imgflow.engines.networks.eraser import Eraser, Fill, Find, Restore

        network = Eraser()
        network.load_state_dict(as_tensors(weights))
        return _Tasks(*(TorchTask(each(network), threads) for each in (Find, Fill, Restore)))


@dataclass(frozen=True, slots=True)
class _Tasks:
    """What the networks do (imgflow/engines/networks/eraser.py: Find, Fill, Restore)."""

    find: Task
    fill: Task
    restore: Task


def _read(planes: Planes, moves: Sequence[Move]) -> _Letters:
    """What the network sees, (H, W, 2), with what the copies of a repeated mark add to it."""
    drawn = folded(planes[:, :, 0], moves)
    return _Letters(np.dstack([drawn, np.minimum(planes[:, :, 1], 1 - drawn)]), moves)


def _surer_mean(looks: Sequence[Planes], region: NDArray[np.bool_]) -> Planes:
    """Mean of looks (H, W, 2) at one place. One counts the more the surer it is, in a region
    (H, W), of what the first takes for text."""
    text = region & (looks[0].sum(axis=2) > _TEXT)
    if not text.any():
        return looks[0]
    sure = [float(look[text].sum(axis=1).mean()) ** _SURER for look in looks]
    return np.average(np.stack(looks), axis=0, weights=sure).astype(np.float32)


def _shares(pixels: NDArray[np.generic]) -> Planes:
    return pixels.astype(np.float32) / np.float32(data_range(pixels.dtype))


def _wanted(kinds: Planes, region: NDArray[np.uint8]) -> Planes:
    """(H, W) probability of the text that a region is named for: where drawn letters prevail,
    print behind them stays.

    kinds: (H, W, 2) of overlaid and of product text.
    """
    drawn, printed = (_by_place(region, kinds[:, :, kind]) for kind in (0, 1))
    return np.where(drawn > printed, kinds[:, :, 0], kinds.sum(axis=2)).astype(np.float32)


def _by_place(region: NDArray[np.uint8], values: Planes) -> Planes:
    """(H, W) sum of the values over the connected part of the region that a pixel is in; 0
    outside the region."""
    count, places = cv2.connectedComponents((region > 0).astype(np.uint8))
    sums = np.bincount(places.ravel(), weights=values.ravel(), minlength=count)
    sums[0] = 0
    return np.asarray(sums[places], np.float32)


def _strokes(chance: Planes, region: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mask (H, W; 0 or 255) of probabilities of text, within a region."""
    return np.where(region > 0, _surest(chance, region, _SURE), np.uint8(0))


def _surest(chance: Planes, region: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """Mask (H, W; 0 or 255) of the pixels, with a fringe, that are as likely text as that share of
    what is likeliest near them in a region."""
    likely = np.where(region > 0, chance, np.float32(0))
    around = np.ones((2 * _NEIGHBOURS + 1, 2 * _NEIGHBOURS + 1), np.uint8)
    likeliest = np.asarray(cv2.dilate(likely, around), np.float32)
    text = np.where((likely > _TEXT) & (likely >= share * likeliest), np.uint8(255), np.uint8(0))
    return dilate(text, _FRINGE)


def telea(pixels: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 with what lies under `mask` filled from its rim (Telea 2004).

    What the filler starts from. mask: (H, W), not 0 where to fill.
    """
    return np.asarray(_TELEA.fill(pixels, mask), np.uint8)
