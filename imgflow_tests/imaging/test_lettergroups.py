"""Groups of letters in a map, and what they look like there."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from imgflow.imaging.lettergroups import MEASURES, along, grouped, measure_groups, within, without

SHAPE = (240, 400)
Plane = NDArray[np.uint8]


def written(*lines: tuple[str, tuple[int, int]], size: int = 24, level: int = 255) -> Plane:
    """A map with lines of text at (x, y)."""
    image = Image.new("L", SHAPE[::-1])
    for text, at in lines:
        ImageDraw.Draw(image).text(at, text, font=ImageFont.load_default(size), fill=level)
    return np.asarray(image, np.uint8)


def box(left: int, top: int, right: int, bottom: int) -> NDArray[np.float32]:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float32)


def measured(
    drawn: Plane, printed: Plane | None = None, marks: list[NDArray[np.float32]] | None = None
) -> list[dict[str, float]]:
    """What is measured of the groups in a map, those on the left first."""
    groups = sorted(grouped(drawn, 128, 40), key=lambda group: float(group.box[:, 0].min()))
    blank = np.zeros(SHAPE, np.uint8)
    rows = measure_groups(drawn, blank if printed is None else printed, groups, marks or [])
    assert rows.shape == (len(groups), len(MEASURES))
    assert np.isfinite(rows).all()
    return [dict(zip(MEASURES, map(float, row), strict=True)) for row in rows]


def test_letters_near_each_other_are_a_group() -> None:
    drawn = written(("WATER", (40, 100)), ("MARK", (260, 100)))
    one, other = sorted(grouped(drawn, 128, 40), key=lambda group: float(group.box[:, 0].min()))
    assert one.box[:, 0].max() < other.box[:, 0].min()
    assert one.ink + other.ink == np.count_nonzero(drawn >= 128)
    assert one.ink == len({tuple(point) for point in one.strokes.tolist()})
    assert 0.8 < one.sure <= 1
    across, length = one.sides
    assert 14 < across < 24 < 60 < length < 110
    assert grouped(drawn, 128, one.ink + 1) == []
    assert grouped(np.zeros(SHAPE, np.uint8), 1, 1) == []


def test_the_longer_side_of_a_box_comes_first() -> None:
    standing = box(10, 10, 20, 90)
    turned = along(standing)
    assert np.linalg.norm(turned[1] - turned[0]) == 80
    assert sorted(map(tuple, turned.tolist())) == sorted(map(tuple, standing.tolist()))
    assert along(box(10, 10, 90, 20)).tolist() == box(10, 10, 90, 20).tolist()


def test_the_letters_of_a_line_whose_place_is_known() -> None:
    drawn = written(("WATER", (40, 100)), ("MARK", (260, 100)))
    place = box(36, 98, 140, 130)
    line = within(drawn, place, 77)
    (group,) = [each for each in grouped(drawn, 77, 40) if each.box[:, 0].max() < 200]
    assert sorted(map(tuple, line.strokes.tolist())) == sorted(map(tuple, group.strokes.tolist()))
    assert line.sides == (33, 105)
    assert line.sure == group.sure


@pytest.mark.parametrize(
    "place", [box(0, 0, 30, 12), box(-90, -50, -20, -30), box(420, 9, 500, 30)]
)
def test_a_line_without_letters_is_its_middle_in_the_map(place: NDArray[np.float32]) -> None:
    line = within(np.zeros(SHAPE, np.uint8), place, 77)
    ((x, y),) = line.strokes.tolist()
    assert 0 <= x < SHAPE[1]
    assert 0 <= y < SHAPE[0]
    assert line.sure == 0


def test_known_lines_are_taken_out_with_their_surroundings() -> None:
    drawn = written(("gypsy", (100, 100)), ("FAR", (300, 30)))
    left = without(drawn, [box(103, 107, 160, 118)])
    assert not left[90:140].any()
    assert np.array_equal(left[:60], drawn[:60])
    assert np.array_equal(without(drawn, []), drawn)


def test_a_line_in_empty_surroundings_stands_out_from_one_among_leaves() -> None:
    drawn = written(("SAMPLE", (30, 100)), ("SAMPLE", (230, 100)))
    chance = np.random.default_rng(3)
    leaves = (chance.random(SHAPE) * 120).astype(np.uint8)
    leaves[:, :200] = 0
    lonely, among = measured(np.maximum(drawn, leaves))
    assert lonely["around"] < 0.02 < 0.15 < among["around"]
    assert lonely["beside"] < 0.1 * among["beside"]
    assert lonely["around_most"] <= among["around_most"]
    assert lonely["busy"] == among["busy"]
    assert lonely["sure"] == pytest.approx(among["sure"], abs=0.02)


def test_measures_of_place_and_shape() -> None:
    (line,) = measured(written(("WATERMARK", (4, 108)), level=204))
    assert line["least_sure"] <= line["surest"] == pytest.approx(0.8)
    assert line["sure"] == pytest.approx(0.77, abs=0.04)
    assert line["edge_x"] < 0.03
    assert line["edge_y"] > 0.4
    assert line["off_middle"] < 0.05 < 0.2 < line["off_centre"]
    assert 0.85 < line["share"] <= 1
    assert (line["turned"], line["diagonal"]) == (0, 0)
    assert 1.5 < line["elongation"] < 2.5
    assert line["level"] == pytest.approx(0.5, abs=0.01)
    assert line["printed"] == 0
    turn = cv2.getRotationMatrix2D((200, 120), 35, 1.0)
    drawn = cv2.warpAffine(written(("WATERMARK", (130, 108))), turn, SHAPE[::-1])
    (tilted,) = measured(np.asarray(drawn, np.uint8))
    assert tilted["diagonal"] == 1
    assert tilted["turned"] == pytest.approx(35 / 45, abs=0.1)
    assert tilted["elongation"] == pytest.approx(line["elongation"], abs=0.2)


def test_print_under_a_group_is_measured() -> None:
    drawn = written(("SALE", (100, 100)), level=140)
    (line,) = measured(drawn, printed=np.full(SHAPE, 102, np.uint8))
    assert line["printed"] == pytest.approx(0.4)


def test_groups_of_one_make_are_counted() -> None:
    drawn = written(("MARK", (20, 30)), ("MARK", (150, 100)), ("MARK", (290, 170)))
    drawn = np.maximum(drawn, written(("M", (40, 150)), size=70))
    found = measured(drawn)
    alike = sorted(round(float(np.expm1(each["parallel"]))) for each in found)
    assert alike == [0, 2, 2, 2]


def test_known_overlays_beside_a_group_count() -> None:
    drawn = written(("go-on", (150, 100)))
    (alone,) = measured(drawn)
    assert (alone["marks"], alone["marks_parallel"], alone["mark_size"]) == (0, 0, 0)
    (beside,) = measured(drawn, marks=[box(40, 104, 130, 124), box(300, 10, 330, 200)])
    assert np.expm1(beside["marks"]) == pytest.approx(2)
    assert np.expm1(beside["marks_parallel"]) == pytest.approx(1)
    assert beside["mark_apart"] < 2 < alone["mark_apart"]
    assert abs(beside["mark_size"]) < 0.4


def test_nothing_gives_no_rows() -> None:
    blank = np.zeros(SHAPE, np.uint8)
    assert measure_groups(blank, blank, [], []).shape == (0, len(MEASURES))


@pytest.mark.parametrize("shape", [(6, 6), (9, 300), (300, 7)])
def test_maps_of_any_size_are_measured(shape: tuple[int, int]) -> None:
    drawn = np.full(shape, 200, np.uint8)
    groups = grouped(drawn, 128, 1)
    rows = measure_groups(drawn, drawn, groups, [box(-50, -50, 900, 900)])
    assert len(groups) == 1
    assert np.isfinite(rows).all()
