"""Which text is to go, which only a person can decide on, and which stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from samples import FakeDetector, Stamped, photo

from imgflow.lineage.record import TextRegion
from imgflow.stages.rights import claims_rights, names_own_mark
from imgflow.stages.stage import Job, Picture
from imgflow.stages.text import Selection, detect_text, select_unwanted, with_copies

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
    "text", ["Photos", "Gallery", "Summer sale", "2024-03-15", "SAMPLE", "Vitamin C", "12:45", ""]
)
def test_no_claims(text: str) -> None:
    assert not claims_rights(text)


def test_own_marks_are_matched_as_ocr_reads_them() -> None:
    assert names_own_mark("(c) B1ue D00r Prnts", ["Blue Door Prints"])
    assert not names_own_mark("Red Barn Images", ["Blue Door Prints"])
    assert not names_own_mark("anything", ["--"])


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
