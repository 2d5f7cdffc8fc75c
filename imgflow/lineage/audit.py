"""Whether what the records say is true.

Image by image: every record against its seal and its place, every object's bytes against their
hash, every link against the version before, every mask against its image, and the records against
the event log, both ways. Nothing is changed, and memory does not grow with the catalog.
"""

from __future__ import annotations

import os
import shlex
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, TypeVar

from imgflow.errors import BadKey, StoreError
from imgflow.lineage.events import RECORD_DIGITS, EventSource, Shown
from imgflow.lineage.record import ObjectRef, Record, Version
from imgflow.lineage.seal import SealBroken, unsealed
from imgflow.store.keys import ImageKey
from imgflow.store.store import ImageFiles, Store, sha256_hex

_CHUNK = 32
"""Images that are asked of the event log at once."""
_MOST_THREADS = 4
_MANIFEST = "/manifest"  # among a record's attachments; all others are masks
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as the records say.

    code: stable word: record_..., original_..., object_..., mask_..., manifest_...,
    published_..., link_... or event_... version, where: empty where there is none.
    """

    code: str
    key: str
    version: str
    message: str
    where: str = ""

    def __str__(self) -> str:
        place = f"{self.key} {self.version}".strip()
        return f"{place}: {self.message}" + (f" ({self.where})" if self.where else "")


@dataclass(slots=True)
class ImageAudit:
    """What was found out about one image.

    records: those that could be read, in the order of the line. outdated: versions that were made
    from an earlier making of the version before, and why; no damage, a refresh makes them anew.
    files, size: whose bytes were held against their hash.
    """

    key: str
    records: dict[Version, Record] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    outdated: dict[Version, str] = field(default_factory=dict)
    files: int = 0
    size: int = 0
    events: int = 0


def audit(
    store: Store,
    catalog: str,
    events: EventSource | None,
    keys: Iterable[ImageKey] | None = None,
) -> Iterator[ImageAudit]:
    """Audit a catalog, or some of its images.

    events: None where there is no event log to compare with. A whole catalog ends with what
    belongs to no image: published files and events without a record.
    """
    if keys is None:
        files = store.image_files(catalog)
    else:
        files = (each for key in keys for each in store.image_files(catalog, key.digest))
    running = events.running() if events else ()
    opened = (_Image(each, catalog) for each in files)
    # Hashing leaves the interpreter to others: two or three threads keep a disk busy.
    with ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST_THREADS)) as pool:

        def verifications() -> Iterator[Callable[[], ImageAudit]]:
            for chunk in _chunks(opened, _CHUNK):
                shown = events.shown([image.found.key for image in chunk]) if events else None
                for image in chunk:
                    told = None if shown is None else shown.get(image.found.key, ())
                    yield _Verification(image, store, told, running)

        yield from _in_order(pool, verifications())
    if keys is None:
        yield from _strays(store, catalog, events)


def read_image(files: ImageFiles, catalog: str) -> ImageAudit:
    """An image's records as they can be read, and what is wrong with the others; no more."""
    return _Image(files, catalog).found


