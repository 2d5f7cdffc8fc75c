"""What trainings show their networks: scenes, texts over them, and where both are."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
import torch
from samples import photo

from imgflow.imaging.masks import polygon_mask
from imgflow.synthesis.fonts import Fonts
from imgflow.synthesis.overlays import KINDS, DrawnLine
from imgflow.synthesis.phrases import TRAINING
from imgflow.synthesis.surfaces import Printed
from imgflow.training import finder, restorer
from imgflow.training.photos import scene
from imgflow.training.scenes import (
    GROUNDS,
    Drawn,
    any_overlay,
    patch,
    resized,
    roughly,
    scaled,
    shown,
    tensor,
    touched,
)


def line(left: float, top: float, width: float = 80, height: float = 20) -> DrawnLine:
    right, bottom = left + width, top + height
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return DrawnLine(np.array(corners, np.float32), "text")


def ground(name: str, number: int, fonts: Fonts) -> Printed:
    chance = Random(f"{name}/{number}")
    return shown(name, [photo("coffee")], 150, 200, TRAINING, fonts, chance)


def test_scenes_keep_their_size_whatever_the_photo() -> None:
    small = np.random.default_rng(0).integers(0, 255, (100, 90, 3), np.uint8)
    for seed in range(6):
        assert scene([small, photo("coffee")], 230, 300, Random(seed)).shape == (230, 300, 3)


@pytest.mark.parametrize("name", GROUNDS)
def test_every_ground_says_where_its_print_is(name: str, fonts: Fonts) -> None:
    inked = 0
    for number in range(6):
        before = ground(name, number, fonts)
        assert before.photo.shape == (150, 200, 3)
        assert before.photo.dtype == np.uint8
        assert before.ink.shape == (150, 200)
        near = polygon_mask([each.polygon for each in before.lines], 150, 200)
        rows, columns = np.nonzero(before.ink > 0.3)
        inked += int(rows.size > 0)
        if rows.size:
            # However much finer it was taken, lines and ink are at one scale.
            down, across = np.nonzero(near)
            assert down.min() - 4 <= rows.min() and rows.max() <= down.max() + 4
            assert across.min() - 4 <= columns.min() and columns.max() <= across.max() + 4
    assert inked == 0 if name in ("photo", "texture") else inked >= 3


def test_all_kinds_of_overlays_come_up(fonts: Fonts) -> None:
    kinds = {any_overlay(60, 80, fonts, Random(seed)).kind for seed in range(60)}
    assert kinds == {*KINDS, "scatter"}


def test_what_an_overlay_hides_is_touched(fonts: Fonts) -> None:
    overlay = any_overlay(120, 160, fonts, Random(3))
    grey = np.full((120, 160, 3), 120, np.uint8)
    changed = (np.abs(overlay.over(grey).astype(int) - 120) > 3).any(axis=2)
    assert changed.any()
    assert (touched(overlay)[changed] == 1).all()
    assert (touched(overlay)[overlay.alpha == 0] == 0).all()


@pytest.mark.parametrize("seed", range(4))
def test_a_rough_region_holds_its_line_and_little_more(seed: int) -> None:
    where = line(100, 80)
    region = roughly([where], 200, 300, Random(seed))
    inside = polygon_mask([where.polygon], 200, 300) > 0
    assert region[inside].mean() > 0.99
    assert not region[:60].any() and not region[122:].any()
    assert not region[:, :80].any() and not region[:, 204:].any()
    assert set(np.unique(region)) == {0, 1}
    assert not roughly([], 200, 300, Random(seed)).any()


def test_lines_are_scaled_with_their_photo() -> None:
    (half,) = scaled([line(100, 80)], 0.5)
    assert np.allclose(half.polygon, line(50, 40, 40, 10).polygon)
    assert half.text == "text"


def test_planes_stay_together_when_they_are_scaled() -> None:
    pixels, mask = np.zeros((90, 120, 3), np.uint8), np.zeros((90, 120), np.uint8)
    pixels[30:60, 40:80], mask[30:60, 40:80] = 255, 1
    sizes = set()
    for seed in range(24):
        seen, where = resized((pixels, mask), Random(seed), 64)
        assert seen.shape[:2] == where.shape
        assert min(where.shape) >= 64
        assert set(np.unique(where)) == {0, 1}
        assert where[seen[:, :, 0] > 128].all()
        sizes.add(where.shape)
    assert len(sizes) > 2


@pytest.mark.parametrize("filled", [True, False])
def test_patches_lie_in_the_photo_and_mostly_around_text(filled: bool) -> None:
    text = np.zeros((200, 300), np.uint8)
    text[195:200, 290:300] = filled
    seen = 0
    for seed in range(30):
        part = text[patch(text, 64, Random(seed))]
        assert part.shape == (64, 64)
        seen += int(part.any())
    assert seen > 20 if filled else seen == 0


def test_tensors_are_shares_of_photos_and_masks_as_they_are() -> None:
    pixels = np.full((3, 5, 3), (0, 51, 255), np.uint8)
    assert tensor(pixels).shape == (3, 3, 5)
    assert tensor(pixels)[:, 0, 0].tolist() == pytest.approx([0, 0.2, 1])
    mask = np.eye(4, dtype=np.uint8)
    assert np.array_equal(tensor(mask).numpy(), mask[None])


@pytest.mark.parametrize("scenes", [finder.Scenes, restorer.Scenes])
def test_a_sample_follows_from_seed_and_number(scenes: type[Drawn], fonts: Fonts) -> None:
    photos = [photo("coffee"), photo("rocket")]
    one, same, other = (scenes(photos, fonts, seed) for seed in (1, 1, 2))
    for plane, again in zip(one[5], same[5], strict=True):
        assert torch.equal(plane, again)
    for another in (one[6], other[5]):
        assert not torch.equal(one[5][0], another[0])
