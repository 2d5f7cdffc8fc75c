"""Rough grounds that no photo was taken of: leaves, fur, grass, bark, clouds, walls with windows.

Few photos show few textures, and what a finder of strokes has to leave alone is above all what is
as thin and as contrasty as a stroke. Networks learn from such pictures what holds in photos
(Baradad et al., "Learning to See by Looking at Noise", 2021).
"""

from __future__ import annotations

import math
from random import Random
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.training.photos import Photo

# Colours that a picture is painted with.
_COLOURS = 12
# Most shapes and strands of one picture: a small one is full before.
_MOST = 2500
# Fractional bits of OpenCV's coordinates.
_SHIFT = 4


def texture(photo: Photo, height: int, width: int, chance: Random) -> Photo:
    """A picture (height, width, 3) in the colours of a photo: clouds, and on them leaves, strands,
    or both; now and then strands grow on the photo itself, or things stand on it in rows."""
    draw = np.random.default_rng(chance.getrandbits(32))
    palette = _palette(photo, draw)
    # Drawn larger than it is seen: soft edges.
    rows, columns = round(height * 1.5), round(width * 1.5)
    if chance.random() < 0.5:
        canvas = np.asarray(
            cv2.resize(photo, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8
        )
        grown = chance.choice((_strands, _rows, _rows))
        grown(canvas, palette, chance, draw)
    else:
        canvas = _clouds(rows, columns, palette, chance, draw)
        kind = chance.random()
        if kind < 0.6:
            _leaves(canvas, palette, chance, draw)
        if kind > 0.4:
            _strands(canvas, palette, chance, draw)
    shade = 1 + chance.uniform(0, 0.35) * _fractal(rows, columns, chance.uniform(0.6, 1.8), draw)
    shaded = np.clip(canvas * shade[:, :, None], 0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(shaded, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _palette(photo: Photo, draw: np.random.Generator) -> NDArray[np.float32]:
    """(N, 3) colours: those of one part of the photo, for things are of few colours."""
    height, width = photo.shape[:2]
    side = max(int(min(height, width) * draw.uniform(0.1, 0.6)), 1)
    top, left = draw.integers(0, height - side + 1), draw.integers(0, width - side + 1)
    part = photo[top : top + side, left : left + side].reshape(-1, 3)
    return np.asarray(part[draw.integers(0, len(part), _COLOURS)], np.float32)


def _fractal(height: int, width: int, fall: float, draw: np.random.Generator) -> NDArray[Any]:
    """(H, W) noise of mean 0 and spread 1 whose amplitudes fall with frequency to that power."""
    side = 256
    across = np.fft.rfftfreq(side)[None, :]
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], across)
    frequency[0, 0] = 1
    noise = draw.normal(size=frequency.shape) + 1j * draw.normal(size=frequency.shape)
    noise[0, 0] = 0
    field = np.fft.irfft2(noise / frequency**fall, s=(side, side))
    field = (field / max(float(field.std()), 1e-9)).astype(np.float32)
    return np.asarray(cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC))


def _clouds(
    height: int,
    width: int,
    palette: NDArray[np.float32],
    chance: Random,
    draw: np.random.Generator,
) -> Photo:
    share = 0.5 + chance.uniform(0.1, 0.5) * _fractal(height, width, chance.uniform(0.8, 2), draw)
    share = np.clip(share, 0, 1)[:, :, None]
    mixed = palette[0] * (1 - share) + palette[1] * share
    return np.ascontiguousarray(np.clip(mixed, 0, 255).astype(np.uint8))


def _leaves(
    canvas: Photo, palette: NDArray[np.float32], chance: Random, draw: np.random.Generator
) -> None:
    """Flat shapes that hide each other, of all sizes alike (dead leaves; Lee, Mumford, Huang
    2001)."""
    height, width = canvas.shape[:2]
    least, most = chance.uniform(2, 8), chance.uniform(0.04, 0.4) * min(height, width)
    most = max(most, least + 1)
    count = min(round(4 * height * width / (3 * least * most)), _MOST)
    # Sizes whose density falls with the third power.
    even = draw.random(count)
    sizes = 1 / np.sqrt(even / least**2 + (1 - even) / most**2)
    flat = chance.random() < 0.5
    turn = chance.uniform(0, 180)
    colours = _varied(palette, count, chance.uniform(2, 25), draw)
    for size, colour in zip(np.sort(sizes)[::-1] if flat else sizes, colours, strict=True):
        middle = draw.random(2) * (width, height)
        angle = turn + draw.normal() * 60
        thin = draw.uniform(0.15, 1)
        if draw.random() < 0.6:
            box = (tuple(map(float, middle)), (2 * size, 2 * size * thin), float(angle))
            cv2.ellipse(canvas, box, colour, -1)
            continue
        corners = middle + size * draw.normal(size=(draw.integers(3, 6), 2)) * (1, thin)
        cv2.fillPoly(canvas, [np.rint(corners * (1 << _SHIFT)).astype(int)], colour, cv2.LINE_AA,
            _SHIFT)  # fmt: skip