def _in_order(
    pool: ThreadPoolExecutor, work: Iterable[Callable[[], ImageAudit]]
) -> Iterator[ImageAudit]:
    """The results as they were asked for, with a few images under way."""
    waiting: deque[Any] = deque()
    for each in work:
        waiting.append(pool.submit(each))
        if len(waiting) > _CHUNK:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _chunks(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


class _Image:
    """One image's record files, read: which records they are, and which are none."""

    def __init__(self, files: ImageFiles, catalog: str) -> None:
        self.files = files
        self.catalog = catalog
        self.found = ImageAudit(key="")
        read = {version: self._read(version, text) for version, text in files.current.items()}
        records = [each for each in read.values() if isinstance(each, Record)]
        self.found.key = self._key(records)
        for version, each in read.items():
            if isinstance(each, Record):
                self._place(version, each)
            else:
                self.problem(*each, version)
        for name in files.damaged:
            self.problem(
                "record_damaged", "the record was damaged and is set aside", where=f"history/{name}"
            )

    def problem(self, code: str, message: str, version: str = "", where: str = "") -> None:
        folder = f"records/{self.catalog}/{self.files.digest}"
        if code.startswith("record") and not where.startswith("records/"):
            where = f"{folder}/{where}" if where else f"{folder}/{version}.json"
        self.found.problems.append(Problem(code, self.found.key, str(version), message, where))

    def _read(self, version: Version, text: bytes) -> Record | tuple[str, str]:
        try:
            record = Record.from_json(text)
        except SealBroken:
            return "record_changed", "the record is not as it was written: its seal is broken"
        except StoreError as error:
            return error.code, error.what
        except ValueError:
            return "record_damaged", "this is no record any more"
        if not unsealed(text)[1] and b'"schema_version": 1,' not in text:
            return "record_changed", "the record has lost its seal"
        return record

    def _key(self, records: Sequence[Record]) -> str:
        """The key that the folder is named for, where some record knows it."""
        for record in records:
            try:
                if ImageKey(record.key).digest == self.files.digest:
                    return record.key
            except BadKey:
                continue
        return ""

    def _place(self, version: Version, record: Record) -> None:
        if (record.catalog, record.key, record.version) == (self.catalog, self.found.key, version):
            self.found.records[version] = record
        else:
            other = f"{record.key} {record.version}"
            self.problem("record_misplaced", f"here lies the record of {other}", version)


class _Verification:
    """What remains to be found out about an image; may run in any thread."""

    def __init__(
        self,
        image: _Image,
        store: Store,
        shown: Sequence[Shown] | None,
        running: Collection[str],
    ) -> None:
        self._image, self._store, self._shown = image, store, shown
        self._running = running
        self._found, self._problem = image.found, image.problem
        self._seen: set[str] = set()
        self._earlier: dict[Version, list[Record]] = {}

    def __call__(self) -> ImageAudit:
        self._history()
        for record in self._found.records.values():
            self._link(record)
            self._mask_of_this_image(record)
            self._bytes(record)
        if self._shown is not None:
            self._events(self._shown)
        return self._found

    # -- records -----------------------------------------------------------------------

    def _history(self) -> None:
        image = self._image
        for version, sha256 in sorted(image.files.replaced):
            where = f"history/{version}-{sha256}.json"
            try:
                text = self._store.replaced_record(
                    image.catalog, image.files.digest, version, sha256
                )
                self._earlier.setdefault(version, []).append(Record.from_json(text))
            except StoreError as error:
                if error.code == "record_too_new":
                    continue
                self._problem("record_changed", "a replaced record was changed", version, where)
            except ValueError:
                self._problem("record_damaged", "a replaced record is damaged", version, where)

    def _link(self, record: Record) -> None:
        """The input of a version is the output of the version before, and that of raw is the
        archived original."""
        before = record.version.upstream
        if record.input is None:
            if not record.verdict.stops:
                self._broken(record, "it names no input")
            return
        if before is None:
            if record.input.sha256 != record.original_sha256:
                self._broken(record, "its input is not the original that it names")
            return
        if before not in self._image.files.current:
            self._problem(
                "record_missing", f"{record.version} was made from it, and it is gone", before
            )
        above = self._found.records.get(before)
        if above is None:
            return
        if self._follows(record, above) and not above.verdict.stops:
            return
        if self._follows(record, above) or any(
            self._follows(record, each) for each in self._earlier.get(before, ())
        ):
            self._found.outdated[record.version] = (
                f"made from an earlier {before}; the present one has stopped"
                if above.verdict.stops
                else f"made from an earlier {before} than the present one"
            )
        elif record.verdict.stops and above.verdict.stops:
            return  # left from an earlier upload that never came so far
        else:
            self._broken(record, f"its input is the output of no {before} of this image")

    def _follows(self, record: Record, above: Record) -> bool:
        assert record.input is not None
        output = above.output
        return output is not None and output.sha256 == record.input.sha256

    def _broken(self, record: Record, why: str) -> None:
        where = f"{record.version}.json"
        self._problem("link_broken", why, record.version, where)

    def _mask_of_this_image(self, record: Record) -> None:
        for operation in record.operations:
            mask, source = operation.mask, record.input
            if mask is None or source is None or None in (mask.width, source.width):
                continue
            if (mask.width, mask.height) != (source.width, source.height):
                self._problem(
                    "mask_wrong_size",
                    f"the mask of {operation.name} is {mask.width} x {mask.height} pixels, the "
                    f"image {source.width} x {source.height}",
                    record.version,
                    self._store.location(mask),
                )
        if record.reason is not None and record.reason.code == "mask_stale":
            self._problem("mask_stale", record.reason.message, record.version)
        elif record.version is Version.INPAINTED and not record.verdict.stops:
            self._drawn_on(record)

    def _drawn_on(self, record: Record) -> None:
        """A mask names the image that it was drawn on, which must be one of this photo's."""
        images = {record.original_sha256, record.input.sha256 if record.input else None}
        for version in (Version.RAW, Version.DETEXTED):
            before = self._found.records.get(version)
            images.add(before.output.sha256 if before and before.output else None)
        for step in record.steps or ():
            drawn_on = step.get("mask_image_sha256")
            if step.get("op") == "inpaint" and drawn_on and drawn_on not in images:
                self._problem(
                    "mask_stale",
                    f"the mask {step.get('mask')} was drawn on another image ({drawn_on})",
                    record.version,
                )

    # -- bytes -------------------------------------------------------------------------

    def _bytes(self, record: Record) -> None:
        version = record.version
        if record.original_sha256:
            self._original("original", record.original_sha256, version)
        for name, sha256 in record.attachments.items():
            kind = "manifest" if name == _MANIFEST else "mask"
            self._original(kind, sha256, version)
        for operation in record.operations:
            self._object("mask", operation.mask, version)
        for ref in (record.input, record.output, record.rejected):
            self._object("object", ref, version)
        for rendition in record.renditions:
            self._object("object", rendition.object, version)
            self._published(record, rendition.path, rendition.object.sha256)

    def _original(self, kind: str, sha256: str, version: Version) -> None:
        ref = ObjectRef(sha256=sha256, media_type="", size=0, area="originals")
        self._check(
            kind, version, self._store.location(ref), lambda: self._store.read_original(sha256)
        )

    def _object(self, kind: str, ref: ObjectRef | None, version: Version) -> None:
        if ref is not None:
            kind = "original" if ref.area == "originals" else kind
            self._check(kind, version, self._store.location(ref), lambda: self._store.read(ref))

    def _check(self, kind: str, version: Version, where: str, read: Callable[[], bytes]) -> None:
        if where in self._seen:
            return
        self._seen.add(where)
        try:
            self._found.size += len(read())
            self._found.files += 1
        except StoreError as error:
            what = "missing" if error.code == "object_missing" else "damaged"
            says = "is gone" if what == "missing" else "does not have the bytes of its name"
            self._problem(f"{kind}_{what}", f"the {kind} {says}", version, where)
        except OSError as error:
            told = f"the {kind} cannot be read: {error.strerror}"
            self._problem(f"{kind}_unreadable", told, version, where)

    def _published(self, record: Record, path: str, wanted: str) -> None:
        where = self._store.published_location(record.catalog, path)
        try:
            found = self._store.published_sha256(record.catalog, path)
        except OSError as error:
            told = f"the published file cannot be read: {error.strerror}"
            self._problem("published_unreadable", told, record.version, where)
            return
        self._found.files += bool(found)
        if not found:
            self._problem("published_missing", "the published file is gone", record.version, where)
        elif found != wanted:
            told = "the published file is not the one that was published"
            self._problem("published_changed", told, record.version, where)

    # -- events ------------------------------------------------------------------------

    def _events(self, shown: Sequence[Shown]) -> None:
        files = self._image.files
        self._found.events += len(shown)
        current = {version: sha256_hex(text) for version, text in files.current.items()}
        ever = {(version, sha256[:RECORD_DIGITS]) for version, sha256 in files.replaced}
        ever |= {(version, sha256[:RECORD_DIGITS]) for version, sha256 in current.items()}
        said = {problem.version for problem in self._found.problems if "record" in problem.code}
        unknown: dict[tuple[Version, str], Shown] = {}
        for event in shown:
            if event.record and (event.version, event.record) not in ever:
                unknown[event.version, event.record] = event
            elif not event.record and event.version not in current:
                unknown[event.version, ""] = event
        for (version, _), other in unknown.items():
            if version not in said:  # that record is known to be damaged
                self._problem("event_without_record", _told(other), version)
        latest: dict[Version, Shown] = {event.version: event for event in shown}
        for version, record in self._found.records.items():
            if record.verdict.stops or record.run_id in self._running:
                continue
            last = latest.get(version)
            if last is None:
                told = (
                    "Dagster was never told of this version, perhaps as its run was stopped; "
                    f"imgflow run --keys {shlex.quote(self._found.key)} tells it"
                )
                self._problem("event_missing", told, version)
                continue
            known = (version, last.record) not in unknown
            if known and _differs(last, record, current[version]):
                told = f"Dagster's latest event is of another making, of {_date(last.at)}"
                self._problem("event_differs", told, version)


def _differs(event: Shown, record: Record, sha256: str) -> bool:
    if event.record:
        return event.record != sha256[:RECORD_DIGITS]
    return event.data_version != record.data_version


def _told(event: Shown) -> str:
    return (
        f"Dagster shows a making of {_date(event.at)} (run {event.run_id}) of which there is no "
        "record"
    )


def _date(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().isoformat(" ", "seconds")


def _strays(store: Store, catalog: str, events: EventSource | None) -> Iterator[ImageAudit]:
    """What belongs to no image that has a record."""
    folder: str | None = None
    named: set[str] | None = None
    for path in store.published_paths(catalog):
        parent = str(PurePosixPath(path).parent)
        if parent != folder:
            folder, named = parent, _published_below(store, catalog, parent)
        if named is not None and path not in named:
            where = store.published_location(catalog, path)
            told = "no record names this published file"
            yield _stray(Problem("published_unrecorded", parent, "", told, where))
    for key in events.keys() if events else ():
        digest = _digest(key)
        if not digest or not any(store.image_files(catalog, digest)):
            told = "Dagster shows versions of this image, and there is no record of it at all"
            yield _stray(Problem("event_without_record", key, "", told))


def _published_below(store: Store, catalog: str, folder: str) -> set[str] | None:
    """The paths that the record of a folder's image names; None where it cannot be read, which
    was told already."""
    # A key that is too long for a folder has its digest there.
    for digest in filter(None, (_digest(folder), folder)):
        for files in store.image_files(catalog, digest) if "/" not in digest else ():
            try:
                record = Record.from_json(files.current.get(Version.PUBLISHED, b""))
            except (ValueError, StoreError):
                return None if Version.PUBLISHED in files.current else set()
            return {rendition.path for rendition in record.renditions}
    return set()


def _digest(key: str) -> str:
    try:
        return ImageKey(key).digest
    except BadKey:
        return ""


def _stray(problem: Problem) -> ImageAudit:
    return ImageAudit(key=problem.key, problems=[problem])
