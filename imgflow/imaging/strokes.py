"""The strokes of drawn text: which pixels inside a text region are ink."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.imaging.masks import Mask, dilate, polygon_box, polygon_mask

# Thickest stroke that a letter can have, in heights of its line: very bold type has 0.25, and a
# detector's region is a little higher than its letters.
_THICKEST = 0.35
# Confidence from which the second polarity counts as ink too.
_CLEAR = 0.45
# Median distance, in levels, of pixels from their common colour up to which they share one.
_ONE_COLOUR = 24


@dataclass(frozen=True, slots=True)
class Strokes:
    """Ink found in one text region.

    mask: (H, W) uint8 of the whole photo, dilated by the stroke size.
    width: stroke width, pixels.
    confidence: 0..1, how clearly the ink stands out from the ground around the region.
    """

    mask: Mask
    width: float
    confidence: float


def find_strokes(
    pixels: NDArray[np.uint8], polygon: NDArray[np.floating], *, grow: float = 1.0
) -> Strokes:
    """Ink inside a text region.

    Ink is what differs from the ground by more than Otsu's threshold (1979), and by more than
    the ground around the region varies by itself. Works on (H, W, 3) uint8 sRGB; `polygon` is (N, 2) of x, y; `grow` scales
    the dilation beyond what the stroke width asks for.
    """
    height, width = pixels.shape[:2]
    line_height = _line_height(polygon)
    box = polygon_box(polygon, height, width).padded(round(line_height) + 4, height, width)
    crop = pixels[box.slices]
    local = polygon - (box.left, box.top)
    # Detectors cut close: the outermost strokes may lie just beyond the polygon.
    inside = dilate(polygon_mask([local], *crop.shape[:2]), max(2, round(line_height * 0.12)))

    difference = _difference(crop, line_height)
    looks = [_split(sign * difference, inside > 0) for sign in (1, -1)]
    looks.sort(key=lambda look: look[1], reverse=True)
    ink, confidence = looks[0]
    if looks[1][1] >= _CLEAR:  # an outline or a shadow of the other polarity
        ink = ink | looks[1][0]
    ink = ink | _same_colour(crop, ink, inside > 0)
    stroke = _stroke_width(ink)
    radius = round(grow * (1.5 + 0.35 * stroke))
    mask = np.zeros((height, width), np.uint8)
    mask[box.slices] = dilate(ink, radius)
    return Strokes(mask, stroke, confidence)


def _line_height(polygon: NDArray[np.floating]) -> float:
    (_, (side, other), _) = cv2.minAreaRect(polygon.astype(np.float32))
    return max(min(side, other), 4.0)


def _difference(crop: NDArray[np.uint8], line_height: float) -> NDArray[np.float32]:
    """(H, W) float32: how much lighter (darker: negative) than the ground, in its best channel.

    The ground is the crop without anything thinner than a stroke can be: opened and closed
    (Serra 1982). A wider filter would follow the ink just as well, but take the photo's own
    edges for ink. The two orders of opening and closing err to opposite sides: their mean.
    """
    size = max(round(line_height * _THICKEST), 3)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))

    def filtered(*operations: int) -> NDArray[np.float32]:
        result = crop
        for operation in operations:
            result = np.asarray(cv2.morphologyEx(result, operation, disc), np.uint8)
        return result.astype(np.float32)

    ground = 0.5 * filtered(cv2.MORPH_OPEN, cv2.MORPH_CLOSE)
    ground += 0.5 * filtered(cv2.MORPH_CLOSE, cv2.MORPH_OPEN)
    difference = crop.astype(np.float32) - ground
    # Coloured stamps vanish in luma: each pixel speaks with its strongest channel.
    strongest = np.abs(difference).argmax(axis=2)[:, :, None]
    return np.take_along_axis(difference, strongest, axis=2)[:, :, 0]


def _split(difference: NDArray[np.float32], inside: NDArray[np.bool_]) -> tuple[Mask, float]:
    """Pixels of the crop that are lighter than the ground, and how well they stand out."""
    contrast = np.clip(difference, 0, 255)
    within = contrast[inside].astype(np.uint8)
    lighter = within[within > 2]
    if lighter.size < 4:
        return np.zeros(contrast.shape, np.uint8), 0.0
    otsu, _ = cv2.threshold(lighter.reshape(1, -1), 0, 255, cv2.THRESH_OTSU)
    outside = contrast[~inside]
    ground = float(np.percentile(outside, 95)) if outside.size else 0.0
    # Below Otsu's level lies the anti-aliased fringe; the dilation takes that.
    threshold = max(0.8 * otsu, min(ground, otsu), 6.0)
    ink = inside & (contrast > threshold)
    share = ink.sum() / max(inside.sum(), 1)
    if share == 0:
        return np.zeros(contrast.shape, np.uint8), 0.0
    strength = float(contrast[ink].mean())
    # 0.5 where ink is twice as strong as the strongest twentieth of the ground around it.
    confidence = strength / (strength + 2.0 * max(ground, 4.0))
    # Ink covers some of its line and never all: else it is texture, or a misjudged ground.
    if not 0.02 <= share <= 0.65:
        confidence *= 0.5
    return np.where(ink, 255, 0).astype(np.uint8), confidence


def _same_colour(crop: NDArray[np.uint8], ink: Mask, inside: NDArray[np.bool_]) -> Mask:
    """Pixels of the ink's colour, where that is one colour: a stamp may be lighter than one part
    of its ground and darker than another. Translucent ink has no colour of its own: nothing."""
    if not ink.any():
        return ink
    pixels = crop[ink > 0].astype(np.float32)
    colour = np.median(pixels, axis=0)
    spread = float(np.median(np.abs(pixels - colour).max(axis=1)))
    if spread > _ONE_COLOUR:
        return np.zeros_like(ink)
    distance = np.abs(crop.astype(np.float32) - colour).max(axis=2)
    return np.where(inside & (distance < 2 * _ONE_COLOUR), 255, 0).astype(np.uint8)


def _stroke_width(ink: Mask) -> float:
    if not ink.any():
        return 0.0
    # The mean distance to the edge within a bar of width w is w / 4.
    distance = cv2.distanceTransform(ink, cv2.DIST_L2, 3)
    return max(4.0 * float(distance[ink > 0].mean()) - 1.0, 1.0)
