"""Text that is printed on what a photo shows."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import ImageFont
from samples import photo

from imgflow.imaging.masks import dilate, polygon_mask
from imgflow.synthesis.fonts import Fonts
from imgflow.synthesis.phrases import TRAINING
from imgflow.synthesis.surfaces import Printed, artwork, print_text, studio_shot


@pytest.fixture(scope="module")
def fonts(tmp_path_factory: pytest.TempPathFactory) -> Fonts:
    """Pillow's own font alone: other machines have no more."""
    path = tmp_path_factory.mktemp("fonts") / "own.ttf"
    source = ImageFont.load_default(20)
    assert isinstance(source, ImageFont.FreeTypeFont)
    path.write_bytes(source.path.getvalue())  # type: ignore[union-attr]
    return Fonts(latin=(Path(path),), cyrillic=(), chinese=())


def prints(fonts: Fonts, kind: str, number: int) -> Printed:
    chance = Random(f"{kind}/{number}")
    if kind == "surface":
        return print_text(photo("coffee", 400), TRAINING, fonts, chance)
    return studio_shot(300, 400, TRAINING, fonts, chance)


@pytest.mark.parametrize("kind", ["surface", "studio"])
def test_the_same_seed_prints_the_same(fonts: Fonts, kind: str) -> None:
    one, other = prints(fonts, kind, 1), prints(fonts, kind, 1)
    assert np.array_equal(one.photo, other.photo)
    assert np.array_equal(one.ink, other.ink)
    assert [line.text for line in one.lines] == [line.text for line in other.lines]
    assert not np.array_equal(one.photo, prints(fonts, kind, 2).photo)


def test_the_photo_changes_where_the_lines_are(fonts: Fonts) -> None:
    clean = photo("coffee", 400)
    for number in range(6):
        printed = prints(fonts, "surface", number)
        assert printed.photo.shape == clean.shape
        assert printed.photo.dtype == np.uint8
        changed = np.abs(printed.photo.astype(int) - clean).max(axis=2) > 12
        for line in printed.lines:
            left, top = np.maximum(line.polygon.min(axis=0), 0).astype(int)
            right, bottom = line.polygon.max(axis=0).astype(int) + 1
            assert changed[top:bottom, left:right].any(), line.text


@pytest.mark.parametrize("kind", ["surface", "studio"])
def test_the_ink_is_the_lines_letters_alone(fonts: Fonts, kind: str) -> None:
    """Neither the panel below them nor the sign beside them."""
    inked = 0
    for number in range(6):
        printed = prints(fonts, kind, number)
        height, width = printed.photo.shape[:2]
        assert printed.ink.shape == (height, width)
        # Interpolation may leave rounding errors.
        assert -1e-3 < printed.ink.min() <= printed.ink.max() < 1 + 1e-3
        polygons = [line.polygon for line in printed.lines]
        lines = dilate(polygon_mask(polygons, height, width), 5) > 0
        letters = printed.ink > 0.3
        assert letters[~lines].mean() < 1e-3
        # Letters never fill their lines.
        assert letters[lines].mean() < 0.75
        inked += int(letters[lines].mean() > 0.05)
    assert inked >= 4


def test_every_line_is_readable_artwork(fonts: Fonts) -> None:
    for number in range(10):
        art = artwork(300, 300, TRAINING, fonts, Random(number))
        assert art.alpha.max() > 0.9
        for line in art.lines:
            assert line.text
            assert (line.polygon[:, 1] > -20).all()


def test_letters_are_lit_as_the_photo_is(fonts: Fonts) -> None:
    """White paper in a dark photo is not white."""
    dark = (photo("coffee", 400) // 5).astype(np.uint8)
    for number in range(5):
        printed = print_text(dark, TRAINING, fonts, Random(number))
        assert np.percentile(printed.photo, 99) < 200
