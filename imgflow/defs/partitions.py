"""One dynamic partition per image; its key is the image's key. A set for each catalog or shard."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import dagster as dg

from imgflow.defs.memory import recall, remember
from imgflow.defs.naming import PLAIN, Part, part_of
from imgflow.errors import ImgflowError
from imgflow.policy.catalogs import MAIN_SPEC, MOST_KEYS, CatalogSpec
from imgflow.store.keys import ImageKey


def partitions_of(part: Part) -> dg.DynamicPartitionsDefinition:
    return dg.DynamicPartitionsDefinition(name=part.partitions)


def known_keys(instance: dg.DagsterInstance, part: Part = PLAIN) -> list[str]:
    """The partition keys in Dagster's order, which is the order of their adding."""
    return list(instance.get_dynamic_partitions(part.partitions))


class Known:
    """The partition keys of a catalog's sets, each set read once, and only if it is asked for."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._keys: dict[Part, list[str]] = {}
        self._positions: dict[Part, dict[str, int]] = {}

    def keys(self, part: Part) -> list[str]:
        if part not in self._keys:
            self._keys[part] = known_keys(self._instance, part)
        return self._keys[part]

    def position(self, part: Part) -> dict[str, int]:
        """Where each key of a set stands in Dagster's order."""
        if part not in self._positions:
            self._positions[part] = {key: at for at, key in enumerate(self.keys(part))}
        return self._positions[part]


def by_part(keys: Iterable[str], spec: CatalogSpec) -> dict[Part, list[str]]:
    """Keys by the partition set that they are in."""
    found: dict[Part, list[str]] = defaultdict(list)
    for key in keys:
        found[part_of(spec, ImageKey(key))].append(str(key))
    return dict(found)


def room(known: Sequence[str]) -> int:
    """How many keys a partition set takes yet."""
    return max(MOST_KEYS - len(known), 0)


def add_keys(
    instance: dg.DagsterInstance, keys: Iterable[str], spec: CatalogSpec = MAIN_SPEC
) -> int:
    """Make partitions for keys that have none yet; returns how many were new.

    Raises ImgflowError (codes partition_set_full, shards_changed); nothing is added then.
    """
    keep_shards(instance, spec)
    missing = {}
    for part, wanted in by_part(keys, spec).items():
        known = known_keys(instance, part)
        new = sorted(set(wanted).difference(known), key=wanted.index) if wanted else []
        if len(new) > room(known):
            raise full(part, len(new) - room(known))
        missing[part] = new
    for part, new in missing.items():
        if new:
            instance.add_dynamic_partitions(part.partitions, new)
    return sum(len(new) for new in missing.values())


def with_a_place(
    keys: Iterable[str], spec: CatalogSpec, known: Known
) -> tuple[dict[Part, list[str]], list[ImgflowError]]:
    """Keys by their partition set, without those that a full one does not take; and what to say
    of these, set by set."""
    found, over = {}, []
    for part, wanted in by_part(keys, spec).items():
        there = known.position(part)
        missing = [key for key in wanted if key not in there]
        if left_out := set(missing[room(known.keys(part)) :]):
            over.append(full(part, len(left_out)))
        found[part] = [key for key in wanted if key not in left_out]
    return found, over


def full(part: Part, over: int) -> ImgflowError:
    """What to say when a partition set takes no more keys."""
    return ImgflowError(
        "partition_set_full",
        f"{over} photos have no place in the catalog '{part.catalog}': the partition set "
        f"'{part.partitions}' holds {MOST_KEYS} keys at most",
        hint="List a further catalog for them in catalogs.yaml, with enough shards from the start: "
        "one for each 80,000 photos that it may ever have",
    )


def keep_shards(instance: dg.DagsterInstance, spec: CatalogSpec) -> None:
    """Hold a catalog's shard count against that of its first photo in this Dagster.

    Raises ImgflowError (code shards_changed): with another count, photos would be looked for in
    other shards than those that hold their history.
    """
    name = f"shards/{spec.name}"
    before = recall(instance, name)
    if not before:
        remember(instance, name, str(spec.shards))
    elif before != str(spec.shards):
        raise ImgflowError(
            "shards_changed",
            f"the catalog '{spec.name}' has {before} shards in Dagster, and {spec.shards} in "
            "catalogs.yaml",
            hint=f"Write 'shards: {before}' again: the shard of a photo never changes. A catalog "
            "that outgrows its shards is continued in a second one",
        )
