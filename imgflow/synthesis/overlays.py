"""Text drawn over a finished photo: date stamps, captions, watermarks, screenshot chrome."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from imgflow.synthesis import phrases
from imgflow.synthesis.fonts import Fonts, font
from imgflow.synthesis.phrases import Words

Kind = Literal["date", "caption", "watermark", "tiled", "chrome"]
KINDS: tuple[Kind, ...] = ("date", "caption", "watermark", "tiled", "chrome")

Colour = tuple[int, int, int]
Plane = NDArray[np.float32]

_WHITE: Colour = (255, 255, 255)
_BLACK: Colour = (0, 0, 0)
_STAMPS: tuple[Colour, ...] = ((255, 140, 30), (255, 180, 40), (255, 90, 30), (250, 220, 60))


@dataclass(frozen=True, slots=True)
class Style:
    """How a line is drawn. opacity: 0..1. outline, glow: pixels. shadow: offset in pixels."""

    colour: Colour
    opacity: float = 1.0
    outline: int = 0
    outline_colour: Colour = _BLACK
    shadow: int = 0
    glow: float = 0.0


@dataclass(frozen=True, slots=True)
class DrawnLine:
    """One line of text. polygon: (4, 2) float32 of x, y around its letters."""

    polygon: NDArray[np.float32]
    text: str


@dataclass(frozen=True, slots=True)
class Overlay:
    """What is laid over a photo, and where its text is.

    colour: (H, W, 3) float32 0..255. alpha: (H, W) float32 0..1, the share of the photo that it
    hides. ink: (H, W) float32 0..1, what of that are letters.
    """

    kind: str
    colour: Plane
    alpha: Plane
    ink: Plane
    lines: tuple[DrawnLine, ...]
    opaque: bool

    def over(self, photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The photo, (H, W, 3) uint8, with the overlay on top."""
        share = self.alpha[:, :, None]
        mixed = photo * (1 - share) + self.colour * share
        return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def draw_overlay(
    kind: Kind, height: int, width: int, words: Words, fonts: Fonts, chance: Random
) -> Overlay:
    """A random overlay of a kind for a photo of that size."""
    canvas = Canvas(height, width)
    _DRAW[kind](canvas, words, fonts, chance)
    return canvas.overlay(kind)


