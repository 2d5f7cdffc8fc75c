"""Framing: a photo trimmed to its subject, centred, and padded to a template.

All sizes are worked out first and the photo is reduced to them once. It is never enlarged: where
it holds fewer pixels than the template asks for, the canvas is smaller.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.imaging.colour import bands, data_range, to_uint8
from imgflow.imaging.masks import Box
from imgflow.imaging.subject import Ground, Subject

SceneFraming = Literal["keep", "pad", "crop"]
How = Literal["trimmed", "padded", "cropped", "kept"]
Padding = Literal["ground", "background"]

_MOST_PIXELS = 100_000_000
"""Of a canvas: a long thin photo in a square one must not fill the memory."""

_JOIN = 0.02
"""Share of the canvas over which a photo's own ground turns into its extension."""


_NEAR = 24
"""Levels between a ground and the background; from further on a soft change looks like a frame."""


@dataclass(frozen=True, slots=True)
class Template:
    """How deliveries are framed.

    long_side: most pixels. aspect: (width, height), None: as it comes. margin: least free space
    around a trimmed subject, a share (below 0.5) of the canvas's short side. trim: to the subject;
    else the whole photo counts as it. scene: what happens to a photo without a plain ground where
    it does not have the aspect. background: 8-bit RGB. padding: with what a plain ground is
    continued: itself, or, where it is near to that colour, a soft change into the background.
    """

    long_side: int
    aspect: tuple[int, int] | None = None
    margin: float = 0.0
    trim: bool = True
    scene: SceneFraming = "pad"
    background: tuple[int, int, int] = (255, 255, 255)
    padding: Padding = "ground"


@dataclass(frozen=True, slots=True)
class Framed:
    """A framed photo.

    pixels: (H, W, 3|4) uint8. window: the part of the photo's plane that it shows, in the photo's
    pixels; it may reach beyond the photo. how: what was done; what is trimmed to its subject may
    be padded too, as the window shows.
    """

    pixels: NDArray[np.uint8]
    window: Box
    how: How


def frame(pixels: NDArray[Any], subject: Subject | None, template: Template) -> Framed:
    """(H, W, 3|4) uint8 or uint16 pixels framed; `subject` as find_subject tells, None: a scene.

    A subject is centred between the sides that it is free on and stays at those that cut it off.
    A transparent ground goes on transparent. A scene has no margin and shows nothing but the
    photo, in full unless the template says crop; padding is background, or transparent where the
    photo has alpha.

    The canvas has the aspect to the nearest pixel, and at least one pixel a side.
    """
    whole = Box(0, 0, *pixels.shape[:2])
    shown = window(whole.height, whole.width, subject, template)
    keeps_shape = subject is None and template.scene == "keep"
    size = _canvas_size(shown, template.long_side, None if keeps_shape else template.aspect)
    plan = _Plan(whole, shown, size)
    part = resized(pixels[plan.source.slices], plan.target.height, plan.target.width)
    if (part.shape[0], part.shape[1]) == size:
        canvas = np.array(part)
    else:
        canvas = _blank(size, part.shape[2], template.background)
        canvas[plan.target.slices] = part
    if subject is not None and subject.ground is not None:
        box = subject.box if template.trim else whole
        _extend(canvas, plan, plan.scaled(box), subject.ground, template)
    return Framed(canvas, shown, _how(shown, whole, subject is not None and template.trim))


def window(height: int, width: int, subject: Subject | None, template: Template) -> Box:
    """The part of a photo's plane that `frame` shows, in the photo's pixels."""
    whole = Box(0, 0, height, width)
    if subject is None:
        return _scene_window(whole, template)
    # The box of an untrimmed photo is all of it; what touches its sides stays there.
    box = subject.box if template.trim else whole
    return _window(box, subject.touches, template)


def _how(window: Box, whole: Box, trimmed: bool) -> How:
    if window == whole:
        return "kept"
    if trimmed:
        return "trimmed"
    return "cropped" if window.inside(whole.height, whole.width) else "padded"


def _canvas_size(window: Box, long_side: int, aspect: tuple[int, int] | None) -> tuple[int, int]:
    """(height, width) in pixels of a canvas that shows a window of the photo's plane."""
    ratio = min(
        long_side / max(window.height, window.width),
        math.sqrt(_MOST_PIXELS / (window.height * window.width)),
        1.0,
    )
    height, width = (max(round(side * ratio), 1) for side in (window.height, window.width))
    if aspect is None:
        return height, width
    across, down = aspect
    if across >= down:
        return max(round(width * down / across), 1), width
    return height, max(round(height * across / down), 1)


