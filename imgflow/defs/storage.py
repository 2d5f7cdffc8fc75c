"""Dagster's SQLite event log with its connections kept open.

Dagster opens a new database engine for every event: it connects, compiles the same statements
again, and closes. A photo makes about 25 events, so on one machine that was the larger part of what
orchestration costs (`imgflow bench overhead` measures it). Files and schema are Dagster's own:
dagster.yaml may go back to Dagster's class at any time. The one place that overrides private
methods of that class.

Nor does it keep which checks a run means to make, only what they found: a photo that stops early
never comes to the later ones, and Dagster's UI would show these as skipped for the whole catalog,
or, where the run failed, as failed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dagster import DagsterEventType, EventLogEntry, StringSource
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import QueuePool

# Each run has a database of its own; the webserver looks at many, one after the other.
_KEPT_OPEN = 8
_BUSY_TIMEOUT_S = 30


def _relax(connection: Any, _: Any) -> None:
    # With a write-ahead log a kill loses nothing; after a power cut the last events may be gone,
    # and the records, which are the truth, have them reported again by the next run.
    connection.execute("PRAGMA synchronous=NORMAL")


class WarmSqliteEventLogStorage(SqliteEventLogStorage):
    """SqliteEventLogStorage that keeps its latest databases open, where Dagster keeps them by
    default: history/runs below Dagster's home."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        self._tables: set[str] = set()
        super().__init__(base_dir, inst_data)

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {"dagster_home": StringSource}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> WarmSqliteEventLogStorage:
        folder = Path(config_value["dagster_home"]) / "history" / "runs"
        return cls(str(folder), inst_data)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock, self._engine(shard).connect() as connection, connection.begin():
            yield connection

    def _engine(self, shard: str) -> Engine:
        engine = self._engines.get(shard)
        if engine is None:
            engine = create_engine(
                self.conn_string_for_shard(shard),
                poolclass=QueuePool,
                connect_args={"timeout": _BUSY_TIMEOUT_S},
            )
            event.listen(engine, "connect", _relax)
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            self._engines[shard] = engine
        self._engines.move_to_end(shard)
        while len(self._engines) > _KEPT_OPEN:
            _, oldest = self._engines.popitem(last=False)
            oldest.dispose()
        return engine

    def has_table(self, table_name: str) -> bool:
        # Asked for every check, with an engine and a look at the schema of its own; a table that
        # is there stays.
        if table_name not in self._tables and super().has_table(table_name):
            self._tables.add(table_name)
        return table_name in self._tables

    def store_asset_check_event(self, event: EventLogEntry, event_id: int | None) -> None:
        if event.dagster_event_type is not DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED:
            super().store_asset_check_event(event, event_id)

    def dispose(self) -> None:
        super().dispose()
        while self._engines:
            self._engines.popitem()[1].dispose()
