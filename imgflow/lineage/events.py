"""What the lineage needs to know of the orchestrator's event log. defs/eventlog.py answers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from imgflow.lineage.record import Version

RECORD_DIGITS = 32
"""So many digits of a record's sha256 are in its event: what fits into a tag."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One event that says that a version was made.

    record: the first RECORD_DIGITS digits of the sha256 of the record's file; empty where an
    earlier imgflow has not said it. at: Unix time.
    """

    key: str
    version: Version
    data_version: str
    record: str
    run_id: str
    at: float


class EventSource(Protocol):
    """The event log, read only."""

    def shown(self, keys: Sequence[str]) -> Mapping[str, Sequence[Shown]]:
        """All events of these images by key, each image's oldest first."""

    def keys(self) -> Iterator[str]:
        """The keys of all images that have an event, each once."""

    def running(self) -> Collection[str]:
        """The runs that have not ended: what they have made they may not have told yet."""
