"""The whole line with its store and its uploads in a bucket of a real server, and real processes:
ingest, a batch with a bad photo, kill -9 and again, a backfill, gc, audit, whoami."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from samples import encoded, photo
from typer.testing import CliRunner

from imgflow.bench.s3.server import Server
from imgflow.cli import app
from imgflow.defs.launch import instance
from imgflow.home import CATALOG, Home
from imgflow.lineage.record import Record, Verdict, Version
from imgflow.store.place import Place
from imgflow.store.s3 import S3Store
from imgflow.store.store import sha256_hex

PROJECT = Path(__file__).parents[1]
PHOTOS = 6
BAD = "shoes/bad.png"
POLICY = """
upscale: {max_scale: 1, sharpen_below: 0}
detext: {text: none}
renditions: [{name: web, long_side: 48}]
run: {workers: 2}
"""
PATIENCE_S = 300  # of a machine with much else to do


@dataclass
class Shop:
    home: Home
    environment: dict[str, str]
    folder: Path
    told: dict[str, Any] = field(default_factory=dict)

    @property
    def store(self) -> S3Store:
        store = self.home.store
        assert isinstance(store, S3Store)
        return store

    def start(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [Path(sys.executable).with_name("imgflow"), *command],
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def run(self, *command: str) -> tuple[int, dict[str, Any]]:
        process = self.start(*command, "--json")
        output, errors = process.communicate(timeout=PATIENCE_S)
        lines = output.strip().splitlines()
        assert lines, errors
        return process.returncode, json.loads(lines[-1])

    def records(self) -> dict[tuple[str, Version], Record]:
        return {(each.key, each.version): each for each in self.store.records(CATALOG)}

    def published(self) -> int:
        return sum(version is Version.PUBLISHED for _, version in self.records())


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, bucket_server: Server) -> Iterator[Shop]:
    """After ingest, a run that was killed, and another one."""
    folder = tmp_path_factory.mktemp("line")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in bucket_server.settings.items():
            patch.setenv(name, value)
        patch.setenv("IMGFLOW_HOME", str(folder / "data"))
        patch.setenv("IMGFLOW_STORE", "s3://shop/whole/store")
        patch.setenv("IMGFLOW_UPLOADS", "s3://shop/whole/in")
        patch.delenv("DAGSTER_HOME", raising=False)
        home = Home.find()
        assert home.storage == Place.parse("s3://shop/whole/store")
        home.root.mkdir()
        # As in the project's folder: events are written twice as fast by its storage.
        (folder / "dagster.yaml").write_bytes((PROJECT / "dagster.yaml").read_bytes())
        home.policy_file.write_text(POLICY)
        source = folder / "shoes"
        source.mkdir()
        pixels = photo("coffee", 64).copy()
        for number in range(PHOTOS):
            pixels[:8, :8] = 20 * number
            (source / f"{number}.png").write_bytes(encoded(pixels))
        (source / "bad.png").write_bytes(b"this is no photo")
        found = Shop(home, dict(os.environ), folder)
        found.told["ingest"] = found.run("ingest", str(source))
        killed = found.start("run")
        end = time.monotonic() + PATIENCE_S
        while found.published() == 0 and killed.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.communicate()
        found.told["kept"] = found.records()
        found.told["again"] = found.run("run")
        yield found


def test_all_photos_come_into_the_bucket(shop: Shop) -> None:
    code, told = shop.told["ingest"]
    assert (code, told["new"], told["new_keys"]) == (0, PHOTOS + 1, PHOTOS + 1)
    assert not (shop.home.root / "store").exists()
    assert len(shop.home.uploads.scan().photos) == PHOTOS + 1


def test_one_bad_photo_stops_alone_and_a_killed_run_is_taken_up(shop: Shop) -> None:
    code, told = shop.told["again"]
    assert code == 1
    assert told["verdicts"] == {"published": PHOTOS, "quarantined": 1}
    kept, records = shop.told["kept"], shop.records()
    assert kept, "the run was killed after its first photo"
    assert records.items() >= kept.items(), "nothing is made twice"
    assert not any(text.replaced for text in shop.store.record_texts()), "none was replaced"
    stopped = [record for record in records.values() if record.verdict.stops]
    assert [(each.key, each.verdict) for each in stopped] == [(BAD, Verdict.QUARANTINED)]
    assert len(records) == PHOTOS * len(Version) + 1
    for record in records.values():
        for rendition in record.renditions:
            sha256 = shop.store.published_sha256(CATALOG, rendition.path)
            assert sha256 == rendition.object.sha256
    assert len(list(shop.store.published_paths(CATALOG))) == PHOTOS
    with instance(shop.home) as dagster:
        statuses = Counter(run.status for run in dagster.get_runs())
        shown = dagster.get_materialized_partitions(dg.AssetKey("published"))
    assert statuses[dg.DagsterRunStatus.STARTED] == 0
    assert shown == {f"shoes/{number}.png" for number in range(PHOTOS)}


def test_the_audit_holds_bucket_and_dagster_against_each_other(shop: Shop) -> None:
    code, told = shop.run("audit")
    assert (code, told["problems"], told["images"]) == (0, [], PHOTOS + 1)
    (name,) = shop.store.bucket.folders("published/")
    assert name == CATALOG
    store = shop.store
    path = next(iter(store.published_paths(CATALOG)))
    whole = store.bucket.get(f"published/{CATALOG}/{path}")
    assert whole is not None
    store.publish(CATALOG, path, b"not what was published")
    try:
        code, told = shop.run("audit", path.rpartition("/")[0])
    finally:
        store.publish(CATALOG, path, whole.data)
    assert (code, [each["code"] for each in told["problems"]]) == (1, ["published_changed"])


def test_a_published_file_is_known_again_and_a_photo_made_again(shop: Shop) -> None:
    path = "shoes/2.png/web.jpg"
    found = shop.store.bucket.get(f"published/{CATALOG}/{path}")
    assert found is not None
    (shop.folder / "some.jpg").write_bytes(found.data)
    assert shop.run("whoami", "some.jpg")[1]["key"] == "shoes/2.png"
    code, told = shop.run("replay", "shoes/2.png")
    assert (code, told["same"], told["versions"]) == (0, len(Version), len(Version))


def test_what_a_photo_of_the_bucket_gets_is_asked_by_its_key(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shop.home.catalog_file.write_text("key,category\nshoes/1.png,boots\n")
    try:
        found = CliRunner().invoke(app, ["route", "shoes/1.png"])
        unknown = CliRunner().invoke(app, ["route", "shoes/none.png", "--json"])
    finally:
        shop.home.catalog_file.unlink()
    assert found.exit_code == 0, found.output
    assert "category: boots" in found.output
    assert (unknown.exit_code, json.loads(unknown.stdout)["code"]) == (1, "not_found")


def test_reports_recalls_and_refreshes_work_on_the_bucket(shop: Shop) -> None:
    def asked(*command: str) -> dict[str, Any]:
        found = CliRunner().invoke(app, [*command, "--json"])
        assert found.exit_code == 0, found.output
        answer: dict[str, Any] = json.loads(found.stdout)
        return answer

    rows = PHOTOS * len(Version) + 1
    told = asked("report")
    assert (told["photos"], told["rows"], told["unreadable"]) == (PHOTOS + 1, rows, 0)
    assert "shoes/2.png" in Path(told["report"]).read_text()
    assert asked("report")["read"] == 0, "only what is new is read"
    assert asked("recall", "shoes/2.png", "--dry-run") == {"recalled": ["shoes/2.png"]}
    assert asked("recall", "--stale", "--dry-run") == {"recalled": []}
    plan = asked("refresh", "--dry-run")
    assert (plan["current"], plan["stopped"]) == (PHOTOS, 1)
    (waiting,) = asked("status")["waiting"]
    assert waiting["key"] == BAD
    assert waiting["picture"].startswith("s3://shop/whole/store/originals/")


def test_a_backfill_of_all_versions_makes_nothing_twice(shop: Shop) -> None:
    """As the UI's backfills come: a range of partitions, by the code location's own job."""
    from imgflow.definitions import line_definitions

    before = shop.records()
    job = line_definitions().resolve_job_def("rescue_photos")
    with instance(shop.home) as dagster:
        keys = dagster.get_dynamic_partitions("photos")
        result = job.execute_in_process(
            instance=dagster,
            tags={
                "dagster/asset_partition_range_start": keys[0],
                "dagster/asset_partition_range_end": keys[-1],
            },
        )
    assert result.success
    assert {place: record.to_json() for place, record in shop.records().items()}.items() >= {
        place: record.to_json() for place, record in before.items() if not record.verdict.stops
    }.items()


def test_what_nobody_names_goes_and_what_is_named_stays(shop: Shop) -> None:
    sha256 = shop.store.put_object(b"nobody's", "image/png")
    code, told = shop.run("gc", "--delete")
    assert (code, told["dropped"], told["young"]) == (0, 0, 1)
    assert shop.store.bucket.head(f"objects/{sha256[:2]}/{sha256}.png") is not None
    assert sha256 == sha256_hex(b"nobody's")
