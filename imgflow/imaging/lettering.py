"""What a line of text looks like in its photo: measures that tell drawn-over from printed-on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.imaging.masks import polygon_mask

Values = NDArray[Any]
Where = NDArray[np.bool_]

# Lines are looked at in this many pixels of height: strokes and shading need no more.
_HEIGHT = 32
# Ground that is looked at on each side of a line, in heights of the line.
_MARGIN = 1.0
# Longest part of a line that is looked at, in its heights.
_LONGEST = 14
# Thickest stroke of a letter, in heights of its line.
_THICKEST = 0.4
# Levels of contrast below which nothing is ink.
_FAINTEST = 6.0
# A line is compared with itself in this many parts.
_PARTS = 8
# Most pixels of a line whose edges are looked at as they are.
_NATIVE = 100_000
# Levels between the two sides of an edge whose sharpness counts.
_EDGE = 24.0
# Pixels of the long side of the small picture in which panels and backdrops are found.
_SMALL = 160
# Levels between two places of one panel or backdrop.
_SAME = 9


@dataclass(frozen=True, slots=True)
class Lettering:
    """Measures of one line. Levels are 0..255; lengths are in heights of the line.

    contrast: of the ink on its ground. light: 1 for ink lighter than its ground, else 0.
    ink_spread, ink_drift: how much the ink's colour differs from pixel to pixel, and along the
    line. opacity: median share of the way from the ground to white (black) that the ink goes.
    opacity_spread: its spread, as a share of it. shading_spread: of ink over ground, where ink
    darkens the ground by a factor. follow: how much lighter the ink is where its ground is
    lighter; 0 for opaque ink. outline: contrast of the other sign around the ink.
    ground_unrest, ground_slope: spread of the ground under the line, and mean of its gradient.
    around_unrest: spread of the ground beyond it. step, step_least: how far the ground beyond
    the line differs from that under it, on the side with most and with least. rim: strongest
    straight edge beside the line, parallel to it.
    sharpness, crispness: of the letters' edges, by first and second difference over the step.
    sharper: sharpness minus that of the photo's sharpest edges. photo_sharpness: those.
    ink_noise, ground_noise: levels of noise inside strokes and between; photo_noise: anywhere.
    slant, taper, bend: angle of the letters' feet against the region's, between feet and heads,
    and curvature, each in heights over the length.
    panel: share of the photo that is one surface with the line's ground. panel_border: share of
    the photo's border that this surface touches. backdrop: how much of the surroundings looks
    like an even border of the photo, 0..1.
    colour: (3,) the ink's median.
    """

    contrast: float
    light: float
    ink_spread: float
    ink_drift: float
    opacity: float
    opacity_spread: float
    shading_spread: float
    follow: float
    outline: float
    ground_unrest: float
    ground_slope: float
    around_unrest: float
    step: float
    step_least: float
    rim: float
    sharpness: float
    crispness: float
    sharper: float
    photo_sharpness: float
    ink_noise: float
    ground_noise: float
    photo_noise: float
    slant: float
    taper: float
    bend: float
    panel: float
    panel_border: float
    backdrop: float
    colour: tuple[float, float, float]

    def looks(self) -> list[float]:
        """The numbers in the order of MEASURES; the logarithm of those of WIDE."""
        values = [(name, float(getattr(self, name))) for name in MEASURES]
        return [math.log(value + _OFFSET) if name in WIDE else value for name, value in values]


def told(name: str, look: float) -> float:
    """The measure of that name of what `looks` gives for it."""
    return math.exp(look) - _OFFSET if name in WIDE else look


MEASURES = tuple(field.name for field in fields(Lettering) if field.name != "colour")
"""The names of the numbers."""

WIDE = frozenset(
    ("contrast", "ink_spread", "ink_drift", "opacity_spread", "shading_spread", "ground_unrest",
     "ground_slope", "around_unrest", "step", "step_least", "rim", "ink_noise", "ground_noise",
     "photo_noise", "slant", "taper", "bend", "panel")
)  # fmt: skip
"""Those that span orders of magnitude."""
_OFFSET = 0.02


def measure(pixels: NDArray[np.uint8], polygons: Sequence[NDArray[np.floating]]) -> list[Lettering]:
    """Measures of each line in (H, W, 3) uint8; polygons: (4, 2) x, y from the first letter's
    top along the line."""
    if not polygons:
        return []
    frames = [_frame(np.asarray(polygon, np.float32)) for polygon in polygons]
    whole = _whole(pixels, frames)
    return [_measured(pixels, frame, whole) for frame in frames]


@dataclass(frozen=True, slots=True)
class _Frame:
    """A line's own axes: (4, 2) corners, and lengths along and across in pixels."""

    corners: Values
    along: float
    across: float


