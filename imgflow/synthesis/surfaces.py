"""Text printed on what a photo shows: labels, packaging, shirts, signs, and studio shots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.synthesis import phrases
from imgflow.synthesis.fonts import Fonts
from imgflow.synthesis.overlays import Canvas, Colour, DrawnLine, Overlay, Style
from imgflow.synthesis.phrases import Words

Photo = NDArray[np.uint8]
Plane = NDArray[Any]

# Artwork is drawn this many times as fine as it will be seen.
_FINER = 2


@dataclass(frozen=True, slots=True)
class Printed:
    """A photo of something with text on it.

    photo: (H, W, 3) uint8. ink: (H, W) float32 0..1, its letters.
    """

    photo: Photo
    ink: Plane
    lines: tuple[DrawnLine, ...]


def print_text(photo: Photo, words: Words, fonts: Fonts, chance: Random) -> Printed:
    """The photo with a label, or bare ink, on one of its surfaces.

    The print follows the surface (a perspective or a cylinder), is lit and textured as the photo
    is there, and is as soft and as noisy as the photo.
    """
    height, width = photo.shape[:2]
    across = round(width * chance.uniform(0.2, 0.65))
    down = round(min(across * chance.uniform(0.3, 1.4), 0.85 * height))
    art = artwork(down * _FINER, across * _FINER, words, fonts, chance)
    # Bare ink takes on its surface wholly; and no surface in a landscape faces the camera.
    bare = float(np.median(art.alpha)) < 0.5
    corners = _corners(height, width, down, across, chance, tilted=bare)
    place = _placed(art, corners, height, width, chance)
    soft = chance.uniform(0.3, 0.9)
    alpha = cv2.GaussianBlur(place.alpha, (0, 0), soft)
    light = _light(photo, alpha, texture=chance.uniform(0.7 if bare else 0.3, 1.0))
    ink = place.colour * light[:, :, None] + _grain(photo, chance)
    mixed = photo * (1 - alpha[:, :, None]) + ink * alpha[:, :, None]
    return Printed(_bytes(mixed), place.ink, place.lines)


def studio_shot(
    height: int,
    width: int,
    words: Words,
    fonts: Fonts,
    chance: Random,
    backdrop: Photo | None = None,
    picture: Photo | None = None,
) -> Printed:
    """A product taken from the front: what web shops show most.

    All of it is drawn larger than it is seen and scaled down with its print, so that letters are
    as sharp as the product's outline. backdrop: a photo to stand it in front of, else something
    plain. picture: a photo that is printed on the packaging, too.
    """
    finer = chance.choice((1.5, 2.0, 3.0))
    rows, columns = round(height * finer), round(width * finer)
    tall, wide = _product_size(rows, columns, chance)
    top, left = (rows - tall) // 2, round((columns - wide) * chance.uniform(0.3, 0.7))

    scene: Plane = _backdrop(rows, columns, chance)
    if backdrop is not None:
        scene = cv2.resize(backdrop, (columns, rows), interpolation=cv2.INTER_LINEAR)
        scene = cv2.GaussianBlur(scene.astype(np.float32), (0, 0), finer * chance.uniform(1, 6))
    body = _body(tall, wide, chance)
    where = slice(top, top + tall), slice(left, left + wide)
    shadow: Plane = np.zeros((rows, columns), np.float32)
    shadow[where] = body
    reach = 0.02 * rows
    shadow = cv2.GaussianBlur(np.roll(shadow, round(reach), axis=0), (0, 0), reach)
    scene *= 1 - chance.uniform(0.0, 0.4) * shadow[:, :, None]
    surface: Plane = np.empty((tall, wide, 3), np.float32)
    surface[:] = _paint(chance)
    if picture is not None:
        surface = cv2.resize(picture, (wide, tall), interpolation=cv2.INTER_AREA)
        surface = surface.astype(np.float32)
    inner = round(tall * chance.uniform(0.3, 0.9)), round(wide * chance.uniform(0.5, 0.97))
    art = artwork(*inner, words, fonts, chance, ground=surface.mean(axis=(0, 1)))
    down = round((tall - inner[0]) * chance.uniform(0.1, 0.9))
    across = (wide - inner[1]) // 2
    part = surface[down : down + inner[0], across : across + inner[1]]
    part[:] = part + (art.colour - part) * art.alpha[:, :, None]
    ink: Plane = np.zeros((rows, columns), np.float32)
    ink[top + down :, left + across :][: inner[0], : inner[1]] = art.ink
    ink[where] *= body  # what the product's outline cuts off cannot be seen
    surface *= _shading(tall, wide, chance)[:, :, None]
    if chance.random() < 0.4:
        surface = surface + _fabric(tall, wide, chance)[:, :, None]
    scene[where] = scene[where] + (surface - scene[where]) * body[:, :, None]
    lines = [
        replace(line, polygon=(line.polygon + _array([left + across, top + down])) / finer)
        for line in art.lines
    ]
    scene = cv2.GaussianBlur(scene, (0, 0), finer * chance.choice((0.15, 0.3, 0.45, 0.7)))
    small = cv2.resize(scene, (width, height), interpolation=cv2.INTER_AREA)
    if chance.random() < 0.5:  # as shops' scaling does
        small = small + chance.uniform(0.3, 1.2) * (small - cv2.GaussianBlur(small, (0, 0), 1.0))
    noise = np.random.default_rng(chance.getrandbits(32)).normal(size=small.shape)
    ink = cv2.resize(ink, (width, height), interpolation=cv2.INTER_AREA)
    return Printed(_bytes(small + chance.choice((0.0, 0.5, 1.5, 3.0)) * noise), ink, tuple(lines))


def artwork(
    height: int,
    width: int,
    words: Words,
    fonts: Fonts,
    chance: Random,
    ground: NDArray[Any] | None = None,
) -> Overlay:
    """What is printed: a name, some lines below it, small print, a sign; on a panel or on none.

    ground: (3,) the colour below, where it is known, so that bare ink can be seen on it.
    """
    canvas = Canvas(height, width)
    panel = chance.random() < 0.55
    if panel or ground is None:
        paper = chance.choice(_PAPERS) if chance.random() < 0.7 else _paint(chance)
    else:
        paper = (round(ground[0]), round(ground[1]), round(ground[2]))
    if panel:
        corner = chance.choice((0, 0, min(height, width) // 8))
        canvas.shape(_rounded(height, width, corner), Style(paper), 0, 0)
    inks = _readable(paper, chance), _readable(paper, chance)
    one_face = chance.random() < 0.6
    face = chance.choice(fonts.latin)
    if chance.random() < 0.4:
        _sign(canvas, inks[1], chance)
    y = 0.08 * height
    for size, text in _lines(height, words, chance):
        size = min(size, round(0.9 * width / (0.62 * max(len(text), 3))))
        if y + size > 0.96 * height:
            break
        if size >= 9:
            files = fonts.having(text)
            path = face if one_face and face in files else chance.choice(files) if files else None
            style = Style(inks[0] if chance.random() < 0.8 else inks[1])
            x = width * (0.5 if chance.random() < 0.75 else chance.uniform(0.4, 0.6))
            canvas.write(text, str(path) if path else None, size, style, (x, y + size / 2))
        y += size * chance.uniform(1.15, 1.8)
    return canvas.overlay("print")


# ---- what is printed -----------------------------------------------------------------------

_PAPERS: tuple[Colour, ...] = (
    (255, 255, 255), (248, 246, 238), (235, 225, 200), (20, 20, 22), (40, 60, 110), (190, 30, 40),
    (30, 110, 60), (245, 210, 60), (225, 225, 228), (120, 80, 50),
)  # fmt: skip


def _lines(height: int, words: Words, chance: Random) -> list[tuple[int, str]]:
    """Sizes and texts of a print, from the top."""
    layout = chance.random()
    if layout < 0.25:  # a name alone
        return [(round(height * chance.uniform(0.25, 0.6)), _words(words, chance))]
    if layout < 0.45:  # a block of small print
        size = round(height * chance.uniform(0.045, 0.1))
        return [(size, chance.choice(words.small_print)) for _ in range(14)]
    name = height * chance.uniform(0.12, 0.32)
    lines = [(round(name), _words(words, chance))]
    for _ in range(chance.choice((1, 2, 3))):
        lines.append((round(name * chance.uniform(0.25, 0.6)), _words(words, chance)))
    if chance.random() < 0.6:
        size = round(name * chance.uniform(0.14, 0.28))
        lines += [(size, chance.choice(words.small_print)) for _ in range(chance.randint(2, 7))]
    return lines


def _words(words: Words, chance: Random) -> str:
    """Mostly a product's, and now and then what overlays say too: wording must not decide."""
    other = chance.random()
    if other < 0.78:
        text = chance.choice(words.products)
        return text.upper() if chance.random() < 0.2 else text
    if other < 0.83:
        return phrases.date(chance)
    if other < 0.9:
        return phrases.mark(words, chance)
    return phrases.caption(words, chance)


