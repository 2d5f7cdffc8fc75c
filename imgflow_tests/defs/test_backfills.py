"""Backfills as the Dagster UI asks for them: its mutation, the daemons' own iterations, real runs.

One instance for all: six photos are its first six partitions, and all versions of them are made
by the first backfill. Workers are the pool's matter (test_pool.py, test_batch.py): here images
are done in this process.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES, BulkActionStatus
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.backfill import execute_backfill_iteration
from dagster._daemon.run_coordinator import QueuedRunCoordinatorDaemon
from dagster_graphql.test.utils import execute_dagster_graphql
from PIL import Image
from samples import at_once

from imgflow import batch
from imgflow.defs.launch import instance
from imgflow.defs.partitions import add_keys
from imgflow.home import CATALOG, Home
from imgflow.lineage.record import Record, Version
from imgflow.store.keys import ImageKey

# Sent when a person presses "Launch backfill" in the materialize dialog.
LAUNCH = """
mutation LaunchPartitionBackfill($backfillParams: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $backfillParams) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""
SETTINGS = """
telemetry: {enabled: false}
run_launcher:
  module: dagster._core.launcher.sync_in_memory_run_launcher
  class: SyncInMemoryRunLauncher
event_log_storage:
  module: imgflow.defs.storage
  class: WarmSqliteEventLogStorage
  config: {dagster_home: {env: DAGSTER_HOME}}
concurrency: {runs: {max_concurrent_runs: 1}}
"""
ALL = tuple(Version)
PHOTOS = [f"photo_{number}.png" for number in range(6)]
BAD, NEW = "bad.png", "new.png"


@dataclass(frozen=True)
class Backfill:
    """What a backfill came to. made: (version, photo) of each materialization."""

    status: BulkActionStatus
    runs: list[dg.DagsterRun]
    made: Counter[tuple[str, str]]
    errors: str

    @property
    def outcomes(self) -> list[dg.DagsterRunStatus]:
        return [run.status for run in self.runs]