@dataclass(frozen=True, slots=True)
class _Whole:
    """What is measured once for a photo. small: reduced, with the lines' ink taken out."""

    sharpness: float
    noise: float
    small: NDArray[np.uint8]
    scale: float
    border: Values
    border_even: bool


def _frame(polygon: Values) -> _Frame:
    if len(polygon) != 4:
        polygon = cv2.boxPoints(cv2.minAreaRect(polygon))
    along = float(np.linalg.norm(polygon[1] - polygon[0]))
    across = float(np.linalg.norm(polygon[3] - polygon[0]))
    if across > 1.5 * along:  # written from top to bottom
        polygon = np.roll(polygon, -1, axis=0)
        along, across = across, along
    return _Frame(polygon, max(along, 4.0), max(across, 4.0))


def _measured(pixels: NDArray[np.uint8], frame: _Frame, whole: _Whole) -> Lettering:
    crop, height = _rectified(pixels, frame, min(1.0, _HEIGHT / frame.across))
    margin = round(_MARGIN * height)
    inside = np.zeros(crop.shape[:2], bool)
    inside[margin:-margin, margin:-margin] = True
    ground = _ground(crop.astype(np.uint8), height)
    ink, core, light, contrast = _ink(crop, ground, inside)
    return Lettering(
        contrast=contrast,
        light=float(light),
        **_colours(crop, ground, ink, core, light),
        **_surroundings(ground, inside, margin),
        **_edges(pixels, frame, whole),
        photo_noise=whole.noise,
        **_shape(ink, height),
        **_surface(frame, whole),
        colour=_median_colour(crop, core),
    )


