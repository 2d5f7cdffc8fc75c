"""What has come into the upload folder since the last look. Knows nothing of Dagster.

What was made is in the store's records. Beside them there is an index of the files' sizes and
times, so that a look at many thousand photos reads only those that may have changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

from imgflow.chain import Line, taken_in, unmade
from imgflow.errors import BadManifest, ImgflowError
from imgflow.files import replacing
from imgflow.home import Home
from imgflow.lineage.record import Record, Version
from imgflow.policy.manifest import (
    Inpaint,
    find_manifest,
    mask_path,
    parse_manifest,
    read_manifest,
)
from imgflow.stages.intake import Intake
from imgflow.store.keys import ImageKey, Scan

STABLE_S = 3.0
"""A file is whole when its size and times have not changed for so long."""

MAX_REQUESTS = 3
"""How often a photo's files are requested where runs end without making them (killed, say)."""

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Given:
    """The files given for a photo, by their names, sizes and times.

    masks: what its manifest names. changed_at: when the latest of them changed, Unix time.
    """

    stamp: str
    masks: tuple[str, ...]
    changed_at: float


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of a photo. row: of the catalog, as it was when the photo was last compared.

    seen: when this stamp was first met. tick: which tick requested it. requests: how often.
    """

    stamp: str
    masks: tuple[str, ...] = ()
    row: str = ""
    seen: float = 0.0
    state: Literal["met", "requested", "settled"] = "met"
    requests: int = 0
    tick: int = 0


@dataclass(slots=True)
class Index:
    """The entries by key. A cache: without its file all photos are compared with their records."""

    entries: dict[ImageKey, Entry] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Index:
        """The index of a file; empty where there is none that this imgflow has written."""
        try:
            document = json.loads(path.read_bytes())
            if document["format"] != _FORMAT:
                return cls()
            entries = {
                ImageKey(key): Entry(stamp, tuple(masks), *others)
                for key, (stamp, masks, *others) in document["entries"].items()
            }
        except (FileNotFoundError, ValueError, TypeError, KeyError, ImgflowError):
            return cls()
        return cls(entries)

    def save(self, path: Path) -> None:
        """Raises ImgflowError (code not_written)."""
        entries = {
            key: [each.stamp, each.masks, each.row, each.seen, each.state, each.requests, each.tick]
            for key, each in self.entries.items()
        }
        with replacing(path) as partial:
            partial.write_text(json.dumps({"format": _FORMAT, "entries": entries}))

    def is_settled(self, key: ImageKey, given: Given) -> bool:
        """Whether the record is known to be of these very files."""
        entry = self.entries.get(key)
        return entry is not None and entry.state == "settled" and entry.stamp == given.stamp


def index_file(home: Home) -> Path:
    return home.watch / "uploads.json"


class Source(Protocol):
    """What tells which files were given for a photo; each is asked for once."""

    def given(self, photo: Path, masks: Sequence[str]) -> Given | None:
        """The files given for a photo whose manifest names `masks`; None if it is gone."""

    def with_masks(self, photo: Path) -> Given | None:
        """The same, with the masks that the manifest names now."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the uploads to look at. scan, source: its photos, and what was given for them.
    covers: whether a key belongs to it."""

    scan: Scan
    source: Source
    covers: Callable[[ImageKey], bool]


@dataclass(slots=True)
class Arrivals:
    """What a look has found.

    new: photos without a record. changed: photos, manifests, masks or catalog rows that differ
    from what the record was made of, and photos that a run left unfinished.
    tokens: for `new` and `changed`, text that says which files were met, and how often requested.
    unstable: photos still being written. busy: in a run that has not ended. left: for the next
    look, as time or number ran out. given_up: requested MAX_REQUESTS times in vain.
    notices: what a person should know of the folder and the catalog. left_from: the first photo
    that was left; None: none was.
    """

    photos: int = 0
    new: list[ImageKey] = field(default_factory=list)
    changed: list[ImageKey] = field(default_factory=list)
    tokens: dict[ImageKey, str] = field(default_factory=dict)
    unstable: int = 0
    busy: int = 0
    left: int = 0
    left_from: Path | None = None
    given_up: list[ImageKey] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    @property
    def found(self) -> int:
        return len(self.new) + len(self.changed)


def look(
    home: Home,
    line: Line,
    index: Index,
    *,
    tick: int,
    in_flight: Collection[str],
    max_keys: int,
    budget_s: float,
    now: float | None = None,
    stretch: Stretch | None = None,
    asked: Collection[str] | None = None,
) -> Arrivals:
    """Compare the upload folder with the records; updates the index.

    tick: this look's number; requests of earlier looks with this number were never sent.
    in_flight: keys in runs that have not ended. max_keys, budget_s: how much to find, and how
    long to compare; what is left comes first to the next look, as all else is known by then.
    now: Unix time. stretch: only this part of the uploads. asked: keys that were ever requested;
    others are new, and no record is looked for.

    Raises BadPhoto (there is no upload folder), StoreError.
    """
    now = time.time() if now is None else now
    deadline = time.monotonic() + budget_s
    scan = home.uploads.scan() if stretch is None else stretch.scan
    arrivals = Arrivals(photos=len(scan.photos))
    arrivals.notices = [str(problem) for problem in scan.problems]
    if line.rows.ignored:
        arrivals.notices.append(
            f"{home.catalog_file}: columns that mean nothing here: {', '.join(line.rows.ignored)}"
        )
    line = replace(line, store=home.store.without_archiving())
    folders = Folders() if stretch is None else stretch.source
    before = index.entries
    elsewhere = before if stretch else ()
    index.entries = {key: before[key] for key in elsewhere if stretch and not stretch.covers(key)}
    for key, path in scan.photos:
        known = before.get(key)
        row = _row(key, line)
        given = folders.given(path, known.masks if known else ())
        if given is None:
            continue  # deleted since the folder was listed
        same = known is not None and known.stamp == given.stamp and known.row == row
        if known is not None and same and known.state == "settled":
            index.entries[key] = known
            continue
        if not same:
            # A new manifest may name other masks.
            given = folders.with_masks(path) or given
        entry = _met(known, given, now)
        index.entries[key] = entry
        # Of clocks that differ between machines the second half is independent.
        if now - given.changed_at < STABLE_S and now - entry.seen < STABLE_S:
            arrivals.unstable += 1
        elif key in in_flight:
            arrivals.busy += 1
        elif arrivals.found >= max_keys or time.monotonic() > deadline:
            arrivals.left += 1
            arrivals.left_from = arrivals.left_from or path
        elif asked is not None and key not in asked and entry.state == "met":
            index.entries[key] = replace(entry, row=row, state="requested", requests=1, tick=tick)
            arrivals.new.append(key)
            arrivals.tokens[key] = f"{given.stamp} {row} 0"
        else:
            row_changed = known is not None and known.row != row
            requested = entry.requests - (entry.state == "requested" and entry.tick >= tick)
            kind = _compare(key, line, row_changed=row_changed, requested=requested > 0)
            settled = replace(entry, row=row, state="settled", requests=0)
            if kind is None:
                index.entries[key] = settled
            elif requested >= MAX_REQUESTS:
                index.entries[key] = settled
                arrivals.given_up.append(key)
            else:
                index.entries[key] = replace(
                    entry, row=row, state="requested", requests=requested + 1, tick=tick
                )
                (arrivals.new if kind == "new" else arrivals.changed).append(key)
                arrivals.tokens[key] = f"{given.stamp} {row} {requested}"
    return arrivals


def _met(known: Entry | None, given: Given, now: float) -> Entry:
    """The entry to go on from: the known one as long as its files are the same."""
    if known is not None and known.stamp == given.stamp:
        return known
    return Entry(given.stamp, given.masks, known.row if known else "", seen=now)


def _compare(
    key: ImageKey, line: Line, *, row_changed: bool, requested: bool
) -> Literal["new", "changed"] | None:
    """Whether a photo has to go through the line for what was given for it.

    What is only stale, because the policy or an engine changed, is the daily refresh's to find.
    """
    raw = line.store.get_record(line.catalog, key, Version.RAW)
    if raw is None:
        return "new"
    intake = taken_in(key, line)
    found = unmade(key, line, intake=intake)
    if found is None or found.why == "stopped":
        return None
    if found.why != "changed" or row_changed or requested or is_changed(intake, raw, line):
        return "changed"
    return None


def is_changed(intake: Intake, raw: Record, line: Line) -> bool:
    """Whether what was given differs from what the raw version was made of."""
    sha256 = intake.original.sha256 if intake.original else None
    traits = line.rows.complete(intake.key, intake.manifest).traits().as_dict()
    return (
        sha256 != raw.original_sha256
        or intake.attachments != raw.attachments
        or (intake.problem is None and traits != raw.traits)
    )


class Folders:
    """Folders that photos lie in, each listed once."""

    def __init__(self) -> None:
        self._manifests: dict[str, frozenset[str]] = {}

    def given(self, photo: Path, masks: Sequence[str]) -> Given | None:
        """The files given for a photo whose manifest names `masks`; None if it is gone."""
        path = os.fspath(photo)
        folder, name = os.path.split(path)
        manifests = [each for each in manifest_names(name) if each in self._names(folder)]
        stats = [("", _stat(path))]
        if stats[0][1] is None:
            return None
        stats += [(each, _stat(f"{folder}/{each}")) for each in manifests]
        stats += [(each, _stat(f"{folder}/{each}")) for each in masks]
        told = [(each, *_size_and_time(stat)) for each, stat in stats]
        changed_at = max(max(stat.st_ctime, stat.st_mtime) for _, stat in stats if stat)
        return Given(stamp_of(told), tuple(masks), changed_at)

    def with_masks(self, photo: Path) -> Given | None:
        """The same, with the masks that the manifest names now."""
        folder, name = os.path.split(os.fspath(photo))
        if not any(each in self._names(folder) for each in manifest_names(name)):
            return self.given(photo, ())
        return self.given(photo, mask_names(photo))

    def _names(self, folder: str) -> frozenset[str]:
        if folder not in self._manifests:
            names = (name for name in os.listdir(folder) if name.endswith(".json"))
            self._manifests[folder] = frozenset(names)
        return self._manifests[folder]


def stamp_of(told: object) -> str:
    """Short text that is another one where what is told of a photo's files is."""
    text = repr(told).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=9).hexdigest()


