"""A record is one JSON document that comes back as it was written, and nothing else."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from imgflow.lineage.environment import environment
from imgflow.lineage.record import (
    SCHEMA_VERSION,
    Decision,
    EngineStamp,
    GateResult,
    ObjectRef,
    Operation,
    Reason,
    Record,
    Rendition,
    TextRegion,
    Verdict,
    Version,
)

NOW = datetime(2026, 3, 4, 5, 6, 7, 89, tzinfo=UTC)


def ref(name: str) -> ObjectRef:
    sha256 = hashlib.sha256(name.encode()).hexdigest()
    return ObjectRef(sha256=sha256, media_type="image/png", size=9, width=3, height=2)


FULL = Record(
    catalog="main",
    key="schuhe/rot é.jpg",
    version=Version.DETEXTED,
    verdict=Verdict.QUARANTINED,
    reason=Reason(code="gate_failed", message="psnr", transient=True),
    original_sha256="0" * 64,
    input=ref("input"),
    output=ref("output"),
    rejected=ref("rejected"),
    renditions=[],
    operations=[
        Operation(
            name="remove_text",
            engine=EngineStamp(name="telea", model_id="telea-2004", licence="Apache-2.0"),
            parameters={"context": 32, "nested": {"list": [1, 2.5, None, "x"]}},
            seed=7,
            mask=ref("mask"),
            regions=[TextRegion(polygon=[[0, 0], [1, 0], [1, 1.5]], text="日付", confidence=0.5)],
        )
    ],
    gates=[GateResult(name="psnr", metric="psnr", value=12.0, threshold=16.0, passed=False)],
    measures={"noise": 1.25},
    notes=["a note"],
    decisions=[Decision(person="Ada", action="retry", at=NOW)],
    fingerprint="f",
    policy_sha256="p",
    settings={"mode": "all"},
    routes=["social"],
    traits={"category": "shoes"},
    attachments={"manifest": "1" * 64},
    job_id="job-1",
    rights={"copyright": "© Ada"},
    imgflow_version="0.1.0",
    code_version="detexted-1",
    run_id="run",
    started_at=NOW,
    seconds=0.25,
    environment=environment(2),
)


def test_a_full_record_comes_back_from_json() -> None:
    assert Record.from_json(FULL.to_json()) == FULL


def test_equal_records_have_equal_bytes() -> None:
    again = Record.from_json(FULL.to_json())
    assert again.to_json() == FULL.to_json()
    assert FULL.model_copy(deep=True).to_json() == FULL.to_json()


def test_bytes_are_readable_json_in_utf8() -> None:
    document = json.loads(FULL.to_json().decode("utf-8"))
    assert document["schema_version"] == SCHEMA_VERSION == 1
    assert document["key"] == "schuhe/rot é.jpg"
    assert document["version"] == "detexted"
    assert document["verdict"] == "quarantined"
    assert "é" in FULL.to_json().decode()
    assert "\n" in FULL.to_json().decode()


@settings(max_examples=50, deadline=None)
@given(
    values=st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False, allow_infinity=False)),
    at=st.datetimes(timezones=st.just(timezone(timedelta(hours=2)))),
    note=st.text(st.characters(exclude_categories=("Cs",))),
    verdict=st.sampled_from(Verdict),
)
def test_any_measure_time_and_text_comes_back(
    values: dict[str, float], at: datetime, note: str, verdict: Verdict
) -> None:
    put = FULL.model_copy(
        update={"measures": values, "started_at": at, "notes": [note], "verdict": verdict}
    )
    assert Record.from_json(put.to_json()) == put


@pytest.mark.parametrize("where", ["record", "operation", "gate", "reason"])
def test_unknown_fields_are_refused(where: str) -> None:
    document: dict[str, Any] = json.loads(FULL.to_json())
    inside = {
        "record": document,
        "operation": document["operations"][0],
        "gate": document["gates"][0],
        "reason": document["reason"],
    }[where]
    inside["surprise"] = 1
    with pytest.raises(ValidationError, match="surprise"):
        Record.from_json(json.dumps(document).encode())


def test_another_schema_version_is_refused() -> None:
    document = json.loads(FULL.to_json()) | {"schema_version": 2}
    with pytest.raises(ValidationError, match="schema_version"):
        Record.from_json(json.dumps(document).encode())


def test_a_record_never_changes() -> None:
    with pytest.raises(ValidationError):
        FULL.verdict = Verdict.PUBLISHED  # type: ignore[misc]


def test_the_data_version_is_the_output_or_all_renditions() -> None:
    def published(*names: str) -> Record:
        renditions = [Rendition(name=name, path=name, object=ref(name)) for name in names]
        return FULL.model_copy(update={"renditions": renditions})

    assert FULL.data_version == ref("output").sha256
    assert FULL.model_copy(update={"output": None}).data_version == ""
    versions = [published(*names).data_version for names in (["a"], ["b"], ["a", "b"], ["b", "a"])]
    assert len(set(versions)) == 4
    assert published("a").data_version == published("a").data_version


def test_versions_know_what_they_are_made_from() -> None:
    assert [version.upstream for version in Version] == [None, *list(Version)[:-1]]


def test_what_stops_a_photo() -> None:
    stopping = {verdict for verdict in Verdict if verdict.stops}
    assert stopping == {Verdict.NEEDS_REVIEW, Verdict.QUARANTINED, Verdict.RETIRED}


def test_the_environment_names_what_changes_bytes() -> None:
    here = environment(3)
    assert here.threads == 3
    assert here.instruction_set
    assert {"numpy", "opencv-python-headless", "pillow"} <= set(here.libraries)
