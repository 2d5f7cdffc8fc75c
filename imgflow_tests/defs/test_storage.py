"""The warm event log: Dagster's own files, kept open."""

from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.event_log import SqliteEventLogStorage

from imgflow.defs import storage
from imgflow.defs.launch import instance
from imgflow.defs.storage import WarmSqliteEventLogStorage
from imgflow.home import Home


def test_the_project_uses_it(tmp_path: Path) -> None:
    with instance(Home(tmp_path)) as found:
        assert isinstance(found.event_log_storage, WarmSqliteEventLogStorage)


def test_dagsters_own_storage_reads_what_it_wrote(tmp_path: Path) -> None:
    with instance(Home(tmp_path)) as found:
        found.report_runless_asset_event(dg.AssetMaterialization("a", partition="x"))
    plain = SqliteEventLogStorage(str(tmp_path / "dagster" / "history" / "runs"))
    assert plain.get_materialized_partitions(dg.AssetKey("a")) == {"x"}


def test_only_the_latest_databases_stay_open(tmp_path: Path) -> None:
    log = WarmSqliteEventLogStorage(str(tmp_path))
    for number in range(storage._KEPT_OPEN + 3):
        with log.run_connection(f"run-{number}"):
            pass
    assert len(log._engines) == storage._KEPT_OPEN
    log.dispose()
    assert not log._engines


def test_a_table_is_looked_for_until_it_is_there_and_never_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = WarmSqliteEventLogStorage(str(tmp_path))
    answers = [False, True]
    monkeypatch.setattr(SqliteEventLogStorage, "has_table", lambda *_: answers.pop(0))
    assert [log.has_table("later") for _ in range(4)] == [False, True, True, True]


def test_outside_a_project_telemetry_is_off_and_inside_it_its_settings_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    project = Path.cwd()
    monkeypatch.chdir(tmp_path)
    with instance(Home(tmp_path / "data")) as found:
        assert not found.telemetry_enabled
        assert not isinstance(found.event_log_storage, WarmSqliteEventLogStorage)
    monkeypatch.chdir(project)
    with instance(Home(tmp_path / "data")) as found:
        assert isinstance(found.event_log_storage, WarmSqliteEventLogStorage)
