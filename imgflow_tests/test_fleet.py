"""A deployment as deploy/ describes it, but on one machine: a code server, a webserver and a daemon
as processes of their own, PostgreSQL from Debian's packages, store, uploads and logs in buckets of
an S3 server, and two runs at a time.

Photos come by `imgflow ingest`, one of them broken; the sensor asks for them; a run is killed in
the midst; the UI's own mutation asks for a backfill; the audit goes over all of it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG
from postgres import MISSING, binaries, postgres
from samples import encoded, photo

from imgflow.bench.s3.server import Server
from imgflow.bench.service import Service, imgflow_command, until
from imgflow.defs.launch import instance
from imgflow.defs.orphans import process_tag
from imgflow.defs.partitions import Known
from imgflow.defs.queue import CATALOG_TAG, NOT_ENDED, photos_of
from imgflow.home import CATALOG, Home
from imgflow.lineage.record import Record, Verdict, Version
from imgflow.policy.catalogs import MAIN_SPEC
from imgflow.store.s3 import S3Store
from imgflow.watch import Index, index_file

pytestmark = pytest.mark.skipif(binaries() is None, reason=MISSING)

DEPLOY = Path(__file__).parents[1] / "deploy"
PHOTOS, BATCH, AT_A_TIME = 18, 6, 2
BAD = "shoes/bad.png"
GOOD = [f"shoes/{number:02}.png" for number in range(PHOTOS)]
POLICY = {
    "upscale": {"max_scale": 1, "sharpen_below": 0.0},
    "detext": {"text": "none"},
    "renditions": [{"name": "web", "long_side": 48}],
    "run": {"workers": 1, "batch_size": BATCH},
}
PATIENCE_S = 900  # of a machine with much else to do
(PROCESS,) = process_tag()


class Fleet(Service):
    """The three services, each as its container would start it."""

    def __init__(self, home: Home, project: Path, settings: dict[str, str]) -> None:
        super().__init__(home, project, settings)
        self._services: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        code_port = free_port()
        workspace = yaml.safe_load((DEPLOY / "workspace.yaml").read_text())
        workspace["load_from"][0]["grpc_server"].update(host="127.0.0.1", port=code_port)
        (self.project / "workspace.yaml").write_text(yaml.safe_dump(workspace))
        commands = (
            ["code", "--host", "127.0.0.1", "--port", str(code_port)],
            ["webserver", "--host", "127.0.0.1", "--port", str(self.port)],
            ["daemon"],
        )
        with self.log.open("ab") as log:
            self._services = [
                subprocess.Popen(
                    [imgflow_command(), "serve", *command],
                    cwd=self.project, env=self.settings, stdin=subprocess.DEVNULL,
                    stdout=log, stderr=log, start_new_session=True,
                )
                for command in commands
            ]  # fmt: skip

    @property
    def is_running(self) -> bool:
        return all(each.poll() is None for each in self._services)

    def stop(self) -> None:
        for each in self._services:
            each.terminate()
        for each in self._services:
            try:
                each.wait(5)
            except subprocess.TimeoutExpired:
                each.kill()
                each.wait()
        self.kill(self.processes())


@dataclass
class Story:
    """What came of it. ingest: its exit code and answer. killed: the run that was, and how many
    of its photos were published by then. before: the records before the backfill."""

    fleet: Fleet
    home: Home
    ingest: tuple[int, dict[str, Any]]
    killed: tuple[str, int]
    before: dict[tuple[str, Version], Record]

    @property
    def store(self) -> S3Store:
        assert isinstance(self.home.store, S3Store)
        return self.home.store

    def records(self) -> dict[tuple[str, Version], Record]:
        return {(each.key, each.version): each for each in self.store.records(CATALOG)}

    def published(self) -> set[str]:
        """The photos that have a published file."""
        return {path.rpartition("/")[0] for path in self.store.published_paths(CATALOG)}

    def command(self, *command: str) -> tuple[int, dict[str, Any]]:
        done = subprocess.run(
            [imgflow_command(), *command, "--json"],
            cwd=self.fleet.project, env=self.fleet.settings, text=True,
            capture_output=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        lines = done.stdout.strip().splitlines()
        assert lines, done.stderr
        return done.returncode, json.loads(lines[-1])


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, bucket_server: Server) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("fleet")
    home_root, dagster_home = folder / "data", folder / "dagster"
    home_root.mkdir()
    dagster_home.mkdir()
    with postgres() as database, pytest.MonkeyPatch.context() as patch:
        settings = {
            **bucket_server.settings,
            **database.settings,
            "DAGSTER_HOME": str(dagster_home),
            "IMGFLOW_HOME": str(home_root),
            "IMGFLOW_STORE": "s3://shop/fleet/store",
            "IMGFLOW_UPLOADS": "s3://shop/fleet/in",
            "IMGFLOW_LOGS_BUCKET": "shop",
            "IMGFLOW_CODE_HOST": "127.0.0.1",
            # Of a machine with much else to do.
            "DAGSTER_GRPC_TIMEOUT_SECONDS": "300",
        }
        for name, value in settings.items():
            patch.setenv(name, value)
        for name in ("IMGFLOW_CATALOG", "IMGFLOW_UPLOADS_QUEUE", "IMGFLOW_WEBHOOK"):
            patch.delenv(name, raising=False)
        write_settings(dagster_home, database.port)
        home = Home.find()
        set_policy(home)
        fleet = Fleet(home, folder, dict(os.environ))
        found = Story(fleet, home, (1, {}), ("", 0), {})
        try:
            found.ingest = found.command("ingest", str(draw(folder / "shoes")))
            assert found.ingest[0] == 0, found.ingest
            fleet.start()
            with instance(home) as dagster:
                found.killed = kill_a_run(found, dagster)
                until(lambda: is_done(found, dagster), PATIENCE_S, "not all is made", every_s=0.5)
            found.before = found.records()
            yield found
        except BaseException:
            if fleet.log.exists():
                print(fleet.log.read_text()[-20_000:])
            raise
        finally:
            fleet.stop()


def write_settings(folder: Path, port: int) -> None:
    """Production's settings, as far as one machine has what they ask for."""
    settings = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
    # No ECS: runs are processes of the code server, as with compose.
    del settings["run_launcher"]
    settings["storage"]["postgres"]["postgres_db"]["port"] = port
    settings["compute_logs"]["config"].update(local_dir=str(folder / "logs"), upload_interval=2)
    settings["concurrency"]["pools"]["default_limit"] = AT_A_TIME
    settings["run_monitoring"]["poll_interval_seconds"] = 5
    (folder / "dagster.yaml").write_text(yaml.safe_dump(settings))


