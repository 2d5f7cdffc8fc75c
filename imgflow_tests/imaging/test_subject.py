"""A subject is found whole on grounds as studios make them, and in no scene."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from samples import Pixels, photo

from imgflow.imaging.masks import Box, mask_box
from imgflow.imaging.subject import Subject, find_subject

SIZE = (600, 800)
RED = (150, 40, 40)


def places(size: tuple[int, int]) -> tuple[Pixels, Pixels]:
    return tuple(np.meshgrid(*(np.linspace(-1, 1, side) for side in size), indexing="ij"))  # type: ignore[return-value]


def paper(size: tuple[int, int] = SIZE, colour: Any = (240, 238, 232)) -> Pixels:
    return np.ones((*size, 3)) * np.array(colour, float)


def shoe(size: tuple[int, int] = SIZE) -> Pixels:
    mask = np.zeros(size, np.uint8)
    height, width = size
    centre = (int(width * 0.4), int(height * 0.4))
    cv2.ellipse(mask, centre, (width // 6, height // 7), 20, 0, 360, 255, -1)
    cv2.rectangle(mask, centre, (int(width * 0.7), int(height * 0.5)), 255, -1)
    return mask


def shirt(size: tuple[int, int]) -> Pixels:
    corners = [(0.3, 0.2), (0.4, 0.15), (0.6, 0.15), (0.7, 0.2), (0.85, 0.4), (0.76, 0.46)]
    corners += [(0.68, 0.36), (0.68, 0.85), (0.32, 0.85), (0.32, 0.36), (0.24, 0.46), (0.15, 0.4)]
    mask = np.zeros(size, np.uint8)
    cv2.fillPoly(mask, [(np.array(corners) * size[::-1]).astype(np.int32)], 255)
    return mask


def painted(ground: Pixels, mask: Pixels, colour: Any = RED) -> Pixels:
    soft = cv2.GaussianBlur(mask.astype(np.float32) / 255, (0, 0), 0.7)[:, :, None]
    return ground * (1 - soft) + np.array(colour, float) * soft


def taken(levels: Pixels, noise: float = 0.0, quality: int | None = None) -> Pixels:
    grain = np.random.default_rng(0).normal(0, noise, levels.shape) if noise else 0.0
    pixels = np.clip(np.rint(levels + grain), 0, 255).astype(np.uint8)
    if quality is None:
        return pixels
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))


def slack(subject: Subject | None, mask: Pixels) -> list[int]:
    """Pixels by which the box reaches beyond the mask, on each side."""
    assert subject is not None
    truth = mask_box(mask)
    assert truth is not None
    box = subject.box
    return [
        truth.top - box.top,
        truth.left - box.left,
        box.bottom - truth.bottom,
        box.right - truth.right,
    ]


def falloff(by: float) -> Pixels:
    y, x = places(SIZE)
    return paper() * (1 - by * (x**2 + y**2) / 2)[:, :, None]


@pytest.mark.parametrize(
    ("ground", "noise", "quality"),
    [
        pytest.param(paper(), 0.0, None, id="clean"),
        pytest.param(paper(), 0.0, 40, id="jpeg"),
        pytest.param(paper(), 8.0, 80, id="noisy"),
        pytest.param(paper(colour=(250, 250, 250)), 10.0, 60, id="noise that is clipped"),
        pytest.param(paper(colour=(5, 5, 8)), 2.0, None, id="black"),
        pytest.param(falloff(0.5), 2.0, 85, id="vignette"),
        pytest.param(paper() + 20 * places(SIZE)[0][:, :, None], 2.0, 85, id="gradient, clipped"),
    ],
)
def test_the_box_is_tight_on_grounds_of_all_kinds(
    ground: Pixels, noise: float, quality: int | None
) -> None:
    pixels = taken(painted(ground, shoe()), noise, quality)
    subject = find_subject(pixels)
    around = slack(subject, shoe())
    assert min(around) >= 0
    # JPEG's ringing fills its blocks of 16 x 16 pixels of colour.
    assert max(around) <= (24 if quality == 40 else 16)
    assert subject is not None
    assert not subject.touches


@pytest.mark.parametrize(("noise", "quality"), [(0.0, 90), (1.5, 85), (4.0, None)])
def test_a_white_shirt_on_white_is_not_cut_into(noise: float, quality: int | None) -> None:
    size = (1200, 1000)
    mask = shirt(size)
    inwards = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    shade = np.where(mask > 0, 4 + 6 * np.exp(-inwards / 6), 0)[:, :, None]
    around = slack(find_subject(taken(paper(size, (248, 248, 248)) - shade, noise, quality)), mask)
    assert min(around) >= -1, "the outermost pixel is a shade from the ground"
    assert max(around) <= 0.02 * max(size)


def test_a_strap_thinner_than_the_reduced_copy_sees_is_kept() -> None:
    mask = shoe((1600, 1200))
    cv2.ellipse(mask, (530, 600), (130, 470), 0, 180, 360, 255, 1)
    around = slack(find_subject(taken(painted(paper(mask.shape), mask, (60, 60, 60)), 2.0)), mask)
    assert min(around) >= 0
    assert max(around) <= 12


def test_a_visible_shadow_belongs_to_the_subject() -> None:
    shadow = np.roll(shoe(), (40, 30), (0, 1)).astype(np.float32) / 255
    soft = cv2.GaussianBlur(shadow, (0, 0), 12)
    pixels = taken(painted(paper() * (1 - 0.3 * soft)[:, :, None], shoe()), 1.0, 85)
    visible = np.where(240 * 0.3 * soft > 4, 255, 0).astype(np.uint8)
    around = slack(find_subject(pixels), visible | shoe())
    assert min(around) >= 0
    assert max(around) <= 20


def test_several_things_are_one_subject_and_dust_is_none() -> None:
    things = np.zeros(SIZE, np.uint8)
    for x, y, radius in ((150, 120, 30), (600, 200, 70), (330, 480, 12)):
        cv2.circle(things, (x, y), radius, 255, -1)
    dusty = things.copy()
    for x, y in ((20, 580), (770, 30), (780, 560)):
        cv2.circle(dusty, (x, y), 1, 255, -1)
    around = slack(find_subject(taken(painted(paper(), dusty), 1.0)), things)
    assert min(around) >= 0
    assert max(around) <= 4


@pytest.mark.parametrize(
    ("box", "touches"),
    [
        (Box(300, 200, 600, 600), {"bottom"}),
        (Box(300, 0, 600, 400), {"bottom", "left"}),
        (Box(200, 0, 400, 800), None),
        (Box(100, 0, 600, 800), None),
    ],
)
def test_the_sides_that_cut_a_subject_off(box: Box, touches: set[str] | None) -> None:
    mask = np.zeros(SIZE, np.uint8)
    mask[box.slices] = 255
    subject = find_subject(taken(painted(paper(), mask), 2.0))
    assert (subject.touches if subject else None) == touches


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_transparent_ground(dtype: Any) -> None:
    colours = np.random.default_rng(1).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    pixels = np.dstack([colours, shoe()]).astype(dtype) * dtype(np.iinfo(dtype).max // 255)
    subject = find_subject(pixels)
    assert subject is not None
    assert subject.ground is None
    assert subject.box == mask_box(shoe())


def test_16_bits_opaque_alpha_and_8_bits_say_the_same() -> None:
    pixels = taken(painted(paper(), shoe()), 2.0)
    expected = find_subject(pixels)
    assert expected is not None
    assert expected.ground is not None
    assert expected.ground.colour == (240, 238, 232)
    opaque = np.dstack([pixels, np.full(SIZE, 255, np.uint8)])
    for other in (pixels.astype(np.uint16) * 257, opaque):
        found = find_subject(other)
        assert found is not None
        assert (found.box, found.touches) == (expected.box, expected.touches)


@pytest.mark.parametrize(
    "pixels",
    [
        pytest.param(photo("coffee"), id="coffee"),
        pytest.param(photo("astronaut"), id="astronaut"),
        pytest.param(photo("chelsea"), id="chelsea"),
        pytest.param(photo("rocket"), id="rocket"),
        pytest.param(photo("grass"), id="grass"),
        pytest.param(taken(paper()), id="an empty sheet"),
        pytest.param(taken(paper(), 3.0), id="an empty noisy sheet"),
        pytest.param(np.zeros((50, 50, 4), np.uint8), id="nothing at all"),
        pytest.param(np.zeros((3000, 3, 3), np.uint8), id="a thread"),
    ],
)
def test_scenes_have_no_subject(pixels: Pixels) -> None:
    assert find_subject(pixels) is None


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 30), st.integers(1, 30), st.sampled_from([3, 4])).flatmap(
        lambda shape: hnp.arrays(st.sampled_from([np.uint8, np.uint16]), shape)
    )
)
def test_any_pixels_have_an_answer_within_the_photo(pixels: Pixels) -> None:
    subject = find_subject(pixels)
    if subject is not None:
        assert subject.box.inside(*pixels.shape[:2])
        assert min(subject.box.height, subject.box.width) >= 1
