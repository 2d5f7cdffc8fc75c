"""The lineage table: typed, incremental, and the figures that the report makes of it."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from test_record import FULL, NOW, ref

from imgflow.lineage.record import (
    Decision,
    EngineStamp,
    GateResult,
    Operation,
    Reason,
    Record,
    Rendition,
    Verdict,
    Version,
)
from imgflow.reports.figures import figures, frontier
from imgflow.reports.page import write_report
from imgflow.reports.table import SCHEMA, read_table, rebuild
from imgflow.store.local import LocalStore

SR = EngineStamp(name="sr", model_id="sr-1", weights_sha256="ab" * 32)


def record(key: str, version: Version, verdict: Verdict, **changes: Any) -> Record:
    plain: dict[str, Any] = {
        "key": key,
        "version": version,
        "verdict": verdict,
        "reason": None,
        "rejected": None,
        "operations": [],
        "gates": [],
        "decisions": [],
    }
    return FULL.model_copy(update={**plain, **changes})


def gate(name: str, value: float | None, *, passed: bool | None = True) -> GateResult:
    return GateResult(name=name, metric=name, value=value, threshold=1.0, passed=passed)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """a.jpg is published, b.jpg stopped, c.jpg published by a person, d.jpg retired."""
    store = LocalStore(tmp_path / "store")
    enlarged = Operation(name="enlarge", engine=SR, seed=7, prompt="sharp", cost=0.25)
    for key in ("a.jpg", "b.jpg", "c.jpg", "d.jpg"):
        store.put_record(record(key, Version.RAW, Verdict.PASSED_THROUGH))
    store.put_record(
        record(
            "a.jpg",
            Version.UPSCALED,
            Verdict.REPAIRED,
            operations=[enlarged, enlarged],
            gates=[gate("psnr", 30.0), gate("psnr", 20.0), gate("halo", 0.1), gate("halo", 0.3)],
        )
    )
    web = Rendition(name="web", path="a.jpg/web.jpg", object=ref("web"))
    store.put_record(record("a.jpg", Version.PUBLISHED, Verdict.PUBLISHED, renditions=[web]))
    store.put_record(
        record(
            "b.jpg",
            Version.UPSCALED,
            Verdict.QUARANTINED,
            operations=[enlarged],
            gates=[gate("psnr", 10.0, passed=False), gate("ssim", None, passed=None)],
            reason=Reason(code="gate_failed", message="PSNR is too low"),
        )
    )
    late = NOW + timedelta(days=1)
    decided = [Decision(person="Ada", action="publish", at=NOW)]
    store.put_record(
        record("c.jpg", Version.PUBLISHED, Verdict.PUBLISHED, decisions=decided, started_at=late)
    )
    store.put_record(record("d.jpg", Version.PUBLISHED, Verdict.RETIRED, started_at=late))
    return store


def rows_of(path: Path) -> list[dict[str, Any]]:
    return list(pq.read_table(path).to_pylist())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "reports" / "catalog.parquet"


def test_columns_are_typed(store: LocalStore, path: Path) -> None:
    made = rebuild(store, "main", path)
    assert (made.rows, made.images, made.read, made.unreadable) == (9, 4, 9, 0)
    table = pq.read_table(path)
    assert table.schema.equals(SCHEMA)
    rows = {(row["key"], row["version"]): row for row in table.to_pylist()}
    row = rows["a.jpg", "upscaled"]
    assert (row["models"], row["seeds"]) == (["sr-1", "sr-1"], [7, 7])
    assert row["weights"] == ["ab" * 32] * 2
    assert (row["psnr"], row["halo"], row["ssim"]) == (20.0, 0.3, None)  # the worst of each
    assert row["cost"] == 0.5
    assert row["started_at"] == NOW
    assert rows["b.jpg", "upscaled"]["gates_failed"] == ["psnr"]
    assert rows["b.jpg", "upscaled"]["reason"] == "gate_failed"
    assert rows["c.jpg", "published"]["decisions"] == ["Ada: publish"]
    assert [row["version"] for row in table.to_pylist() if row["key"] == "a.jpg"] == [
        "raw", "upscaled", "published",
    ]  # fmt: skip


def test_only_what_is_new_is_read(store: LocalStore, path: Path) -> None:
    rebuild(store, "main", path)
    assert rebuild(store, "main", path).read == 0
    before = rows_of(path)
    store.put_record(record("b.jpg", Version.UPSCALED, Verdict.REPAIRED))
    store.put_record(record("e.jpg", Version.RAW, Verdict.PASSED_THROUGH))
    made = rebuild(store, "main", path)
    assert (made.rows, made.images, made.read, made.removed) == (10, 5, 2, 0)
    whole = rebuild(store, "main", path.with_name("anew.parquet"))
    assert whole.read == 10
    assert rows_of(path) == rows_of(whole.path) != before


def test_what_is_gone_goes_and_what_is_damaged_is_counted(store: LocalStore, path: Path) -> None:
    rebuild(store, "main", path)
    for image in (store.root / "records/main").iterdir():
        raw = image / "raw.json"
        if json.loads(raw.read_bytes())["key"] == "d.jpg":
            raw.write_bytes(b"{")
            (image / "published.json").unlink()
    made = rebuild(store, "main", path)
    assert (made.rows, made.images, made.removed, made.unreadable) == (7, 3, 1, 1)


@pytest.mark.parametrize("content", [b"", b"no table", b"PAR1"])
def test_a_damaged_table_is_made_anew(store: LocalStore, path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    assert rebuild(store, "main", path).rows == 9


def test_an_empty_catalog(tmp_path: Path, path: Path) -> None:
    store = LocalStore(tmp_path / "none")
    assert rebuild(store, "main", path).rows == 0
    found = figures(read_table(path))
    assert (found.images, found.automatic, found.engines, found.days) == (0, 0.0, (), ())
    report = write_report(store, "main", path, tmp_path / "report.html")
    assert "0 photos" in report.path.read_text()


def test_figures(store: LocalStore, path: Path) -> None:
    rebuild(store, "main", path)
    table = read_table(path)
    last = frontier(table)
    assert list(last["key"]) == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert list(last["version"].astype(str)) == ["published", "upscaled", "published", "published"]
    found = figures(table)
    assert dict(found.verdicts) == {"published": 2, "quarantined": 1, "retired": 1}
    assert found.automatic == pytest.approx(1 / 3)  # of a, b and c; c by a person
    assert found.reasons == (("upscaled", "gate_failed", 1),)
    (engine,) = found.engines
    assert (engine.model, engine.versions, engine.passed) == ("sr-1", 2, 0.5)
    assert (engine.psnr, engine.cost) == (15.0, 0.75)
    psnr = next(each for each in found.distributions if each.gate == "psnr")
    assert (psnr.version, psnr.count, psnr.failed, psnr.median) == ("upscaled", 2, 1, 15.0)
    assert sum(psnr.counts) == 2
    assert [(day.day, day.published, day.stopped, day.other) for day in found.days] == [
        ("2026-03-04", 1, 1, 0),
        ("2026-03-05", 1, 0, 1),
    ]


def test_the_report_is_one_page_that_needs_nothing(
    store: LocalStore, path: Path, tmp_path: Path
) -> None:
    store.put_record(
        record("<script>alert(1)</script>.jpg", Version.RAW, Verdict.QUARANTINED).model_copy(
            update={"reason": Reason(code="bad", message='"><img src=x onerror=alert(1)>')}
        )
    )
    rebuild(store, "main", path)
    report = write_report(store, "main", path, tmp_path / "report.html")
    page = report.path.read_text("utf-8")
    assert report.images == report.shown == 5
    assert "http" not in page.replace("http-equiv", "")
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert page.count("<article") == 5
    assert page.count("<svg") == 1 + len(report.figures.distributions)
    assert 'data-words="b.jpg quarantined upscaled psnr is too low sr-1"' in page
    assert "default-src 'none'" in page
