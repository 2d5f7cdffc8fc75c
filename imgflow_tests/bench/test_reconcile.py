"""The reconciliation after a soak: silent on a sound installation, and it finds each fault."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from samples import at_once, encoded, photo

from imgflow import batch
from imgflow.bench.reconcile import leftovers, reconcile
from imgflow.defs.launch import instance, launch
from imgflow.defs.resources import Progress
from imgflow.home import CATALOG, Home
from imgflow.lineage.record import Reason, Verdict, Version
from imgflow.store.keys import ImageKey
from imgflow.store.store import sha256_hex

A, B, BAD = (ImageKey(name) for name in ("a.png", "b.png", "bad.jpg"))


@pytest.fixture
def shop(home: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """Two photos that are published, and a broken one."""
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setattr(batch, "supervise", at_once)
    home.policy_file.write_text(
        "upscale: {max_scale: 1, sharpen_below: 0}\ndetext: {text: none}\n"
        "renditions: [{name: web, long_side: 48}]\n"
    )
    pixels = photo("coffee", 64)
    (home.uploads.root / A).write_bytes(encoded(pixels))
    (home.uploads.root / B).write_bytes(encoded(pixels[:, ::-1]))
    (home.uploads.root / BAD).write_text("<html>404</html>")
    launch([A, B, BAD], home, Progress())
    return home


def wrong(home: Home, tmp_path: Path, missing: str = "") -> dict[str, int]:
    """What is wrong, and how often. missing: bytes uploaded once that nobody has."""
    uploaded = {
        str(key): {sha256_hex(path.read_bytes())} for key, path in home.uploads.scan().photos
    }
    if missing:
        uploaded[str(A)].add(sha256_hex(missing.encode()))
    scratch = tmp_path / str(len(list(tmp_path.iterdir())))
    found = list(reconcile(home, uploaded, scratch))
    assert all(each.count for each in found if "photos" in each.what)
    return {each.what: len(each.wrong) for each in found if each.wrong}


def test_a_sound_installation_reconciles(shop: Home, tmp_path: Path) -> None:
    assert wrong(shop, tmp_path) == {}


def test_lost_and_damaged_files_are_found(shop: Home, tmp_path: Path) -> None:
    assert wrong(shop, tmp_path, missing="gone") == {"uploads archived, all generations": 1}
    record = shop.store.get_record(CATALOG, A, Version.PUBLISHED)
    assert record is not None
    (web,) = record.renditions
    Path(shop.store.location(web.object)).write_bytes(b"other bytes")
    Path(shop.store.published_location(CATALOG, web.path)).write_bytes(b"other bytes")
    assert wrong(shop, tmp_path) == {
        "files of the store whose bytes hash to their names": 1,
        "objects that records name, in place": 2,  # as output, and as rendition
        "published files that are what their record says, and no others": 1,
    }


def test_a_photo_that_was_never_taken_in_is_found(shop: Home, tmp_path: Path) -> None:
    (shop.uploads.root / "late.png").write_bytes(encoded(photo("chelsea", 64)))
    found = wrong(shop, tmp_path)
    assert found["photos uploaded, each with one key and an outcome"] == 1
    assert found["partitions, one for each photo that was uploaded"] == 1
    assert found["photos whose versions, verdicts and reasons a quiet line makes too"] == 1


def test_a_stop_for_a_reason_that_is_not_true_is_found(shop: Home, tmp_path: Path) -> None:
    record = shop.store.get_record(CATALOG, B, Version.UPSCALED)
    assert record is not None
    reason = Reason(code="gate_failed", message="no")
    stopped = {"verdict": Verdict.QUARANTINED, "reason": reason, "output": None}
    shop.store.put_record(record.model_copy(update=stopped))
    assert wrong(shop, tmp_path) == {
        "photos whose versions, verdicts and reasons a quiet line makes too": 1
    }


def test_what_dagster_shows_otherwise_is_found(shop: Home, tmp_path: Path) -> None:
    with instance(shop) as dagster:
        tags = {"dagster/data_version": "0", "dagster/data_version_is_user_provided": "true"}
        dagster.report_runless_asset_event(dg.AssetMaterialization("raw", partition=A, tags=tags))
        dagster.add_run(dg.DagsterRun("rescue_photos", status=dg.DagsterRunStatus.STARTED))
    assert wrong(shop, tmp_path) == {
        "runs that have ended": 1,
        "finished records that Dagster shows as they are": 1,
        "materializations of what a record has or had": 1,
    }


def test_what_killed_writers_left_is_counted(shop: Home) -> None:
    (shop.root / "store/objects/.writing-1").write_bytes(b"ha")
    (shop.uploads.root / ".77.part").write_bytes(b"ha")
    assert len(leftovers(shop)) == 2
