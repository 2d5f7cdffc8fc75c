"""What a file may say of how its picture came to be."""

from __future__ import annotations

from typing import Any

import pytest
from test_record import FULL

from imgflow.lineage.provenance import COMPOSITE, ENHANCED, PLAIN, SYNTHETIC, provenance_of
from imgflow.lineage.record import EngineStamp, Operation, Record

TRAINED = Operation(
    name="enlarge", engine=EngineStamp(name="sr", model_id="sr-1", weights_sha256="ab" * 32)
)
METHOD = Operation(name="inpaint", engine=EngineStamp(name="telea", model_id="telea"), seed=3)


def record(*operations: Operation, **changes: Any) -> Record:
    return FULL.model_copy(update={"operations": list(operations), **changes})


@pytest.mark.parametrize(
    ("records", "stated", "source_type"),
    [
        ([], "", PLAIN),
        ([record()], "", PLAIN),
        ([record(METHOD)], "", ENHANCED),
        ([record(METHOD), record(TRAINED)], "", COMPOSITE),
        ([record(TRAINED), record()], "", COMPOSITE),
        ([record(synthetic=True), record(TRAINED)], "", SYNTHETIC),
        # What a model made up does not become a photo by being repaired.
        ([record()], SYNTHETIC, SYNTHETIC),
        ([record(METHOD)], COMPOSITE, COMPOSITE),
        ([record(TRAINED)], PLAIN, COMPOSITE),
        ([record(TRAINED)], SYNTHETIC, SYNTHETIC),
        # Terms that say something else hold as long as nothing was done.
        ([record()], "negativeFilm", "negativeFilm"),
        ([record(METHOD)], "negativeFilm", ENHANCED),
    ],
)
def test_the_source_type(records: list[Record], stated: str, source_type: str) -> None:
    assert provenance_of(records, stated).source_type == source_type


def test_steps_name_model_weights_seed_and_hashes() -> None:
    found = provenance_of([record(METHOD), record(TRAINED)])
    assert [(step.name, step.model, step.weights, step.seed) for step in found.steps] == [
        ("inpaint", "telea", "", 3),
        ("enlarge", "sr-1", "ab" * 32, None),
    ]
    assert found.original_sha256 == FULL.original_sha256
    assert FULL.output is not None
    assert found.source_sha256 == FULL.output.sha256
