"""Overlays that OCR does not read in a photo are found in the eraser's map of letters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from samples import FakeDetector, FakeEraser, Pixels

from imgflow.engines.spec import TextMap
from imgflow.engines.trees import Trees
from imgflow.engines.unread import LOOKS, Weights
from imgflow.lineage.record import TextRegion
from imgflow.stages.unread import lines_read_alone, unread_overlays

SHAPE = (240, 400)
Box = tuple[float, float, float, float]

ALONE, BESIDE, CERTAIN = 0.75, 0.68, 0.95
"""Mean probability of the strokes from which on the judge of these tests believes a group, in a
photo without known overlays, in one with such, and beyond doubt if that of lines is undecided."""


@pytest.fixture(autouse=True)
def _judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge that goes by the mean probability alone: its logit is ten times that."""

    class Mean(Trees):
        def logits(self, looks: NDArray[np.float32]) -> NDArray[np.float32]:
            return 10 * looks[:, LOOKS.index("sure")]

    trees = Mean(*[np.zeros(1, np.float32)] * len(fields(Trees)))
    weights = Weights(trees, alone=10 * ALONE, beside=10 * BESIDE)
    monkeypatch.setattr("imgflow.stages.unread.load_weights", lambda: weights)
    monkeypatch.setattr("imgflow.stages.unread._CERTAIN", 10 * CERTAIN)
    monkeypatch.setattr("imgflow.stages.unread._BEYOND_DOUBT", 14.0)
    monkeypatch.setattr("imgflow.engines.origin.judge", saying(0.5))


def saying(score: float) -> Callable[..., list[TextRegion]]:
    """A judge of lines that always says the same."""

    def judge(pixels: Pixels, regions: list[TextRegion], letters: TextMap) -> list[TextRegion]:
        return [each.model_copy(update={"score": score}) for each in regions]

    return judge


def written(
    *lines: tuple[str, tuple[int, int]], size: int = 28, level: int = 255
) -> tuple[NDArray[np.uint8], list[Box]]:
    """(H, W) plane with lines of text at (x, y), and their boxes (x, y, right, bottom)."""
    image = Image.new("L", SHAPE[::-1])
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    boxes = []
    for text, at in lines:
        draw.text(at, text, font=font, fill=level)
        boxes.append(draw.textbbox(at, text, font=font))
    return np.asarray(image, np.uint8), boxes


def outline(box: Box) -> NDArray[np.float32]:
    left, top, right, bottom = box
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float32)


def unread(
    drawn: Pixels, known: Sequence[Any] = (), detector: FakeDetector | None = None
) -> list[TextRegion]:
    letters = TextMap(np.asarray(drawn, np.uint8), np.zeros(drawn.shape, np.uint8))
    return unread_overlays(photo_of(letters), letters, known, detector or FakeDetector(), Bright())


def photo_of(letters: TextMap) -> Pixels:
    """A photo with the letters of a map laid over it, light on rough ground."""
    ground = np.random.default_rng(0).normal(90, 12, (*letters.overlay.shape, 3))
    ground = cv2.GaussianBlur(ground, (0, 0), 1.5)
    share = letters.overlay[:, :, None].astype(np.float32) / 255
    return np.clip(ground * (1 - share) + 235 * share, 0, 255).astype(np.uint8)


class Bright(FakeEraser):
    """Sees letters where a photo is light, if it is not blind, and keeps what it was shown."""

    def __init__(self, *, blind: bool = False) -> None:
        super().__init__()
        self.blind = blind
        self.shown: list[Pixels] = []

    def survey(self, pixels: Pixels) -> TextMap:
        self.shown.append(pixels)
        light = (pixels.mean(axis=2) > 150) & (not self.blind)
        overlay = np.where(light, np.uint8(255), np.uint8(0))
        return TextMap(overlay, np.zeros_like(overlay))


class OneLine(FakeDetector):
    """Reads one thing in a line of the map, another one in that of the photo."""

    def __init__(self, map_says: str, photo_says: tuple[str, float]) -> None:
        super().__init__()
        self.says = (map_says, 0.3), photo_says

    def read(self, line: Pixels) -> tuple[str, float]:
        # The map's page is dark on white, and larger than the letters alone.
        return self.says[0] if line.mean() > 150 else self.says[1]