def has_aspect(height: int, width: int, aspect: tuple[int, int]) -> bool:
    """Whether a size is of an aspect (width, height) to the nearest pixel of the shorter side."""
    across, down = aspect
    off = width - height * across / down if across <= down else height - width * down / across
    return abs(off) <= 1


# Windows: the part of the photo's plane that is shown


def _window(box: Box, touches: frozenset[str], template: Template) -> Box:
    """The canvas around a subject, in the photo's pixels."""
    free = (2 - len(touches & {"top", "bottom"}), 2 - len(touches & {"left", "right"}))
    margin = template.margin if template.trim else 0.0
    height, width = _least_canvas(box, free, margin, template.aspect)
    top = _start(box.top, box.bottom, height, "top" in touches, "bottom" in touches)
    left = _start(box.left, box.right, width, "left" in touches, "right" in touches)
    return Box(top, left, top + height, left + width)


def _least_canvas(
    box: Box, free: tuple[int, int], margin: float, aspect: tuple[int, int] | None
) -> tuple[int, int]:
    """(height, width) of the smallest canvas of an aspect that holds a box and its margins."""
    if aspect is None:
        # The margin is a share of the shorter side, which it makes longer itself.
        space = min(
            margin * box.height / (1 - free[0] * margin),
            margin * box.width / (1 - free[1] * margin),
        )
        return box.height + round(free[0] * space), box.width + round(free[1] * space)
    across, down = aspect
    space = margin * min(across, down)
    unit = max(box.height / (down - free[0] * space), box.width / (across - free[1] * space))
    return _of_aspect(unit, aspect, box)


def _of_aspect(unit: float, aspect: tuple[int, int], box: Box) -> tuple[int, int]:
    across, down = aspect
    if across >= down:
        width = max(math.ceil(across * unit - 1e-6), box.width)
        return max(round(width * down / across), box.height), width
    height = max(math.ceil(down * unit - 1e-6), box.height)
    return height, max(round(height * across / down), box.width)


def _start(first: int, last: int, length: int, at_first: bool, at_last: bool) -> int:
    """Where a canvas of some length begins, so that first..last is centred or stays at an edge."""
    if at_first:
        return first
    if at_last:
        return last - length
    return (first + last - length) // 2