def _rectified(pixels: NDArray[np.uint8], frame: _Frame, scale: float) -> tuple[Values, float]:
    """A line with its margins, lying level, and its height there."""
    height = max(frame.across * scale, 6.0)
    scale = height / frame.across
    along = min(frame.along, _LONGEST * frame.across) * scale
    margin = round(_MARGIN * height)
    size = (max(round(along), 8) + 2 * margin, round(height) + 2 * margin)
    start, ahead = frame.corners[0], (frame.corners[1] - frame.corners[0]) / frame.along
    down = (frame.corners[3] - frame.corners[0]) / frame.across
    skipped = (frame.along - along / scale) / 2
    first = start + ahead * skipped - (ahead + down) * (margin / scale)
    source = _array([first, first + ahead * (100 / scale), first + down * (100 / scale)])
    left, top = np.floor(np.maximum(_reach(source, size).min(axis=0) - 2, 0)).astype(int)
    right, bottom = np.ceil(_reach(source, size).max(axis=0) + 3).astype(int)
    part: NDArray[Any] = pixels[top : max(bottom, top + 1), left : max(right, left + 1)]
    if not part.size:
        return np.zeros((size[1], size[0], 3), np.float32), height
    source -= _array([left, top])
    if scale < 0.7:
        reduced = (max(round(part.shape[1] * scale), 1), max(round(part.shape[0] * scale), 1))
        source *= _array([reduced[0] / part.shape[1], reduced[1] / part.shape[0]])
        part = cv2.resize(part, reduced, interpolation=cv2.INTER_AREA)
    matrix = cv2.getAffineTransform(source, _array([[0, 0], [100, 0], [0, 100]]))
    crop = cv2.warpAffine(
        part, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return crop.astype(np.float32), height


def _reach(source: Values, size: tuple[int, int]) -> Values:
    """The four corners, in the photo, of a rectified picture of (width, height)."""
    origin, x, y = source[0], (source[1] - source[0]) / 100, (source[2] - source[0]) / 100
    return _array([origin, origin + x * size[0], origin + y * size[1],
        origin + x * size[0] + y * size[1]])  # fmt: skip


def _ground(crop: NDArray[np.uint8], height: float) -> Values:
    """The crop without anything as thin as a stroke (opened and closed both ways; Serra 1982)."""
    size = max(round(height * _THICKEST), 3) | 1
    box = np.ones((size, size), np.uint8)
    opened = cv2.morphologyEx(crop, cv2.MORPH_OPEN, box)
    closed = cv2.morphologyEx(crop, cv2.MORPH_CLOSE, box)
    one = cv2.morphologyEx(opened, cv2.MORPH_CLOSE, box)
    other = cv2.morphologyEx(closed, cv2.MORPH_OPEN, box)
    return np.asarray(0.5 * (one.astype(np.float32) + other), np.float32)


def _ink(crop: Values, ground: Values, inside: Where) -> tuple[Where, Where, bool, float]:
    """Ink, the middle of its strokes, whether it is lighter than its ground, and its contrast."""
    difference = crop - ground
    looks = []
    for light in (True, False):
        contrast = _strongest(difference if light else -difference)
        raised = contrast[inside]
        raised = raised[raised > 2].astype(np.uint8)
        level = _FAINTEST
        if raised.size >= 8:
            otsu, _ = cv2.threshold(raised.reshape(1, -1), 0, 255, cv2.THRESH_OTSU)
            level = max(float(otsu), level)
        ink = inside & (contrast > level)
        looks.append((float(contrast[ink].sum()), light, contrast, ink))
    _, light, contrast, ink = max(looks, key=lambda look: look[0])
    core = ink & (contrast >= 0.92 * cv2.dilate(contrast, np.ones((3, 3), np.uint8)))
    strength = float(np.median(contrast[core])) if core.any() else 0.0
    return ink, core, light, strength


def _strongest(difference: Values) -> Values:
    """(H, W) of (H, W, 3): the largest channel, 0 where all are negative."""
    red, green, blue = cv2.split(difference)
    return np.asarray(np.clip(cv2.max(cv2.max(red, green), blue), 0, 255), np.float32)


def _colours(
    crop: Values, ground: Values, ink: Where, core: Where, light: bool
) -> dict[str, float]:
    names = ("ink_spread", "ink_drift", "opacity", "opacity_spread", "shading_spread", "follow",
        "outline")  # fmt: skip
    if np.count_nonzero(core) < 12:
        return dict.fromkeys(names, 0.0)
    colour, below = crop[core], ground[core]
    middle = np.median(colour, axis=0)
    spread = float(np.median(np.abs(colour - middle).max(axis=1)))
    columns = np.nonzero(core)[1]
    part = (columns - columns.min()) * _PARTS // (columns.max() - columns.min() + 1)
    means = [colour[part == each].mean(axis=1).mean() for each in range(_PARTS) if
        np.count_nonzero(part == each) > 3]  # fmt: skip
    best = np.abs(colour - below).mean(axis=0).argmax()
    room = (255 - below[:, best]) if light else below[:, best]
    opacity = np.abs(colour[:, best] - below[:, best]) / np.maximum(room, 12)
    ratio = (colour.mean(axis=1) + 4) / (below.mean(axis=1) + 4)
    over, under = colour.mean(axis=1), below.mean(axis=1)
    variance = float(under.var())
    follow = float(((over - over.mean()) * (under - under.mean())).mean() / (variance + 20))
    edge = (cv2.dilate(ink.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0) & ~ink
    other = (ground - crop) if light else (crop - ground)
    around = _strongest(other)[edge]
    strength = float(np.median(np.abs(colour - below).max(axis=1)))
    return {
        "ink_spread": spread,
        "ink_drift": float(np.std(means)) if means else 0.0,
        "opacity": float(np.median(opacity)),
        "opacity_spread": _spread(opacity),
        "shading_spread": _spread(ratio),
        "follow": float(np.clip(follow, -2, 2)),
        "outline": float(np.mean(around)) / max(strength, 8.0) if around.size else 0.0,
    }


def _spread(values: Values) -> float:
    """Median distance from the median, as a share of it."""
    middle = float(np.median(values))
    return float(np.median(np.abs(values - middle))) / max(abs(middle), 0.05)


def _surroundings(ground: Values, inside: Where, margin: int) -> dict[str, float]:
    under = np.ascontiguousarray(ground[margin:-margin, margin:-margin])
    level, unrest = _mean_and_spread(under)
    # The part of the margin nearest to the line is left out: shadows and outlines end there.
    far = margin - max(margin // 3, 1)
    sides = (
        ground[:far],
        ground[-far:],
        ground[margin:-margin, :far],
        ground[margin:-margin, -far:],
    )
    means = [_mean_and_spread(side)[0] for side in sides]
    steps = [float(np.abs(mean - level).max()) for mean in means]
    luma = cv2.cvtColor(ground, cv2.COLOR_RGB2GRAY)
    down, across = np.diff(luma, axis=0), np.diff(luma, axis=1)
    rows = np.abs(cv2.reduce(down, 1, cv2.REDUCE_AVG)).ravel()
    columns = np.abs(cv2.reduce(across, 0, cv2.REDUCE_AVG)).ravel()
    rims = [part.max() for part in (rows[:margin], rows[-margin:], columns[:margin],
        columns[-margin:])]  # fmt: skip
    return {
        "ground_unrest": float(unrest.max()),
        "ground_slope": cv2.mean(np.abs(across[margin:-margin, margin:-margin]))[0],
        "around_unrest": float(_mean_and_spread(ground, ~inside)[1].max()),
        "step": max(steps),
        "step_least": min(steps),
        "rim": float(max(rims)),
    }


def _mean_and_spread(part: Values, where: Where | None = None) -> tuple[Values, Values]:
    """(3,) means and standard deviations of the channels."""
    mask = None if where is None else where.astype(np.uint8)
    mean, spread = cv2.meanStdDev(np.ascontiguousarray(part), mask=mask)
    return mean.ravel(), spread.ravel()


def _edges(pixels: NDArray[np.uint8], frame: _Frame, whole: _Whole) -> dict[str, float]:
    """Sharpness and noise, at the photo's own scale."""
    middle = frame.corners.mean(axis=0)
    share = min(1.0, float(np.sqrt(_NATIVE / max(frame.along * frame.across, 1))))
    corners = middle + (frame.corners - middle) * _array(share)
    left, top = np.maximum(np.floor(corners.min(axis=0)).astype(int) - 3, 0)
    right, bottom = np.ceil(corners.max(axis=0)).astype(int) + 4
    part = pixels[top:bottom, left:right]
    result = {"sharpness": 0.0, "crispness": 0.0, "sharper": 0.0,
        "photo_sharpness": whole.sharpness, "ink_noise": whole.noise,
        "ground_noise": whole.noise}  # fmt: skip
    if min(part.shape[:2]) < 8:
        return result
    luma = cv2.cvtColor(part, cv2.COLOR_RGB2GRAY).astype(np.float32)
    inside = polygon_mask([corners - _array([left, top])], *luma.shape) > 0
    sharp, crisp = _sharpness(luma, inside)
    result["sharpness"], result["crispness"] = sharp, crisp
    result["sharper"] = sharp - whole.sharpness
    # Calm places: where nothing within two pixels differs by much. The lighter are one of ink
    # and ground, the darker the other; which is which does not matter for their difference.
    calm = inside & (_range(luma, 5) < max(4 * whole.noise + 6, 12))
    if np.count_nonzero(calm) > 60:
        rest = np.abs(luma - cv2.blur(luma, (3, 3)))
        values = luma[calm]
        level, _ = cv2.threshold(values.astype(np.uint8).reshape(1, -1), 0, 255, cv2.THRESH_OTSU)
        groups = sorted(
            (rest[calm & (luma > level)], rest[calm & (luma <= level)]), key=lambda each: each.size
        )
        if groups[0].size > 25:
            result["ink_noise"] = float(groups[0].mean())
        result["ground_noise"] = float(groups[1].mean()) if groups[1].size else whole.noise
    return result


def _sharpness(luma: Values, where: Where) -> tuple[float, float]:
    """First and second differences over the step they belong to, at the sharpest edges there.

    0.5 for an edge one pixel wide in the first, 1 in the second; less for softer ones.
    """
    across = cv2.Sobel(luma, cv2.CV_32F, 1, 0, ksize=1) / 2
    down = cv2.Sobel(luma, cv2.CV_32F, 0, 1, ksize=1) / 2
    gradient = cv2.magnitude(across, down)
    step = _range(luma, 5)
    edge = where & (step > _EDGE)
    edge &= gradient >= cv2.dilate(gradient, np.ones((3, 3), np.uint8))
    if np.count_nonzero(edge) < 8:
        return 0.0, 0.0
    bow = np.abs(cv2.Laplacian(luma, cv2.CV_32F, ksize=1))
    bow = cv2.dilate(bow, np.ones((3, 3), np.uint8))
    first = float(np.percentile(gradient[edge] / step[edge], 85))
    return first, float(np.percentile(bow[edge] / step[edge], 75))


def _range(luma: Values, size: int) -> Values:
    box = np.ones((size, size), np.uint8)
    return np.asarray(cv2.dilate(luma, box) - cv2.erode(luma, box), np.float32)


def _shape(ink: Where, height: float) -> dict[str, float]:
    """How the letters' feet and heads run along the line."""
    columns = np.flatnonzero(ink.any(axis=0))
    flat = {"slant": 0.0, "taper": 0.0, "bend": 0.0}
    if columns.size < 12:
        return flat
    first, last = int(columns[0]), int(columns[-1]) + 1
    at, feet, heads = [], [], []
    for part in range(_PARTS):
        left = first + (last - first) * part // _PARTS
        right = first + (last - first) * (part + 1) // _PARTS
        rows = np.flatnonzero(ink[:, left:right].any(axis=1))
        if rows.size > 1:
            at.append((part + 0.5) / _PARTS - 0.5)
            feet.append(float(rows[-1]) / height)
            heads.append(float(rows[0]) / height)
    if len(at) < 4:
        return flat
    foot, head = np.polyfit(at, feet, 2), np.polyfit(at, heads, 2)
    return {
        "slant": float(abs(foot[1] + head[1]) / 2),
        "taper": float(abs(foot[1] - head[1])),
        "bend": float(abs(foot[0] + head[0]) / 2),
    }


def _whole(pixels: NDArray[np.uint8], frames: Sequence[_Frame]) -> _Whole:
    height, width = pixels.shape[:2]
    scale = min(1.0, _SMALL / max(height, width))
    size = (max(round(width * scale), 8), max(round(height * scale), 8))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    corners = [frame.corners * _array([size[0] / width, size[1] / height]) for frame in frames]
    # Without letters a panel is one even surface.
    span = [int(np.clip(frame.across * scale, 3, 25)) | 1 for frame in frames]
    plain = small.copy()
    for reach, polygon in zip(span, corners, strict=True):
        left, top = np.maximum(np.floor(polygon.min(axis=0)).astype(int) - reach, 0)
        right, bottom = np.ceil(polygon.max(axis=0)).astype(int) + reach + 1
        part = plain[top:bottom, left:right]
        if part.size:
            inner = np.zeros(part.shape[:2], np.uint8)
            cv2.fillPoly(inner, [np.rint(polygon - _array([left, top])).astype(int)], 1)
            box = np.ones((reach, reach), np.uint8)
            opened = cv2.morphologyEx(
                cv2.morphologyEx(part, cv2.MORPH_OPEN, box), cv2.MORPH_CLOSE, box
            )
            closed = cv2.morphologyEx(
                cv2.morphologyEx(part, cv2.MORPH_CLOSE, box), cv2.MORPH_OPEN, box
            )
            mean = (opened.astype(np.uint16) + closed + 1) // 2
            part[inner > 0] = mean.astype(np.uint8)[inner > 0]
    border = np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]]).astype(np.float32)
    middle = np.median(border, axis=0)
    even = float(np.mean(np.abs(border - middle).max(axis=1) < 2 * _SAME)) > 0.7
    luma, free = _samples(pixels, frames)
    noise = np.abs(cv2.filter2D(luma, -1, _array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])))
    return _Whole(
        sharpness=_sharpness(luma, free)[0],
        noise=float(np.median(noise[free]) / (6 * 0.6745)) if free.any() else 0.0,
        small=np.asarray(plain, np.uint8),
        scale=scale,
        border=np.asarray(middle, np.float32),
        border_even=even,
    )


