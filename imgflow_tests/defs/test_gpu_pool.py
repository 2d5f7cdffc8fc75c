"""The pool `gpu`: so many runs work at a time, and a killed one gives its place back."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext
from dagster._core.remote_origin import (
    InProcessCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import (
    QueuedRunCoordinatorDaemon,
)

from imgflow.definitions import defs
from imgflow.defs.naming import PLAIN
from imgflow.defs.orphans import fail_orphans, process_tag

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def settings() -> dict[str, object]:
    """The project's dagster.yaml."""
    found: dict[str, object] = yaml.safe_load((PROJECT / "dagster.yaml").read_text())
    return found


@pytest.fixture
def dagster(
    tmp_path: Path, settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    """An instance as the project sets it, where nothing but the pool holds runs back."""
    settings["concurrency"]["runs"]["max_concurrent_runs"] = 20  # type: ignore[index]
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with dg.DagsterInstance.from_config(str(tmp_path)) as found:
        found.add_dynamic_partitions(PLAIN.partitions, ["a.png"])
        yield found


def queue(dagster: dg.DagsterInstance) -> str:
    """A run of the line that waits in the queue."""
    location = InProcessCodeLocationOrigin(LoadableTargetOrigin(python_file="x.py"))
    repository = RemoteRepositoryOrigin(location, "__repository__")
    run = dagster.create_run_for_job(
        defs.resolve_job_def("rescue_photos"),
        tags={"dagster/partition": "a.png"},
        status=dg.DagsterRunStatus.QUEUED,
        remote_job_origin=RemoteJobOrigin(repository, "rescue_photos"),
    )
    return run.run_id


def start(dagster: dg.DagsterInstance, run_id: str, tags: dict[str, str]) -> None:
    dagster.add_run_tags(run_id, tags)
    event = dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, "rescue_photos")
    dagster.report_dagster_event(event, run_id)


def let_through(dagster: dg.DagsterInstance) -> list[str]:
    """The runs that an iteration of Dagster's daemon would start now."""
    daemon = QueuedRunCoordinatorDaemon(interval_seconds=1)
    found = daemon._get_runs_to_dequeue(dagster, dagster.get_concurrency_config(), None)
    return [run.run_id for run in found]


def test_one_run_at_a_time_until_the_limit_is_raised(dagster: dg.DagsterInstance) -> None:
    runs = [queue(dagster) for _ in range(3)]
    let_through(dagster)  # the first iteration makes the pool known, with its default limit
    assert let_through(dagster) == runs[:1]
    # The command that dagster.yaml names.
    command = [Path(sys.executable).with_name("dagster"), "instance", "concurrency", "set"]
    subprocess.run([*command, "gpu", "2"], check=True, capture_output=True, env={**os.environ})
    assert let_through(dagster) == runs[:2]


def test_a_killed_run_gives_its_place_back(dagster: dg.DagsterInstance) -> None:
    killed, waiting = queue(dagster), queue(dagster)
    let_through(dagster)
    (tag, process), *_ = process_tag().items()
    machine = process.rpartition("/")[0]
    start(dagster, killed, {tag: f"{machine}/999999999:0"})
    assert let_through(dagster) == []
    assert fail_orphans(dagster) == [killed]
    assert let_through(dagster) == [waiting]


def test_a_run_from_a_terminal_does_not_wait_but_takes_a_place(dagster: dg.DagsterInstance) -> None:
    waiting = queue(dagster)
    let_through(dagster)
    terminal = dagster.create_run_for_job(
        defs.resolve_job_def("rescue_photos"), tags={"dagster/partition": "a.png"}
    )
    start(dagster, terminal.run_id, process_tag())
    with InstanceConcurrencyContext(dagster, terminal) as places:
        assert places.claim("gpu", "rescue")
        assert places.claim("gpu", "rescue of another run")
    assert let_through(dagster) == []
    dagster.report_run_failed(dagster.get_run_by_id(terminal.run_id))
    assert let_through(dagster) == [waiting]


def test_the_project_lets_one_run_work_at_a_time(settings: dict[str, object]) -> None:
    assert settings["concurrency"] == {
        "runs": {"max_concurrent_runs": 1},
        "pools": {"granularity": "run", "default_limit": 1},
    }
    assets = [each for each in defs.assets or [] if isinstance(each, dg.AssetsDefinition)]
    # Table and report of the whole catalog need no place on the card.
    assert {each.op.name: each.op.pool for each in assets} == {
        "rescue": "gpu",
        "catalog": None,
        "quality_report": None,
    }
