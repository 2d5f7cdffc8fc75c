"""The store as a folder on this machine."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from imgflow.errors import StoreError
from imgflow.files import sweep
from imgflow.lineage.record import ObjectRef, Record, Version
from imgflow.lineage.seal import SealBroken
from imgflow.store.keys import ImageKey
from imgflow.store.store import (
    DAMAGED,
    REPLACED,
    SUFFIXES,
    Damaged,
    ImageFiles,
    ObjectFile,
    RecordText,
    sha256_hex,
)


class LocalStore:
    """Folder layout below `root`::

    originals/ab/ab12...            write-once, what users gave us
    objects/ab/ab12....png          lossless versions, masks, renditions, by content
    records/<catalog>/<sha256 of the key>/<version>.json
    records/<catalog>/<sha256 of the key>/history/<version>-<sha256 of the record>.json
    published/<catalog>/<key>/<rendition>
    cache/<kind>/ab/ab12...
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def without_archiving(self) -> LocalStore:
        return _Hashing(self.root)

    # -- originals and objects ---------------------------------------------------------

    def put_original(self, data: bytes) -> str:
        sha256 = sha256_hex(data)
        # Originals exist nowhere else: they are on the disk before anything goes on.
        self._write_once(self._original_path(sha256), data, durable=True)
        return sha256

    def put_object(self, data: bytes, media_type: str) -> str:
        sha256 = sha256_hex(data)
        path = self._object_path(sha256, media_type)
        with self._locked(exclusive=False):
            self._write_once(path, data)
            with suppress(FileNotFoundError):
                os.utime(path)  # young again: a record is about to name it
        return sha256

    def read(self, ref: ObjectRef) -> bytes:
        return _read_checked(self._path(ref), ref.sha256)

    def read_original(self, sha256: str) -> bytes:
        return _read_checked(self._original_path(sha256), sha256)

    def exists(self, ref: ObjectRef) -> bool:
        return self._path(ref).is_file()

    def location(self, ref: ObjectRef) -> str:
        return str(self._path(ref))

    def _path(self, ref: ObjectRef) -> Path:
        if ref.area == "originals":
            return self._original_path(ref.sha256)
        return self._object_path(ref.sha256, ref.media_type)

    def _original_path(self, sha256: str) -> Path:
        return self.root / "originals" / sha256[:2] / sha256

    def _object_path(self, sha256: str, media_type: str) -> Path:
        return self.root / "objects" / sha256[:2] / (sha256 + SUFFIXES[media_type])

    def object_files(self) -> Iterator[ObjectFile]:
        """All objects, whoever names them. Originals are none."""
        for folder in sorted((self.root / "objects").glob("*/")):
            with os.scandir(folder) as entries:
                for entry in sorted(entries, key=lambda each: each.name):
                    if not entry.name.startswith(".") and entry.is_file(follow_symlinks=False):
                        found = entry.stat(follow_symlinks=False)
                        sha256 = entry.name.partition(".")[0]
                        yield ObjectFile(entry.path, sha256, found.st_size, found.st_mtime)

    def drop_object(self, file: ObjectFile, older_than: float) -> bool:
        """Delete an object unless it was put again since `older_than` (Unix time).

        While somebody puts an object, nothing is dropped. Raises StoreError.
        """
        path = Path(file.path)
        with self._locked(exclusive=True):
            try:
                if path.stat().st_mtime >= older_than:
                    return False
                path.unlink()
            except FileNotFoundError:
                return False
            except OSError as error:
                raise _store_error(path, error) from error
        return True

    def sweep(self) -> int:
        return sweep(self.root)

    @contextmanager
    def _locked(self, *, exclusive: bool) -> Iterator[None]:
        """Of those who put objects and those who drop some, only one kind is at work."""
        path = self.root / ".objects.lock"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            file = path.open("ab")
        except OSError as error:
            raise _store_error(path, error) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
            except OSError as error:
                # Some network drives have no locks. Writing goes on; nothing is dropped there.
                if exclusive:
                    raise _store_error(path, error) from error
            yield

    # -- records -----------------------------------------------------------------------

    def catalogs(self) -> list[str]:
        """The names of all catalogs that have records."""
        folder = self.root / "records"
        return sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []

    def record_texts(self) -> Iterator[RecordText]:
        """The files of all records of all catalogs: current, replaced and set aside."""
        for catalog in self.catalogs():
            for image in sorted((self.root / "records" / catalog).glob("*/")):
                for path in (*sorted(image.glob("*.json")), *sorted(image.glob("history/*.json"))):
                    try:
                        text, changed = path.read_bytes(), path.stat().st_mtime
                    except FileNotFoundError:  # replaced in this moment: it is in the history
                        continue
                    aside = path.name.startswith(DAMAGED)
                    replaced = path.parent.name == "history" and not aside
                    yield RecordText(str(path), text, changed, replaced, aside)

    def put_record(self, record: Record) -> None:
        path = self._record_path(record.catalog, ImageKey(record.key), record.version)
        data = record.to_json()
        if path.exists():
            old = path.read_bytes()
            if old == data:
                return
            history = path.parent / "history" / f"{record.version}-{sha256_hex(old)}.json"
            self._write_once(history, old)
        _write_atomic(path, data)

    def get_record(self, catalog: str, key: ImageKey, version: Version) -> Record | None:
        path = self._record_path(catalog, key, version)
        return _current(path)

    def records(self, catalog: str) -> Iterator[Record]:
        folder = self.root / "records" / catalog
        if not folder.is_dir():
            return
        for image in sorted(folder.iterdir()):
            for version in Version:
                record = _current(image / f"{version}.json")
                if record is not None:
                    yield record

    def image_keys(self, catalog: str) -> Iterator[ImageKey]:
        folder = self.root / "records" / catalog
        if not folder.is_dir():
            return
        for image in folder.iterdir():
            key = _key_of(image)
            if key:
                yield ImageKey(key)

    def damaged(self, catalog: str, key: ImageKey | None = None) -> Iterator[Damaged]:
        """The records that were set aside, of one image or of all, until somebody deletes them."""
        folder = self.root / "records" / catalog
        images = [folder / key.digest] if key else sorted(folder.glob("*/"))
        for image in images:
            for path in sorted((image / "history").glob(f"{DAMAGED}*.json")):
                version = path.stem.removeprefix(DAMAGED)
                yield Damaged(key or _key_of(image), version, str(path))

    def image_files(self, catalog: str, digest: str | None = None) -> Iterator[ImageFiles]:
        folder = self.root / "records" / catalog
        if digest is not None:
            images = [folder / digest]
        else:
            images = sorted(folder.iterdir()) if folder.is_dir() else []
        for image in images:
            current = {
                version: data
                for version in Version
                if (data := _bytes_of(image / f"{version}.json")) is not None
            }
            try:
                names = sorted(os.listdir(image / "history"))
            except (FileNotFoundError, NotADirectoryError):
                names = []
            replaced = (found for name in names if (found := REPLACED.fullmatch(name)))
            if current or names:
                yield ImageFiles(
                    digest=image.name,
                    current=current,
                    replaced=frozenset((Version(each[1]), each[2]) for each in replaced),
                    damaged=tuple(name for name in names if name.startswith(DAMAGED)),
                )

    def record_stamps(self, catalog: str) -> Iterator[tuple[str, Version, str]]:
        folder = self.root / "records" / catalog
        for digest in sorted(os.listdir(folder)) if folder.is_dir() else ():
            for version in Version:
                try:
                    found = (folder / digest / f"{version}.json").stat()
                except (FileNotFoundError, NotADirectoryError):
                    continue
                yield digest, version, f"{found.st_mtime_ns}:{found.st_size}:{found.st_ino}"

    def replaced_record(self, catalog: str, digest: str, version: Version, sha256: str) -> bytes:
        folder = self.root / "records" / catalog / digest / "history"
        return _read_checked(folder / f"{version}-{sha256}.json", sha256)

    def record_sha256(self, catalog: str, key: ImageKey, version: Version) -> str:
        data = _bytes_of(self._record_path(catalog, key, version))
        return "" if data is None else sha256_hex(data)

    def _record_path(self, catalog: str, key: ImageKey, version: Version) -> Path:
        return self.root / "records" / catalog / key.digest / f"{version}.json"

    # -- published files ---------------------------------------------------------------

    def publish(self, catalog: str, path: str, data: bytes) -> None:
        _write_atomic(self._published_path(catalog, path), data)

    def is_published(self, catalog: str, path: str, ref: ObjectRef) -> bool:
        published = self._published_path(catalog, path)
        return published.is_file() and published.stat().st_size == ref.size

    def withdraw(self, catalog: str, path: str) -> None:
        self._published_path(catalog, path).unlink(missing_ok=True)

    def published_location(self, catalog: str, path: str) -> str:
        return str(self._published_path(catalog, path))

    def published_sha256(self, catalog: str, path: str) -> str:
        try:
            with self._published_path(catalog, path).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return ""

    def published_paths(self, catalog: str) -> Iterator[str]:
        top = self.root / "published" / catalog
        for folder, _, names in os.walk(top):
            for name in names:
                if not name.startswith("."):
                    yield Path(folder, name).relative_to(top).as_posix()

    def _published_path(self, catalog: str, path: str) -> Path:
        return self.root / "published" / catalog / path

    # -- cache -------------------------------------------------------------------------

    def get_cached(self, kind: str, digest: str) -> bytes | None:
        try:
            return self._cache_path(kind, digest).read_bytes()
        except FileNotFoundError:
            return None

    def put_cached(self, kind: str, digest: str, data: bytes) -> None:
        self._write_once(self._cache_path(kind, digest), data)

    def _cache_path(self, kind: str, digest: str) -> Path:
        return self.root / "cache" / kind / digest[:2] / digest

    def _write_once(self, path: Path, data: bytes, *, durable: bool = False) -> None:
        # The name is the content's hash. A file of another size is damage: write it anew.
        if path.exists() and path.stat().st_size == len(data):
            return
        _write_atomic(path, data, durable=durable)


