"""Taking drawn text off: its strokes are found, and what is under them is restored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.engines.spec import Eraser, Found
from imgflow.imaging.colour import flatten, plain_background
from imgflow.imaging.encode import decode_mask, encode_mask
from imgflow.imaging.folding import Move
from imgflow.imaging.layers import copies_of, estimate_layer
from imgflow.imaging.masks import Box, Mask, dilate, grown_polygon, hole_boxes
from imgflow.lineage.record import TextRegion
from imgflow.stages.fill import nearest_known
from imgflow.stages.stage import Job, Picture

# Pixels around a region that the eraser sees: what the ground looks like.
CONTEXT = 96
# Detectors cut close: outlines, shadows and descenders lie up to this much of a line's height
# beyond its region, and a few pixels more.
_BEYOND = 0.25
_AT_LEAST = 4
# Most pixels that an eraser is shown at once.
_AT_ONCE = 1_300_000
# Areas this many pixels thick hold the largest letters that erasers are made for.
_LARGEST = 96
# Kinds of what is kept of strokes.
_CACHED = ("strokes", "strokes-confidence")


def text_area(regions: Sequence[TextRegion], height: int, width: int, grow: float = 1.0) -> Mask:
    """Where the strokes of text regions can be: their polygons, with room around them."""
    area = np.zeros((height, width), np.uint8)
    for region in regions:
        polygon = np.array(region.polygon, np.float32)
        (_, sides, _) = cv2.minAreaRect(polygon)
        beyond = round(grow * (_BEYOND * min(sides) + _AT_LEAST))
        grown_polygon(area, polygon, beyond)
    return area


def find_strokes(picture: Picture, area: Mask, job: Job, eraser: Eraser) -> Found:
    """Strokes of text in a picture within `area` (H, W; 255 = text may be there).

    Kept by input, place and eraser: changing the fill finds nothing anew.
    """
    place = hashlib.sha256(area.tobytes()).hexdigest()
    identity = "|".join([picture.ref.sha256, place, eraser.spec.code_version])
    digest = hashlib.sha256(identity.encode()).hexdigest()
    mask, confidence = (job.store.get_cached(kind, digest) for kind in _CACHED)
    if mask is not None and confidence is not None:
        return Found(decode_mask(mask), float(confidence))
    found = strokes_of(picture.pixels, area, eraser)
    job.store.put_cached(_CACHED[0], digest, encode_mask(found.mask))
    job.store.put_cached(_CACHED[1], digest, repr(found.confidence).encode())
    return found


def strokes_of(pixels: NDArray[Any], area: Mask, eraser: Eraser) -> Found:
    """Strokes in (H, W, 3|4) pixels, as confident as their mean.

    The eraser sees transparent pixels as plain background.
    """
    mask = np.zeros(area.shape, np.uint8)
    confidence = 0.0
    for window in _windows(area):
        found = _find(opaque(pixels[window]), np.ascontiguousarray(area[window]), eraser)
        strokes = found.mask & area[window]
        mask[window] |= strokes
        confidence += found.confidence * int(np.count_nonzero(strokes))
    return Found(mask, confidence / max(int(np.count_nonzero(mask)), 1))


def _find(crop: NDArray[Any], area: Mask, eraser: Eraser) -> Found:
    """Strokes in a crop; huge letters are looked for in a smaller copy of it."""
    thickness = 2 * float(cv2.distanceTransform(area, cv2.DIST_L2, 3).max())
    shrink = int(thickness // _LARGEST)
    # Where text may be anywhere, nothing says how large it is.
    if shrink < 2 or area.all() or area.size <= _AT_ONCE:
        return eraser.find(crop, area)
    height, width = area.shape
    size = max(width // shrink, 1), max(height // shrink, 1)
    small, place = (
        np.asarray(cv2.resize(each, size, interpolation=how))
        for each, how in ((crop, cv2.INTER_AREA), (area, cv2.INTER_NEAREST))
    )
    found = eraser.find(small, np.asarray(place, np.uint8))
    mask = cv2.resize(found.mask, (width, height), interpolation=cv2.INTER_NEAREST)
    return Found(dilate(np.asarray(mask, np.uint8), shrink), found.confidence)


def restore(
    pixels: NDArray[Any],
    mask: Mask,
    eraser: Eraser,
    *,
    opaque_text: bool = False,
    copies: Sequence[Move] | None = None,
) -> NDArray[Any]:
    """A copy of (H, W, 3|4) pixels with what is under `mask` restored; all else is bit-exact.

    opaque_text: what shows of the photo through the strokes is not believed. copies: as an
    eraser wants them. Alpha under strokes becomes that of its nearest neighbour. Raises ValueError
    for an engine that returns another shape or dtype.
    """
    result = pixels.copy()
    for window in _windows(mask):
        crop, strokes = opaque(pixels[window]), mask[window]
        clean = eraser.restore(crop, strokes, opaque=opaque_text, copies=copies)
        if clean.shape != crop.shape or clean.dtype != crop.dtype:
            raise ValueError(
                f"the eraser '{eraser.spec.name}' returned {clean.dtype} {clean.shape} "
                f"for {crop.dtype} {crop.shape}"
            )
        here = strokes > 0
        result[window][:, :, :3][here] = clean[here]
        if pixels.shape[2] == 4:
            alpha = nearest_known(pixels[window][:, :, 3], strokes)
            result[window][:, :, 3][here] = alpha[here]
    return result


def _windows(mask: Mask) -> Iterator[tuple[slice, slice]]:
    """Crops that hold the mask, with what the eraser wants to see around it; all of a photo that
    an eraser sees at once: the more it sees, the surer it is."""
    if mask.size <= _AT_ONCE:
        if mask.any():
            yield np.s_[:, :]
        return
    for box in hole_boxes(mask, CONTEXT):
        yield box.padded(CONTEXT, *mask.shape).slices


def opaque(pixels: NDArray[Any]) -> NDArray[Any]:
    """(H, W, 3) of the same dtype: what a viewer sees, on a plain background."""
    if pixels.shape[2] == 3:
        return np.ascontiguousarray(pixels)
    if pixels.dtype == np.uint8:
        return flatten(pixels, plain_background(pixels))
    shown = flatten(pixels, plain_background(pixels)).astype(pixels.dtype) * 257
    solid = pixels[:, :, 3:] == np.iinfo(pixels.dtype).max
    return np.where(solid, pixels[:, :, :3], shown)


@dataclass(frozen=True)
class Restoring:
    """An erasure, as the probe repeats it: what was taken off is laid over other ground, and
    taken off there. before, after: (H, W, 3|4). mask: its strokes. opaque_text: as in restore."""

    before: NDArray[Any]
    after: NDArray[Any]
    mask: Mask
    eraser: Eraser
    opaque_text: bool = False

    @property
    def context(self) -> int:
        return CONTEXT

    def lay(self, truth: NDArray[Any], box: Box) -> NDArray[Any]:
        seen, clean = self.before[box.slices][:, :, :3], self.after[box.slices][:, :, :3]
        damaged = truth.copy()
        layer = estimate_layer(seen, clean, self.mask[box.slices], self._copies)
        damaged[:, :, :3] = layer.over(truth[:, :, :3])
        return damaged

    def mend(self, damaged: NDArray[Any], hole: Mask) -> NDArray[Any]:
        return restore(
            damaged, hole, self.eraser, opaque_text=self.opaque_text, copies=self._copies
        )

    @cached_property
    def _copies(self) -> list[Move]:
        return copies_of(self.before[:, :, :3], self.after[:, :, :3], self.mask)
