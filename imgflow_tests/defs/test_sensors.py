"""The upload sensor on a real instance: what a tick asks for, over several ticks."""

import json
import platform
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from PIL import Image

from imgflow.batch import Order
from imgflow.chain import rescue
from imgflow.definitions import line_definitions
from imgflow.defs import sensors
from imgflow.defs.launch import instance
from imgflow.defs.partitions import add_keys, known_keys
from imgflow.defs.queue import keys_of
from imgflow.defs.reported import unreported
from imgflow.defs.resources import HomeResource
from imgflow.home import CATALOG, Home
from imgflow.lineage.record import Verdict, Version
from imgflow.store.keys import ImageKey
from imgflow.watch import index_file


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    found = Home(tmp_path / "data")
    found.uploads.root.mkdir(parents=True)
    found.policy_file.write_text(
        "upscale: {max_scale: 1}\ndetext: {text: none}\nrun: {workers: 1, batch_size: 4}\n"
    )
    return found


class Daemon:
    """Ticks the sensor, and does with what it asks for as Dagster's daemon does."""

    def __init__(self, home: Home, dagster: dg.DagsterInstance) -> None:
        self.home, self.instance = home, dagster
        self.definitions = line_definitions(str(home.root))
        self.job = self.definitions.resolve_job_def("rescue_photos")
        self.cursor: str | None = None
        self.skipped = ""

    def evaluate(self) -> list[dg.RunRequest]:
        """What a tick asks for; nothing of it is done, as in a test of the sensor in the UI."""
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            definitions=self.definitions,
            resources={"home": HomeResource(root=str(self.home.root))},
        )
        sensor = self.definitions.resolve_sensor_def("upload_sensor")
        self.result = sensor.evaluate_tick(context)
        self.skipped = self.result.skip_message or ""
        return list(self.result.run_requests or [])

    def tick(self) -> list[dg.RunRequest]:
        """The same, with its partitions added and its cursor kept."""
        requests = self.evaluate()
        for added in self.result.dynamic_partitions_requests or []:
            self.instance.add_dynamic_partitions("photos", list(added.partition_keys))
        self.cursor = self.result.cursor
        return requests

    def queue(self, requests: list[dg.RunRequest]) -> list[str]:
        """Make runs that do not begin; returns the keys of their images."""
        known = known_keys(self.instance)
        position = {key: at for at, key in enumerate(known)}
        keys: list[str] = []
        for request in requests:
            run = dg.DagsterRun(
                "rescue_photos", run_config=request.run_config, tags=dict(request.tags)
            )
            keys += keys_of(self.instance.add_run(run), known, position)
        return keys

    def execute(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        return self.job.execute_in_process(
            instance=self.instance, tags=dict(request.tags), run_config=request.run_config
        )


@pytest.fixture
def dagster(home: Home) -> Iterator[dg.DagsterInstance]:
    with instance(home) as found:
        yield found


@pytest.fixture
def daemon(home: Home, dagster: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Daemon:
    monkeypatch.setattr("imgflow.watch.STABLE_S", 0.0)
    return Daemon(home, dagster)


def upload(home: Home, name: str, shade: int = 0) -> None:
    ramp = np.linspace(30 + 10 * shade, 200, 48 * 48, dtype=np.uint8).reshape(48, 48)
    path = home.uploads.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.stack([ramp, ramp.T, ramp], axis=2)).save(path)


def range_of(request: dg.RunRequest) -> tuple[str, str]:
    prefix = "dagster/asset_partition_range_"
    return request.tags[f"{prefix}start"], request.tags[f"{prefix}end"]


def test_the_sensor_runs_by_itself_and_asks_for_the_job() -> None:
    sensor = line_definitions().resolve_sensor_def("upload_sensor")
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    assert sensor.job_name == "rescue_photos"
    assert sensor.minimum_interval_seconds == 30


def test_new_photos_are_requested_as_a_range_and_a_run_of_it_makes_them(
    home: Home, daemon: Daemon, dagster: dg.DagsterInstance
) -> None:
    for number in range(3):
        upload(home, f"{number}.png", number)
    (request,) = daemon.tick()
    assert range_of(request) == ("0.png", "2.png")
    assert request.tags["imgflow/why"] == "new"
    assert daemon.execute(request).success
    assert dagster.get_materialized_partitions(dg.AssetKey("published")) == {
        "0.png", "1.png", "2.png",
    }  # fmt: skip
    assert daemon.tick() == []
    assert daemon.tick() == []


def test_scattered_changes_are_requested_as_a_list_and_made(home: Home, daemon: Daemon) -> None:
    for number in range(4):
        upload(home, f"{number}.png", number)
    (request,) = daemon.tick()
    daemon.execute(request)
    assert daemon.tick() == []

    upload(home, "0.png", 8)
    upload(home, "2.png", 9)
    upload(home, "3.png", 3)  # the same bytes
    (request,) = daemon.tick()
    assert request.run_config["ops"]["rescue"]["config"]["keys"] == ["0.png", "2.png"]
    before = home.store.get_record(CATALOG, ImageKey("0.png"), Version.RAW)
    assert daemon.execute(request).success
    after = home.store.get_record(CATALOG, ImageKey("0.png"), Version.RAW)
    assert before is not None and after is not None
    assert before.original_sha256 != after.original_sha256
    assert daemon.tick() == []


def test_a_bad_photo_is_quarantined_once(home: Home, daemon: Daemon) -> None:
    (home.uploads.root / "bad.jpg").write_bytes(b"<html>")
    (home.uploads.root / "empty.jpg").write_bytes(b"")
    (request,) = daemon.tick()
    daemon.execute(request)
    for name in ("bad.jpg", "empty.jpg"):
        record = home.store.get_record(CATALOG, ImageKey(name), Version.RAW)
        assert record is not None
        assert record.verdict is Verdict.QUARANTINED
    assert daemon.tick() == []


def test_nothing_is_requested_twice_while_it_waits_in_the_queue(home: Home, daemon: Daemon) -> None:
    for number in range(6):
        upload(home, f"{number}.png", number)
    assert len(daemon.queue(daemon.tick())) == 6
    assert daemon.tick() == []
    assert "6 in a run" in daemon.skipped
    upload(home, "6.png", 6)
    assert daemon.queue(daemon.tick()) == ["6.png"]


def test_a_tick_that_was_lost_is_asked_again_with_the_same_run_key(
    home: Home, daemon: Daemon
) -> None:
    upload(home, "a.png")
    (lost,) = daemon.evaluate()
    (again,) = daemon.tick()
    assert again.run_key == lost.run_key
    (retry,) = daemon.tick()  # its run ended, and made nothing
    assert retry.run_key != again.run_key


def test_a_reset_cursor_has_everything_compared_again(home: Home, daemon: Daemon) -> None:
    upload(home, "a.png")
    for _ in range(6):
        daemon.tick()
    assert daemon.tick() == []  # no run has made it, again and again
    daemon.cursor = None
    assert len(daemon.tick()) == 1


def test_a_file_that_is_still_written_waits_for_a_later_tick(
    home: Home, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imgflow.watch.STABLE_S", 60.0)
    upload(home, "a.png")
    (home.uploads.root / "b.png.part").write_bytes(b"x")
    assert daemon.tick() == []
    assert "1 still being written" in daemon.skipped
    home.catalog_file.write_text("key\n")
    assert daemon.tick() == []
    assert "catalog.csv is still being written" in daemon.skipped
    monkeypatch.setattr("imgflow.watch.STABLE_S", 0.0)
    assert len(daemon.tick()) == 1


def test_a_manifest_that_comes_later_is_a_change(home: Home, daemon: Daemon) -> None:
    upload(home, "a.png")
    (request,) = daemon.tick()
    daemon.execute(request)
    (home.uploads.root / "a.png.json").write_text(json.dumps({"category": "knit"}))
    (request,) = daemon.tick()
    daemon.execute(request)
    record = home.store.get_record(CATALOG, ImageKey("a.png"), Version.RAW)
    assert record is not None
    assert record.traits["category"] == "knit"
    assert daemon.tick() == []


def test_problems_of_the_folder_and_catalog_are_told_once(
    home: Home, daemon: Daemon, capfd: pytest.CaptureFixture[str]
) -> None:
    (home.root / "outside.png").write_bytes(b"x")
    (home.uploads.root / "link.png").symlink_to(home.root / "outside.png")
    home.catalog_file.write_text("key,price\n")
    daemon.tick()
    told = capfd.readouterr().err
    assert "link.png" in told
    assert "price" in told
    daemon.tick()
    assert "WARNING" not in capfd.readouterr().err


def test_two_thousand_files_over_several_ticks_none_missed_none_doubled(
    home: Home, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.policy_file.write_text("run: {batch_size: 64}\n")
    names = [f"shelf {n % 7}/photo_{n:04}.jpg" for n in range(2000)]
    for number, name in enumerate(names):
        path = home.uploads.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"%d" % number)
    monkeypatch.setattr(sensors, "MAX_KEYS", 700)
    found: list[str] = []
    for expected in (700, 700, 600, 0):
        keys = daemon.queue(daemon.tick())
        assert len(keys) == expected
        assert len(daemon.cursor or "") < 1000
        found += keys
    assert sorted(found) == sorted(names)
    assert known_keys(daemon.instance) == sorted(names)


def test_a_tick_out_of_time_leaves_the_rest_for_the_next(
    home: Home, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(home, "a.png")
    monkeypatch.setattr(sensors, "BUDGET_S", -1.0)
    assert daemon.tick() == []
    assert "1 left" in daemon.skipped
    monkeypatch.setattr(sensors, "BUDGET_S", 10.0)
    assert len(daemon.tick()) == 1


def test_keys_that_are_partitions_already_are_requested_where_they_stand(
    home: Home, daemon: Daemon, dagster: dg.DagsterInstance
) -> None:
    for number in range(3):
        upload(home, f"{number}.png", number)
    add_keys(dagster, [ImageKey("2.png"), ImageKey("gone.png")])  # `imgflow ingest` does
    requests = daemon.tick()
    assert sorted(daemon.queue(requests)) == ["0.png", "1.png", "2.png"]


def test_a_catalog_that_is_not_valid_fails_the_tick_and_loses_nothing(
    home: Home, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(home, "a.png")
    home.catalog_file.write_text("key,asset_type\na.png,poster\n")
    with pytest.raises(Exception, match="poster"):
        daemon.tick()
    home.catalog_file.write_text("key,asset_type\na.png,hero\n")
    assert len(daemon.tick()) == 1


def test_the_index_may_be_deleted(home: Home, daemon: Daemon) -> None:
    upload(home, "a.png")
    (request,) = daemon.tick()
    daemon.execute(request)
    index_file(home).unlink()
    assert daemon.tick() == []


def test_what_a_killed_run_made_and_did_not_report_is_requested_again(
    daemon: Daemon, home: Home
) -> None:
    """Its record is there, so nothing is made again; without the run, Dagster would never know."""
    upload(home, "a.png")
    upload(home, "b.png", shade=1)
    (request,) = daemon.tick()
    rescue(ImageKey("a.png"), Order(home, run_id="killed").line())
    rescue(ImageKey("b.png"), Order(home, run_id="killed").line())
    killed = dg.DagsterRun(
        "rescue_photos",
        status=dg.DagsterRunStatus.STARTED,
        run_config=request.run_config,
        tags={**request.tags, "imgflow/process": f"{platform.node()}/1:1"},
    )
    daemon.instance.add_run(killed)

    (again,) = daemon.tick()
    assert again.tags["imgflow/why"] == "not shown"
    daemon.queue([again])
    assert daemon.tick() == [], "they are on their way"
    records = list(home.store.records(CATALOG))
    assert daemon.execute(again).success
    for version in Version:
        shown = daemon.instance.get_materialized_partitions(dg.AssetKey(str(version)))
        assert shown == {"a.png", "b.png"}
    assert list(home.store.records(CATALOG)) == records
    assert daemon.tick() == []


def test_a_later_making_that_was_not_reported_is_found_by_its_data_version(
    daemon: Daemon, home: Home
) -> None:
    upload(home, "a.png")
    for request in daemon.tick():
        daemon.execute(request)
    assert unreported(daemon.instance, home, ["a.png"]) == []
    upload(home, "a.png", shade=3)
    rescue(ImageKey("a.png"), Order(home, run_id="killed").line())
    assert unreported(daemon.instance, home, ["a.png"]) == ["a.png"]