class Reader(FakeDetector):
    """Reads the same wherever it looks, and keeps what it was shown."""

    def __init__(self, *read: tuple[str, Box], confidence: float = 0.6) -> None:
        super().__init__()
        self.told, self.confidence = read, confidence
        self.pages: list[Pixels] = []

    def detect(self, pixels: Pixels) -> list[TextRegion]:
        self.pages.append(pixels)
        return [
            TextRegion(polygon=outline(box).tolist(), text=text, confidence=self.confidence)
            for text, box in self.told
        ]


def test_letters_nobody_read_are_a_region_without_words() -> None:
    drawn, (box,) = written(("WATER", (120, 100)))
    (found,) = unread(drawn)
    assert (found.text, found.kind) == ("", None)
    assert found.score is not None
    assert 0.8 < found.score <= 1
    assert 0.8 < found.confidence <= found.score
    assert found.reasons
    # In the map's own pixels, around the letters.
    corners = np.array(found.polygon)
    assert np.allclose([*corners.min(axis=0), *corners.max(axis=0)], box, atol=3)


def test_alone_a_person_has_to_look_at_letters_that_nobody_can_read() -> None:
    """Windows in a row are much like letters."""
    drawn, (mark, _) = written(("MARK", (40, 30)), ("WATER", (200, 160)))
    alone, _ = written(("WATER", (200, 160)))
    (found,) = unread(alone)
    assert found.kind is None
    assert "no other text lies over the photo" in found.reasons
    letters = TextMap(drawn, np.zeros(drawn.shape, np.uint8))
    (more,) = unread_overlays(
        photo_of(letters), letters, [outline(mark)], FakeDetector(), Bright(), marks=[outline(mark)]
    )
    assert more.kind == "overlay"
    read = unread(drawn, detector=Reader(("MARK", mark)))
    assert [each.kind for each in read] == ["overlay", "overlay"]


