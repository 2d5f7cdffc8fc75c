"""Versions that are made, but not shown: their run was killed between the record and the event."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from imgflow.home import CATALOG
from imgflow.lineage.record import Version
from imgflow.store.keys import ImageKey
from imgflow.store.store import Store

_DATA_VERSION = "dagster/data_version"


def unreported(instance: dg.DagsterInstance, store: Store, keys: Sequence[str]) -> list[str]:
    """The images with a finished version of which Dagster shows nothing, or an earlier making.

    Raises StoreError.
    """
    found: set[str] = set()
    for version in Version if keys else ():
        shown = instance.event_log_storage.get_latest_tags_by_partition(
            dg.AssetKey(str(version)),
            dg.DagsterEventType.ASSET_MATERIALIZATION,
            [_DATA_VERSION],
            list(keys),
        )
        for key in keys:
            record = store.get_record(CATALOG, ImageKey(key), version)
            if record is None or record.verdict.stops:
                continue
            if shown.get(key, {}).get(_DATA_VERSION) != record.data_version:
                found.add(key)
    return [key for key in keys if key in found]
