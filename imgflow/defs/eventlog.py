"""Dagster's event log as the lineage sees it.

Two readers of the same events: one through Dagster, for every storage that Dagster has, and one
that reads the SQLite file which it keeps by default. That one is there because importing Dagster
alone takes longer than the answer to "which model made this picture" may take.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgflow.defs.naming import Part, part_of, parts
from imgflow.lineage.events import EventSource, Shown
from imgflow.lineage.record import Version
from imgflow.policy.catalogs import MAIN_SPEC, CatalogSpec
from imgflow.store.keys import ImageKey

if TYPE_CHECKING:
    import dagster as dg

    from imgflow.home import Home

RECORD_TAG = "imgflow/record"
"""The tag of a materialization that says which record it is of."""
_DATA_VERSION = "dagster/data_version"
_PAGE = 1000
_ENDED = ("SUCCESS", "FAILURE", "CANCELED")
_MADE = "ASSET_MATERIALIZATION"
_SHOWN = """
SELECT asset_key, partition, run_id, json_extract(event, '$.timestamp'),
       json_extract(event, '$.dagster_event.event_specific_data.materialization.tags')
FROM event_logs
WHERE dagster_event_type = ? AND asset_key IN (SELECT value FROM json_each(?))
      AND partition IN (SELECT value FROM json_each(?))
ORDER BY id
"""
_KEYS = """
SELECT DISTINCT partition FROM event_logs
WHERE dagster_event_type = ? AND asset_key IN (SELECT value FROM json_each(?))
      AND partition IS NOT NULL
"""
_RUNNING = "SELECT run_id FROM runs WHERE status NOT IN (SELECT value FROM json_each(?))"
# Classes whose files are read without Dagster.
_SQLITE = ("SqliteEventLogStorage", "WarmSqliteEventLogStorage")


@contextmanager
def event_source(home: Home) -> Iterator[EventSource | None]:
    """The event log of a catalog; None where nothing has run in Dagster yet."""
    import os

    folder = Path(os.environ.get("DAGSTER_HOME") or home.dagster)
    if not _is_sqlite(folder):
        from imgflow.defs.launch import instance

        with instance(home) as found:
            yield InstanceEvents(found, home.spec)
    elif not (folder / "history" / "runs" / "index.db").is_file():
        yield None
    else:
        with SqliteEvents(folder, home.spec) as events:
            yield events


def _is_sqlite(folder: Path) -> bool:
    """Whether Dagster keeps its events in files below `folder`, as it does by default."""
    import yaml

    try:
        settings = yaml.safe_load((folder / "dagster.yaml").read_bytes())
    except FileNotFoundError:
        return True
    except (OSError, yaml.YAMLError):
        return False
    if not isinstance(settings, dict):
        return settings is None
    events = settings.get("event_log_storage", {"class": _SQLITE[0]})
    return (
        "storage" not in settings
        and "run_storage" not in settings
        and isinstance(events, dict)
        and events.get("class") in _SQLITE
        and (events.get("config") or {}).get("base_dir") is None
    )


class SqliteEvents:
    """The events in the files of Dagster's default storage, opened for reading alone."""

    def __init__(self, folder: Path, spec: CatalogSpec = MAIN_SPEC) -> None:
        self._history = folder / "history"
        self._versions = {
            json.dumps(part.path(version)): version for part in parts(spec) for version in Version
        }
        self._assets = json.dumps(list(self._versions))
        self._open = ExitStack()

    def __enter__(self) -> SqliteEvents:
        index = _connection(self._history / "runs" / "index.db")
        self._index = self._open.enter_context(closing(index))
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def shown(self, keys: Sequence[str]) -> Mapping[str, Sequence[Shown]]:
        found: dict[str, list[Shown]] = defaultdict(list)
        for asset, partition, run_id, at, tags in self._index.execute(
            _SHOWN, (_MADE, self._assets, json.dumps(list(keys)))
        ):
            said = json.loads(tags or "{}")
            found[partition].append(_shown(partition, self._versions[asset], said, run_id, at))
        return found

    def keys(self) -> Iterator[str]:
        for (partition,) in self._index.execute(_KEYS, (_MADE, self._assets)):
            yield partition

    def running(self) -> Collection[str]:
        with closing(_connection(self._history / "runs.db")) as runs:
            return {run_id for (run_id,) in runs.execute(_RUNNING, (json.dumps(_ENDED),))}


def _connection(path: Path) -> sqlite3.Connection:
    # One thread at a time reads; which one it is does not matter.
    uri = f"{path.absolute().as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, timeout=30, check_same_thread=False)


class InstanceEvents:
    """The events as Dagster tells them, wherever it keeps them."""

    def __init__(self, instance: dg.DagsterInstance, spec: CatalogSpec = MAIN_SPEC) -> None:
        self._instance = instance
        self._spec = spec

    def shown(self, keys: Sequence[str]) -> Mapping[str, Sequence[Shown]]:
        import dagster as dg

        found: dict[str, list[tuple[int, Shown]]] = defaultdict(list)
        sets: dict[Part, list[str]] = defaultdict(list)
        for key in keys:
            sets[part_of(self._spec, ImageKey(key))].append(key)
        for part, version in product(sets, Version):
            wanted = dg.AssetRecordsFilter(
                asset_key=dg.AssetKey(part.path(version)), asset_partitions=sets[part]
            )
            cursor = None
            while True:
                page = self._instance.fetch_materializations(wanted, limit=_PAGE, cursor=cursor)
                for each in page.records:
                    event = each.asset_materialization
                    assert event is not None
                    assert event.partition is not None
                    shown = _shown(
                        event.partition, version, event.tags or {}, each.run_id, each.timestamp
                    )
                    found[event.partition].append((each.storage_id, shown))
                if not page.has_more:
                    break
                cursor = page.cursor
        return {
            key: [shown for _, shown in sorted(events, key=lambda each: each[0])]
            for key, events in found.items()
        }

    def keys(self) -> Iterator[str]:
        import dagster as dg

        seen: set[str] = set()
        for part, version in product(parts(self._spec), Version):
            made = self._instance.get_materialized_partitions(dg.AssetKey(part.path(version)))
            yield from made - seen
            seen |= made

    def running(self) -> Collection[str]:
        import dagster as dg

        from imgflow.defs.queue import NOT_ENDED

        runs = self._instance.get_runs(filters=dg.RunsFilter(statuses=NOT_ENDED))
        return {run.run_id for run in runs}


def _shown(key: str, version: Version, tags: Mapping[str, Any], run_id: str, at: float) -> Shown:
    data_version, record = tags.get(_DATA_VERSION, ""), tags.get(RECORD_TAG, "")
    return Shown(key, version, str(data_version), str(record), run_id, at)
