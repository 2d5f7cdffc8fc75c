"""An event log in memory, for tests of what is held against it. No test lives here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from imgflow.lineage.events import RECORD_DIGITS, Shown
from imgflow.lineage.record import Record
from imgflow.store.keys import ImageKey
from imgflow.store.store import Store


@dataclass
class Told:
    """What the line would have told Dagster of its records."""

    events: list[Shown] = field(default_factory=list)
    under_way: set[str] = field(default_factory=set)

    def tell(self, store: Store, *records: Record) -> None:
        for record in records:
            if record.verdict.stops:
                continue
            sha256 = store.record_sha256(record.catalog, ImageKey(record.key), record.version)
            self.events.append(
                Shown(
                    key=record.key,
                    version=record.version,
                    data_version=record.data_version,
                    record=sha256[:RECORD_DIGITS],
                    run_id=record.run_id,
                    at=record.started_at.timestamp(),
                )
            )

    def shown(self, keys: Sequence[str]) -> Mapping[str, Sequence[Shown]]:
        return {key: [each for each in self.events if each.key == key] for key in keys}

    def keys(self) -> Iterator[str]:
        yield from dict.fromkeys(each.key for each in self.events)

    def running(self) -> set[str]:
        return self.under_way
