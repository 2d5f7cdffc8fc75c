"""Which text is to go, which only a person can decide on, and which stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from samples import FakeDetector, FakeEraser, Pixels, Stamped, photo, stamp

from imgflow.engines.spec import TextMap
from imgflow.lineage.record import TextRegion
from imgflow.policy.policy import DetextSettings
from imgflow.stages.rights import claims_rights, names_own_mark
from imgflow.stages.stage import Job, Picture
from imgflow.stages.text import (
    Selection,
    detect_text,
    find_text,
    is_text,
    residual_text,
    select_unwanted,
    with_copies,
)

MakeJob = Callable[..., Job]


def region(text: str, kind: str | None, x: float = 30, y: float = 30) -> TextRegion:
    return TextRegion.model_validate(
        {
            "polygon": [[x, y], [x + 90, y], [x + 90, y + 20], [x, y + 20]],
            "text": text,
            "confidence": 0.9,
            "kind": kind,
            "score": {"overlay": 0.99, "product": 0.01, None: 0.9}[kind],
        }
    )


class Surveyor(FakeEraser):
    """Keeps what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.views: list[Pixels] = []

    def survey(self, pixels: Pixels) -> TextMap:
        self.views.append(pixels)
        return super().survey(pixels)


def unjudged(pixels: Pixels, regions: list[TextRegion], letters: TextMap) -> list[TextRegion]:
    """A judge that calls all text an overlay."""
    return [each.model_copy(update={"kind": "overlay", "score": 0.99}) for each in regions]


OVERLAY = region("Summer sale", "overlay")
PRODUCT = region("NORDWIND", "product", y=80)
UNSURE = region("Atlas", None, y=130)
MARK = region("Northlight Studio", "overlay", y=160)


@pytest.fixture
def select(make_job: MakeJob) -> Callable[..., Selection]:
    def run(*regions: TextRegion, person: str = "", **detext: Any) -> Selection:
        job = make_job({"detext": detext}, person=person)
        return select_unwanted(regions, np.zeros((200, 300, 3), np.uint8), job, FakeDetector())

    return run


def texts(regions: Any) -> list[str]:
    return [getattr(each, "region", each).text for each in regions]


def test_overlays_go_products_stay_and_the_unsure_wait(select: Callable[..., Selection]) -> None:
    found = select(OVERLAY, PRODUCT, UNSURE)
    assert texts(found.unwanted) == ["Summer sale"]
    assert texts(found.uncertain) == ["Atlas"]
    assert found.claimed == ()


def test_all_takes_all_and_none_takes_none(select: Callable[..., Selection]) -> None:
    assert len(select(OVERLAY, PRODUCT, UNSURE, text="all").unwanted) == 3
    assert select(OVERLAY, PRODUCT, UNSURE, text="all").uncertain == ()
    assert select(OVERLAY, PRODUCT, UNSURE, text="none") == Selection((), ())


def test_protected_areas_keep_overlays_and_the_unsure(select: Callable[..., Selection]) -> None:
    whole = [{"x": 0, "y": 0, "width": 1, "height": 1}]
    assert select(OVERLAY, UNSURE, keep=whole) == Selection((), ())


def test_claimed_rights_are_told(select: Callable[..., Selection]) -> None:
    found = select(OVERLAY, MARK)
    assert texts(found.unwanted) == ["Summer sale", "Northlight Studio"]
    assert texts(found.claimed) == ["Northlight Studio"]


@pytest.mark.parametrize(
    "given", [{"own_marks": ["northlight studio"]}, {"own_marks": ["N0RTHLIGHT"]}, {"person": "me"}]
)
def test_own_marks_and_a_persons_word_settle_rights(
    select: Callable[..., Selection], given: dict[str, Any]
) -> None:
    found = select(MARK, **given)
    assert texts(found.unwanted) == ["Northlight Studio"]
    assert found.claimed == ()