def set_policy(home: Home, **changes: object) -> None:
    home.policy_file.write_text(yaml.safe_dump({**POLICY, **changes}))


def draw(folder: Path) -> Path:
    """A folder with photos, no two alike, and one that is none."""
    folder.mkdir()
    pixels = photo("coffee", 160).copy()
    for number, name in enumerate(GOOD):
        pixels[:8, :8] = 8 * number
        (folder.parent / name).write_bytes(encoded(pixels))
    (folder.parent / BAD).write_bytes(b"this is no photo")
    return folder


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def kill_a_run(story: Story, dagster: dg.DagsterInstance) -> tuple[str, int]:
    """SIGKILL the process of a run that has published some of its photos, and not all."""
    found: list[tuple[str, int]] = []

    def is_killed() -> bool:
        assert story.fleet.is_running
        published = story.published()
        for run in dagster.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
            keys = photos_of(run, MAIN_SPEC, Known(dagster))
            done = len(published & set(keys))
            if PROCESS in run.tags and 1 < done < len(keys):
                os.kill(int(run.tags[PROCESS].rpartition("/")[2].partition(":")[0]), signal.SIGKILL)
                found.append((run.run_id, done))
                return True
        return False

    until(is_killed, PATIENCE_S, "no run was in the midst of its photos")
    return found[0]


def is_done(story: Story, dagster: dg.DagsterInstance) -> bool:
    """All is published, nothing is under way, and the killed run was tried again by Dagster."""
    killed = dagster.get_run_by_id(story.killed[0])
    assert killed is not None
    # The sensor has seen that all is made: else a new policy would be its business as well.
    seen = Index.load(index_file(story.home)).entries
    if AUTO_RETRY_RUN_ID_TAG not in killed.tags or {each.state for each in seen.values()} != {
        "settled"
    }:
        return False
    return story.published() == set(GOOD) and not dagster.get_runs(
        dg.RunsFilter(statuses=NOT_ENDED)
    )


def most_at_once(runs: list[dg.RunRecord]) -> int:
    """How many runs were under way at the same time, at most. Those that never began count not."""
    worked = [(each.start_time, each.end_time) for each in runs if each.start_time]
    moments = [(began, 1) for began, _ in worked] + [(ended or 0.0, -1) for _, ended in worked]
    most = now = 0
    for _, change in sorted(moments):
        now += change
        most = max(most, now)
    return most


