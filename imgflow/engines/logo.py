"""A logo found by nothing but a picture of it: features that match, and agree on a place.

SIFT (Lowe 2004), the ratio test, and a homography by RANSAC. No training, no weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.engines.spec import EngineSpec, Proposal
from imgflow.imaging.colour import data_range, flatten, plain_background, to_uint8
from imgflow.imaging.decode import DecodeLimits, decode

_LIMITS = DecodeLimits(max_bytes=32 << 20, max_pixels=50_000_000)
# Small pictures have too few features: they are enlarged to this long side, large ones reduced.
_LOGO_SIDE = 480
# Larger photos are looked at in a smaller copy.
_PHOTO_SIDE = 2400
_RATIO = 0.75
_OFF = 4.0  # pixels that a matched feature may lie beside its place
_MOST_COPIES = 20
# Of a place to be believed: the logo's sides there, in pixels, and how oblong it may become.
_LEAST_SIDE, _MOST_STRETCH = 12.0, 4.0
_AGREE = 0.3  # share of the matches within the place that agree on it


@dataclass(frozen=True, slots=True)
class _Logo:
    points: NDArray[np.float32]
    features: NDArray[np.float32]
    outline: NDArray[np.float32]
    shape: tuple[int, int]
    mask: NDArray[np.uint8]


class LogoFinder:
    """Proposes each place where one of the pictured logos is.

    pictures: bytes of image files; what is transparent in them is not part of the logo.
    Raises BadPhoto for a picture that cannot be read, ValueError for one without any feature.
    """

    def __init__(
        self, name: str, pictures: Sequence[bytes], *, label: str, min_matches: int
    ) -> None:
        digest = hashlib.sha256(b"".join(hashlib.sha256(each).digest() for each in pictures))
        self.spec = EngineSpec(
            name=name,
            kind="object_detector",
            model_id=f"sift-homography-1-m{min_matches}",
            licence="Apache-2.0",
            # The pictures are all that it knows.
            weights_sha256=digest.hexdigest(),
        )
        self._label, self._least = label, min_matches
        self._sift: Any = cv2.SIFT.create(contrastThreshold=0.02)
        self._logos = [self._learnt(each, number) for number, each in enumerate(pictures)]

    def propose(self, pixels: NDArray[np.uint8]) -> list[Proposal]:
        height, width = pixels.shape[:2]
        scale = min(_PHOTO_SIDE / max(height, width), 1.0)
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        if scale < 1:
            size = (round(width * scale), round(height * scale))
            grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        found, features = self._sift.detectAndCompute(grey, None)
        if features is None or len(found) < self._least:
            return []
        points = np.array([each.pt for each in found], np.float32)
        proposals: list[Proposal] = []
        for logo in self._logos:
            proposals += self._copies(logo, points, features, scale, (height, width))
        return proposals

    def _copies(
        self,
        logo: _Logo,
        points: NDArray[np.float32],
        features: NDArray[np.float32],
        scale: float,
        size: tuple[int, int],
    ) -> list[Proposal]:
        proposals: list[Proposal] = []
        free = np.ones(len(points), bool)
        for _ in range(_MOST_COPIES):
            pairs = _matches(logo.features, features, np.flatnonzero(free))
            if len(pairs) < self._least:
                break
            source, target = logo.points[pairs[:, 0]], points[pairs[:, 1]]
            transform, agreeing = cv2.findHomography(source, target, cv2.USAC_MAGSAC, _OFF)
            if transform is None or agreeing is None:
                break
            inliers = int(agreeing.sum())
            corners = cv2.perspectiveTransform(logo.outline[None], transform)[0]
            if inliers < self._least or not _plausible(corners):
                break
            inside = _inside(corners, target)
            share = inliers / max(int(inside.sum()), 1)
            if share < _AGREE:
                break
            # What belongs to this copy cannot belong to another one.
            free &= ~_inside(corners, points)
            free[pairs[agreeing.ravel() > 0, 1]] = False
            to_photo = np.diag([1 / scale, 1 / scale, 1.0]) @ transform
            mask = cv2.warpPerspective(
                logo.mask, to_photo, (size[1], size[0]), flags=cv2.INTER_NEAREST
            )
            if mask.any():
                confidence = min(1.0, inliers / (2.5 * self._least)) * min(1.0, share / 0.6)
                proposals.append(
                    Proposal(self._label, round(confidence, 4), np.asarray(mask, np.uint8))
                )
        return proposals

    def _learnt(self, picture: bytes, number: int) -> _Logo:
        pixels = decode(picture, _LIMITS).pixels
        height, width = pixels.shape[:2]
        opaque = np.full((height, width), 255, np.uint8)
        if pixels.shape[2] == 4:
            opaque = np.where(
                pixels[:, :, 3] > data_range(pixels.dtype) // 2, np.uint8(255), np.uint8(0)
            )
            shown = flatten(pixels, plain_background(pixels))
        else:
            shown = to_uint8(pixels)
        scale = _LOGO_SIDE / max(height, width)
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        grey = cv2.cvtColor(cv2.resize(shown, size, interpolation=how), cv2.COLOR_RGB2GRAY)
        mask = cv2.resize(opaque, size, interpolation=cv2.INTER_NEAREST)
        found, features = self._sift.detectAndCompute(grey, None)
        if features is None or len(found) < self._least:
            raise ValueError(
                f"picture {number + 1} of the logo has {len(found)} features, and {self._least} "
                "must agree: use a larger or sharper picture, or lower min_matches"
            )
        right, bottom = size[0] - 1, size[1] - 1
        outline = np.array([(0, 0), (right, 0), (right, bottom), (0, bottom)], np.float32)
        points = np.array([each.pt for each in found], np.float32)
        return _Logo(points, features, outline, grey.shape[:2], np.asarray(mask, np.uint8))


def _matches(
    logo: NDArray[np.float32], photo: NDArray[np.float32], free: NDArray[Any]
) -> NDArray[np.int_]:
    """(N, 2) indices of features that match and have no rival nearly as like."""
    if len(free) < 2:
        return np.zeros((0, 2), int)
    # From the photo to the logo: several copies may be of one feature.
    matcher = cv2.BFMatcher(cv2.NORM_L2)
    pairs = [
        (best.trainIdx, int(free[best.queryIdx]))
        for best, second in matcher.knnMatch(photo[free], logo, k=2)
        if best.distance < _RATIO * second.distance
    ]
    return np.array(pairs, int).reshape(-1, 2)


def _plausible(corners: NDArray[np.float32]) -> bool:
    """Whether four corners are a picture seen from somewhere, and not a fold of it."""
    if not np.isfinite(corners).all() or not cv2.isContourConvex(corners):
        return False
    sides = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
    opposite = max(
        float(max(sides[a], sides[b]) / max(min(sides[a], sides[b]), 1e-3))
        for a, b in ((0, 2), (1, 3))
    )
    return bool(sides.min() >= _LEAST_SIDE and opposite <= _MOST_STRETCH)


def _inside(corners: NDArray[np.float32], points: NDArray[np.float32]) -> NDArray[np.bool_]:
    low, high = corners.min(axis=0), corners.max(axis=0)
    inside = ((points >= low) & (points <= high)).all(axis=1)
    for number in np.flatnonzero(inside):
        x, y = points[number]
        inside[number] = cv2.pointPolygonTest(corners, (float(x), float(y)), False) >= 0
    return inside
