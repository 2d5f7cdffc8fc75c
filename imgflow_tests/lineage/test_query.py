"""Which versions a question is about."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from test_record import FULL, NOW

from imgflow.errors import ImgflowError
from imgflow.lineage.query import Query
from imgflow.lineage.record import EngineStamp, Operation, Record

WEIGHTS = "debdf8e692c8" + "0" * 52
OPERATIONS = [
    Operation(
        name="remove_text",
        engine=EngineStamp(name="eraser", model_id="imgflow-eraser-2", weights_sha256=WEIGHTS),
        parameters={"detector": "rapidocr:rapidocr-3.10.0@5ff02e508fe4", "growth": 1.0},
    ),
    Operation(name="inpaint", engine=EngineStamp(name="telea", model_id="telea-2004"), seed=7),
]


@pytest.fixture
def record() -> Record:
    return FULL.model_copy(update={"operations": OPERATIONS})


@pytest.mark.parametrize(
    ("asked", "matches"),
    [
        ({}, True),
        ({"model": "eraser"}, True),
        ({"model": "ERASER-2"}, True),
        ({"model": "telea"}, True),
        ({"model": "rapidocr"}, True),  # found what was to be removed
        ({"model": "lama"}, False),
        ({"weights": "debdf8"}, True),
        ({"weights": "DEBDF8E692C8"}, True),
        ({"weights": WEIGHTS}, True),
        ({"weights": "debdf8e692c9"}, False),
        ({"weights": WEIGHTS[:-1] + "1"}, False),
        ({"weights": "5ff02e508fe4" + "a" * 20}, True),  # of that one no more is recorded
        ({"weights": "5ff02e508fe5"}, False),
        ({"seed": 7}, True),
        ({"seed": 8}, False),
        ({"seed": 7, "model": "telea"}, True),
        ({"seed": 7, "model": "eraser"}, False),  # not one and the same operation
        ({"route": "social"}, True),
        ({"route": "print"}, False),
        ({"since": NOW}, True),
        ({"until": NOW}, False),
        ({"since": datetime(2026, 3, 5, tzinfo=UTC)}, False),
        ({"until": datetime(2026, 3, 5, tzinfo=UTC), "seed": 7}, True),
    ],
)
def test_what_a_question_is_about(record: Record, asked: dict[str, Any], matches: bool) -> None:
    query = Query(**asked)
    assert query.is_empty is (not asked)
    assert query.matches(record) is matches


def test_a_seed_of_0_is_a_question() -> None:
    assert not Query(seed=0).is_empty


@pytest.mark.parametrize("weights", ["abc", "xyzxyz", "debdf8 "])
def test_digits_that_are_none_are_refused(weights: str) -> None:
    with pytest.raises(ImgflowError) as error:
        Query(weights=weights)
    assert error.value.code == "weights_invalid"
