"""The daily refresh on a real instance."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import numpy as np
import pytest
from PIL import Image

from imgflow.definitions import line_definitions
from imgflow.defs import schedules
from imgflow.defs.launch import instance
from imgflow.defs.resources import HomeResource
from imgflow.errors import StoreError
from imgflow.home import CATALOG, Home
from imgflow.lineage.record import Verdict, Version
from imgflow.store.keys import ImageKey

POLICY = "upscale: {max_scale: 1}\ndetext: {text: none}\nrun: {workers: 1, batch_size: 3}\n"
NIGHT = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setattr("imgflow.refresh.STABLE_S", 0.0)
    found = Home(tmp_path / "data")
    found.uploads.root.mkdir(parents=True)
    found.policy_file.write_text(POLICY)
    for number in range(4):
        upload(found, f"{number}.png", number)
    return found


@pytest.fixture
def dagster(home: Home) -> Iterator[dg.DagsterInstance]:
    with instance(home) as found:
        yield found


def upload(home: Home, name: str, shade: int) -> None:
    ramp = np.linspace(30 + 10 * shade, 200, 48 * 48, dtype=np.uint8).reshape(48, 48)
    Image.fromarray(np.stack([ramp, ramp.T, ramp], axis=2)).save(home.uploads.root / name)


def tick(home: Home, dagster: dg.DagsterInstance, at: datetime = NIGHT) -> list[dg.RunRequest]:
    definitions = line_definitions(str(home.root))
    context = dg.build_schedule_context(
        instance=dagster,
        scheduled_execution_time=at,
        repository_def=definitions.get_repository_def(),
        resources={"home": HomeResource(root=str(home.root))},
    )
    found = definitions.resolve_schedule_def("catalog_refresh").evaluate_tick(context)
    return list(found.run_requests or [])


def execute(home: Home, dagster: dg.DagsterInstance, requests: list[dg.RunRequest]) -> None:
    job = line_definitions(str(home.root)).resolve_job_def("rescue_photos")
    for each in requests:
        done = job.execute_in_process(
            instance=dagster, tags=dict(each.tags), run_config=each.run_config
        )
        assert done.success


def why(requests: list[dg.RunRequest]) -> list[str]:
    return [each.tags["imgflow/why"] for each in requests]


def test_new_then_nothing_then_stale_then_retired(home: Home, dagster: dg.DagsterInstance) -> None:
    requests = tick(home, dagster)
    assert why(requests) == ["new", "new"]  # four photos, three a run
    execute(home, dagster, requests)
    assert tick(home, dagster) == []  # done for the day
    assert tick(home, dagster, NIGHT + timedelta(days=1)) == []  # compared, and all is well

    home.policy_file.write_text(POLICY + "renditions: [{name: web, long_side: 40}]\n")
    requests = tick(home, dagster, NIGHT + timedelta(days=2))
    assert why(requests) == ["stale", "stale"]
    execute(home, dagster, requests)

    home.policy_file.write_text(
        POLICY + "renditions: [{name: web, long_side: 40}]\nrefresh: {retire_missing: true}\n"
    )
    (home.uploads.root / "0.png").unlink()
    assert tick(home, dagster, NIGHT + timedelta(days=3)) == []
    record = home.store.get_record(CATALOG, ImageKey("0.png"), Version.PUBLISHED)
    assert record is not None
    assert record.verdict is Verdict.RETIRED
    assert "0.png" in dagster.get_dynamic_partitions("photos")


def test_a_pass_goes_on_where_the_tick_before_stopped(
    home: Home, dagster: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedules, "MAX_KEYS", 3)
    first = tick(home, dagster)
    second = tick(home, dagster, NIGHT + timedelta(minutes=5))
    assert [request.tags["dagster/asset_partition_range_end"] for request in first] == ["2.png"]
    assert [request.tags["dagster/asset_partition_range_end"] for request in second] == ["3.png"]
    assert tick(home, dagster, NIGHT + timedelta(minutes=10)) == []


def test_a_refresh_does_without_the_right_to_sweep_a_bucket() -> None:
    def refused() -> int:
        raise StoreError("store_forbidden", "the credentials do not allow this")

    home: Any = SimpleNamespace(store=SimpleNamespace(sweep=refused))
    context = dg.build_schedule_context()
    assert schedules._sweep_bucket(context, home) == 0


def test_photos_that_a_full_set_has_no_place_for_do_not_hold_up_the_others(
    home: Home, dagster: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imgflow.defs.partitions.MOST_KEYS", 3)
    requests = tick(home, dagster)
    assert [request.tags["dagster/asset_partition_range_end"] for request in requests] == ["2.png"]
    assert dagster.get_dynamic_partitions("photos") == ["0.png", "1.png", "2.png"]
    event = dagster.get_latest_materialization_event(dg.AssetKey("refresh"))
    assert event is not None
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    assert (metadata["new"].value, metadata["problems"].value) == (3, 1)
    assert "1 photos have no place" in str(metadata["cannot be taken"].value)


def test_the_schedule_runs_by_itself_once_a_night() -> None:
    schedule = line_definitions().resolve_schedule_def("catalog_refresh")
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    assert schedule.cron_schedule == schedules.REFRESH_CRON
