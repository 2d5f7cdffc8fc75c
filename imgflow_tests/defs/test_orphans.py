"""Runs whose process is gone, at every step of their way."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest

from imgflow.defs import orphans
from imgflow.defs.launch import instance
from imgflow.defs.orphans import fail_orphans, process_tag
from imgflow.home import Home

Status = dg.DagsterRunStatus
GONE = {**process_tag(), "imgflow/process": process_tag()["imgflow/process"] + "1"}


@pytest.fixture
def dagster(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    with instance(home) as found:
        yield found


def add(dagster: dg.DagsterInstance, status: Status, tags: dict[str, str]) -> str:
    return dagster.add_run(dg.DagsterRun("rescue_photos", status=status, tags=tags)).run_id


def status_of(dagster: dg.DagsterInstance, run_id: str) -> Status:
    run = dagster.get_run_by_id(run_id)
    assert run is not None
    return run.status


@pytest.mark.parametrize(
    ("status", "after"),
    [(Status.STARTED, Status.FAILURE), (Status.CANCELING, Status.CANCELED)],
)
def test_a_run_whose_process_is_gone_has_ended(
    dagster: dg.DagsterInstance, status: Status, after: Status
) -> None:
    run_id = add(dagster, status, GONE)
    assert fail_orphans(dagster) == [run_id]
    assert status_of(dagster, run_id) is after
    assert fail_orphans(dagster) == []


@pytest.mark.parametrize("status", [Status.NOT_STARTED, Status.STARTING, Status.STARTED])
def test_a_run_that_never_said_its_process_is_given_time_to_start(
    dagster: dg.DagsterInstance, status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before it came to work, or never launched as the daemon was killed."""
    run_id = add(dagster, status, {})
    monkeypatch.setattr(orphans, "_LOADED", 0.0)
    assert fail_orphans(dagster) == []
    monkeypatch.setattr(orphans, "START_S", 0.0)
    assert fail_orphans(dagster) == [run_id]
    assert status_of(dagster, run_id) is Status.FAILURE


def test_what_waited_while_nothing_was_running_is_given_time_again(
    dagster: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = add(dagster, Status.STARTING, {})
    later = 2 * orphans.START_S
    now = orphans.time.time()
    monkeypatch.setattr(orphans, "_LOADED", now + later)
    monkeypatch.setattr(orphans.time, "time", lambda: now + later)
    assert fail_orphans(dagster) == []
    monkeypatch.setattr(orphans.time, "time", lambda: now + 2 * later)
    assert fail_orphans(dagster) == [run_id]


@pytest.mark.parametrize("status", [Status.STARTED, Status.CANCELING])
def test_a_run_at_work_is_left_alone(dagster: dg.DagsterInstance, status: Status) -> None:
    run_id = add(dagster, status, process_tag())
    assert fail_orphans(dagster) == []
    assert status_of(dagster, run_id) is status


@pytest.mark.parametrize("status", [Status.NOT_STARTED, Status.STARTING, Status.STARTED])
def test_a_run_that_dagster_tries_again_is_not_taken_for_the_one_that_was_killed(
    dagster: dg.DagsterInstance, status: Status
) -> None:
    """It has the tags of that one, until it says its own process."""
    killed = add(dagster, Status.FAILURE, GONE)
    again = dg.DagsterRun(
        "rescue_photos", status=status, tags=GONE, parent_run_id=killed, root_run_id=killed
    )
    run_id = dagster.add_run(again).run_id
    assert fail_orphans(dagster) == []
    dagster.add_run_tags(run_id, process_tag())
    assert fail_orphans(dagster) == []
    dagster.add_run_tags(run_id, {"imgflow/process": GONE["imgflow/process"] + "2"})
    assert fail_orphans(dagster) == [run_id]
