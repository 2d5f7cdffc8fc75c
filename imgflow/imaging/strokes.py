"""The strokes of drawn text: which pixels inside a text region are ink."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.imaging.masks import Box, Mask, dilate, polygon_box, polygon_mask

# Thickest stroke that a letter can have, in heights of its line: very bold type has 0.25, and a
# detector's region is a little higher than its letters.
_THICKEST = 0.35
# A line is looked at in this many parts: ink goes through all of them, a photo's edge does not.
_PARTS = 8
# Least share of ink in a part that counts as written on.
_WRITTEN = 0.04
# Share of a line's parts that text goes through at least, wide spaces between words included.
_SPACED = 0.75
# Levels of contrast below which nothing is ink.
_FAINTEST = 6.0
# How far the opacity of ink may be from the line's own.
_OPACITY_RANGE = (0.5, 1.6)
# Levels from the line's own colour up to which opaque ink has that colour.
_COLOUR_RANGE = 40
# Share of the surroundings up to which a colour counts as the ink's alone.
_RARE = 0.01
# Confidence from which the second polarity counts as ink too: an outline or a shadow.
_CLEAR = 0.45

Values = NDArray[np.float32]
Where = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Strokes:
    """Ink found in one text region.

    box: where in the photo `mask` lies. mask: uint8 of the box's size, dilated by the stroke size.
    width: stroke width, pixels.
    confidence: 0..1, how clearly the ink stands out, and whether it goes through all of the line.
    colour: (3,) of opaque ink; None for ink that lets the photo shine through.
    """

    box: Box
    mask: Mask
    width: float
    confidence: float
    colour: Values | None = None


def find_strokes(
    pixels: NDArray[np.uint8],
    polygon: NDArray[np.floating[Any]],
    *,
    grow: float = 1.0,
    enhance: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None,
) -> Strokes:
    """Ink inside a text region.

    Ink is thinner than a letter's stroke can be, differs from its ground by more than Otsu's
    threshold (1979), and is drawn with one colour and one opacity: what is as thin but of
    another opacity is the photo's own edge. Works on (H, W, 3) uint8 sRGB; `polygon` is (N, 2)
    of x, y; `grow` scales the dilation beyond what the stroke width asks for; `enhance` is done
    to the region's surroundings before it is looked at.
    """
    height, width = pixels.shape[:2]
    line_height = _line_height(polygon)
    box = polygon_box(polygon, height, width).padded(round(line_height) + 4, height, width)
    crop = np.ascontiguousarray(pixels[box.slices])
    if enhance is not None:
        crop = enhance(crop)
    local = (polygon - (box.left, box.top)).astype(np.float32)
    # Detectors cut close: the outermost strokes may lie just beyond the polygon.
    inside = dilate(polygon_mask([local], *crop.shape[:2]), max(2, round(line_height * 0.12))) > 0
    parts = _parts(local, crop.shape[:2])

    ground = _ground(crop, line_height)
    looks = [_look(crop, ground, inside, parts, light=light) for light in (True, False)]
    looks.sort(key=lambda look: look[1], reverse=True)
    ink, confidence = looks[0]
    if looks[1][1] >= _CLEAR:
        ink = ink | looks[1][0]
    colour = _own_colour(crop, ink)
    if colour is not None:
        # A detector may miss a letter at the end of a line; a stamp's colour gives it away.
        near = dilate(polygon_mask([local], *crop.shape[:2]), round(line_height)) > 0
        alike = np.abs(crop - colour).max(axis=2) < _COLOUR_RANGE
        if alike[~near].mean() < _RARE:
            ink = ink | np.where(near & alike, np.uint8(255), np.uint8(0))
    stroke = _stroke_width(ink)
    mask = dilate(ink, round(grow * (1.5 + 0.35 * stroke)))
    return Strokes(box, mask, stroke, confidence, None if enhance else colour)


def united(strokes: Sequence[Strokes], height: int, width: int) -> Mask:
    """One mask for a photo of that size; its parts never are that large."""
    mask = np.zeros((height, width), np.uint8)
    for each in strokes:
        mask[each.box.slices] |= each.mask
    return mask


def ink_left(pixels: NDArray[np.uint8], strokes: Strokes) -> float:
    """Share of opaque ink's area that still has its colour after a repair of (H, W, 3) uint8.

    0 for translucent ink, and where the surroundings have that colour too.
    """
    if strokes.colour is None or not strokes.mask.any():
        return 0.0
    alike = np.abs(pixels[strokes.box.slices] - strokes.colour).max(axis=2) < _COLOUR_RANGE / 2
    near = dilate(strokes.mask, max(round(strokes.width), 2)) > 0
    if near.all() or alike[~near].mean() >= _RARE:
        return 0.0
    return float(np.count_nonzero(alike & near) / np.count_nonzero(strokes.mask))


def _line_height(polygon: NDArray[np.floating[Any]]) -> float:
    (_, (side, other), _) = cv2.minAreaRect(polygon.astype(np.float32))
    return max(min(side, other), 4.0)


def _parts(polygon: Values, shape: tuple[int, ...]) -> NDArray[np.intp]:
    """(H, W): in which part of the line each pixel lies, along its longer side."""
    (centre, (side, other), angle) = cv2.minAreaRect(polygon)
    if side < other:
        angle, side = angle + 90, other
    direction = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    rows, columns = np.indices(shape[:2])
    along = (columns - centre[0]) * direction[0] + (rows - centre[1]) * direction[1]
    return np.clip((along / max(side, 1) + 0.5) * _PARTS, 0, _PARTS - 1).astype(np.intp)


def _ground(crop: NDArray[np.uint8], line_height: float) -> Values:
    """The crop without anything thinner than a stroke: opened and closed (Serra 1982).

    The two orders of opening and closing err to opposite sides: their mean.
    """
    size = max(round(line_height * _THICKEST), 3)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))

    def filtered(*operations: int) -> Values:
        result = crop
        for operation in operations:
            result = np.asarray(cv2.morphologyEx(result, operation, disc), np.uint8)
        return result.astype(np.float32)

    one = filtered(cv2.MORPH_OPEN, cv2.MORPH_CLOSE)
    return 0.5 * (one + filtered(cv2.MORPH_CLOSE, cv2.MORPH_OPEN))


def _look(
    crop: NDArray[np.uint8],
    ground: Values,
    inside: Where,
    parts: NDArray[np.intp],
    *,
    light: bool,
) -> tuple[Mask, float]:
    """Ink that is lighter (darker) than its ground, and the confidence that it is ink."""
    nothing = np.zeros(inside.shape, np.uint8), 0.0
    difference = (crop - ground) if light else (ground - crop)
    # Coloured stamps vanish in luma: each pixel speaks with its strongest channel.
    contrast = np.clip(difference.max(axis=2), 0, 255)
    candidates = _candidates(contrast, inside, parts)
    if not candidates.any():
        return nothing
    ink = inside & (contrast > _FAINTEST)
    ink &= _drawn_alike(crop, ground, difference, candidates, parts, light=light)
    if not ink.any():
        return nothing
    outside = contrast[~inside]
    unrest = float(np.percentile(outside, 95)) if outside.size else 0.0
    strength = float(contrast[ink].mean())
    # 0.5 where ink is twice as strong as the strongest twentieth of the ground around it.
    confidence = strength / (strength + 2.0 * max(unrest, 4.0))
    return np.where(ink, 255, 0).astype(np.uint8), confidence * _written_share(ink, inside, parts)


def _candidates(contrast: Values, inside: Where, parts: NDArray[np.intp]) -> Where:
    """What stands out in each part of the line by itself: faint letters beside a strong edge
    count as much as that edge."""
    found = np.zeros_like(inside)
    for part in range(_PARTS):
        here = inside & (parts == part)
        raised = contrast[here & (contrast > 2)].astype(np.uint8)
        if raised.size >= 4:
            level, _ = cv2.threshold(raised.reshape(1, -1), 0, 255, cv2.THRESH_OTSU)
            found |= here & (contrast > max(level, _FAINTEST))
    return found


def _drawn_alike(
    crop: NDArray[np.uint8],
    ground: Values,
    difference: Values,
    candidates: Where,
    parts: NDArray[np.intp],
    *,
    light: bool,
) -> Where:
    """Pixels of the line's own colour, or of its own opacity.

    Opaque ink has one colour on any ground. White ink of opacity a lifts a ground g by
    a * (255 - g), black ink lowers it by a * g: that share is the same all along the line.
    Each part of the line votes, so that one strong edge of the photo cannot outvote the text.
    """
    headroom = (255 - ground) if light else ground
    # In the channel that shows the ink best: a coloured stamp may be invisible in another.
    best = difference.argmax(axis=2)[:, :, None]
    room = np.take_along_axis(headroom, best, axis=2)[:, :, 0]
    lift = np.take_along_axis(difference, best, axis=2)[:, :, 0]
    opacity = np.asarray(lift / np.maximum(room, 16), np.float32)
    own = float(_vote(opacity[:, :, None], candidates, parts)[0])
    low, high = _OPACITY_RANGE
    alike = (opacity > low * own) & (opacity < high * own)
    colour = _vote(crop.astype(np.float32), candidates, parts)
    distance = np.abs(crop - colour).max(axis=2)
    if np.median(distance[candidates]) < _COLOUR_RANGE / 2:
        return alike | (distance < _COLOUR_RANGE)
    return alike


def _own_colour(crop: NDArray[np.uint8], ink: Mask) -> Values | None:
    """The colour of ink that has one: opaque ink, which looks the same on any ground."""
    if not ink.any():
        return None
    # The middle of the strokes: towards their edges the ground mixes in.
    core = cv2.erode(ink, np.ones((3, 3), np.uint8))
    pixels = crop[(core if core.any() else ink) > 0].astype(np.float32)
    colour = np.median(pixels, axis=0)
    if np.median(np.abs(pixels - colour).max(axis=1)) > _COLOUR_RANGE / 2:
        return None
    return np.asarray(colour, np.float32)


def _vote(values: Values, candidates: Where, parts: NDArray[np.intp]) -> Values:
    """Median over the parts of the line of the medians within them; (C,) for (H, W, C)."""
    medians = [
        np.median(values[candidates & (parts == part)], axis=0)
        for part in range(_PARTS)
        if (candidates & (parts == part)).any()
    ]
    return np.asarray(np.median(medians, axis=0), np.float32)


def _written_share(ink: Where, inside: Where, parts: NDArray[np.intp]) -> float:
    """How many of the line's parts carry ink, and not only ink, of those that text would; 0..1."""
    shares = [
        float(ink[inside & (parts == part)].mean())
        for part in range(_PARTS)
        if (inside & (parts == part)).any()
    ]
    written = float(np.mean([_WRITTEN <= share <= 0.7 for share in shares]))
    return min(written / _SPACED, 1.0)


def _stroke_width(ink: Mask) -> float:
    if not ink.any():
        return 0.0
    # The mean distance to the edge within a bar of width w is w / 4.
    distance = cv2.distanceTransform(ink, cv2.DIST_L2, 3)
    return max(4.0 * float(distance[ink > 0].mean()) - 1.0, 1.0)
