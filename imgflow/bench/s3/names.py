"""The names of a bucket's objects in moto's server, kept in order.

moto goes through all names of a bucket, and sorts them, for every page of a listing: with 100,000
objects that takes longer than all else. Services keep them in order, so that a page costs the same
in every bucket.
"""

from __future__ import annotations

import threading
from bisect import bisect_right, insort
from collections.abc import Iterator
from itertools import islice
from typing import Any

from moto.s3 import models
from moto.s3.utils import _VersionedKeyStore

_LAST = "\U0010ffff"


class SortedNames(_VersionedKeyStore):
    """A bucket's objects by name, as moto keeps them, with the names in order beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self._lock = threading.Lock()

    def __setitem__(self, key: str, value: Any) -> None:
        self._add(key)
        super().__setitem__(key, value)

    def setlist(self, key: Any, list_: Any) -> None:
        self._add(key)
        super().setlist(key, list_)

    def pop(self, key: str) -> None:  # type: ignore[override]
        with self._lock:
            super().pop(key)
            at = bisect_right(self.names, key)
            if at and self.names[at - 1] == key:
                del self.names[at - 1]

    def _add(self, key: str) -> None:
        with self._lock:
            at = bisect_right(self.names, key)
            if not at or self.names[at - 1] != key:
                insort(self.names, key)

    def listed(self, prefix: str, delimiter: str, after: str) -> Iterator[Any]:
        """Objects below a prefix whose names come later than `after`; of those with the delimiter
        behind the prefix, their folder, once."""
        at = max(prefix, after)
        # The name after which to look; the prefix itself may be an object.
        start = bisect_right(self.names, at) - (at == prefix and at in self)
        while start < len(self.names):
            name = self.names[start]
            if not name.startswith(prefix):
                return
            cut = name.find(delimiter, len(prefix)) if delimiter else -1
            if cut >= 0:
                folder = name[: cut + len(delimiter)]
                if folder > after:
                    yield folder
                start = bisect_right(self.names, folder + _LAST)
                continue
            start += 1
            found = self.get(name)
            if name > after and isinstance(found, models.FakeKey):
                yield found


def keep_in_order() -> None:
    """From now on, in this process: buckets that are made keep their names in order, and listings
    use that."""
    models._VersionedKeyStore = SortedNames  # type: ignore[attr-defined,assignment]
    models.S3Backend.list_objects_v2 = _list_objects_v2  # type: ignore[method-assign]


def _list_objects_v2(
    self: models.S3Backend,
    bucket: Any,
    prefix: str | None,
    delimiter: str | None,
    continuation_token: str | None,
    start_after: str | None,
    max_keys: int,
) -> Any:
    after = start_after
    if continuation_token:
        after = self._pagination_tokens.get(continuation_token)
    listed = bucket.keys.listed(prefix or "", delimiter or "", after or "")
    return self._truncate_result(list(islice(listed, max_keys + 1)), max_keys)