def manifest_names(photo: str) -> tuple[str, str]:
    return f"{photo}.json", f"{os.path.splitext(photo)[0]}.json"


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116 - many thousand of them
    except OSError:
        return None


def _size_and_time(stat: os.stat_result | None) -> tuple[int, int]:
    return (stat.st_size, stat.st_mtime_ns) if stat else (-1, 0)


def mask_names(photo: Path) -> tuple[str, ...]:
    """The masks that a photo's manifest names; none where the manifest cannot be used."""
    try:
        path = find_manifest(photo)
        if path is None:
            return ()
        steps = parse_manifest(read_manifest(path), str(path)).steps
        names = [step.mask for step in steps if isinstance(step, Inpaint) and step.mask]
        for name in names:
            mask_path(path, name)
    except BadManifest:
        return ()
    return tuple(names)


def _row(key: ImageKey, line: Line) -> str:
    row = line.rows.get(key)
    if row is None:
        return "-"
    return hashlib.blake2b(repr(row).encode(), digest_size=9).hexdigest()


def digest(tokens: Mapping[ImageKey, str], keys: Iterable[str]) -> str:
    """Short text that is the same for the same request of the same files."""
    told = "\n".join(f"{key} {tokens[ImageKey(key)]}" for key in keys)
    return hashlib.blake2b(told.encode(), digest_size=12).hexdigest()
