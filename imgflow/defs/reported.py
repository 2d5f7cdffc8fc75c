"""Versions that are made, but not shown: their run was killed between the record and the event."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import dagster as dg

from imgflow.defs.partitions import by_part
from imgflow.home import Home
from imgflow.lineage.record import Version
from imgflow.store.keys import ImageKey

_DATA_VERSION = "dagster/data_version"


def unreported(instance: dg.DagsterInstance, home: Home, keys: Sequence[str]) -> list[str]:
    """The images with a finished version of which Dagster shows nothing, or an earlier making.

    Raises StoreError.
    """
    found: set[str] = set()
    sets = by_part(keys, home.spec)
    for part, version in product(sets, Version):
        shown = instance.event_log_storage.get_latest_tags_by_partition(
            dg.AssetKey(part.path(version)),
            dg.DagsterEventType.ASSET_MATERIALIZATION,
            [_DATA_VERSION],
            sets[part],
        )
        for key in sets[part]:
            record = home.store.get_record(home.name, ImageKey(key), version)
            if record is None or record.verdict.stops:
                continue
            if shown.get(key, {}).get(_DATA_VERSION) != record.data_version:
                found.add(key)
    return [key for key in keys if key in found]
