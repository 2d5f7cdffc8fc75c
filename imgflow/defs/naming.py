"""What a catalog's partition sets, assets, ops and jobs are called in Dagster. Without Dagster:
the readers of its event log need the names, too.

`main` with one shard has the plain names (`raw`, `rescue_photos`, the partition set `photos`);
another catalog's begin with its name, and a shard's with its number behind that: shoes/03/raw.
"""

from __future__ import annotations

from dataclasses import dataclass

from imgflow.lineage.record import Version
from imgflow.policy.catalogs import MAIN, MAIN_SPEC, SHARD, CatalogSpec
from imgflow.store.keys import ImageKey


@dataclass(frozen=True, slots=True)
class Part:
    """One partition set: a catalog's, or that of one of its shards."""

    spec: CatalogSpec
    shard: int = 0

    @property
    def catalog(self) -> str:
        return self.spec.name

    @property
    def is_plain(self) -> bool:
        return self.spec.name == MAIN and self.spec.shards == 1

    @property
    def prefix(self) -> tuple[str, ...]:
        """What its asset keys begin with."""
        if self.is_plain:
            return ()
        return (self.catalog, self._number) if self.spec.shards > 1 else (self.catalog,)

    @property
    def partitions(self) -> str:
        """The name of the partition set. How many shards there are is in it: a photo is never
        looked for in the set of another count."""
        if self.is_plain:
            return "photos"
        several = self.spec.shards > 1
        return f"{self.catalog}/{self._number}-of-{self.spec.shards}" if several else self.catalog

    @property
    def group(self) -> str:
        return "photos" if self.is_plain else SHARD.join(self.prefix)

    @property
    def op(self) -> str:
        return "rescue" if self.is_plain else f"rescue_{self.group}"

    @property
    def job(self) -> str:
        return "rescue_photos" if self.is_plain else f"{self.op}_photos"

    @property
    def label(self) -> str:
        """What people call it."""
        if self.spec.shards == 1:
            return self.spec.label
        return f"{self.spec.label}, shard {self.shard} of 0 to {self.spec.shards - 1}"

    @property
    def _number(self) -> str:
        return f"{self.shard:0{len(str(self.spec.shards - 1))}}"

    def path(self, version: Version) -> list[str]:
        """The path of a version's asset key."""
        return [*self.prefix, str(version)]


PLAIN = Part(MAIN_SPEC)
"""The partition set of an installation that lists no catalogs."""


def parts(spec: CatalogSpec) -> list[Part]:
    """The partition sets of a catalog, in the order of their shards."""
    return [Part(spec, shard) for shard in range(spec.shards)]


def part_of(spec: CatalogSpec, key: ImageKey) -> Part:
    """The partition set that a photo is in."""
    return Part(spec, spec.shard_of(key))


def named(spec: CatalogSpec, what: str) -> str:
    """A name of a sensor, schedule or job of a whole catalog: plain for `main`."""
    return what if spec.name == MAIN else f"{spec.name}_{what}"


def report_prefix(spec: CatalogSpec) -> tuple[str, ...]:
    """What the keys of a whole catalog's assets (table, report, refresh) begin with."""
    return () if spec.name == MAIN else (spec.name,)