def test_in_doubt_an_own_mark_was_put_on_the_photo(select: Callable[..., Selection]) -> None:
    below = region("Maps", None, y=148)
    found = select(UNSURE, below, PRODUCT, own_marks=["ATLAS"])
    assert texts(found.unwanted) == ["Atlas", "Maps"]
    assert found.uncertain == ()
    assert texts(select(UNSURE, PRODUCT, own_marks=["NORDWIND"]).uncertain) == ["Atlas"]
    assert select(PRODUCT, own_marks=["NORDWIND"]).unwanted == ()


def test_what_the_edge_leaves_of_an_own_repeated_mark_is_nobody_elses(
    select: Callable[..., Selection],
) -> None:
    copies = [
        region("© PHOTOBANK", "overlay", y=y).model_copy(update={"reasons": ["repeated 4 times"]})
        for y in (40, 100)
    ]
    cut_off = region("©PY", "overlay", x=205, y=150)
    inside = region("©PY", "overlay", x=150, y=150)
    others = region("© Jane Doe", "overlay", x=205, y=150)
    own = {"own_marks": ["photobank"]}
    assert select(*copies, cut_off, **own).claimed == ()
    assert texts(select(*copies, inside, **own).claimed) == ["©PY"]
    assert texts(select(*copies, others, **own).claimed) == ["© Jane Doe"]
    assert texts(select(copies[0], cut_off).claimed) == ["© PHOTOBANK", "©PY"]
    single = region("© PHOTOBANK", "overlay", y=40)
    assert texts(select(single, cut_off, **own).claimed) == ["©PY"]


def test_a_manifest_outweighs_kind_and_rights(make_job: MakeJob) -> None:
    job = make_job(manifest={"job_id": "j", "steps": [{"op": "remove_text"}]})
    view = np.zeros((200, 300, 3), np.uint8)
    found = select_unwanted([PRODUCT, MARK], view, job, FakeDetector())
    assert texts(found.unwanted) == ["NORDWIND", "Northlight Studio"]
    assert (found.claimed, found.uncertain) == ((), ())


@pytest.mark.parametrize(
    "text",
    ["© 2024", "(c) Ann", "Copyright J. Doe", "Maria Jensen Photography", "NorthlightStudio",
     "shutterst0ck", "iStock", "photovault", "photo by Ann", "Фото Иванов"],
)  # fmt: skip
def test_claims(text: str) -> None:
    assert claims_rights(text)


@pytest.mark.parametrize(
    "text",
    ["Photos", "Gallery", "Summer sale", "2024-03-15", "SAMPLE", "Vitamin C", "12:45", "",
     "Back in stock", "BACKINSTOCK", "glorious"],
)  # fmt: skip
def test_no_claims(text: str) -> None:
    assert not claims_rights(text)


def test_own_marks_are_matched_as_ocr_reads_them() -> None:
    assert names_own_mark("(c) B1ue D00r Prnts", ["Blue Door Prints"])
    assert not names_own_mark("Red Barn Images", ["Blue Door Prints"])
    assert not names_own_mark("anything", ["--"])


def test_what_the_photos_edge_leaves_of_an_own_mark_is_one() -> None:
    own = ["Hollow Lane Images"]
    assert names_own_mark("one Images", own)
    assert names_own_mark("ow Lane Im", own)
    assert not names_own_mark("Images", own)
    assert not names_own_mark("Stone Bridge Images", own)


def test_how_an_address_begins_is_no_part_of_a_name() -> None:
    own = ["https://lens.blue-barn.net"]
    assert names_own_mark("lens.blue-", own)
    assert names_own_mark("http://lens.blue", own)
    assert not names_own_mark("https://www.", own)
    assert claims_rights("https://lens.blue-barn.net")
    assert not claims_rights("https://lens")


def test_judged_regions_are_kept_for_the_next_look(
    stamped: Stamped, make_job: MakeJob, picture: Callable[..., Picture]
) -> None:
    detector = FakeDetector(stamped)
    job = make_job()
    first = detect_text(picture(stamped.pixels), job, detector)
    assert first == detect_text(picture(stamped.pixels), job, detector)
    assert detector.calls == 1
    assert first[0].score is not None


