"""Framed photos have the template's shape, all of the subject, and no seam."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from samples import Pixels, photo

from imgflow.imaging.framing import Template, frame, has_aspect
from imgflow.imaging.masks import Box
from imgflow.imaging.subject import Ground, Subject, find_subject

SQUARE = Template(long_side=300, aspect=(1, 1), margin=0.05)
BLUE = (20, 40, 200)


def product(box: Box, size: tuple[int, int] = (400, 500), ground: Any = 235) -> Pixels:
    pixels = np.full((*size, 3), ground, np.uint8)
    pixels[box.slices] = BLUE
    return pixels


def found(pixels: Pixels) -> Subject:
    subject = find_subject(pixels)
    assert subject is not None
    return subject


def blue_box(pixels: Pixels) -> Box:
    blue = (pixels[:, :, 2].astype(int) - pixels[:, :, 0] > 60) & (pixels[:, :, -1] > 60)
    rows, columns = np.flatnonzero(blue.any(1)), np.flatnonzero(blue.any(0))
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


@pytest.mark.parametrize("aspect", [(1, 1), (4, 5), (16, 9)])
@pytest.mark.parametrize(
    "box", [Box(50, 60, 250, 160), Box(5, 5, 60, 490), Box(390, 480, 399, 499)]
)
def test_a_subject_is_centred_with_its_margin(aspect: tuple[int, int], box: Box) -> None:
    pixels = product(box)
    framed = frame(pixels, found(pixels), replace(SQUARE, aspect=aspect))
    height, width = framed.pixels.shape[:2]
    assert has_aspect(height, width, aspect)
    seen = blue_box(framed.pixels)
    spaces = (seen.top, seen.left, height - seen.bottom, width - seen.right)
    assert abs(spaces[0] - spaces[2]) <= 2
    assert abs(spaces[1] - spaces[3]) <= 2
    assert abs(min(spaces) - 0.05 * min(height, width)) <= 1.5
    assert framed.how == "trimmed"


def test_nothing_is_enlarged() -> None:
    box = Box(100, 100, 190, 160)
    framed = frame(product(box), found(product(box)), replace(SQUARE, long_side=5000))
    assert framed.pixels.shape[:2] == (100, 100)
    seen = blue_box(framed.pixels)
    assert (seen.height, seen.width) == (90, 60)


@pytest.mark.parametrize(
    ("box", "glued"),
    [
        (Box(200, 150, 400, 300), ["bottom"]),
        (Box(0, 150, 200, 300), ["top"]),
        (Box(200, 350, 400, 500), ["bottom", "right"]),
    ],
)
def test_a_subject_stays_at_the_sides_that_cut_it_off(box: Box, glued: list[str]) -> None:
    framed = frame(product(box), found(product(box)), SQUARE)
    height, width = framed.pixels.shape[:2]
    seen = blue_box(framed.pixels)
    spaces = {
        "top": seen.top,
        "left": seen.left,
        "bottom": height - seen.bottom,
        "right": width - seen.right,
    }
    for side, space in spaces.items():
        assert (space == 0) if side in glued else (space >= 0.05 * height - 1.5)


def test_the_ground_goes_on_without_a_seam() -> None:
    y, x = np.meshgrid(np.linspace(-1, 1, 400), np.linspace(-1, 1, 500), indexing="ij")
    ground = np.rint(210 - 18 * y - 25 * (x**2 + y**2) / 2)[:, :, None].repeat(3, 2)
    pixels = ground.astype(np.uint8)
    pixels[20:390, 200:260] = BLUE
    framed = frame(pixels, found(pixels), SQUARE)
    assert framed.window.top < 0 or framed.window.bottom > 400
    columns = framed.pixels[:, :60].astype(int)
    assert np.abs(np.diff(columns, axis=0)).max() <= 2
    assert np.abs(np.diff(columns, axis=1)).max() <= 2


def test_an_extension_has_the_grain_of_the_photo() -> None:
    grain = np.random.default_rng(0).normal(0, 4, (400, 300, 1))
    pixels = np.clip(np.rint(200 + grain.repeat(3, 2)), 0, 255).astype(np.uint8)
    pixels[30:370, 40:260] = BLUE
    template = Template(long_side=1000, aspect=(2, 1), trim=False)
    framed = frame(pixels, found(pixels), template)
    assert framed.pixels.shape[:2] == (400, 800)
    assert 3 < framed.pixels[:, :200, 0].std() < 5
    assert (framed.pixels == frame(pixels, found(pixels), template).pixels).all()


def test_an_off_white_ground_turns_softly_into_the_background() -> None:
    pixels = product(Box(100, 100, 300, 200), ground=240)
    framed = frame(pixels, found(pixels), replace(SQUARE, padding="background", margin=0.1)).pixels
    assert framed[0].min() >= 254 and framed[:, -1].min() >= 254
    assert framed[150, 148:152].max() <= 200, "the subject itself is not touched"
    edge = framed[:, 150, 0].astype(int)
    assert np.abs(np.diff(edge[:24])).max() <= 2


def test_a_ground_far_from_the_background_goes_on_as_it_is() -> None:
    pixels = product(Box(100, 100, 300, 200), ground=128)
    framed = frame(pixels, found(pixels), replace(SQUARE, padding="background")).pixels
    assert (framed[0] == 128).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_transparent_stays_transparent(dtype: Any) -> None:
    box = Box(100, 100, 300, 200)
    pixels = np.dstack([product(box), np.zeros((400, 500), np.uint8)])
    pixels[box.slices] = (*BLUE, 255)
    pixels = pixels.astype(dtype) * dtype(np.iinfo(dtype).max // 255)
    framed = frame(pixels, found(pixels), SQUARE).pixels
    assert framed.dtype == np.uint8
    assert framed.shape[0] == framed.shape[1]
    assert (framed[[0, -1], :, 3] == 0).all() and (framed[:, [0, -1], 3] == 0).all()
    assert (framed[framed[:, :, 3] == 255][:, :3] == BLUE).all()


def test_an_opaque_alpha_is_opaque_on_the_extension() -> None:
    pixels = np.dstack([product(Box(10, 100, 390, 200)), np.full((400, 500), 255, np.uint8)])
    assert (frame(pixels, found(pixels), SQUARE).pixels[:, :, 3] == 255).all()


def test_scenes_are_padded_cropped_or_kept() -> None:
    pixels = photo("coffee", 300)
    padded = frame(pixels, None, SQUARE)
    assert padded.how == "padded"
    assert padded.pixels.shape[:2] == (300, 300)
    assert (padded.pixels[50:250] == pixels).all()
    assert (padded.pixels[:50] == 255).all() and (padded.pixels[250:] == 255).all()
    cropped = frame(pixels, None, replace(SQUARE, scene="crop"))
    assert cropped.how == "cropped"
    assert (cropped.pixels == pixels[:, 50:250]).all()
    kept = frame(pixels, None, replace(SQUARE, scene="keep"))
    assert kept.how == "kept"
    assert (kept.pixels == pixels).all()


def test_a_long_photo_in_a_square_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgflow.imaging.framing._MOST_PIXELS", 10_000)
    pixels = np.zeros((4, 20_000, 3), np.uint8)
    framed = frame(pixels, None, Template(long_side=60_000, aspect=(1, 1)))
    assert framed.pixels.shape[:2] == (100, 100)


GROUND = Ground((200, 200, 200), 0.0, np.array([[200.0] * 3] + [[0.0] * 3] * 8))
SIDES = st.sampled_from([frozenset(), frozenset({"top"}), frozenset({"left", "bottom"})])


@settings(max_examples=150, deadline=None)
@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    channels=st.sampled_from([3, 4]),
    cut=st.tuples(*[st.floats(0, 1)] * 4),
    touches=st.none() | SIDES,
    aspect=st.none() | st.tuples(st.integers(1, 20), st.integers(1, 20)),
    margin=st.floats(0, 0.4),
    trim=st.booleans(),
    long_side=st.integers(1, 90),
    scene=st.sampled_from(["pad", "crop", "keep"]),
    padding=st.sampled_from(["ground", "background"]),
)
@example((1, 1), 3, (0, 0, 0, 0), frozenset(), (1, 20), 0.4, True, 1, "pad", "background")
@example((1, 60), 4, (0, 0, 1, 1), None, (1, 20), 0, False, 90, "crop", "ground")
def test_any_photo_fits_any_template(
    size: tuple[int, int],
    channels: int,
    cut: tuple[float, ...],
    touches: frozenset[Any] | None,
    aspect: tuple[int, int] | None,
    margin: float,
    trim: bool,
    long_side: int,
    scene: Any,
    padding: Any,
) -> None:
    pixels = np.full((*size, channels), 200, np.uint8)
    pixels[:, :, 3:] = 255
    template = Template(long_side, aspect, margin, trim, scene, (200, 200, 200), padding)
    subject = None
    if touches is not None:
        top, left = int(cut[0] * (size[0] - 1)), int(cut[1] * (size[1] - 1))
        bottom = top + 1 + int(cut[2] * (size[0] - top - 1))
        right = left + 1 + int(cut[3] * (size[1] - left - 1))
        box = Box(
            0 if "top" in touches else top,
            0 if "left" in touches else left,
            size[0] if "bottom" in touches else bottom,
            right,
        )
        subject = Subject(box, touches, GROUND)
    framed = frame(pixels, subject, template)
    height, width = framed.pixels.shape[:2]
    assert max(height, width) <= long_side
    assert height <= framed.window.height and width <= framed.window.width
    if aspect is not None and (subject is not None or scene != "keep"):
        assert has_aspect(height, width, aspect)
    shown = framed.pixels[framed.pixels[:, :, -1] > 0]
    assert (shown[:, :3] == 200).all()
    if subject is not None and trim:
        box, window = subject.box, framed.window
        assert window.union(box) == window, "no part of the subject is cut off"


def test_a_resized_subject_is_where_its_window_says() -> None:
    box = Box(1000, 300, 2200, 900)
    pixels = product(box, (2600, 2000))
    framed = frame(pixels, found(pixels), SQUARE)
    seen, window = blue_box(framed.pixels), framed.window
    scale = 300 / window.height
    assert abs(seen.top - (box.top - window.top) * scale) <= 1
    assert abs(seen.right - (box.right - window.left) * scale) <= 1
    assert cv2.countNonZero(framed.pixels[:, :, 0]) == 300 * 300
