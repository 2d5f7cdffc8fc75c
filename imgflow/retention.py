"""What may be thrown away: objects that no record names. Never originals, never records.

Safe beside a running line: an object is put before its record is written, and putting it makes it
young. Only old ones are dropped, and whether one is old is asked again, under a lock that holds up
those who put some, in the moment in which it is dropped.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from imgflow.errors import StoreError
from imgflow.lineage.record import Record
from imgflow.lineage.seal import SealBroken, unsealed
from imgflow.store.store import ObjectFile, RecordText, Store

GRACE_S = 24 * 3600.0
"""So long an object is kept that no record names (yet): far longer than a photo may take."""
_HASH = re.compile(rb"[0-9a-f]{64}")
_DAY_S = 24 * 3600.0


@dataclass(slots=True)
class Waste:
    """Objects that no record names. objects: old enough to be dropped. young: those that are not.
    kept: how many objects records name. older_than: Unix time; later ones are young."""

    objects: list[ObjectFile] = field(default_factory=list)
    young: int = 0
    kept: int = 0
    older_than: float = 0.0

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(each.size for each in self.objects)


def find_waste(
    store: Store, *, grace_s: float = GRACE_S, history_days: float | None = None
) -> Waste:
    """Look through all objects; drops none.

    history_days: what only replaced records name that are older than so many days is no longer
    kept; None: it is, however old. The records themselves always stay.

    Raises StoreError (code record_damaged) where a record cannot be trusted: nobody knows what
    that names.
    """
    now = time.time()
    waste = Waste(older_than=now - grace_s)
    since = None if history_days is None else now - history_days * _DAY_S
    # Objects first: what is put from now on is not among them.
    objects = list(store.object_files())
    named = set(_named(store, since))
    for each in objects:
        if bytes.fromhex(each.sha256) in named if _is_hash(each.sha256) else True:
            waste.kept += 1
        elif each.changed >= waste.older_than:
            waste.young += 1
        else:
            waste.objects.append(each)
    return waste


def drop(store: Store, waste: Waste) -> Iterator[ObjectFile]:
    """Drop the waste, as far as nobody has put it again; yields what is gone. Raises StoreError."""
    for each in waste.objects:
        if store.drop_object(each, waste.older_than):
            yield each


def _named(store: Store, since: float | None) -> Iterator[bytes]:
    """All hashes that records name, whatever for."""
    for file in store.record_texts():
        if file.replaced and since is not None and file.changed < since:
            continue
        if not file.aside:
            _require_whole(file)
        for found in _HASH.finditer(file.text):
            yield bytes.fromhex(found[0].decode())


def _require_whole(file: RecordText) -> None:
    try:
        if not unsealed(file.text)[1]:
            Record.from_json(file.text)
    except (SealBroken, ValueError) as error:
        raise StoreError(
            "record_damaged",
            f"{file.path} is damaged, and nobody knows which objects it names: nothing is dropped",
            hint="See `imgflow audit`; restore the record from a backup, or have its photo made "
            "again with `imgflow run`",
        ) from error


def _is_hash(name: str) -> bool:
    return _HASH.fullmatch(name.encode()) is not None
