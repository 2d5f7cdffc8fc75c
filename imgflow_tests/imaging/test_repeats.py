"""The copies of a tiled mark that a detector missed, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from samples import Pixels, photo

from imgflow.imaging.repeats import missed_copies, reads_as_part, same_mark

SIZE = 22


def tiled(
    clean: Pixels, text: str = "SAMPLE", angle: float = 0, opacity: float = 0.5
) -> tuple[Pixels, list[Pixels]]:
    """A photo under a tiled mark, and the polygons of all copies whose middle is inside."""
    height, width = clean.shape[:2]
    reach = 2 * max(height, width)
    font = ImageFont.load_default(SIZE)
    layer = Image.new("L", (reach, reach))
    draw = ImageDraw.Draw(layer)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    turn = np.radians(angle)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    polygons = []
    for row in range(0, reach, 90):
        for column in range(0, reach, 170):
            draw.text((column, row), text, font=font, fill=255)
            box = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
            corners = (box + np.float32([column, row]) - reach / 2) @ matrix + (
                width / 2,
                height / 2,
            )
            x, y = corners.mean(axis=0)
            if 0 < x < width and 0 < y < height:
                polygons.append(corners.astype(np.float32))
    layer = layer.rotate(angle, Image.Resampling.BICUBIC)
    start = (reach - width) // 2, (reach - height) // 2
    matte = np.asarray(layer.crop((*start, start[0] + width, start[1] + height))) / 255 * opacity
    mixed = clean * (1 - matte[:, :, None]) + 255 * matte[:, :, None]
    return np.rint(mixed).astype(np.uint8), polygons


def middles(polygons: list[Pixels]) -> Pixels:
    return np.array([polygon.mean(axis=0) for polygon in polygons]).reshape(-1, 2)


@pytest.mark.parametrize("angle", [0, 30, -45])
def test_the_others_of_two_copies_are_found(angle: float) -> None:
    pixels, copies = tiled(photo("rocket", 480), angle=angle)
    inner = [each for each in copies if each.min() > 5 and (each.max(axis=0) < (475, 315)).all()]
    known = [inner[0], inner[-1]]
    found = missed_copies(pixels, known)
    every = middles([*found, *known])
    hits = [np.abs(every - middle).max(axis=1).min() < SIZE / 2 for middle in middles(copies)]
    assert np.mean(hits) > 0.85
    for middle in middles(found):
        assert np.abs(middles(copies) - middle).max(axis=1).min() < SIZE or not (
            0 < middle[0] < 480 and 0 < middle[1] < pixels.shape[0]
        )


def test_known_copies_are_not_given_again() -> None:
    pixels, copies = tiled(photo("rocket", 480))
    inner = [each for each in copies if each.min() > 5 and (each.max(axis=0) < (475, 315)).all()]
    found = missed_copies(pixels, inner)
    for middle in middles(found):
        assert np.abs(middles(inner) - middle).max(axis=1).min() > SIZE / 2


@pytest.mark.parametrize("name", ["coffee", "chelsea", "brick", "grass", "gravel"])
def test_textures_are_no_tilings(name: str) -> None:
    clean = photo(name, 400)
    box = np.array([[60, 60], [140, 60], [140, 82], [60, 82]], np.float32)
    assert missed_copies(clean, [box, box + np.float32([150, 70])]) == []


def test_a_line_that_stands_twice_is_no_tiling() -> None:
    image = Image.fromarray(photo("coffee", 400))
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(SIZE)
    known = []
    for at in ((40, 40), (200, 150)):
        draw.text(at, "SPORT", font=font, fill=(255, 255, 255))
        left, top, right, bottom = draw.textbbox(at, "SPORT", font=font)
        known.append(np.array([[left, top], [right, top], [right, bottom], [left, bottom]]))
    assert missed_copies(np.array(image), known) == []


def test_readings_of_one_mark_are_told_from_other_words() -> None:
    assert same_mark("SAMPLE", "SAMPIE")
    assert same_mark("www.shop.com", "www.sh0p.com")
    assert not same_mark("SAMPLE", "Shampoo")
    assert not same_mark("A", "A"), "single letters are everywhere"


def test_what_is_left_of_a_mark_is_told_from_other_names() -> None:
    assert reads_as_part("©PY", "© PHOTOBANK"), "half an H is read as a Y"
    assert reads_as_part("y.finds", "@daily.finds")
    assert not reads_as_part("© Jane Doe", "© PHOTOBANK")
    assert not reads_as_part("©", "© PHOTOBANK"), "a sign alone is no part of a name"