def _samples(pixels: NDArray[np.uint8], frames: Sequence[_Frame]) -> tuple[Values, Where]:
    """Pieces of the photo side by side, at its own scale, and where they are free of text."""
    height, width = pixels.shape[:2]
    tile, count = 64, 6
    if height * width <= (tile * count) ** 2:
        luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
        text = polygon_mask([_grown(frame) for frame in frames], height, width)
        return luma, text == 0
    tops = np.linspace(0, height - tile, count).astype(int)
    lefts = np.linspace(0, width - tile, count).astype(int)
    lumas, frees = [], []
    for top in tops:
        strip = np.ascontiguousarray(pixels[top : top + tile])
        text = polygon_mask([_grown(frame) - _array([0, top]) for frame in frames], tile, width)
        rows = np.hstack([strip[:, left : left + tile] for left in lefts])
        luma = cv2.cvtColor(rows, cv2.COLOR_RGB2GRAY).astype(np.float32)
        free = np.hstack([text[:, left : left + tile] for left in lefts]) == 0
        free[:2] = free[-2:] = False
        # Where two pieces meet there is an edge that the photo has not.
        for seam in range(0, luma.shape[1] + 1, tile):
            free[:, max(seam - 3, 0) : seam + 3] = False
        lumas.append(luma)
        frees.append(free)
    return np.vstack(lumas), np.vstack(frees)