def _scene_window(whole: Box, template: Template) -> Box:
    aspect = template.aspect
    if aspect is None or template.scene == "keep":
        return whole
    if template.scene == "pad":
        return _window(whole, frozenset(), Template(template.long_side, aspect))
    across, down = aspect
    unit = min(whole.width / across, whole.height / down)
    height = min(max(round(unit * down), 1), whole.height)
    width = min(max(round(unit * across), 1), whole.width)
    top, left = (whole.height - height) // 2, (whole.width - width) // 2
    return Box(top, left, top + height, left + width)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What of the photo comes where on the canvas."""

    whole: Box
    window: Box
    size: tuple[int, int]

    @property
    def source(self) -> Box:
        """The shown part of the photo."""
        window = self.window
        return Box(
            max(window.top, 0),
            max(window.left, 0),
            min(window.bottom, self.whole.height),
            min(window.right, self.whole.width),
        )

    @property
    def target(self) -> Box:
        """Its place on the canvas."""
        return self.scaled(self.source)

    def scaled(self, box: Box) -> Box:
        """A box of the photo on the canvas, at least one pixel a side."""
        top, bottom = self._span(box.top, box.bottom, 0)
        left, right = self._span(box.left, box.right, 1)
        return Box(top, left, bottom, right)

    def _span(self, first: int, last: int, axis: int) -> tuple[int, int]:
        start = (self.window.top, self.window.left)[axis]
        ratio = self.size[axis] / (self.window.height, self.window.width)[axis]
        low = min(max(round((first - start) * ratio), 0), self.size[axis] - 1)
        high = min(max(round((last - start) * ratio), low + 1), self.size[axis])
        return low, high


# Pixels


def resized(pixels: NDArray[Any], height: int, width: int) -> NDArray[np.uint8]:
    """(H, W, 3|4) pixels as (height, width, 3|4) uint8; for making smaller.

    Averages areas; colours are weighted by alpha, so that none leaks from transparent pixels.
    """
    if pixels.shape[:2] == (height, width):
        return to_uint8(pixels)
    size = (width, height)
    if pixels.shape[2] == 3:
        return to_uint8(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
    span = np.float32(data_range(pixels.dtype))
    alpha = pixels[:, :, 3:] / span
    colour = cv2.resize(pixels[:, :, :3] * alpha, size, interpolation=cv2.INTER_AREA)
    coverage = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA).reshape(height, width, 1)
    free = np.divide(colour, coverage, out=np.zeros_like(colour), where=coverage > 1e-3)
    both = np.concatenate([free / span, coverage], axis=2)
    return np.rint(np.clip(both, 0, 1) * 255).astype(np.uint8)


def _blank(
    size: tuple[int, int], channels: int, background: tuple[int, int, int]
) -> NDArray[np.uint8]:
    canvas = np.zeros((*size, channels), np.uint8)
    if channels == 3:
        canvas[:] = background
    return canvas


def _extend(
    canvas: NDArray[np.uint8], plan: _Plan, box: Box, ground: Ground, template: Template
) -> None:
    """Continue a plain ground over the canvas, in place, without a seam around the photo."""
    place = plan.target
    height, width = plan.size
    across = _Axis(width, (box.left, box.right), (place.left, place.right))
    down = _Axis(height, (box.top, box.bottom), (place.top, place.bottom))
    soft = template.padding == "background" and _is_near(ground.colour, template.background)
    keep_y, keep_x = down.photo(soft), across.photo(soft)
    own_y, own_x = (down.ground(), across.ground()) if soft else (np.ones(height), np.ones(width))
    if keep_y.min() == 1 and keep_x.min() == 1 and own_y.min() == 1 and own_x.min() == 1:
        return
    background = np.array(template.background, np.float32)
    grain = np.float32(ground.noise * height / plan.window.height)
    random = np.random.default_rng(0)
    y = _in_photo(height, plan.window.top, plan.window.bottom, plan.whole.height)
    x = _in_photo(width, plan.window.left, plan.window.right, plan.whole.width)
    for rows in bands(height):
        own = np.multiply.outer(own_y[rows], own_x).astype(np.float32)[:, :, None]
        behind = background + (ground.at(y[rows], x) - background) * own
        # Without the photo's grain the extension would look like a patch, and fall-off like steps.
        behind += grain * own * random.standard_normal((*own.shape[:2], 1), np.float32)
        np.clip(behind, 0, 255, out=behind)
        keep = np.multiply.outer(keep_y[rows], keep_x).astype(np.float32)[:, :, None]
        seen = canvas[rows, :, :3]
        canvas[rows, :, :3] = np.rint(behind + (seen - behind) * keep)
        if canvas.shape[2] == 4:
            alpha = canvas[rows, :, 3:]
            canvas[rows, :, 3:] = np.rint(255 + (alpha - np.float32(255)) * keep)


def _is_near(colour: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
    """Whether a change from one colour to the other, over a margin, passes unseen."""
    return max(abs(one - two) for one, two in zip(colour, other, strict=True)) <= _NEAR


def _in_photo(count: int, first: int, last: int, length: int) -> NDArray[np.float64]:
    """Centres of a canvas's lines in the photo's own measure: -1 to 1 from edge to edge."""
    at = first + (np.arange(count) + 0.5) * ((last - first) / count)
    return 2 * at / length - 1


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis of a canvas: the lines of the subject's box and, around it, of the photo."""

    count: int
    box: tuple[int, int]
    photo_lines: tuple[int, int]

    def _lines(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(count,) the lines' centres, counted from the first and from the last."""
        centres = np.arange(self.count, dtype=np.float64) + 0.5
        return centres, centres[::-1]

    def photo(self, soft: bool) -> NDArray[np.float64]:
        """(count,) how much of the photo is seen: all over the box, nothing beyond the photo.

        soft: it goes over all of the ground around the box, up to the canvas's edge; otherwise
        near the photo's edges alone, where the canvas goes on beyond them.
        """
        first, last = self.photo_lines
        before, after = self.box[0] - first, last - self.box[1]
        if not soft:
            join = max(round(_JOIN * self.count), 1)
            before = min(before, join) if first > 0 else 0
            after = min(after, join) if last < self.count else 0
        lines, from_last = self._lines()
        return np.asarray(_rise(lines, first, before) * _rise(from_last, self.count - last, after))

    def ground(self) -> NDArray[np.float64]:
        """(count,) how much the ground is itself: at the box all, at the canvas's edges not."""
        lines, from_last = self._lines()
        after = self.count - self.box[1]
        return np.asarray(_rise(lines, 0, self.box[0]) * _rise(from_last, 0, after))


def _rise(lines: NDArray[np.float64], start: float, length: float) -> NDArray[np.float64]:
    """0 up to `start`, 1 from `length` lines further on, smooth (a cubic) between."""
    if length <= 0:
        return (lines > start).astype(np.float64)
    share = np.clip((lines - start) / length, 0, 1)
    return np.asarray(share * share * (3 - 2 * share))
