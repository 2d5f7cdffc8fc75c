"""The overview counts each photo once, where it is now."""

from __future__ import annotations

from datetime import UTC, datetime

from imgflow.lineage.environment import environment
from imgflow.lineage.overview import Overview
from imgflow.lineage.overview import overview as overview_of
from imgflow.lineage.record import ObjectRef, Reason, Record, Rendition, Verdict, Version


def overview(records: list[Record]) -> Overview:
    return overview_of(records, lambda ref: f"/store/{ref.sha256}")


def record(key: str, version: Version, verdict: Verdict, reason: Reason | None = None) -> Record:
    return Record(
        catalog="main",
        key=key,
        version=version,
        verdict=verdict,
        reason=reason,
        original_sha256="0" * 64,
        input=None,
        output=None,
        fingerprint="f",
        policy_sha256="1" * 64,
        code_version="raw-1",
        imgflow_version="1",
        run_id="run",
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        seconds=0.1,
        environment=environment(1),
    )


RAW, DETEXTED, PUBLISHED = Version.RAW, Version.DETEXTED, Version.PUBLISHED
REASON = Reason(code="truncated", message="the file ends too early", hint="Upload it again")


def test_no_records_are_an_empty_overview() -> None:
    assert overview([]).as_dict() == {"counts": [], "waiting": []}


def test_photos_are_counted_at_their_last_version_in_the_lines_order() -> None:
    found = overview(
        [
            record("a.png", RAW, Verdict.REPAIRED),
            record("a.png", PUBLISHED, Verdict.PUBLISHED),
            record("b.png", RAW, Verdict.PASSED_THROUGH),
            record("b.png", PUBLISHED, Verdict.PUBLISHED),
            record("c.png", RAW, Verdict.QUARANTINED, REASON),
            record("d.png", RAW, Verdict.PASSED_THROUGH),
        ]
    )
    assert list(found.counts.items()) == [
        (("raw", "passed_through"), 1),
        (("raw", "quarantined"), 1),
        (("published", "published"), 2),
    ]


def test_a_photo_waits_where_it_stopped_though_it_was_further_once() -> None:
    """Its new bytes are bad; what was published of the old ones still stands."""
    found = overview(
        [
            record("a.png", RAW, Verdict.QUARANTINED, REASON),
            record("a.png", PUBLISHED, Verdict.PUBLISHED),
        ]
    )
    assert found.counts == {("raw", "quarantined"): 1}
    [waiting] = found.as_dict()["waiting"]
    assert waiting == {
        "key": "a.png",
        "version": "raw",
        "verdict": "quarantined",
        "code": "truncated",
        "message": "the file ends too early",
        "hint": "Upload it again",
        "still_published": False,
        "last_good": "",
        "picture": "",
        "rejected": "",
        "log": "",
    }


def test_waiting_photos_are_sorted_by_key() -> None:
    stopped = [record(key, DETEXTED, Verdict.NEEDS_REVIEW, REASON) for key in ("b.png", "a.png")]
    assert [each.key for each in overview(stopped).waiting] == ["a.png", "b.png"]


def test_a_waiting_photo_that_is_still_published_is_told_apart() -> None:
    file = ObjectRef(sha256="0" * 64, media_type="image/jpeg", size=1)
    published = record("a.png", PUBLISHED, Verdict.PUBLISHED).model_copy(
        update={"renditions": [Rendition(name="web", path="a.png/web.jpg", object=file)]}
    )
    found = overview(
        [
            record("a.png", RAW, Verdict.QUARANTINED, REASON),
            published,
            record("b.png", RAW, Verdict.QUARANTINED, REASON),
        ]
    )
    assert [each.still_published for each in found.waiting] == [True, False]


def test_a_waiting_photo_names_what_a_person_needs() -> None:
    def picture(name: str) -> ObjectRef:
        return ObjectRef(sha256=name, media_type="image/png", size=1)

    crashed = Reason(code="worker_died", message="its worker died", traceback="File x, line 1")
    raw = record("a.png", RAW, Verdict.REPAIRED).model_copy(update={"output": picture("raw")})
    stopped = record("a.png", DETEXTED, Verdict.QUARANTINED, crashed).model_copy(
        update={"input": picture("raw"), "rejected": picture("bad")}
    )
    refused = record("b.png", RAW, Verdict.QUARANTINED, REASON).model_copy(
        update={"input": picture("original")}
    )
    a, b = overview([raw, stopped, refused]).waiting
    assert (a.last_good, a.picture, a.rejected) == ("raw", "/store/raw", "/store/bad")
    assert a.log == "File x, line 1"
    assert (b.last_good, b.picture, b.rejected, b.log) == ("", "/store/original", "", "")