def _sign(canvas: Canvas, ink: Colour, chance: Random) -> None:
    """A logo: a ring, a disc or a bar."""
    size = max(round(min(canvas.height, canvas.width) * chance.uniform(0.1, 0.4)), 6)
    sign = np.zeros((size, size), np.float32)
    shape = chance.randrange(3)
    if shape == 2:
        sign[size // 3 : size // 2] = 1
    else:
        stroke = -1 if shape else max(size // 10, 1)
        cv2.circle(sign, (size // 2, size // 2), size // 2 - 1 - size // 20, 1.0, stroke)
    left = round((canvas.width - size) * chance.random())
    canvas.shape(sign, Style(ink), left, round((canvas.height - size) * chance.random()))


def _readable(paper: Sequence[int], chance: Random) -> Colour:
    """An ink that stands out from its paper."""
    luma = 0.3 * paper[0] + 0.6 * paper[1] + 0.1 * paper[2]
    if chance.random() < 0.6:
        return chance.choice(((15, 15, 15), (35, 35, 40)) if luma > 120 else ((250, 250, 250),))
    inks = [_paint(chance) for _ in range(8)]
    return max(inks, key=lambda ink: abs(0.3 * ink[0] + 0.6 * ink[1] + 0.1 * ink[2] - luma))


def _paint(chance: Random) -> Colour:
    if chance.random() < 0.4:
        level = chance.choice((250, 235, 128, 40, 20))
        return level, level, level
    return chance.randint(10, 245), chance.randint(10, 245), chance.randint(10, 245)


def _rounded(height: int, width: int, corner: int) -> Plane:
    plane: Plane = np.zeros((height, width), np.float32)
    if not corner:
        plane[:] = 1
        return plane
    cv2.rectangle(plane, (corner, 0), (width - corner, height), 1.0, -1)
    cv2.rectangle(plane, (0, corner), (width, height - corner), 1.0, -1)
    for x in (corner, width - 1 - corner):
        for y in (corner, height - 1 - corner):
            cv2.circle(plane, (x, y), corner, 1.0, -1, cv2.LINE_AA)
    return plane


# ---- onto a surface in a photo -------------------------------------------------------------


def _corners(
    height: int, width: int, down: int, across: int, chance: Random, *, tilted: bool
) -> Plane:
    """(4, 2) x, y: where the artwork's corners come to lie."""
    x = chance.uniform(0.5 * across, max(width - 0.5 * across, 0.5 * across + 1))
    y = chance.uniform(0.5 * down, max(height - 0.5 * down, 0.5 * down + 1))
    corners = _array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * _array([across, down]) / 2
    if tilted or chance.random() < 0.6:
        tilt = chance.uniform(0.06 if tilted else 0.02, 0.16)
        shift = _array([[chance.gauss(0, tilt), chance.gauss(0, tilt)] for _ in range(4)])
        corners += shift * _array([across, down])
    turn = math.radians(chance.choice((0, 0, chance.gauss(0, 4), chance.gauss(0, 15))))
    matrix = _array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    return np.asarray(corners @ matrix + _array([x, y]), np.float32)


def _placed(art: Overlay, corners: Plane, height: int, width: int, chance: Random) -> Overlay:
    """The artwork as it lies on its surface, in a photo of that size."""
    rows, columns = art.alpha.shape
    bend = chance.choice((0.0, 0.0, chance.uniform(0.02, 0.12)))
    colour, alpha, ink = _array(art.colour), _array(art.alpha), _array(art.ink)
    lines = art.lines
    if bend:
        # A cylinder seen a little from above: rows sag in the middle.
        sag = _array(bend * rows) * np.sin(np.linspace(0, np.pi, columns, dtype=np.float32))
        x, y = np.meshgrid(np.arange(columns, dtype=np.float32), np.arange(rows, dtype=np.float32))
        y = y - sag[None, :]
        colour = cv2.remap(colour, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        alpha, ink = (cv2.remap(each, x, y, cv2.INTER_LINEAR) for each in (alpha, ink))
        lines = tuple(replace(line, polygon=_sagging(line.polygon, sag, columns)) for line in lines)
    frame = _array([[0, 0], [columns, 0], [columns, rows], [0, rows]])
    matrix = cv2.getPerspectiveTransform(frame, corners)
    # Drawn finer than it is seen: softened first, so that nothing flickers.
    colour = cv2.GaussianBlur(colour, (0, 0), 0.35 * _FINER)
    alpha = cv2.GaussianBlur(alpha, (0, 0), 0.35 * _FINER)
    return Overlay(
        "print",
        cv2.warpPerspective(
            colour, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE
        ).astype(np.float32),
        cv2.warpPerspective(alpha, matrix, (width, height)).astype(np.float32),
        cv2.warpPerspective(ink, matrix, (width, height)).astype(np.float32),
        tuple(
            replace(line, polygon=cv2.perspectiveTransform(line.polygon[None], matrix)[0])
            for line in lines
        ),
        True,
    )


def _sagging(polygon: Plane, sag: Plane, columns: int) -> Plane:
    at = np.clip(np.rint(polygon[:, 0]), 0, columns - 1).astype(int)
    moved = polygon.copy()
    moved[:, 1] += sag[at]
    return moved


def _light(photo: Photo, alpha: Plane, texture: float) -> Plane:
    """(H, W) factor: how the photo's own light and texture go on over what is printed."""
    luma = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY).astype(np.float32) + 8
    here = alpha > 0.05
    mean = float(luma[here].mean()) if here.any() else float(luma.mean())
    smooth = cv2.GaussianBlur(luma, (0, 0), 0.03 * max(photo.shape[:2]))
    light = np.clip(smooth / mean, 0.35, 1.7) * (luma / np.maximum(smooth, 1)) ** texture
    brightness = np.clip(mean / 140, 0.35, 1.15)
    return np.asarray(light * brightness, np.float32)


def _grain(photo: Photo, chance: Random) -> NDArray[np.float32]:
    """(H, W, 3) noise as strong as the photo's (Immerkaer 1996)."""
    luma = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY).astype(np.float32)
    kernel = _array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])
    strength = float(np.median(np.abs(cv2.filter2D(luma, -1, kernel)))) / (6 * 0.6745)
    noise = np.random.default_rng(chance.getrandbits(32)).normal(size=photo.shape)
    return np.asarray(strength * noise, np.float32)


# ---- a studio ------------------------------------------------------------------------------


def _backdrop(height: int, width: int, chance: Random) -> NDArray[np.float32]:
    """(H, W, 3): white, grey or coloured, even or with a soft gradient."""
    plain = (255, 255, 255) if chance.random() < 0.6 else _paint(chance)
    fall = np.linspace(1, 1 - chance.choice((0.0, 0.0, 0.08, 0.3)), height, dtype=np.float32)
    return np.ones((height, width, 3), np.float32) * _array(plain) * fall[:, None, None]


def _product_size(height: int, width: int, chance: Random) -> tuple[int, int]:
    """Height and width; sometimes the product fills the frame."""
    if chance.random() < 0.2:
        return height, width
    tall = round(height * chance.uniform(0.55, 0.98))
    return tall, min(round(tall * chance.uniform(0.35, 1.6)), round(0.98 * width))


def _body(height: int, width: int, chance: Random) -> Plane:
    """The product's outline: a box, a bottle, or something round."""
    shape = chance.random()
    if shape < 0.55:
        return _rounded(height, width, chance.choice((0, min(height, width) // 10)))
    plane: Plane = np.zeros((height, width), np.float32)
    if shape < 0.85:
        neck = round(height * chance.uniform(0.1, 0.25))
        plane[neck:] = _rounded(height - neck, width, min(height - neck, width) // 6)
        third = round(width * chance.uniform(0.25, 0.4))
        plane[: neck + width // 6, third : width - third] = 1
        return plane
    cv2.ellipse(plane, (width // 2, height // 2), (width // 2, height // 2), 0, 0, 360, 1.0, -1)
    return plane


def _shading(height: int, width: int, chance: Random) -> Plane:
    """(H, W) factor: light on a flat front, or round a bottle."""
    across = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    flat = 1 + chance.gauss(0, 0.06) * across + chance.gauss(0, 0.06) * down
    if chance.random() < 0.4:
        side = chance.uniform(-0.5, 0.5)
        flat = flat * (0.6 + 0.4 * np.sqrt(np.clip(1 - (0.9 * (across - 0.3 * side)) ** 2, 0, 1)))
    return np.asarray(flat, np.float32)


def _fabric(height: int, width: int, chance: Random) -> Plane:
    """(H, W) levels: a weave or a rough surface."""
    noise = np.random.default_rng(chance.getrandbits(32)).normal(size=(height, width))
    coarse = cv2.GaussianBlur(noise.astype(np.float32), (0, 0), chance.uniform(0.6, 2.5))
    return np.asarray(coarse / coarse.std() * chance.uniform(1, 8), np.float32)


def _bytes(values: NDArray[Any]) -> Photo:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _array(values: Any) -> NDArray[Any]:
    return np.asarray(values, np.float32)
