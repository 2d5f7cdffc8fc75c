"""One dynamic partition per image; its key is the image's key."""

from __future__ import annotations

from collections.abc import Iterable

import dagster as dg

from imgflow.store.keys import ImageKey

PHOTOS = dg.DynamicPartitionsDefinition(name="photos")


def known_keys(instance: dg.DagsterInstance) -> list[str]:
    """The partition keys in Dagster's order, which is the order of their adding."""
    return list(instance.get_dynamic_partitions("photos"))


def add_keys(instance: dg.DagsterInstance, keys: Iterable[ImageKey]) -> int:
    """Make partitions for keys that have none yet; returns how many were new."""
    known = set(known_keys(instance))
    new = [str(key) for key in keys if key not in known]
    if new:
        instance.add_dynamic_partitions("photos", new)
    return len(new)
