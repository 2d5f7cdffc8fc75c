"""Of stamped text every stroke is masked, and little else."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from samples import Stamped, photo, stamp

from imgflow.imaging.masks import Box
from imgflow.imaging.strokes import find_strokes, united

# Photo, where its ground is calm, and a colour that stands out there.
CALM = [
    ("rocket", (110, 40), (255, 255, 255)),
    ("rocket", (110, 40), (255, 160, 40)),
    ("coffee", (226, 140), (255, 255, 255)),
    ("coffee", (226, 140), (20, 20, 20)),
    ("astronaut", (195, 20), (200, 30, 30)),
]


@pytest.mark.parametrize("size", [12, 16, 22])
@pytest.mark.parametrize(("name", "at", "colour"), CALM)
def test_opaque_text_on_calm_ground_is_covered(
    name: str, at: tuple[int, int], colour: tuple[int, int, int], size: int
) -> None:
    stamped = stamp(photo(name, 320), "24-03-15", at=at, size=size, colour=colour)
    found = find_strokes(stamped.pixels, stamped.polygon)
    covered = united([found], *stamped.changed.shape)[stamped.changed] == 255
    assert covered.mean() >= 0.97
    assert found.confidence > 0.5
    assert 1 <= found.width < size / 3


@pytest.mark.parametrize(("name", "at", "colour"), CALM)
def test_the_mask_stays_with_the_text(
    name: str, at: tuple[int, int], colour: tuple[int, int, int]
) -> None:
    stamped = stamp(photo(name, 320), "24-03-15", at=at, colour=colour)
    found = find_strokes(stamped.pixels, stamped.polygon)
    left, top, right, bottom = (round(side) for side in stamped.box)
    mask = united([found], *stamped.changed.shape)
    near = Box(top, left, bottom, right).padded(8, *mask.shape)
    outside = mask.copy()
    outside[near.slices] = 0
    assert not outside.any()
    marked = np.count_nonzero(mask)
    assert marked < 0.85 * near.height * near.width, "strokes are masked, not their box"


@pytest.mark.parametrize(
    ("name", "at", "trusted"), [("rocket", (110, 40), 0.35), ("coffee", (226, 140), 0.5)]
)
def test_text_of_nearly_the_grounds_colour_is_not_trusted(
    name: str, at: tuple[int, int], trusted: float
) -> None:
    """In wood grain faint text cannot be told from the grain: it only counts for less."""
    ground = photo(name, 320)
    left, top = at
    tone = np.median(ground[top : top + 20, left : left + 90], axis=(0, 1))
    faint_colour = tuple(int(each) + 4 for each in tone)
    faint = stamp(ground, "24-03-15", at=at, colour=faint_colour)
    clear = stamp(ground, "24-03-15", at=at, colour=(255, 255, 255))
    low = find_strokes(faint.pixels, faint.polygon).confidence
    high = find_strokes(clear.pixels, clear.polygon).confidence
    assert low < trusted
    assert high > low + 0.15


def test_flat_ground_has_no_strokes() -> None:
    flat = np.full((60, 200, 3), 128, np.uint8)
    polygon = np.array([(50, 20), (150, 20), (150, 40), (50, 40)], np.float32)
    found = find_strokes(flat, polygon)
    assert not found.mask.any()
    assert found.confidence == 0
    assert found.width == 0


def test_outlined_text_is_covered_with_its_outline(stamped: Stamped) -> None:
    from PIL import Image, ImageDraw, ImageFont

    clean = photo("rocket", 320)
    image = Image.fromarray(clean)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(30)
    box = draw.textbbox((90, 40), "SALE 50", font=font, stroke_width=2)
    draw.text((90, 40), "SALE 50", font=font, fill="white", stroke_width=2, stroke_fill="black")
    outlined = Stamped(clean, np.array(image), box, "SALE 50")
    found = find_strokes(outlined.pixels, outlined.polygon)
    assert (united([found], *outlined.changed.shape)[outlined.changed] == 255).mean() >= 0.97


def test_a_tilted_stamp_is_covered() -> None:
    flat = stamp(photo("rocket", 320), "24-03-15", at=(110, 80), colour=(255, 255, 255))
    turn = cv2.getRotationMatrix2D((160, 90), 20, 1)
    size = flat.clean.shape[1::-1]
    clean, pixels = (
        cv2.warpAffine(each, turn, size, borderMode=cv2.BORDER_REPLICATE)
        for each in (flat.clean, flat.pixels)
    )
    polygon = cv2.transform(flat.polygon[None], turn)[0]
    tilted = Stamped(clean, pixels, flat.box, flat.text)
    found = find_strokes(pixels, polygon)
    assert (united([found], *tilted.changed.shape)[tilted.changed] == 255).mean() >= 0.97


def test_more_growth_masks_more(stamped: Stamped) -> None:
    once = united([find_strokes(stamped.pixels, stamped.polygon)], *stamped.changed.shape)
    twice = united(
        [find_strokes(stamped.pixels, stamped.polygon, grow=2.0)], *stamped.changed.shape
    )
    assert (twice >= once).all()
    assert twice.sum() > 1.1 * once.sum()


@pytest.mark.parametrize(
    "polygon",
    [
        [(-30, -10), (40, -10), (40, 15), (-30, 15)],
        [(300, 200), (400, 200), (400, 260), (300, 260)],
        [(10, 10), (11, 10), (11, 11), (10, 11)],
    ],
    ids=["top left", "bottom right", "one pixel"],
)
def test_regions_at_the_edge_are_no_problem(polygon: list[tuple[int, int]]) -> None:
    pixels = photo("coffee", 320)
    found = find_strokes(pixels, np.array(polygon, np.float32))
    assert united([found], *pixels.shape[:2]).shape == pixels.shape[:2]
    assert 0 <= found.confidence <= 1
