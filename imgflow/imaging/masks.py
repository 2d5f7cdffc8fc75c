"""Masks as shapes: regions drawn, grown, boxed and moved. (H, W) uint8, 255 = repair here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Box:
    """Half-open pixel rectangle: rows top..bottom, columns left..right."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def padded(self, pad: int, height: int, width: int) -> Box:
        """Grown by `pad` on each side, within a photo of that size."""
        return Box(
            max(self.top - pad, 0),
            max(self.left - pad, 0),
            min(self.bottom + pad, height),
            min(self.right + pad, width),
        )

    def moved(self, down: int, right: int) -> Box:
        return Box(self.top + down, self.left + right, self.bottom + down, self.right + right)

    def inside(self, height: int, width: int) -> bool:
        return self.top >= 0 and self.left >= 0 and self.bottom <= height and self.right <= width

    def overlaps(self, other: Box) -> bool:
        return (
            self.top < other.bottom
            and other.top < self.bottom
            and self.left < other.right
            and other.left < self.right
        )

    def union(self, other: Box) -> Box:
        return Box(
            min(self.top, other.top),
            min(self.left, other.left),
            max(self.bottom, other.bottom),
            max(self.right, other.right),
        )


def polygon_box(polygon: NDArray[np.floating], height: int, width: int) -> Box:
    """Smallest box around an (N, 2) polygon of x, y within a photo; may be empty."""
    left, top = np.floor(polygon.min(axis=0)).astype(int)
    right, bottom = np.ceil(polygon.max(axis=0)).astype(int) + 1
    top, left = max(int(top), 0), max(int(left), 0)
    return Box(top, left, max(min(int(bottom), height), top), max(min(int(right), width), left))


def polygon_mask(polygons: Iterable[NDArray[np.floating]], height: int, width: int) -> Mask:
    """(height, width) mask with the (N, 2) polygons of x, y filled."""
    mask = np.zeros((height, width), np.uint8)
    points = [np.rint(polygon).astype(np.int32) for polygon in polygons]
    if points:
        cv2.fillPoly(mask, points, 255)
    return mask


def grown_polygon(mask: Mask, polygon: NDArray[np.floating], reach: int) -> None:
    """Draw an (N, 2) polygon of x, y, grown by `reach` pixels, into a mask (H, W).

    Costs what its outline costs: growing the whole mask once for each of many polygons does not.
    """
    points = [np.rint(polygon).astype(np.int32)]
    cv2.fillPoly(mask, points, 255)
    if reach > 0:
        cv2.polylines(mask, points, True, 255, thickness=2 * reach + 1)


def dilate(mask: Mask, radius: int) -> Mask:
    """Grown by a disc of `radius` pixels."""
    if radius <= 0:
        return mask
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return np.asarray(cv2.dilate(mask, disc), np.uint8)


def thickness(mask: Mask) -> float:
    """Pixels across a mask (H, W; 255 = hole) where it is widest; it ends with the picture."""
    # Without a rim of zeros, a mask that fills all of it has nothing to be distant from.
    rimmed = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(0,))
    return 2 * float(cv2.distanceTransform(rimmed, cv2.DIST_L2, 3).max())


def mask_box(mask: Mask) -> Box | None:
    """Smallest box that holds all of the mask; None for an empty mask."""
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return None
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def hole_boxes(mask: Mask, reach: int) -> list[Box]:
    """Boxes that together hold the mask; holes nearer than `reach` pixels share one box."""
    all_of_it = mask_box(mask)
    if all_of_it is None:
        return []
    # Components of a mask grown by half the reach touch exactly when the holes are near.
    grow = (reach + 1) // 2
    around = all_of_it.padded(grow, *mask.shape)
    grown = dilate(np.ascontiguousarray(mask[around.slices]), grow)
    count, _, stats, _ = cv2.connectedComponentsWithStats(grown, connectivity=8)
    boxes: list[Box] = []
    for left, top, width, height, _ in stats[1:count]:
        part = Box(int(top), int(left), int(top + height), int(left + width))
        part = part.moved(around.top, around.left)
        inner = mask_box(mask[part.slices])
        if inner is not None:
            boxes.append(inner.moved(part.top, part.left))
    return merge_boxes(boxes)


def merge_boxes(boxes: list[Box]) -> list[Box]:
    """Boxes of which no two overlap, holding the given ones; sorted from the top left."""
    merged: list[Box] = []
    for box in boxes:
        while clash := next((other for other in merged if other.overlaps(box)), None):
            merged.remove(clash)
            box = box.union(clash)
        merged.append(box)
    return sorted(merged, key=lambda box: (box.top, box.left))