class Canvas:
    """Collects what is drawn, back to front (Porter and Duff's "over", 1984)."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self._colour = np.zeros((height, width, 3), np.float32)
        self._alpha = np.zeros((height, width), np.float32)
        self._ink = np.zeros((height, width), np.float32)
        self._lines: list[DrawnLine] = []
        self._opaque = True

    def overlay(self, kind: str) -> Overlay:
        lines = tuple(self._lines)
        return Overlay(kind, self._colour, self._alpha, self._ink, lines, self._opaque)

    def write(
        self,
        text: str,
        path: str | None,
        size: int,
        style: Style,
        centre: tuple[float, float],
        angle: float = 0.0,
    ) -> None:
        """A line of text around `centre` (x, y), turned counter-clockwise by `angle` degrees."""
        letters = _letters(text, path, size, style, angle)
        if letters is None:
            return
        x, y = (round(centre[0] - letters.size[1] / 2), round(centre[1] - letters.size[0] / 2))
        if style.shadow:
            soft = np.asarray(
                cv2.GaussianBlur(letters.outer, (0, 0), max(style.shadow * 0.6, 0.5)), np.float32
            )
            self._lay(soft, _BLACK, 0.6 * style.opacity, x + style.shadow, y + style.shadow)
        if style.outline:
            self._lay(letters.outer, style.outline_colour, style.opacity, x, y)
        self._lay(letters.inner, style.colour, style.opacity, x, y)
        rows, columns, part = self._clipped(letters.inner, x, y)
        self._ink[rows, columns] = np.maximum(self._ink[rows, columns], part)
        self._lines.append(DrawnLine(letters.polygon + np.array([x, y], np.float32), text))
        self._opaque = self._opaque and style.opacity > 0.9

    def shape(self, matte: Plane, style: Style, left: int, top: int) -> None:
        """Something that is no text."""
        self._lay(matte, style.colour, style.opacity, left, top)

    def _lay(self, matte: Plane, colour: Colour, opacity: float, left: int, top: int) -> None:
        rows, columns, part = self._clipped(matte, left, top)
        new = part * np.float32(opacity)
        below = self._alpha[rows, columns] * (1 - new)
        total = new + below
        mixed = new[:, :, None] * np.array(colour, np.float32) + (
            below[:, :, None] * self._colour[rows, columns]
        )
        self._colour[rows, columns] = mixed / np.maximum(total, 1e-6)[:, :, None]
        self._alpha[rows, columns] = total

    def _clipped(self, matte: Plane, left: int, top: int) -> tuple[slice, slice, Plane]:
        """Where a matte lies in the photo, and the part of it that does."""
        ends = max(min(top + matte.shape[0], self.height), 0)
        rows = slice(min(max(top, 0), ends), ends)
        ends = max(min(left + matte.shape[1], self.width), 0)
        columns = slice(min(max(left, 0), ends), ends)
        part = matte[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        return rows, columns, part


@dataclass(frozen=True, slots=True)
class _Letters:
    """Mattes (h, w) float32 0..1 of a drawn line: its letters, and those with their outline."""

    inner: Plane
    outer: Plane
    polygon: NDArray[np.float32]

    @property
    def size(self) -> tuple[int, int]:
        return self.inner.shape[0], self.inner.shape[1]


def _letters(text: str, path: str | None, size: int, style: Style, angle: float) -> _Letters | None:
    if path is None:
        return None
    face = font(path, size)
    left, top, right, bottom = face.getbbox(text, stroke_width=style.outline)
    width, height = math.ceil(right - left), math.ceil(bottom - top)
    if width < 2 or height < 2:
        return None
    margin = 4 + 3 * max(style.shadow, math.ceil(style.glow))
    inner = Image.new("L", (width + 2 * margin, height + 2 * margin))
    at = (margin - left, margin - top)
    ImageDraw.Draw(inner).text(at, text, font=face, fill=255)
    outer = inner
    if style.outline:
        outer = Image.new("L", inner.size)
        ImageDraw.Draw(outer).text(at, text, font=face, fill=255, stroke_width=style.outline)
    if style.glow:
        inner = inner.filter(ImageFilter.GaussianBlur(style.glow))
        outer = outer.filter(ImageFilter.GaussianBlur(style.glow)) if style.outline else inner
    corners = margin + np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    middle = np.array([inner.width / 2, inner.height / 2], np.float32)
    if angle:
        inner = inner.rotate(angle, Image.Resampling.BICUBIC, expand=True)
        outer = outer.rotate(angle, Image.Resampling.BICUBIC, expand=True)
        turn = math.radians(angle)
        # Rows grow downwards: counter-clockwise on the screen is this matrix.
        matrix = np.array(
            [[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]], np.float32
        )
        corners = (corners - middle).astype(np.float32) @ matrix.T + np.array(
            [inner.width / 2, inner.height / 2], np.float32
        )
    return _Letters(_matte(inner), _matte(outer), corners.astype(np.float32))


def _matte(image: Image.Image) -> Plane:
    return np.asarray(np.asarray(image, np.float32) / 255, np.float32)


def _pick(text: str, fonts: Fonts, chance: Random) -> str | None:
    files = fonts.having(text)
    return str(chance.choice(files)) if files else None


def _grey(chance: Random) -> Colour:
    level = chance.choice((255, 255, 255, 0, 128, chance.randint(0, 255)))
    return level, level, level


def _any_colour(chance: Random) -> Colour:
    if chance.random() < 0.6:
        return chance.choice((_WHITE, _WHITE, _BLACK, (20, 20, 20), (240, 240, 240)))
    return chance.randint(0, 255), chance.randint(0, 255), chance.randint(0, 255)


# ---- the kinds -------------------------------------------------------------------------


def _date(canvas: Canvas, words: Words, fonts: Fonts, chance: Random) -> None:
    size = max(round(canvas.height * chance.uniform(0.03, 0.065)), 11)
    text = phrases.date(chance)
    colour = chance.choice((*_STAMPS, *_STAMPS, _WHITE, (255, 40, 30)))
    style = Style(colour, glow=chance.choice((0.0, 0.0, 0.5, 0.8)))
    style = replace(style, outline=chance.choice((0, 0, 0, 1)))
    reach = 0.3 * size * len(text)
    x = chance.choice((canvas.width - reach - size, canvas.width - reach - size, reach + size))
    y = chance.choice((canvas.height - 1.3 * size, canvas.height - 1.3 * size, 1.3 * size))
    canvas.write(text, _pick(text, fonts, chance), size, style, (x, y))


def _caption(canvas: Canvas, words: Words, fonts: Fonts, chance: Random) -> None:
    size = max(round(canvas.height * chance.uniform(0.035, 0.085)), 12)
    style = _caption_style(size, chance)
    count = chance.choice((1, 1, 1, 2, 3))
    x = canvas.width * chance.choice((0.5, 0.5, 0.35, 0.65))
    step = 1.35 * size
    y = chance.choice((1.2 * size, canvas.height - count * step, canvas.height * 0.5))
    path = _pick("Aa", fonts, chance)
    for line in range(count):
        text = phrases.caption(words, chance)
        own = path if fonts.having(text) == fonts.latin else _pick(text, fonts, chance)
        canvas.write(text, own, size, style, (x, y + line * step))


def _caption_style(size: int, chance: Random) -> Style:
    style = Style(_any_colour(chance))
    dark = sum(style.colour) < 380
    against = _WHITE if dark else _BLACK
    look = chance.random()
    if look < 0.3:
        return replace(style, outline=max(1, round(size * 0.06)), outline_colour=against)
    if look < 0.55:
        return replace(style, shadow=max(1, round(size * 0.07)))
    return style


def _watermark(canvas: Canvas, words: Words, fonts: Fonts, chance: Random) -> None:
    text = phrases.mark(words, chance)
    angle = chance.choice((0, 0, 30, 45, -30, chance.uniform(-50, 50)))
    size = round(canvas.height * chance.uniform(0.06, 0.16))
    # Not wider than the photo.
    size = max(min(size, round(1.5 * canvas.width / max(len(text), 1))), 14)
    style = Style(_grey(chance), opacity=chance.uniform(0.25, 0.65))
    if chance.random() < 0.2:
        style = replace(style, outline=1, outline_colour=(255 - style.colour[0],) * 3)
    centre = (canvas.width * chance.uniform(0.35, 0.65), canvas.height * chance.uniform(0.3, 0.75))
    canvas.write(text, _pick(text, fonts, chance), size, style, centre, angle)


def _tiled(canvas: Canvas, words: Words, fonts: Fonts, chance: Random) -> None:
    text = phrases.mark(words, chance)
    size = max(round(canvas.height * chance.uniform(0.035, 0.07)), 13)
    style = Style(_grey(chance), opacity=chance.uniform(0.25, 0.55))
    angle = chance.choice((0, 30, 45, -30, chance.uniform(-45, 45)))
    path = _pick(text, fonts, chance)
    across = size * (0.55 * len(text) + chance.uniform(1.5, 4))
    down = size * chance.uniform(2.5, 5)
    stagger = chance.choice((0.0, 0.5))
    for centre in _grid(canvas, across, down, stagger, angle):
        canvas.write(text, path, size, style, centre, angle)


def _grid(
    canvas: Canvas, across: float, down: float, stagger: float, angle: float
) -> Iterator[tuple[float, float]]:
    """Points of a grid that is turned with its text, as far as they are in the photo."""
    turn = math.radians(angle)
    reach = math.hypot(canvas.width, canvas.height) / 2
    for row in range(-math.ceil(reach / down), math.ceil(reach / down) + 1):
        shift = stagger * (row % 2)
        for column in range(-math.ceil(reach / across) - 1, math.ceil(reach / across) + 1):
            along, below = (column + shift) * across, row * down
            x = canvas.width / 2 + along * math.cos(turn) + below * math.sin(turn)
            y = canvas.height / 2 - along * math.sin(turn) + below * math.cos(turn)
            if -across / 2 < x < canvas.width + across / 2 and -down < y < canvas.height + down:
                yield x, y


def _chrome(canvas: Canvas, words: Words, fonts: Fonts, chance: Random) -> None:
    """Status and tool bars of a phone or a shop's page, as a screenshot brings them along."""
    size = max(round(canvas.height * chance.uniform(0.028, 0.05)), 11)
    style = Style(chance.choice((_WHITE, _WHITE, _BLACK, (230, 230, 230), (0, 122, 255))))
    if chance.random() < 0.3:
        style = replace(style, shadow=1)
    path = _pick("Aa", fonts, chance)
    bars = [1.1 * size, canvas.height - 1.4 * size]
    for y in chance.sample(bars, chance.choice((1, 2, 2))):
        count = chance.choice((2, 3, 4))
        texts = chance.sample(words.chrome, count)
        for place, text in enumerate(texts):
            x = canvas.width * (place + 0.5) / count
            canvas.write(text, path, size, style, (x, y))
            if chance.random() < 0.5:
                reach = 0.32 * size * len(text) + 0.9 * size
                icon = _icon(round(size * chance.uniform(0.7, 1.0)), chance)
                canvas.shape(icon, style, round(x - reach), round(y - icon.shape[0] / 2))


