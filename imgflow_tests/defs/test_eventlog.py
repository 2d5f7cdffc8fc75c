"""Dagster's events as the lineage sees them: both readers say the same, and records agree."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from PIL import Image

from imgflow.definitions import line_definitions
from imgflow.defs.eventlog import InstanceEvents, SqliteEvents, event_source
from imgflow.defs.launch import dagster_home, instance, launch
from imgflow.defs.resources import Progress
from imgflow.home import CATALOG, Home
from imgflow.lineage.audit import audit
from imgflow.lineage.events import RECORD_DIGITS
from imgflow.lineage.record import Version
from imgflow.store.keys import ImageKey

KEYS = ["odd 'name' \N{SNOWMAN}.png", "photo.png"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """Two small photos that went through Dagster twice, the second time made anew."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        home = Home(tmp_path_factory.mktemp("home") / "data")
        home.uploads.root.mkdir(parents=True)
        home.policy_file.write_text(
            "detext: {text: none}\nupscale: {max_scale: 1, sharpen_below: 0}\nrun: {workers: 1}\n"
            "renditions: [{name: web, long_side: 64}]\n"
        )
        for key in KEYS:
            Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(home.uploads.root / key)
        keys = [key for key, _ in home.uploads.scan().photos]
        assert [run.error for run in launch(keys, home, Progress())] == [""]
        assert [run.error for run in launch(keys[1:], home, Progress(), force=True)] == [""]
        yield home


@pytest.fixture
def dagster(home: Home) -> Iterator[dg.DagsterInstance]:
    with instance(home) as found:
        yield found


def test_both_readers_say_the_same(home: Home, dagster: dg.DagsterInstance) -> None:
    slow = InstanceEvents(dagster)
    with SqliteEvents(dagster_home(home)) as fast:
        assert sorted(fast.keys()) == sorted(slow.keys()) == sorted(KEYS)
        assert dict(fast.shown([*KEYS, "none.png"])) == dict(slow.shown([*KEYS, "none.png"]))
        assert [len(fast.shown(KEYS)[key]) for key in KEYS] == [5, 10]
        assert fast.shown([]) == slow.shown([]) == {}
        assert fast.running() == slow.running() == set()
        run = dagster.create_run_for_job(line_definitions().resolve_job_def("rescue_photos"))
        assert set(fast.running()) == set(slow.running()) == {run.run_id}
        dagster.delete_run(run.run_id)


def test_events_name_their_records(home: Home) -> None:
    with event_source(home) as events:
        assert isinstance(events, SqliteEvents)  # Dagster itself is not needed
        last = {event.version: event for event in events.shown(KEYS)["photo.png"]}
    for version in Version:
        sha256 = home.store.record_sha256(CATALOG, ImageKey("photo.png"), version)
        assert last[version].record == sha256[:RECORD_DIGITS]


def test_records_and_events_agree(home: Home) -> None:
    with event_source(home) as events:
        images = list(audit(home.store, CATALOG, events))
    assert [each.problems for each in images] == [[], []]
    assert sum(each.events for each in images) == 15


@pytest.mark.parametrize(
    ("settings", "reader"),
    [
        ("", SqliteEvents),
        ("telemetry: {enabled: false}", SqliteEvents),
        ("event_log_storage: {module: m, class: Other}", None),
        ("storage: {sqlite: {base_dir: /elsewhere}}", None),
    ],
)
def test_another_storage_is_read_through_dagster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: str, reader: type | None
) -> None:
    from imgflow.defs import eventlog

    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    home = Home(tmp_path)
    home.dagster.mkdir()
    (home.dagster / "dagster.yaml").write_text(settings)
    assert eventlog._is_sqlite(home.dagster) is (reader is not None)


def test_where_nothing_has_run_there_is_no_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    with event_source(Home(tmp_path)) as events:
        assert events is None
