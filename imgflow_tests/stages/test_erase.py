"""Taking text off: only strokes change, whatever the eraser makes of the rest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from samples import FakeEraser, Pixels, Stamped, photo, stamp

from imgflow.engines.spec import Found
from imgflow.imaging.masks import Box, mask_box
from imgflow.lineage.record import TextRegion
from imgflow.stages import erase
from imgflow.stages.erase import Restoring, opaque, restore, strokes_of, text_area


def area_of(stamped: Stamped) -> Pixels:
    height, width = stamped.changed.shape
    return text_area([stamped.region], height, width)


class Painter(FakeEraser):
    """Repaints all that it is shown."""

    def restore(
        self, pixels: Pixels, mask: Pixels, *, opaque: bool = False, copies: object = None
    ) -> Pixels:
        return np.full_like(pixels, 7)


def test_strokes_are_found_within_the_area_alone(stamped: Stamped) -> None:
    found = strokes_of(stamped.pixels, area_of(stamped), FakeEraser())
    assert not found.mask[area_of(stamped) == 0].any()
    assert found.mask[stamped.changed].mean() > 200


def test_only_strokes_change(stamped: Stamped) -> None:
    area = area_of(stamped)
    mask = strokes_of(stamped.pixels, area, FakeEraser()).mask
    result = restore(stamped.pixels, mask, Painter())
    assert (result[mask > 0] == 7).all()
    assert np.array_equal(result[mask == 0], stamped.pixels[mask == 0])


def test_an_eraser_that_marks_beyond_the_area_is_held_back(stamped: Stamped) -> None:
    class Greedy(FakeEraser):
        def find(self, pixels: Pixels, region: Pixels) -> Found:
            return Found(np.full_like(region, 255), 1.0)

    area = area_of(stamped)
    assert np.array_equal(strokes_of(stamped.pixels, area, Greedy()).mask, area)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """All photos count as too large for an eraser to see at once."""
    monkeypatch.setattr(erase, "_AT_ONCE", 0)


def test_a_photo_is_seen_as_a_whole(stamped: Stamped) -> None:
    seen = []

    class Noting(FakeEraser):
        def find(self, pixels: Pixels, region: Pixels) -> Found:
            seen.append(pixels.shape)
            return super().find(pixels, region)

    strokes_of(stamped.pixels, area_of(stamped), Noting())
    assert seen == [stamped.pixels.shape]


@pytest.mark.usefixtures("large")
def test_in_a_large_photo_stamps_far_apart_are_looked_for_each_by_itself() -> None:
    clean = photo("rocket", 640)
    one = stamp(clean, at=(20, 20))
    both = stamp(one.pixels, at=(440, 360))
    height, width = both.changed.shape
    area = text_area([one.region, both.region], height, width)
    eraser = FakeEraser()
    found = strokes_of(both.pixels, area, eraser)
    assert eraser.calls == 2
    assert found.mask[one.changed].any()
    assert found.mask[both.changed].any()


@pytest.mark.usefixtures("large")
def test_strokes_are_as_confident_as_their_mean() -> None:
    clean = np.full((427, 640, 3), 90, np.uint8)
    one = stamp(clean, at=(20, 20))
    other = stamp(one.pixels, at=(480, 380))
    area = area_of(one) | area_of(other)

    class Doubting(FakeEraser):
        def find(self, pixels: Pixels, region: Pixels) -> Found:
            return replace(super().find(pixels, region), confidence=self.calls % 2)

    assert strokes_of(other.pixels, area, FakeEraser()).confidence == pytest.approx(1)
    assert strokes_of(other.pixels, area, Doubting()).confidence == pytest.approx(0.5, abs=0.05)
    area[200:220, 300:400] = 255  # nothing is there
    assert strokes_of(other.pixels, area, FakeEraser()).confidence == pytest.approx(1)


def test_without_a_stroke_nobody_is_confident() -> None:
    area = np.zeros((50, 60), np.uint8)
    assert strokes_of(photo("rocket", 60)[:50], area, FakeEraser()).confidence == 0


def test_what_lies_under_transparency_is_never_seen(stamped: Stamped) -> None:
    height, width = stamped.changed.shape
    pixels = np.dstack([stamped.pixels, np.full((height, width), 255, np.uint8)])
    pixels[:, : width // 4, :3], pixels[:, : width // 4, 3] = (255, 0, 255), 0
    seen = []

    class Noting(FakeEraser):
        def find(self, pixels: Pixels, region: Pixels) -> Found:
            seen.append(pixels)
            return super().find(pixels, region)

        def restore(
            self, pixels: Pixels, mask: Pixels, *, opaque: bool = False, copies: object = None
        ) -> Pixels:
            seen.append(pixels)
            return super().restore(pixels, mask)

    area = np.full((height, width), 255, np.uint8)
    mask = strokes_of(pixels, area, Noting()).mask
    result = restore(pixels, mask, Noting())
    assert not any((each == (255, 0, 255)).all(axis=2).any() for each in seen)
    assert np.array_equal(result[mask == 0], pixels[mask == 0])
    assert (result[stamped.changed][:, 3] == 255).all()


def test_sixteen_bits_on_plain_ground() -> None:
    pixels = np.zeros((4, 6, 4), np.uint16)
    pixels[:, :3] = (65535, 300, 7, 65535)
    shown = opaque(pixels)
    assert shown.dtype == np.uint16
    assert (shown[:, :3] == (65535, 300, 7)).all()


def test_an_engine_that_returns_something_else_is_refused(stamped: Stamped) -> None:
    class Wrong(FakeEraser):
        def restore(
            self, pixels: Pixels, mask: Pixels, *, opaque: bool = False, copies: object = None
        ) -> Pixels:
            return pixels[:, :, 0]

    area = area_of(stamped)
    with pytest.raises(ValueError, match="eraser 'eraser' returned"):
        restore(stamped.pixels, area, Wrong())


@pytest.mark.usefixtures("large")
def test_huge_letters_are_looked_for_in_a_smaller_copy() -> None:
    stamped = stamp(np.full((500, 2000, 3), 90, np.uint8), at=(100, 60), size=300)
    seen = []

    class Noting(FakeEraser):
        def find(self, pixels: Pixels, region: Pixels) -> Found:
            seen.append(pixels.shape[0])
            return super().find(pixels, region)

    found = strokes_of(stamped.pixels, area_of(stamped), Noting())
    assert seen == [seen[0]]
    assert seen[0] < 250
    assert (found.mask[stamped.changed] > 0).mean() > 0.99


def test_the_area_reaches_beyond_what_a_detector_outlines() -> None:
    region = TextRegion(
        polygon=[[50, 50], [150, 50], [150, 70], [50, 70]], text="text", confidence=1.0
    )
    box = mask_box(text_area([region], 120, 200))
    assert box is not None
    assert 4 < 50 - box.top <= 12
    wide = mask_box(text_area([region], 120, 200, grow=2.0))
    assert wide is not None
    assert wide.top < box.top


@pytest.mark.parametrize("opacity", [0.3, 1.0])
def test_the_probe_lays_what_was_taken_off_over_other_ground(opacity: float) -> None:
    clean = photo("rocket", 320)
    mask = np.zeros(clean.shape[:2], np.uint8)
    mask[20:50, 60:90] = 255
    seen = clean.copy()
    mixed = (1 - opacity) * clean[mask > 0] + opacity * np.array([255, 255, 255])
    seen[mask > 0] = np.rint(mixed).astype(np.uint8)
    restoring = Restoring(seen, clean, mask, FakeEraser())
    other = clean[100:130, 200:230]
    laid = restoring.lay(other, Box(20, 60, 50, 90)).astype(float)
    expected = (1 - opacity) * other + opacity * 255
    assert np.abs(laid - expected).mean() < 4


def test_a_probe_asks_for_one_look_and_a_repair_for_the_best(stamped: Stamped) -> None:
    asked = []

    class Asked(FakeEraser):
        def restore(
            self, pixels: Pixels, mask: Pixels, *, opaque: bool = False, copies: object = None
        ) -> Pixels:
            asked.append((opaque, copies))
            return pixels

    mask = np.where(stamped.changed, np.uint8(255), np.uint8(0))
    restore(stamped.pixels, mask, Asked())
    again = Restoring(stamped.pixels, stamped.pixels, mask, Asked(), opaque_text=True)
    again.mend(stamped.pixels, mask)
    # A stamp has no copies, and that is known.
    assert asked == [(False, None), (True, [])]