def test_garbled_copies_are_believed_as_the_clearest() -> None:
    copies = [region("SAMPLE", "overlay", x=10 + 120 * n, y=20) for n in range(3)]
    copies[1] = copies[1].model_copy(update={"text": "SAMPIE", "confidence": 0.4})
    found = with_copies(photo("coffee", 400), copies)
    assert {each.confidence for each in found} == {0.9}
    assert all(each.reasons[0].startswith("repeated") for each in found)


def test_product_lines_are_never_multiplied() -> None:
    copies = [region("SPORT", "product", x=10 + 120 * n) for n in range(3)]
    assert with_copies(photo("coffee", 400), copies) == copies


def test_old_records_still_read() -> None:
    old = {"polygon": [[0, 0], [1, 0], [1, 1], [0, 1]], "text": "a", "confidence": 0.5}
    assert TextRegion.model_validate(old).kind is None


# -- what OCR alone does not see ---------------------------------------------------------


@pytest.fixture(scope="module")
def large() -> Stamped:
    """A photo of more pixels than are surveyed."""
    return stamp(np.full((1600, 2400, 3), 90, np.uint8), at=(1500, 1200), size=120)


def test_a_large_photo_is_surveyed_in_a_smaller_copy(large: Stamped) -> None:
    eraser = Surveyor()
    (found,) = find_text(large.pixels, FakeDetector(), eraser)
    seen, line = eraser.views
    assert line.shape[0] < 100, "looked at again by itself"
    assert seen.shape[0] * seen.shape[1] < 1_400_000
    assert seen.shape[1] / seen.shape[0] == pytest.approx(1.5, abs=0.01)
    # Its place is told in the photo's pixels all the same.
    corners = np.array(found.polygon)
    assert np.allclose([*corners.min(axis=0), *corners.max(axis=0)], large.box, atol=12)
    assert (found.text, found.kind) == ("", None)


