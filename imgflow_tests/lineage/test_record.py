"""A record is one JSON document that comes back as it was written, and nothing else."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from imgflow.errors import StoreError
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
from imgflow.lineage.schema import record_schema
from imgflow.lineage.seal import SealBroken, sealed, unsealed

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
    steps=[{"op": "remove_text", "hint": "date-stamp"}],
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
    assert document["schema_version"] == SCHEMA_VERSION == 3
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


def plain(**changes: Any) -> dict[str, Any]:
    """The full record as a JSON object, without its seal."""
    document = json.loads(FULL.to_json()) | changes
    del document["seal"]
    return document


@pytest.mark.parametrize("version", [0, "2", None, 1.5])
def test_a_schema_version_that_never_was_is_refused(version: Any) -> None:
    with pytest.raises(ValidationError, match="schema_version"):
        Record.from_json(json.dumps(plain(schema_version=version)).encode())


def test_a_record_of_a_later_imgflow_is_no_damage() -> None:
    later = plain(schema_version=4, surprise=1)
    with pytest.raises(StoreError) as error:
        Record.from_json(json.dumps(later).encode())
    assert error.value.code == "record_too_new"


def test_a_record_of_schema_1_is_read() -> None:
    old = plain(schema_version=1)
    del old["steps"], old["environment"]["batch"], old["environment"]["accelerator"]
    read = Record.from_json(json.dumps(old, indent=1).encode())
    assert read.steps is None
    assert read.schema_version == SCHEMA_VERSION
    assert read == FULL.model_copy(update={"steps": None})


def test_a_record_of_schema_2_is_read() -> None:
    old = plain(schema_version=2)
    del old["unneeded"]
    read = Record.from_json(json.dumps(old, indent=1).encode())
    assert read == FULL.model_copy(update={"unneeded": []})


def test_every_flipped_bit_is_noticed() -> None:
    text = FULL.to_json()
    for at in range(0, len(text), 7):
        for bit in range(8):
            changed = bytearray(text)
            changed[at] ^= 1 << bit
            with pytest.raises(ValueError):  # noqa: PT011 - SealBroken, or pydantic's own
                Record.from_json(bytes(changed))


def test_an_edited_seed_breaks_the_seal() -> None:
    edited = FULL.to_json().replace(b'"seed": 7', b'"seed": 8')
    assert edited != FULL.to_json()
    with pytest.raises(SealBroken):
        Record.from_json(edited)


def test_a_seal_is_no_part_of_what_is_sealed() -> None:
    body, seal = unsealed(FULL.to_json())
    assert sealed(body) == FULL.to_json()
    assert seal == hashlib.sha256(body).hexdigest()
    assert unsealed(body) == (body, "")
    with pytest.raises(ValueError, match="several lines"):
        sealed(b"{}")


def test_records_are_as_the_exported_schema_says() -> None:
    validator = jsonschema.Draft202012Validator(record_schema())
    jsonschema.Draft202012Validator.check_schema(validator.schema)
    validator.validate(json.loads(FULL.to_json()))
    for wrong in (
        json.loads(FULL.to_json()) | {"surprise": 1},
        json.loads(FULL.to_json()) | {"verdict": "fine"},
        plain(),
    ):
        assert list(validator.iter_errors(wrong))


def test_the_schema_in_the_documentation_is_this_one() -> None:
    path = Path(__file__).parents[2] / "docs" / "record.schema.json"
    hint = "write it anew: imgflow schema > docs/record.schema.json"
    assert json.loads(path.read_text()) == record_schema(), hint


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
