"""Overlays are where they say they are, and change nothing else."""

from pathlib import Path
from random import Random

import numpy as np
import pytest
from samples import default_font

from imgflow.imaging.masks import dilate, polygon_mask
from imgflow.synthesis.fonts import Fonts
from imgflow.synthesis.overlays import KINDS, Canvas, Kind, Style, draw_overlay, scatter
from imgflow.synthesis.phrases import HELD_OUT, TRAINING


@pytest.fixture(scope="module")
def fonts(tmp_path_factory: pytest.TempPathFactory) -> Fonts:
    path = default_font(tmp_path_factory.mktemp("fonts"))
    return Fonts(latin=(path,), cyrillic=(), chinese=())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_ink_lies_around_its_lines_and_nowhere_else(kind: Kind, seed: int, fonts: Fonts) -> None:
    photo = np.full((240, 320, 3), (90, 120, 60), np.uint8)
    overlay = draw_overlay(kind, 240, 320, HELD_OUT, fonts, Random(seed))
    changed = (overlay.over(photo) != photo).any(axis=2)
    assert not changed[overlay.alpha == 0].any()
    if not overlay.lines:
        pytest.skip("the phrase's script is not in the font")
    near = dilate(polygon_mask([line.polygon for line in overlay.lines], 240, 320), 14) > 0
    if kind != "chrome":  # its signs stand beside the text
        assert not (overlay.alpha > 0.02)[~near].any()
    assert (overlay.alpha > 0.1)[near].any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_the_letters_are_part_of_what_is_drawn(kind: Kind, seed: int, fonts: Fonts) -> None:
    overlay = draw_overlay(kind, 240, 320, TRAINING, fonts, Random(seed))
    assert overlay.ink.shape == (240, 320)
    assert overlay.ink.dtype == np.float32
    assert 0 <= overlay.ink.min() <= overlay.ink.max() <= 1
    assert (overlay.alpha[overlay.ink > 0] > 0).all()
    if not overlay.lines:
        pytest.skip("the phrase's script is not in the font")
    # Signs beside the text, of chrome too, are no letters.
    lines = dilate(polygon_mask([line.polygon for line in overlay.lines], 240, 320), 4) > 0
    assert not (overlay.ink > 0.1)[~lines].any()
    assert (overlay.ink > 0.5)[lines].any()


def test_signs_panels_and_shadows_are_no_letters(fonts: Fonts) -> None:
    canvas = Canvas(100, 200)
    canvas.shape(np.ones((60, 90), np.float32), Style((255, 0, 0)), 5, 5)
    assert not canvas.overlay("caption").ink.any()
    canvas.write("HHH", str(fonts.latin[0]), 40, Style((255, 255, 255), shadow=3), (140, 50))
    overlay = canvas.overlay("caption")
    assert not overlay.ink[:, :90].any()
    # The shadow hides some of the photo where no letter does.
    assert ((overlay.alpha > 0.2) & (overlay.ink == 0))[:, 100:].any()
    assert (overlay.alpha >= overlay.ink - 1e-5).all()


def test_how_much_shows_through_a_letter_changes_nothing_about_its_place(fonts: Fonts) -> None:
    inks = []
    for opacity in (1.0, 0.3):
        canvas = Canvas(100, 200)
        canvas.write("HHH", str(fonts.latin[0]), 60, Style((9, 9, 9), opacity=opacity), (100, 50))
        inks.append(canvas.overlay("watermark").ink)
    opaque, translucent = inks
    assert np.array_equal(opaque, translucent)
    assert opaque.max() == 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_chance_draws_the_same(kind: Kind, fonts: Fonts) -> None:
    one, other = (draw_overlay(kind, 120, 160, TRAINING, fonts, Random(7)) for _ in range(2))
    assert (one.alpha == other.alpha).all()
    assert (one.ink == other.ink).all()
    assert (one.colour == other.colour).all()
    assert [line.text for line in one.lines] == [line.text for line in other.lines]


def test_translucent_ink_mixes_with_the_photo(fonts: Fonts) -> None:
    canvas = Canvas(100, 200)
    canvas.write("HHH", fonts.latin[0], 60, Style((255, 255, 255), opacity=0.4), (100, 50))
    overlay = canvas.overlay("watermark")
    assert not overlay.opaque
    assert overlay.alpha.max() == pytest.approx(0.4, abs=1e-3)
    ground = np.full((100, 200, 3), 100, np.uint8)
    assert overlay.over(ground).max() == round(100 * 0.6 + 255 * 0.4)


def test_later_ink_covers_earlier(fonts: Fonts) -> None:
    canvas = Canvas(100, 200)
    canvas.write("I", fonts.latin[0], 80, Style((255, 0, 0)), (100, 50))
    canvas.write("I", fonts.latin[0], 80, Style((0, 0, 255)), (100, 50))
    overlay = canvas.overlay("caption")
    assert (overlay.colour[overlay.alpha > 0.99] == (0, 0, 255)).all()


def test_a_turned_line_keeps_its_letters_in_its_outline(fonts: Fonts) -> None:
    canvas = Canvas(300, 300)
    canvas.write("TURNED", fonts.latin[0], 40, Style((0, 0, 0)), (150, 150), angle=37)
    overlay = canvas.overlay("watermark")
    (line,) = overlay.lines
    outline = dilate(polygon_mask([line.polygon], 300, 300), 2) > 0
    assert (overlay.alpha[~outline] < 0.02).all()
    share = (overlay.alpha[outline] > 0.5).mean()
    assert 0.15 < share < 0.6


def test_text_beyond_the_photo_is_cut_off(fonts: Fonts) -> None:
    canvas = Canvas(50, 50)
    canvas.write("WWWWWWWW", fonts.latin[0], 40, Style((0, 0, 0)), (0, 0))
    canvas.write("gone", fonts.latin[0], 12, Style((0, 0, 0)), (500, -500))
    assert canvas.overlay("caption").alpha.shape == (50, 50)
    assert canvas.overlay("caption").ink.shape == (50, 50)


def test_scattered_lines_come_in_many_styles(fonts: Fonts) -> None:
    canvas = Canvas(300, 400)
    scatter(canvas, 12, (12, 40), fonts, Random(3))
    overlay = canvas.overlay("scatter")
    assert len(overlay.lines) == 12
    assert len(np.unique(overlay.colour[overlay.alpha > 0.9].reshape(-1, 3), axis=0)) > 3


def test_held_out_words_are_not_in_training() -> None:
    for name in ("captions", "marks", "sites", "chrome", "products"):
        known = {each.lower() for each in getattr(TRAINING, name)}
        assert not known & {each.lower() for each in getattr(HELD_OUT, name)}, name


def test_a_missing_font_folder_is_named(tmp_path: Path) -> None:
    from imgflow.errors import ImgflowError
    from imgflow.synthesis.fonts import find_fonts

    with pytest.raises(ImgflowError, match=str(tmp_path)):
        find_fonts(tmp_path, held_out=True)