def _strands(
    canvas: Photo, palette: NDArray[np.float32], chance: Random, draw: np.random.Generator
) -> None:
    """Hairs, blades or twigs that follow each other."""
    height, width = canvas.shape[:2]
    length = chance.uniform(0.03, 0.35) * min(height, width)
    thick = chance.choice((1, 1, 2, 3, 5))
    count = min(round(chance.uniform(0.1, 2.0) * height * width / (length * thick * 2)), _MOST)
    turns = chance.uniform(0.2, 1.5) * _fractal(height, width, 2.2, draw) + chance.uniform(0, 6.3)
    starts = draw.random((count, 2)) * (width - 1, height - 1)
    heading = turns[starts[:, 1].astype(int), starts[:, 0].astype(int)]
    heading = heading + chance.choice((0.1, 0.3, 3.0)) * draw.normal(size=count)
    bend = chance.uniform(0.02, 0.5) * draw.normal(size=count)
    steps = np.arange(6)
    angles = heading[:, None] + bend[:, None] * steps
    step = length * draw.uniform(0.3, 1.0, count)[:, None] / len(steps)
    path = np.stack([np.cos(angles) * step, np.sin(angles) * step], axis=2).cumsum(axis=1)
    path = np.rint((starts[:, None] + path) * (1 << _SHIFT)).astype(int)
    for line, colour in zip(path, _varied(palette, count, 15, draw), strict=True):
        cv2.polylines(canvas, [line], False, colour, thick, cv2.LINE_AA, _SHIFT)


def _rows(
    canvas: Photo, palette: NDArray[np.float32], chance: Random, draw: np.random.Generator
) -> None:
    """Things of a kind beside and above each other, as windows, bricks, books and fences are: in
    a quarter that is seen from anywhere."""
    height, width = canvas.shape[:2]
    across, down = chance.randint(3, 30), chance.choice((1, 1, 2, chance.randint(2, 20)))
    cell = chance.uniform(8, 60), chance.uniform(8, 60)
    size = round(across * cell[0]) + 1, round(down * cell[1]) + 1
    (colour, mortar) = _varied(palette, 2, 20, draw)
    sheet = np.full((size[1], size[0], 3), mortar, np.uint8)
    matte = np.full(sheet.shape[:2], chance.choice((0.0, 0.0, 1.0)), np.float32)
    box = chance.uniform(0.3, 0.95) * cell[0], chance.uniform(0.3, 0.95) * cell[1]
    thing, outline = _thing(max(round(box[0]), 2), max(round(box[1]), 2), colour, palette, draw)
    varied = chance.uniform(0, 40)
    for row in range(down):
        shift = chance.choice((0.0, 0.5)) * (row % 2)
        for column in range(across):
            top, left = round(row * cell[1]), round((column + shift) * cell[0])
            part = sheet[top : top + len(thing), left : left + thing.shape[1]]
            there = outline[: len(part), : part.shape[1]]
            body = thing[: len(part), : part.shape[1]] + varied * draw.normal()
            part[there] = np.clip(body, 0, 255)[there]
            share = matte[top : top + len(thing), left : left + thing.shape[1]]
            share[there] = chance.choice((1.0, 1.0, 0.9))
    corners = np.array([[0, 0], [size[0], 0], [size[0], size[1]], [0, size[1]]], np.float32)
    seen = corners + draw.normal(size=(4, 2)) * 0.15 * min(size) - corners.mean(axis=0)
    turn = math.radians(chance.choice((0.0, 0.0, chance.uniform(-60, 60))))
    matrix = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    seen = seen @ matrix + draw.random(2) * (width, height)
    warp = cv2.getPerspectiveTransform(corners, seen.astype(np.float32))
    share = cv2.warpPerspective(matte, warp, (width, height))[:, :, None]
    laid = cv2.warpPerspective(sheet, warp, (width, height))
    canvas[:] = np.clip(canvas * (1 - share) + laid * share, 0, 255).astype(np.uint8)


def _thing(
    width: int,
    height: int,
    colour: tuple[float, ...],
    palette: NDArray[np.float32],
    draw: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """One of the things in rows: (H, W, 3) colours 0..255, and (H, W) where it is. Half of them
    have parts, as panes and a frame, a handle, a rung."""
    thing = np.full((height, width, 3), colour, np.float32)
    outline = np.zeros((height, width), np.uint8)
    if draw.random() < 0.7:
        outline[:] = 1
    else:
        cv2.ellipse(outline, ((width / 2, height / 2), (width, height), 0.0), 1, -1)
    if draw.random() < 0.5:
        other = palette[draw.integers(len(palette))]
        across, down = (int(each) for each in draw.integers(1, 4, 2))
        rim = draw.uniform(0.05, 0.35)
        for number in range(across * down):
            row, column = divmod(number, across)
            top, bottom = ((row + rim) * height / down, (row + 1 - rim) * height / down)
            left, right = ((column + rim) * width / across, (column + 1 - rim) * width / across)
            thing[round(top) : round(bottom), round(left) : round(right)] = other
    return thing, outline > 0


def _varied(
    palette: NDArray[np.float32], count: int, spread: float, draw: np.random.Generator
) -> list[tuple[float, ...]]:
    """Colours of the palette, each a little lighter or darker."""
    chosen = palette[draw.integers(0, len(palette), count)]
    values = np.clip(chosen + spread * draw.normal(size=(count, 1)), 0, 255)
    return [tuple(map(float, each)) for each in values]
