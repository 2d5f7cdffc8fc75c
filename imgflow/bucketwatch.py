"""What has come into a bucket since the last look, stretch by stretch. Knows nothing of Dagster.

A look begins where the one before has stopped, and the whole prefix is gone through again and
again: so an object that sorts before the cursor is found in the next round, and one that was
overwritten has another etag. In between, a queue of the bucket's notifications may name objects.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgflow.bucketuploads import BucketUploads, Listing
from imgflow.chain import Line
from imgflow.errors import ImgflowError
from imgflow.home import Home
from imgflow.notifications import Notifications
from imgflow.store.bucket import Listed
from imgflow.store.keys import ImageKey
from imgflow.watch import (
    Arrivals,
    Given,
    Index,
    Stretch,
    look,
    manifest_names,
    mask_names,
    stamp_of,
)

MOST_FILES = 20_000
"""So many objects a look lists at most: about 20 requests."""
_REST_PER_PAGE_S = 3.0
"""After a round so long nothing is listed, for every page that it had: at 100,000 objects a round
in six minutes, which costs cents a day."""
_FREE_PAGES = 5
_MOST_REST_S = 600.0


@dataclass(frozen=True, slots=True)
class Round:
    """Where the looks are: what of their memory goes into a sensor's cursor.

    after: the name that the next look begins after. pages: of this round. rest_until: Unix time
    before which no new round begins.
    """

    after: str = ""
    pages: int = 0
    rest_until: float = 0.0

    @classmethod
    def of(cls, cursor: Mapping[str, Any]) -> Round:
        """Of a cursor; the beginning where that has none."""
        found = cursor.get("bucket")
        try:
            after, pages, rest_until = found if isinstance(found, list) else ("", 0, 0.0)
            return cls(str(after), int(pages), float(rest_until))
        except (TypeError, ValueError):
            return cls()

    def as_list(self) -> list[Any]:
        return [self.after, self.pages, self.rest_until]


class BucketSource:
    """What is given for photos of a listing. What lies outside of it is asked for, each once."""

    def __init__(
        self, uploads: BucketUploads, listing: Listing, known: Mapping[str, Listed] | None = None
    ) -> None:
        self._uploads, self._listing = uploads, listing
        self._asked: dict[str, Listed | None] = {**(known or {})}

    def given(self, photo: Path, masks: Sequence[str]) -> Given | None:
        name = self._uploads.name_of(photo)
        found = [(name, self._file(name))]
        if found[0][1] is None:
            return None
        folder, _, last = name.rpartition("/")
        below = f"{folder}/" if folder else ""
        others = [each for each in manifest_names(last) if self._file(below + each)]
        found += [(each, self._file(below + each)) for each in (*others, *masks)]
        told = [(each, file.size, file.etag) if file else (each, -1) for each, file in found]
        changed_at = max(file.modified for _, file in found if file)
        return Given(stamp_of(told), tuple(masks), changed_at)

    def with_masks(self, photo: Path) -> Given | None:
        name = self._uploads.name_of(photo)
        folder, _, last = name.rpartition("/")
        below = f"{folder}/" if folder else ""
        if not any(self._file(below + each) for each in manifest_names(last)):
            return self.given(photo, ())
        try:
            fetched = self._uploads.path_of(ImageKey.from_path(name))
        except ImgflowError as error:
            if error.code == "not_found":
                return None
            raise
        return self.given(photo, mask_names(fetched))

    def _file(self, name: str) -> Listed | None:
        if self._listing.covers(name):
            return self._listing.files.get(name)
        if name not in self._asked:
            self._asked[name] = self._uploads.bucket.head(name)
        return self._asked[name]


def look_at_bucket(
    home: Home,
    line: Line,
    index: Index,
    turn: Round,
    *,
    tick: int,
    in_flight: Collection[str],
    known: Collection[str],
    max_keys: int,
    budget_s: float,
    notifications: Notifications | None = None,
    most_files: int = MOST_FILES,
    now: float | None = None,
) -> tuple[Arrivals, Round]:
    """Compare the next stretch of the bucket with the records, and what was notified; updates the
    index. Returns what was found, and where to go on.

    known: the keys that Dagster knows; others are new. budget_s: for listing and comparing
    together. Parameters else as of `look`. Raises StoreError.
    """
    now = time.time() if now is None else now
    end = time.monotonic() + budget_s
    uploads = home.uploads
    assert isinstance(uploads, BucketUploads)
    shared: dict[str, Any] = {"tick": tick, "in_flight": in_flight, "asked": known, "now": now}
    arrivals = Arrivals()
    names: set[str] = set()
    if notifications is not None:
        try:
            names = notifications.receive(budget_s / 4)
        except ImgflowError as error:  # the rounds find the same, only later
            arrivals.notices.append(str(error))
    if notifications is not None and names:
        told = look(
            home,
            line,
            index,
            stretch=_named(uploads, names),
            max_keys=max_keys,
            budget_s=budget_s / 4,
            **shared,
        )
        arrivals = _both(arrivals, told)
    if notifications is not None and not (arrivals.left or arrivals.unstable or arrivals.busy):
        notifications.acknowledge()
    if now < turn.rest_until:
        return arrivals, turn
    left_s = max(end - time.monotonic(), 0.1)
    # No more new ones than are taken: the next look would list the others again.
    listing = uploads.listing(
        turn.after,
        most=most_files,
        most_new=max(max_keys - arrivals.found, 1),
        known=known,
        budget_s=left_s / 2,
    )
    found = look(
        home,
        line,
        index,
        stretch=_listed(uploads, listing),
        max_keys=max_keys - arrivals.found,
        budget_s=max(end - time.monotonic(), 0.1),
        **shared,
    )
    return _both(arrivals, found), _next(turn, listing, found, uploads, now)


def _next(
    turn: Round, listing: Listing, arrivals: Arrivals, uploads: BucketUploads, now: float
) -> Round:
    pages = turn.pages + listing.pages
    if arrivals.left_from is not None:
        # Before the first photo that was left: after the last one that was looked at.
        first = uploads.name_of(arrivals.left_from)
        earlier = [name for name in listing.files if name < first]
        return Round(max(earlier, default=turn.after), pages, turn.rest_until)
    if listing.upto is not None:
        return Round(listing.upto, pages, turn.rest_until)
    rest = min(pages * _REST_PER_PAGE_S, _MOST_REST_S) if pages > _FREE_PAGES else 0.0
    return Round("", 0, now + rest)


def _listed(uploads: BucketUploads, listing: Listing) -> Stretch:
    def covers(key: ImageKey) -> bool:
        return listing.covers(str(key.relative_path) if "%" in key else key)

    return Stretch(uploads.photos(listing.files.values()), BucketSource(uploads, listing), covers)


def _named(uploads: BucketUploads, names: Collection[str]) -> Stretch:
    """The photos among named objects, and those that named manifests and masks may belong to."""
    files: dict[str, Listed] = {}
    for name in sorted(names):
        # a.jpg.json and a.mask.png tell of a.jpg.
        stem = name.rpartition("/")[0] + "/" if "/" in name else ""
        stem += name.rpartition("/")[2].partition(".")[0]
        for each in next(uploads.bucket.pages(f"{stem}."), ()):
            files[each.key] = each
    scan = uploads.photos(files.values())
    keys = {key for key, _ in scan.photos}
    # Nothing is covered by this listing: whatever is not among the files is asked for.
    return Stretch(scan, BucketSource(uploads, Listing(upto=""), files), keys.__contains__)


def _both(first: Arrivals, second: Arrivals) -> Arrivals:
    taken = set(first.new) | set(first.changed)
    return Arrivals(
        photos=first.photos + second.photos,
        new=[*first.new, *(key for key in second.new if key not in taken)],
        changed=[*first.changed, *(key for key in second.changed if key not in taken)],
        tokens={**second.tokens, **first.tokens},
        unstable=first.unstable + second.unstable,
        busy=first.busy + second.busy,
        left=first.left + second.left,
        given_up=[*first.given_up, *second.given_up],
        notices=list(dict.fromkeys((*first.notices, *second.notices))),
    )