def test_photos_come_into_the_bucket_and_dagster_knows_them(story: Story) -> None:
    code, told = story.ingest
    assert (code, told["new"], told["new_keys"]) == (0, PHOTOS + 1, PHOTOS + 1)
    with instance(story.home) as dagster:
        keys = dagster.get_dynamic_partitions("photos")
        assert type(dagster.event_log_storage).__name__ == "PostgresEventLogStorage"
    assert Counter(keys) == Counter([*GOOD, BAD])
    assert not (story.home.root / "store").exists()


def test_two_runs_work_at_a_time(story: Story) -> None:
    with instance(story.home) as dagster:
        runs = dagster.get_run_records(dg.RunsFilter(job_name="rescue_photos"))
    assert len(runs) > PHOTOS // BATCH, "each batch has its run, and the killed one's comes again"
    assert {each.dagster_run.tags[CATALOG_TAG] for each in runs} == {CATALOG}
    assert most_at_once(list(runs)) == AT_A_TIME


def test_a_killed_run_is_marked_as_failed_and_its_photos_are_made_once(story: Story) -> None:
    run_id, done = story.killed
    assert done > 0
    with instance(story.home) as dagster:
        killed = dagster.get_run_by_id(run_id)
        assert killed is not None
        statuses = Counter(run.status for run in dagster.get_runs())
        again = dagster.get_run_by_id(killed.tags[AUTO_RETRY_RUN_ID_TAG])
    assert killed.status is dg.DagsterRunStatus.FAILURE
    assert again is not None
    assert again.status is dg.DagsterRunStatus.SUCCESS, "Dagster's own retry is no orphan"
    assert set(statuses) == {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE}
    places = Counter((each.key, each.version) for each in story.before.values())
    wanted = [(key, version) for key in GOOD for version in Version]
    assert places == Counter([*wanted, (BAD, Version.RAW)])
    first = [each for each in story.before.values() if each.run_id == run_id]
    # Published files come before their records: of the last one there may be none yet.
    assert len(first) >= (done - 1) * len(Version) > 0, "what it had made is kept"


def test_one_bad_photo_stops_alone(story: Story) -> None:
    stopped = [record for record in story.before.values() if record.verdict.stops]
    assert [(each.key, each.verdict) for each in stopped] == [(BAD, Verdict.QUARANTINED)]


def test_what_runs_print_is_in_the_bucket(story: Story, bucket_server: Server) -> None:
    listed = bucket_server.client().list_objects_v2(Bucket="shop", Prefix="compute-logs/")
    assert listed["KeyCount"] > 0


def test_a_backfill_from_the_ui_makes_what_a_new_policy_asks_for(story: Story) -> None:
    set_policy(story.home, renditions=[{"name": "web", "long_side": 32}])
    story.fleet.reload()
    backfill_id = story.fleet.backfill([Version.PUBLISHED], GOOD)
    with instance(story.home) as dagster:

        def is_over() -> bool:
            found = dagster.get_backfill(backfill_id)
            return found is not None and found.status in (
                BulkActionStatus.COMPLETED_SUCCESS,
                BulkActionStatus.COMPLETED_FAILED,
                BulkActionStatus.FAILED,
            )

        until(is_over, PATIENCE_S, "the backfill does not end", every_s=0.5)
        found = dagster.get_backfill(backfill_id)
        assert found is not None
        assert found.status is BulkActionStatus.COMPLETED_SUCCESS, found.error
        made = dagster.fetch_materializations(dg.AssetKey("published"), limit=1000).records
    after = story.records()
    for key in GOOD:
        for version in Version:
            same = after[key, version].to_json() == story.before[key, version].to_json()
            assert same == (version is not Version.PUBLISHED), (key, version)
        (rendition,) = after[key, Version.PUBLISHED].renditions
        sha256 = story.store.published_sha256(CATALOG, rendition.path)
        assert sha256 == rendition.object.sha256
    ours = {after[key, Version.PUBLISHED].run_id for key in GOOD}
    assert Counter(each.partition_key for each in made if each.run_id in ours) == Counter(GOOD), (
        "each once"
    )


def test_the_audit_finds_bucket_and_postgres_in_agreement(story: Story) -> None:
    code, told = story.command("audit")
    assert (told["problems"], told["images"], code) == ([], PHOTOS + 1, 0)
    code, told = story.command("audit", GOOD[0])
    assert (told["problems"], told["images"], code) == ([], 1, 0)