def test_a_line_that_ocr_reads_by_itself_is_judged_with_its_words(
    stamped: Stamped, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closer(FakeDetector):
        def read(self, line: Pixels) -> tuple[str, float]:
            return "2024-03-15", 0.9

    monkeypatch.setattr("imgflow.stages.text.judge", unjudged)
    (found,) = find_text(stamped.pixels, Closer(), Surveyor())
    assert (found.text, found.kind) == ("2024-03-15", "overlay")
    assert (found.score or 0) >= 0.99
    assert "OCR alone does not see it" in found.reasons
    corners = np.array(found.polygon)
    assert np.allclose([*corners.min(axis=0), *corners.max(axis=0)], stamped.box, atol=6)
    # Where another overlay is known, what is beside it needs no words.
    read = find_text(stamped.pixels, FakeDetector(stamped), Surveyor())
    assert [each.reasons for each in read] == [[]]


@pytest.mark.parametrize(
    ("score", "printed", "kind"),
    [
        pytest.param(0.3, False, "overlay", id="both-together"),
        pytest.param(0.0, False, "product", id="sure-of-print"),
        pytest.param(0.3, True, "product", id="beside-print"),
    ],
)
def test_a_line_that_ocr_reads_by_itself_is_what_both_judges_make_of_it(
    score: float, printed: bool, kind: str, stamped: Stamped, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of lines in photos learned from those that OCR reads there."""

    class Closer(FakeDetector):
        def detect(self, pixels: Pixels) -> list[TextRegion]:
            return [region("NORDWIND", None)] if printed else []

        def read(self, line: Pixels) -> tuple[str, float]:
            return "2024-03-15", 0.9

    def judged(view: Pixels, regions: list[TextRegion], letters: TextMap) -> list[TextRegion]:
        return [each.model_copy(update={"kind": "product", "score": score}) for each in regions]

    monkeypatch.setattr("imgflow.stages.text.judge", judged)
    *_, found = find_text(stamped.pixels, Closer(), Surveyor())
    assert (found.text, found.kind) == ("2024-03-15", kind)


@pytest.mark.parametrize(
    ("at", "size", "drawn", "judged", "kind"),
    [
        pytest.param((60, 80), 24, True, "overlay", "overlay", id="drawn"),
        pytest.param((60, 80), 24, False, "overlay", None, id="printed"),
        pytest.param((60, 80), 24, False, None, "product", id="in-doubt"),
        pytest.param((60, 80), 5, False, "overlay", "overlay", id="too-small-to-tell"),
        pytest.param((60, 10), 24, False, "overlay", "overlay", id="maybe-in-a-bar"),
    ],
)
def test_an_overlay_that_does_not_look_drawn_is_believed_less(
    at: tuple[int, int],
    size: int,
    drawn: bool,
    judged: str | None,
    kind: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = stamp(photo("rocket", 640), "2024-03-15", at=at, size=size)

    class Otherwise(FakeEraser):
        def survey(self, pixels: Pixels) -> TextMap:
            letters = super().survey(pixels)
            return letters if drawn else TextMap(letters.product, letters.overlay)

    def judge(view: Pixels, regions: list[TextRegion], letters: TextMap) -> list[TextRegion]:
        return [each.model_copy(update={"kind": judged, "score": 0.6}) for each in regions]

    monkeypatch.setattr("imgflow.stages.text.judge", judge)
    found, *_ = find_text(shown.pixels, FakeDetector(shown), Otherwise(), always=True)
    assert (found.text, found.kind) == ("2024-03-15", kind)
    assert any("drawn" in reason for reason in found.reasons) == (kind != judged)


def test_letters_that_are_too_faint_for_a_look_are_read_by_themselves(
    stamped: Stamped, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Faintly(FakeEraser):
        def survey(self, pixels: Pixels) -> TextMap:
            drawn = super().survey(pixels).overlay
            return TextMap(np.minimum(drawn, 110), np.zeros_like(drawn))

    class Closer(FakeDetector):
        def read(self, line: Pixels) -> tuple[str, float]:
            return "2024-03-15", 0.9

    monkeypatch.setattr("imgflow.stages.text.judge", unjudged)
    detector = Closer()
    (found,) = find_text(stamped.pixels, detector, Faintly())
    assert (found.text, found.kind) == ("2024-03-15", "overlay")
    assert detector.calls == 0, "OCR need not look for it"


def test_a_small_photo_is_surveyed_as_it_is(
    stamped: Stamped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imgflow.stages.unread._CERTAIN", 1e6)
    eraser = Surveyor()
    find_text(stamped.pixels, FakeDetector(), eraser)
    seen, line = eraser.views
    assert line.shape[0] < 100, "looked at again by itself"
    assert seen.shape == stamped.pixels.shape


def test_a_texture_that_is_taken_for_text_hides_no_letters(
    stamped: Stamped, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Misreading(FakeDetector):
        """The photo itself; not what is made of it later."""

        def detect(self, pixels: Pixels) -> list[TextRegion]:
            self.calls += 1
            if self.calls > 1:
                return []
            height, width = stamped.pixels.shape[:2]
            corners = [[0, 0], [width, 0], [width, 0.9 * height], [0, 0.9 * height]]
            return [TextRegion(polygon=corners, text="3008", confidence=0.6)]

    def printed(view: Pixels, regions: list[TextRegion], letters: TextMap) -> list[TextRegion]:
        return [each.model_copy(update={"kind": "product", "score": 0.5}) for each in regions]

    monkeypatch.setattr("imgflow.stages.text.judge", printed)
    monkeypatch.setattr("imgflow.engines.origin.judge", printed)
    monkeypatch.setattr("imgflow.stages.unread._CERTAIN", 1e6)
    (found,) = find_text(stamped.pixels, Misreading(), Surveyor())
    assert (found.text, found.kind) == ("", None)


@pytest.mark.parametrize(
    ("read", "kind", "words"),
    [
        (("2o2k", 0.4), "overlay", ["2o2k", ""]),
        (("2024-03-15", 0.9), "overlay", ["2024-03-15"]),
        (("2o2k", 0.4), "product", ["2o2k", ""]),
        (("0", 0.95), None, ["0", ""]),
        (("2024-03-15", 0.9), "product", ["2024-03-15"]),
    ],
)
def test_what_nobody_could_read_hides_no_letters(
    read: tuple[str, float],
    kind: str | None,
    words: list[str],
    stamped: Stamped,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Guessing(FakeDetector):
        def detect(self, pixels: Pixels) -> list[TextRegion]:
            text, confidence = read
            said = {"text": text, "confidence": confidence}
            return [each.model_copy(update=said) for each in super().detect(pixels)]

    def judged(view: Pixels, regions: list[TextRegion], letters: TextMap) -> list[TextRegion]:
        return [each.model_copy(update={"kind": kind}) for each in regions]

    monkeypatch.setattr("imgflow.stages.text.judge", judged)
    found = find_text(stamped.pixels, Guessing(stamped), Surveyor())
    assert [each.text for each in found] == words


def test_what_cannot_be_read_is_judged_beside_all_that_was(
    stamped: Stamped, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was only guessed, too."""

    class Guessing(FakeDetector):
        def detect(self, pixels: Pixels) -> list[TextRegion]:
            guess = {"text": "2o2k", "confidence": 0.4}
            return [each.model_copy(update=guess) for each in super().detect(pixels)]

        def read(self, line: Pixels) -> tuple[str, float]:
            return "2O24", 0.55

    asked: list[list[tuple[str, float]]] = []

    def judged(view: Pixels, regions: list[TextRegion], letters: TextMap) -> list[TextRegion]:
        asked.append([(each.text, each.confidence) for each in regions])
        return [each.model_copy(update={"kind": "product", "score": 0.5}) for each in regions]

    monkeypatch.setattr("imgflow.stages.text.judge", judged)
    monkeypatch.setattr("imgflow.engines.origin.judge", judged)
    _, found = find_text(stamped.pixels, Guessing(stamped), Surveyor())
    assert (found.text, found.kind) == ("", None)
    assert asked[-1] == [("2o2k", 0.4), ("2O24", 0.55)]


@pytest.mark.parametrize("size", ["small", "large"])
def test_what_ocr_reads_is_not_found_twice(
    size: str, stamped: Stamped, large: Stamped, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = {"small": stamped, "large": large}[size]
    monkeypatch.setattr("imgflow.stages.text.judge", unjudged)
    detector = FakeDetector(shown)
    (found,) = find_text(shown.pixels, detector, FakeEraser())
    assert (found.text, found.polygon) == (shown.text, shown.region.polygon)
    assert detector.calls == 1


def test_ocr_is_asked_only_where_a_letter_shows(stamped: Stamped) -> None:
    class Seeing(FakeEraser):
        """Sees so many pixels of print."""

        def __init__(self, pixels: int) -> None:
            super().__init__()
            self.count = pixels

        def survey(self, pixels: Pixels) -> TextMap:
            seen = np.zeros(pixels.shape[:2], np.uint8)
            seen[0, : self.count] = 200
            return TextMap(np.zeros_like(seen), seen)

    for count, always, looks in ((0, False, 0), (10, False, 0), (200, False, 1), (0, True, 1)):
        detector = FakeDetector()
        find_text(stamped.pixels, detector, Seeing(count), always=always)
        assert detector.calls == looks


@pytest.mark.parametrize(
    ("kind", "width", "believed"),
    [("overlay", 90, True), ("product", 90, False), (None, 90, True), ("overlay", 299, False)],
)
def test_without_words_what_may_be_an_overlay_of_some_size_is_believed(
    kind: str | None, width: int, believed: bool
) -> None:
    polygon = [[0, 0], [width, 0], [width, 2 * width / 3], [0, 2 * width / 3]]
    nameless = region("", kind).model_copy(update={"polygon": polygon, "confidence": 0.1})
    assert is_text(nameless, (200, 300), DetextSettings()) == believed


def test_overlays_without_words_go_and_claim_nothing(select: Callable[..., Selection]) -> None:
    found = select(region("", "overlay"), PRODUCT)
    assert texts(found.unwanted) == [""]
    assert (found.uncertain, found.claimed) == ((), ())
    assert select(region("", "overlay"), text="none") == Selection((), ())
    corner = [{"x": 0, "y": 0, "width": 0.6, "height": 0.4}]
    assert select(region("", "overlay"), keep=corner) == Selection((), ())


@pytest.mark.parametrize(("down", "goes"), [(2, True), (60, False)])
def test_what_is_uncertain_goes_with_a_sure_word_of_its_row(
    down: int, goes: bool, select: Callable[..., Selection]
) -> None:
    """The words of a bar stand far apart."""
    sure = region("Edit", "overlay")
    polygon = [[x + 170, y + down] for x, y in sure.polygon]
    found = select(sure, region("Delete", None).model_copy(update={"polygon": polygon}))
    assert texts(found.unwanted) == ["Edit", *(["Delete"] if goes else [])]
    assert [each.text for each in found.uncertain] == ([] if goes else ["Delete"])


@pytest.mark.parametrize(("apart", "looks"), [(40, 1), (800, 2)])
def test_a_second_look_is_taken_once_for_lines_that_are_near(apart: int, looks: int) -> None:
    one = stamp(photo("rocket", 1600), at=(20, 20))
    both = stamp(one.pixels, "SAMPLE", at=(20, 20 + apart))
    detector = FakeDetector(one, both)
    removed = [one.region, both.region]
    left = residual_text(both.pixels, removed, detector, DetextSettings())
    assert sorted(each.text for each in left) == ["2024-03-15", "SAMPLE"]
    for region in left:
        (known,) = (each for each in removed if each.text == region.text)
        assert np.allclose(region.polygon, known.polygon, atol=1)
    assert detector.calls == looks
    assert residual_text(one.clean, removed, detector, DetextSettings()) == []


@pytest.mark.parametrize(("reason", "goes"), [("repeated 3 times", True), ("flat colour", False)])
def test_a_copy_of_a_repeated_mark_goes_though_it_looks_like_print(
    reason: str, goes: bool, select: Callable[..., Selection]
) -> None:
    mark = region("lens.example.net", "overlay").model_copy(update={"reasons": [reason]})
    beside, other = region("mple.net", "product", y=80), region("net", "product", y=120)
    found = select(mark, beside, other, PRODUCT)
    assert texts(found.unwanted) == ["lens.example.net", *(["mple.net"] if goes else [])]


@pytest.mark.parametrize(
    ("at", "score", "asked"),
    [
        ((30, 52), 0.5, True),  # the next line
        ((30, 52), 0.2, False),
        ((130, 30), 0.5, True),  # the next words
        ((190, 100), 0.5, False),
    ],
)
def test_where_a_half_of_an_overlay_may_stay_a_person_is_asked(
    at: tuple[int, int], score: float, asked: bool, select: Callable[..., Selection]
) -> None:
    half = region("ends today", "product", *at).model_copy(update={"score": score})
    found = select(OVERLAY, half, PRODUCT)
    assert texts(found.unwanted) == ["Summer sale"]
    assert texts(found.uncertain) == (["ends today"] if asked else [])
    assert texts(select(half, PRODUCT).uncertain) == []


@pytest.mark.parametrize(("score", "goes"), [(0.5, True), (0.1, False)])
def test_what_may_be_of_a_repeated_mark_goes_with_it_unread(
    score: float, goes: bool, select: Callable[..., Selection]
) -> None:
    mark = region("lens.example.net", "overlay").model_copy(
        update={"reasons": ["repeated 9 times"]}
    )
    garbled = region("1cns.cx", "product", y=120).model_copy(update={"score": score})
    found = select(mark, garbled)
    assert texts(found.unwanted) == ["lens.example.net", *(["1cns.cx"] if goes else [])]
    assert found.uncertain == ()