class _Hashing(LocalStore):
    def put_original(self, data: bytes) -> str:
        return sha256_hex(data)


def _write_atomic(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Write beside the target and rename: a kill at any moment leaves the old file or the new."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise _store_error(path, error) from error


def _store_error(path: Path, error: OSError) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(
            "disk_full",
            f"no space left to write {path}",
            hint="Free some space and run again: what was finished before is kept",
        )
    return StoreError(
        "store_unwritable",
        f"cannot write {path}: {error.strerror or error}",
        hint="Check that the folder exists and belongs to you",
    )


def _read_checked(path: Path, sha256: str) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise StoreError(
            "object_missing",
            f"{path} is not in the store",
            hint="Restore it from a backup, or run the image's earlier versions again",
        ) from error
    if sha256_hex(data) != sha256:
        raise StoreError(
            "object_damaged",
            f"{path} does not have the bytes that its record names",
            hint="Restore it from a backup, or delete it and run the image again",
        )
    return data


def _bytes_of(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _key_of(image: Path) -> str:
    """The key of the image whose records a folder holds; empty where none can be read."""
    # Without the models' validation, which would take most of the time.
    for path in (image / f"{version}.json" for version in Version):
        try:
            key: str = json.loads(path.read_bytes())["key"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            continue  # not made, or damaged: the next one names the image as well
        return key
    return ""


def _current(path: Path) -> Record | None:
    """The record of a file, or None. One that is no record, or is not as it was written, is set
    aside: its version is made again, and a person can look at what became of it."""
    try:
        return Record.from_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValidationError, SealBroken):
        damaged = path.parent / "history" / f"{DAMAGED}{path.name}"
        damaged.parent.mkdir(exist_ok=True)
        path.replace(damaged)
        return None