def _grown(frame: _Frame) -> Values:
    middle = frame.corners.mean(axis=0)
    return np.asarray(
        middle + (frame.corners - middle) * (1 + 0.6 * frame.across / frame.along), np.float32
    )


def _surface(frame: _Frame, whole: _Whole) -> dict[str, float]:
    """The surface in the photo that the line's ground is part of."""
    small = whole.small
    height, width = small.shape[:2]
    middle = frame.corners.mean(axis=0) * whole.scale
    x = int(np.clip(round(float(middle[0])), 0, width - 1))
    y = int(np.clip(round(float(middle[1])), 0, height - 1))
    mask = np.zeros((height + 2, width + 2), np.uint8)
    flags = 4 | cv2.FLOODFILL_MASK_ONLY | (1 << 8)
    cv2.floodFill(small, mask, (x, y), 0, (_SAME,) * 3, (_SAME,) * 3, flags)
    found = mask[1:-1, 1:-1]
    border = np.concatenate([found[0], found[-1], found[:, 0], found[:, -1]])
    reach = max(1.5 * frame.across * whole.scale, 2)
    left, top = np.maximum(np.floor(frame.corners.min(axis=0) * whole.scale - reach), 0).astype(int)
    right, bottom = np.ceil(frame.corners.max(axis=0) * whole.scale + reach).astype(int) + 1
    near = small[top:bottom, left:right].astype(np.float32)
    alike = np.abs(near - whole.border).max(axis=2) < _SAME if near.size else np.zeros(1)
    return {
        "panel": float(found.mean()),
        "panel_border": float(border.mean()),
        "backdrop": float(alike.mean()) if whole.border_even else 0.0,
    }


def _median_colour(crop: Values, core: Where) -> tuple[float, float, float]:
    pixels = crop[core] if core.any() else crop.reshape(-1, 3)
    red, green, blue = (float(each) for each in np.median(pixels, axis=0))
    return red, green, blue


def _array(values: Any) -> NDArray[Any]:
    return np.asarray(values, np.float32)