def _icon(size: int, chance: Random) -> Plane:
    """A small sign: (size, size) float32 0..1, drawn four times as large for soft edges."""
    large = 4 * size
    image = Image.new("L", (large, large))
    draw = ImageDraw.Draw(image)
    inner = (large * 0.1, large * 0.1, large * 0.9, large * 0.9)
    stroke = max(large // 9, 4)
    sign = chance.randrange(5)
    if sign == 0:
        draw.ellipse(inner, outline=255, width=stroke)
    elif sign == 1:
        draw.rounded_rectangle(inner, large // 5, outline=255, width=stroke)
    elif sign == 2:
        draw.line(
            [(large * 0.7, large * 0.1), (large * 0.3, large * 0.5), (large * 0.7, large * 0.9)],
            fill=255,
            width=stroke,
        )
    elif sign == 3:
        for line in (0.25, 0.5, 0.75):
            draw.line(
                [(large * 0.1, large * line), (large * 0.9, large * line)], fill=255, width=stroke
            )
    else:
        draw.polygon(
            [(large * 0.5, large * 0.1), (large * 0.9, large * 0.9), (large * 0.1, large * 0.9)],
            fill=255,
        )
    return _matte(image.resize((size, size), Image.Resampling.BOX))


def scatter(canvas: Canvas, count: int, sizes: Sequence[int], fonts: Fonts, chance: Random) -> None:
    """Lines without meaning anywhere, in any style: what a learner of strokes should know."""
    for _ in range(count):
        text = phrases.gibberish(chance)
        style = replace(
            _caption_style(size := chance.randint(*sizes), chance),
            opacity=chance.choice((1.0, 1.0, chance.uniform(0.2, 0.9))),
            glow=chance.choice((0.0, 0.0, 0.0, 0.6, 1.0)),
        )
        centre = (canvas.width * chance.random(), canvas.height * chance.random())
        angle = chance.choice((0, 0, 90, chance.uniform(-180, 180)))
        canvas.write(text, _pick(text, fonts, chance), size, style, centre, angle)


_DRAW: dict[Kind, Callable[[Canvas, Words, Fonts, Random], None]] = {
    "date": _date,
    "caption": _caption,
    "watermark": _watermark,
    "tiled": _tiled,
    "chrome": _chrome,
}