@pytest.mark.parametrize(
    ("score", "map_says", "photo_says", "kinds"),
    [
        pytest.param(0.95, "WAIER", ("", 0.0), ["overlay"], id="in-the-map"),
        pytest.param(0.95, "", ("WAT", 0.5), ["overlay"], id="in-the-photo"),
        pytest.param(0.95, "", ("WAT", 0.4), [None], id="unsure"),
        pytest.param(0.95, "WA", ("W. T.", 0.9), [None], id="few"),
        pytest.param(0.95, "0O0O00", ("oOo", 0.9), [None], id="rings"),
        pytest.param(0.9999, "", ("", 0.0), ["overlay"], id="beyond-doubt"),
        pytest.param(0.3, "WAIER", ("WAT", 0.9), [None], id="in-doubt"),
        pytest.param(0.0, "WAIER", ("WAT", 0.9), [], id="print"),
    ],
)
def test_letters_nobody_read_are_what_both_judges_and_ocr_make_of_them(
    score: float,
    map_says: str,
    photo_says: tuple[str, float],
    kinds: list[str | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """OCR may read wrongly: slots and windows say nothing."""
    drawn, _ = written(("WATER", (120, 100)))
    monkeypatch.setattr("imgflow.engines.origin.judge", saying(score))
    found = unread(drawn, detector=OneLine(map_says, photo_says))
    assert [(each.text, each.kind) for each in found] == [("", kind) for kind in kinds]


def test_letters_that_one_judge_is_unsure_of_go_if_the_other_is_sure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    faint, _ = written(("WATER", (120, 100)), level=186)
    says = OneLine("WATER", ("", 0.0))
    assert unread(faint, detector=says) == []
    monkeypatch.setattr("imgflow.engines.origin.judge", saying(0.99))
    found = unread(faint, detector=says)
    assert {(each.text, each.kind) for each in found} == {("", "overlay")}


def test_a_line_is_judged_beside_what_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what OCR reads in it by itself, even wrongly."""
    asked: list[list[TextRegion]] = []

    def judge(pixels: Pixels, regions: list[TextRegion], letters: TextMap) -> list[TextRegion]:
        asked.append(regions)
        return saying(0.5)(pixels, regions, letters)

    monkeypatch.setattr("imgflow.engines.origin.judge", judge)
    drawn, (label, box) = written(("LABEL", (20, 20)), ("WATER", (120, 100)))
    letters = TextMap(drawn, np.zeros_like(drawn))
    read = [TextRegion(polygon=(2 * outline(label)).tolist(), text="LABEL", confidence=0.9)]
    photo = np.asarray(cv2.resize(photo_of(letters), None, fx=2, fy=2), np.uint8)
    reader = LineReader("WAIER", 0.4)
    unread_overlays(photo, letters, [outline(label)], reader, Bright(), read=read)
    ((known, line),) = asked
    assert known == read[0]
    assert (line.text, line.confidence) == ("WAIER", 0.4)
    assert np.allclose(line.polygon, 2 * outline(box), atol=6), "in the photo's pixels, as read"


def test_what_ocr_is_unsure_of_in_the_map_is_no_word() -> None:
    """The judges have to look at the letters."""
    drawn, (box,) = written(("SAMPLE", (120, 100)))
    (found,) = unread(drawn, detector=Reader(("SAMPLE", box), confidence=0.5))
    assert (found.text, found.kind) == ("", None)


def test_letters_that_are_none_from_near_are_left() -> None:
    drawn, (box,) = written(("WATER", (120, 100)))
    letters = TextMap(drawn, np.zeros_like(drawn))
    eraser = Bright(blind=True)
    assert unread_overlays(photo_of(letters), letters, [], FakeDetector(), eraser) == []
    (near,) = eraser.shown
    # The line level, at one height, with its ground around it.
    assert near.shape[0] == 96
    assert near.shape[1] == pytest.approx(64 + 32 * (box[2] - box[0]) / (box[3] - box[1]), rel=0.15)


def test_what_is_repeated_all_over_the_photo_lies_over_it() -> None:
    """Nobody needs to read it."""
    rows = [(x - 30 * (y % 80 > 0), y) for y in range(10, 220, 40) for x in range(40, 400, 90)]
    drawn, _ = written(*(("PROOF", at) for at in rows), size=20)
    found = unread(drawn)
    assert len(found) > 10
    assert {each.kind for each in found} == {"overlay"}


def test_known_lines_are_not_found_again() -> None:
    drawn, (one, other) = written(("KNOWN", (20, 20)), ("UNREAD", (200, 180)))
    (found,) = unread(drawn, [outline(one)])
    x, y = np.array(found.polygon).mean(axis=0)
    assert other[0] < x < other[2] and other[1] < y < other[3]


def test_where_all_is_known_nobody_reads_again() -> None:
    drawn, boxes = written(("KNOWN", (20, 20)), ("AS WELL", (200, 180)))
    detector = FakeDetector()
    assert unread(drawn, [outline(box) for box in boxes], detector) == []
    assert detector.calls == 0


def test_the_fringe_of_a_known_line_is_no_new_one() -> None:
    """Detectors cut close: outlines and descenders stick out."""
    drawn, ((left, top, right, bottom),) = written(("gypsy", (100, 100)), size=40)
    assert unread(drawn, [outline((left + 3, top + 6, right - 3, bottom - 10))]) == []


@pytest.mark.parametrize(
    "places",
    [
        pytest.param([np.s_[36:44, 29:31], np.s_[39:41, 26:34]], id="speck"),
        pytest.param([np.s_[100:104, 50:350:2]], id="thin-line"),
        pytest.param(
            [np.s_[30:211, 60], np.s_[30:211, 330], np.s_[30, 60:331], np.s_[210, 60:331]], id="rim"
        ),
        pytest.param([np.s_[80:160, 100:300]], id="filled"),
    ],
)
def test_what_is_no_line_of_letters_is_none(places: list[Any]) -> None:
    drawn = np.zeros(SHAPE, np.uint8)
    for place in places:
        drawn[place] = 255
    assert unread(drawn) == []


def test_a_product_is_never_an_overlay() -> None:
    printed, _ = written(("NORDWIND", (100, 100)))
    letters = TextMap(np.zeros(SHAPE, np.uint8), printed)
    assert unread_overlays(photo_of(letters), letters, [], FakeDetector(), Bright()) == []


def test_a_reading_of_the_map_names_the_region() -> None:
    drawn, (box,) = written(("SAMPLE", (120, 100)))
    (found,) = unread(drawn, detector=Reader(("SAMPLE", box)))
    assert (found.text, found.kind) == ("SAMPLE", "overlay")
    assert np.allclose(found.polygon, outline(box))
    # How sure it is an overlay is for the map to say, what it reads for OCR.
    assert found.score is not None
    assert found.score > 0.8
    assert found.confidence == 0.6


def test_faint_letters_count_where_they_can_be_read() -> None:
    drawn, (box,) = written(("SALE", (120, 100)), level=195)
    assert unread(drawn) == []
    (found,) = unread(drawn, detector=Reader(("SALE", box)))
    assert found.text == "SALE"
    assert unread(drawn, detector=Reader(("SAM", box))) == []


def test_words_that_stand_apart_share_one_reading() -> None:
    drawn, ((left, top, _, _), (_, _, right, bottom)) = written(
        ("BLUE", (60, 100)), ("DOOR", (200, 100))
    )
    assert len(unread(drawn)) == 2
    (found,) = unread(drawn, detector=Reader(("BLUE DOOR", (left, top, right, bottom))))
    assert found.text == "BLUE DOOR"


def test_lines_beside_a_reading_stay_without_words() -> None:
    drawn, (one, _) = written(("READ", (20, 20)), ("CROOKED", (200, 180)))
    found = unread(drawn, detector=Reader(("READ", one)))
    assert [each.text for each in found] == ["READ", ""]


def test_a_reading_where_no_letters_are_is_not_believed() -> None:
    drawn, _ = written(("HERE", (20, 20)))
    found = unread(drawn, detector=Reader(("GHOST", (250, 150, 350, 180))))
    assert [each.text for each in found] == [""]


def test_ocr_sees_dark_letters_on_white_without_the_known_ones() -> None:
    drawn, (one, (left, top, right, bottom)) = written(("KNOWN", (20, 20)), ("NEW", (200, 180)))
    reader = Reader()
    unread(drawn, [outline(one)], reader)
    (page,) = reader.pages
    assert page.shape == (*SHAPE, 3)
    assert page.dtype == np.uint8
    assert (page[:100] == 255).all()
    assert page[int(top) : int(bottom), int(left) : int(right)].min() == 0


def test_ocr_is_shown_a_large_map_smaller() -> None:
    drawn, ((left, top, right, bottom),) = written(("LARGE", (120, 100)))
    large = np.asarray(cv2.resize(drawn, None, fx=4, fy=4), np.uint8)
    reader = Reader(("LARGE", (2 * left, 2 * top, 2 * right, 2 * bottom)))
    (found,) = unread(large, detector=reader)
    assert [page.shape for page in reader.pages] == [(480, 800, 3)]
    assert np.allclose(found.polygon, 4 * outline((left, top, right, bottom)))


def test_a_turned_line_is_one_turned_region() -> None:
    drawn, _ = written(("TURNED", (130, 105)))
    turn = cv2.getRotationMatrix2D((200, 120), 35, 1.0)
    (found,) = unread(cv2.warpAffine(drawn, turn, SHAPE[::-1]))
    _, sides, _ = cv2.minAreaRect(np.array(found.polygon, np.float32))
    upright, _ = written(("TURNED", (130, 105)))
    (level,) = unread(upright)
    _, others, _ = cv2.minAreaRect(np.array(level.polygon, np.float32))
    assert sorted(sides) == pytest.approx(sorted(others), abs=5)


def test_letters_beside_what_was_found_need_less_certainty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("imgflow.engines.origin.judge", saying(0.8))
    says = OneLine("WATER", ("", 0.0))
    faint, _ = written(("TWO", (200, 90)), ("SIX", (60, 180)), level=186)
    sure, _ = written(("ONE", (40, 30)))
    assert unread(faint, detector=says) == []
    assert len(unread(np.maximum(faint, sure), detector=says)) == 3


def test_the_same_letters_are_found_once() -> None:
    """At whatever level they stand out."""
    drawn, _ = written(("WATER", (120, 100)))
    haze = cv2.GaussianBlur(drawn, (0, 0), 4) // 2
    assert len(unread(np.maximum(drawn, np.asarray(haze, np.uint8)))) == 1


def beside(drawn: Pixels, mark: Box) -> list[tuple[int, ...]]:
    """Boxes of what is found beside a mark that is known."""
    letters = TextMap(np.asarray(drawn, np.uint8), np.zeros(drawn.shape, np.uint8))
    found = unread_overlays(
        photo_of(letters), letters, [outline(mark)], FakeDetector(), Bright(), marks=[outline(mark)]
    )
    corners = [np.array(each.polygon).round().astype(int) for each in found]
    return [(*each.min(axis=0), *each.max(axis=0)) for each in corners]


def test_a_line_goes_on_where_ocr_stopped() -> None:
    faint, _ = written(("MARKET.ORG", (190, 100)), level=172)
    drawn, (mark,) = written(("www.old", (60, 100)))
    found = beside(np.maximum(drawn, faint), mark)
    assert max(right for _, _, right, _ in found) > 340
    assert all(top > 90 and bottom < 145 for _, top, _, bottom in found)
    assert unread(faint) == [], "alone it would be too faint"


def test_a_bar_is_taken_as_a_whole() -> None:
    faint, _ = written(("Share", (300, 20)), ("Far", (300, 190)), level=160)
    drawn, (mark,) = written(("Back", (20, 20)))
    found = beside(np.maximum(drawn, faint), mark)
    assert found
    assert all(bottom < 60 and left > 290 for left, _, _, bottom in found)


def test_a_line_below_goes_with_the_one_above() -> None:
    faint, _ = written(("below it", (60, 132)), ("far off", (60, 205)), level=160)
    drawn, (mark,) = written(("A CAPTION", (60, 100)))
    found = beside(np.maximum(drawn, faint), mark)
    assert found
    assert all(top > 125 and bottom < 170 for _, top, _, bottom in found)


def test_letters_are_told_from_the_leaves_they_stand_on() -> None:
    """A low level joins both; a high one does not."""
    drawn, (mark,) = written(("TEST", (40, 100)))
    more, _ = written(("ONLY", (130, 100)))
    leaves = np.zeros(SHAPE, np.uint8)
    leaves[20:230, 125:390] = 100
    found = beside(np.maximum(np.maximum(drawn, more), leaves), mark)
    assert found
    assert all(top > 90 and bottom < 145 for _, top, _, bottom in found)


# -- lines by themselves -----------------------------------------------------------------


class LineReader(FakeDetector):
    """Reads lines alone, and keeps what it was shown."""

    def __init__(self, text: str, confidence: float) -> None:
        super().__init__()
        self.told = text, confidence
        self.lines: list[Pixels] = []

    def read(self, line: Pixels) -> tuple[str, float]:
        self.lines.append(line)
        return self.told


def alone(drawn: Pixels, reader: LineReader, known: Sequence[Any] = ()) -> list[TextRegion]:
    letters = TextMap(np.asarray(drawn, np.uint8), np.zeros(drawn.shape, np.uint8))
    return lines_read_alone(photo_of(letters), letters, known, reader)


def test_a_turned_line_is_shown_level_and_large() -> None:
    drawn, _ = written(("TURNED", (130, 105)), size=14)
    turn = cv2.getRotationMatrix2D((200, 120), 35, 1.0)
    reader = LineReader("TURNED", 0.9)
    (found,) = alone(cv2.warpAffine(drawn, turn, SHAPE[::-1]), reader)
    assert (found.text, found.confidence, found.kind) == ("TURNED", 0.9, None)
    (line,) = reader.lines
    assert 55 < line.shape[0] < 80 and line.shape[1] > 3 * line.shape[0]
    # Light letters are in its middle rows alone, from one end to the other.
    rows = (line.mean(axis=2) > 200).sum(axis=1)
    assert rows[: len(rows) // 6].sum() + rows[-len(rows) // 6 :].sum() < 0.1 * rows.sum()
    columns = np.flatnonzero((line.mean(axis=2) > 200).any(axis=0))
    assert columns[0] < 0.2 * line.shape[1] and columns[-1] > 0.8 * line.shape[1]


@pytest.mark.parametrize(
    ("text", "confidence"), [("SAM", 0.99), ("O . O", 0.99), ("SAMPLE", 0.5), ("", 0.0)]
)
def test_few_letters_and_unsure_ones_are_no_reading(text: str, confidence: float) -> None:
    drawn, _ = written(("WATER", (120, 100)))
    assert alone(drawn, LineReader(text, confidence)) == []


def test_known_lines_are_not_read_again() -> None:
    drawn, (one, _) = written(("KNOWN", (20, 20)), ("UNREAD", (200, 180)))
    reader = LineReader("UNREAD", 0.9)
    (found,) = alone(drawn, reader, [outline(one)])
    assert np.array(found.polygon)[:, 1].min() > 150
    assert len(reader.lines) == 1
    assert alone(np.zeros(SHAPE, np.uint8), LineReader("GHOST", 0.9)) == []


def test_of_many_lines_a_few_are_read() -> None:
    drawn, _ = written(*((f"LINE{n}", (40 + 180 * (n % 2), 10 + 45 * (n // 2))) for n in range(10)))
    reader = LineReader("LINE", 0.9)
    assert len(alone(drawn, reader)) == len(reader.lines) == 5
