"""Masks as shapes: nothing that is masked is lost, and nothing far away is added."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imgflow.imaging.masks import (
    Box,
    Mask,
    dilate,
    grown_polygon,
    hole_boxes,
    mask_box,
    merge_boxes,
    polygon_box,
    polygon_mask,
)

SIDES = st.tuples(st.integers(1, 40), st.integers(1, 40))
# Sparse, as masks are: a few marked pixels on black.
MASKS = SIDES.flatmap(
    lambda sides: arrays(
        np.uint8, sides, elements=st.sampled_from([0, 255]), fill=st.just(np.uint8(0))
    )
)
BOXES = st.tuples(*[st.integers(0, 30)] * 2, *[st.integers(1, 12)] * 2).map(
    lambda each: Box(each[0], each[1], each[0] + each[2], each[1] + each[3])
)


def covered(boxes: list[Box], height: int, width: int) -> Mask:
    mask = np.zeros((height, width), np.uint8)
    for box in boxes:
        mask[box.slices] += 1
    return mask


@settings(max_examples=100, deadline=None)
@given(MASKS, st.integers(0, 12))
def test_hole_boxes_hold_every_hole_and_do_not_overlap(mask: Mask, reach: int) -> None:
    boxes = hole_boxes(mask, reach)
    count = covered(boxes, *mask.shape)
    assert count.max(initial=0) <= 1, "no pixel is filled twice"
    assert (count[mask > 0] == 1).all(), "no pixel is forgotten"
    for box in boxes:
        assert box.inside(*mask.shape)
        assert mask_box(mask[box.slices]) == Box(0, 0, box.height, box.width), "boxes are tight"


@pytest.mark.parametrize(("gap", "boxes"), [(4, 1), (30, 2)])
def test_near_holes_share_a_box(gap: int, boxes: int) -> None:
    mask = np.zeros((20, 60), np.uint8)
    mask[8:12, 4:8] = mask[8:12, 8 + gap : 12 + gap] = 255
    assert len(hole_boxes(mask, 10)) == boxes


@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_the_box_of_a_mask_is_tight(mask: Mask) -> None:
    box = mask_box(mask)
    if box is None:
        assert not mask.any()
        return
    assert np.count_nonzero(mask[box.slices]) == np.count_nonzero(mask)
    inside = mask[box.slices]
    assert inside[0].any()
    assert inside[-1].any()
    assert inside[:, 0].any()
    assert inside[:, -1].any()


@settings(max_examples=60, deadline=None)
@given(BOXES, st.integers(0, 50), st.tuples(st.integers(42, 60), st.integers(42, 60)))
def test_a_padded_box_stays_in_the_photo_and_holds_the_box(
    box: Box, pad: int, sides: tuple[int, int]
) -> None:
    padded = box.padded(pad, *sides)
    assert padded.inside(*sides)
    assert padded.union(box) == padded
    assert padded.height <= box.height + 2 * pad
    assert padded.width <= box.width + 2 * pad


@settings(max_examples=60, deadline=None)
@given(BOXES, BOXES)
def test_boxes_overlap_when_they_share_a_pixel(first: Box, second: Box) -> None:
    shared = covered([first, second], 50, 50).max() == 2
    assert first.overlaps(second) == second.overlaps(first) == shared
    moved = second.moved(100, -3)
    assert (moved.height, moved.width) == (second.height, second.width)
    assert not first.overlaps(moved)


@settings(max_examples=60, deadline=None)
@given(st.lists(BOXES, max_size=10))
def test_merged_boxes_hold_all_and_do_not_overlap(boxes: list[Box]) -> None:
    merged = merge_boxes(boxes)
    assert not any(a.overlaps(b) for a, b in combinations(merged, 2))
    assert all(any(each.union(box) == each for each in merged) for box in boxes)
    assert merged == sorted(merged, key=lambda box: (box.top, box.left))
    assert merged == merge_boxes(list(reversed(boxes)))


@settings(max_examples=60, deadline=None)
@given(MASKS, st.integers(0, 5), st.integers(1, 4))
def test_dilation_grows_with_its_radius(mask: Mask, radius: int, more: int) -> None:
    small, large = dilate(mask, radius), dilate(mask, radius + more)
    assert (small >= mask).all()
    assert (large >= small).all()
    assert set(np.unique(large)) <= {0, 255}


def test_dilation_is_a_disc() -> None:
    mask = np.zeros((21, 21), np.uint8)
    mask[10, 10] = 255
    rows, columns = np.nonzero(dilate(mask, 6))
    distance = np.hypot(rows - 10, columns - 10)
    assert distance.max() < 7
    assert np.count_nonzero(distance <= 5) == 81
    assert np.array_equal(dilate(mask, 0), mask)


def test_polygons_are_drawn_and_boxed() -> None:
    rectangle = np.array([(2.0, 3.0), (9.0, 3.0), (9.0, 6.0), (2.0, 6.0)])
    mask = polygon_mask([rectangle], 12, 15)
    assert mask_box(mask) == Box(3, 2, 7, 10)
    assert np.count_nonzero(mask) == 4 * 8
    assert polygon_box(rectangle, 12, 15) == Box(3, 2, 7, 10)
    assert not polygon_mask([], 12, 15).any()


@settings(max_examples=60, deadline=None)
@given(arrays(np.float64, (4, 2), elements=st.floats(-50, 50)))
def test_a_polygons_box_holds_what_is_drawn_of_it(polygon: np.ndarray) -> None:
    box = polygon_box(polygon, 30, 20)
    assert box.inside(30, 20) or box.height == 0 or box.width == 0
    drawn = polygon_mask([polygon], 30, 20)
    assert np.count_nonzero(drawn[box.slices]) == np.count_nonzero(drawn)


@pytest.mark.parametrize("reach", [0, 1, 7, 20])
def test_a_grown_polygon_is_a_grown_mask_of_it(reach: int) -> None:
    polygon = np.array([[60, 50], [140, 62], [136, 90], [56, 80]], np.float32)
    grown = np.zeros((160, 200), np.uint8)
    grown_polygon(grown, polygon, reach)
    whole = polygon_mask([polygon], 160, 200)
    assert (grown[dilate(whole, max(reach - 1, 0)) > 0] > 0).all()
    assert not grown[dilate(whole, reach + 2) == 0].any()