@dataclass(frozen=True)
class Service:
    """The line in service: its installation, its Dagster, and both daemons that backfills need."""

    home: Home
    dagster: dg.DagsterInstance
    workspace: WorkspaceProcessContext

    def backfill(
        self, versions: Iterable[Version], photos: Iterable[str] | None = None
    ) -> Backfill:
        """photos: None for all partitions."""
        params: dict[str, Any] = {
            "assetSelection": [{"path": [str(version)]} for version in versions],
            "tags": [],
        }
        params |= {"allPartitions": True} if photos is None else {"partitionNames": [*photos]}
        context = self.workspace.create_request_context()
        result = execute_dagster_graphql(context, LAUNCH, {"backfillParams": params})
        launched = result.data["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        return self.carried_out(launched["backfillId"])

    def carried_out(self, identity: str) -> Backfill:
        logger = logging.getLogger("backfill-test")
        queue = QueuedRunCoordinatorDaemon(interval_seconds=1)
        for _ in range(6):
            assert not any(execute_backfill_iteration(self.workspace, logger))
            list(queue.run_iteration(self.workspace))
            found = self.dagster.get_backfill(identity)
            assert found is not None
            if found.status in BULK_ACTION_TERMINAL_STATUSES:
                break
        runs = self.dagster.get_runs(dg.RunsFilter(tags={"dagster/backfill": identity}))
        made: Counter[tuple[str, str]] = Counter()
        errors = []
        for run in runs:
            for entry in self.dagster.all_logs(run.run_id):
                event = entry.dagster_event
                if event is not None and event.is_step_materialization:
                    stored = event.step_materialization_data.materialization
                    made[stored.asset_key.to_user_string(), str(stored.partition)] += 1
                if event is not None and event.is_step_failure:
                    data = event.step_failure_data.user_failure_data
                    errors.append(data.description if data else str(event.message))
        return Backfill(found.status, [*runs], made, "\n".join(errors))

    def record(self, photo: str, version: Version) -> Record:
        found = self.home.store.get_record(CATALOG, ImageKey(photo), version)
        assert found is not None
        return found

    def records(self) -> dict[tuple[str, Version], Record]:
        return {(each.key, each.version): each for each in self.home.store.records(CATALOG)}


def draw(path: Path, number: int) -> None:
    ramp = np.linspace(40 + 10 * number, 200, 64 * 64, dtype=np.uint8).reshape(64, 64)
    Image.fromarray(np.stack([ramp, ramp.T, ramp], axis=2)).save(path)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Backfill]]:
    """The line with its first backfill done: all partitions of all versions."""
    folder = tmp_path_factory.mktemp("service")
    home = Home(folder / "data")
    home.uploads.root.mkdir(parents=True)
    policy(home, 48)
    for number, name in enumerate(PHOTOS):
        draw(home.uploads.root / name, number)
    home.dagster.mkdir()
    (home.dagster / "dagster.yaml").write_text(SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        patch.setenv("IMGFLOW_HOME", str(home.root))
        patch.setattr(batch, "supervise", at_once)
        origin = InProcessCodeLocationOrigin(
            LoadableTargetOrigin(executable_path=sys.executable, module_name="imgflow.definitions"),
            location_name="imgflow",
        )
        with (
            instance(home) as dagster,
            WorkspaceProcessContext(dagster, InProcessWorkspaceLoadTarget(origin)) as workspace,
        ):
            line = Service(home, dagster, workspace)
            add_keys(dagster, [ImageKey(name) for name in PHOTOS])
            yield line, line.backfill(ALL)


@pytest.fixture
def line(service: tuple[Service, Backfill]) -> Service:
    return service[0]


def policy(home: Home, web: int) -> None:
    home.policy_file.write_text(
        "upscale: {max_scale: 1, sharpen_below: 0}\ndetext: {text: none}\nrun: {workers: 1}\n"
        f"renditions: [{{name: web, long_side: {web}}}]\n"
    )


def each_once(versions: Iterable[Version], photos: Iterable[str]) -> Counter[tuple[str, str]]:
    photos = list(photos)
    return Counter((str(version), photo) for version in versions for photo in photos)


def test_all_versions_of_all_partitions_are_one_run(service: tuple[Service, Backfill]) -> None:
    _, first = service
    assert first.status is BulkActionStatus.COMPLETED_SUCCESS
    assert first.outcomes == [dg.DagsterRunStatus.SUCCESS]
    assert first.made == each_once(ALL, PHOTOS)


@pytest.mark.parametrize(
    ("positions", "runs"),
    [
        pytest.param([1, 2, 3], 1, id="adjacent"),
        pytest.param([0, 1, 3, 4], 2, id="gapped"),
        pytest.param([0, 2, 5], 3, id="scattered"),
        pytest.param([4], 1, id="single"),
    ],
)
def test_any_partitions_are_made_in_a_run_per_stretch(
    line: Service, positions: list[int], runs: int
) -> None:
    photos = [PHOTOS[position] for position in positions]
    done = line.backfill(ALL, photos)
    assert done.status is BulkActionStatus.COMPLETED_SUCCESS
    assert done.outcomes == [dg.DagsterRunStatus.SUCCESS] * runs
    assert done.made == each_once(ALL, photos)


@pytest.mark.parametrize(
    "versions",
    [
        pytest.param([Version.RAW], id="first"),
        pytest.param([Version.INPAINTED], id="middle"),
        pytest.param([Version.DETEXTED, Version.INPAINTED], id="adjacent"),
        pytest.param([Version.DETEXTED, Version.PUBLISHED], id="gap"),
        pytest.param([Version.RAW, Version.INPAINTED, Version.PUBLISHED], id="two-gaps"),
    ],
)
def test_any_versions_are_made_together_in_one_run(line: Service, versions: list[Version]) -> None:
    before = line.records()
    done = line.backfill(versions, PHOTOS[:3])
    assert done.status is BulkActionStatus.COMPLETED_SUCCESS
    assert done.outcomes == [dg.DagsterRunStatus.SUCCESS]
    assert done.made == each_once(versions, PHOTOS[:3])
    assert line.records() == before, "nothing has changed: all is reused"


def test_versions_with_a_gap_of_scattered_partitions(line: Service) -> None:
    photos = [PHOTOS[0], PHOTOS[3]]
    versions = [Version.DETEXTED, Version.PUBLISHED]
    done = line.backfill(versions, photos)
    assert done.outcomes == [dg.DagsterRunStatus.SUCCESS] * 2
    assert done.made == each_once(versions, photos)


def test_a_later_version_alone_is_made_from_the_recorded_ones(line: Service) -> None:
    before = line.records()
    policy(line.home, 24)
    try:
        done = line.backfill([Version.PUBLISHED], PHOTOS[:2])
        assert done.made == each_once([Version.PUBLISHED], PHOTOS[:2])
        after = line.records()
        changed = {place for place in before if before[place] != after[place]}
        assert changed == {(photo, Version.PUBLISHED) for photo in PHOTOS[:2]}
        for photo, version in changed:
            (web,) = after[photo, version].renditions
            assert web.object.width == 24
            assert after[photo, version].run_id == done.runs[0].run_id
    finally:
        policy(line.home, 48)
        line.backfill([Version.PUBLISHED], PHOTOS[:2])


def test_what_lacks_an_earlier_version_is_refused_and_the_rest_is_made(line: Service) -> None:
    """Nothing is left out silently: the run fails after its last image, and says what to do."""
    draw(line.home.uploads.root / NEW, 9)
    add_keys(line.dagster, [ImageKey(NEW)])
    done = line.backfill([Version.DETEXTED, Version.PUBLISHED], [PHOTOS[5], NEW])
    assert done.status is BulkActionStatus.COMPLETED_FAILED
    assert done.outcomes == [dg.DagsterRunStatus.FAILURE]
    assert done.made == each_once([Version.DETEXTED, Version.PUBLISHED], [PHOTOS[5]])
    assert f"{NEW}: raw is not made yet" in done.errors
    assert line.backfill(ALL, [NEW]).made == each_once(ALL, [NEW])


def test_a_gap_over_versions_never_made_is_refused(line: Service) -> None:
    name = "gap.png"
    draw(line.home.uploads.root / name, 10)
    add_keys(line.dagster, [ImageKey(name)])
    done = line.backfill([Version.RAW, Version.PUBLISHED], [name])
    assert done.made == each_once([Version.RAW], [name])
    assert f"{name}: detexted is not made yet" in done.errors


def test_a_later_version_of_a_stopped_photo_is_not_made_and_the_run_says_why(
    line: Service,
) -> None:
    (line.home.uploads.root / BAD).write_text("<html>404</html>")
    add_keys(line.dagster, [ImageKey(BAD)])
    assert line.backfill(ALL, [BAD]).made == Counter()
    done = line.backfill([Version.PUBLISHED], [PHOTOS[0], BAD])
    assert set(done.outcomes) == {dg.DagsterRunStatus.SUCCESS}
    assert done.made == each_once([Version.PUBLISHED], [PHOTOS[0]])
    messages = [
        entry.user_message for run in done.runs for entry in line.dagster.all_logs(run.run_id)
    ]
    assert any(f"{BAD} stopped at raw" in message for message in messages)
