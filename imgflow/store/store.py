"""The store: what a run may keep, behind one protocol."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from imgflow.lineage.record import ObjectRef, Record, Version
from imgflow.store.keys import ImageKey


def sha256_hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


DAMAGED = "damaged-"
"""How the names of records begin that were set aside."""
REPLACED = re.compile(rf"({'|'.join(Version)})-([0-9a-f]{{64}})\.json")
"""The names of records in the history: version, and sha256 of the file."""

UNUSABLE = frozenset(
    ("disk_full", "store_unwritable", "store_unreachable", "store_forbidden", "bucket_missing")
)
"""Codes of StoreErrors that say that nothing can be kept any more, of whatever photo."""


@dataclass(frozen=True, slots=True)
class Damaged:
    """A record file that could not be read and was set aside. key: empty where nothing says
    which photo it was of."""

    key: str
    version: str
    location: str

    def __str__(self) -> str:
        return (
            f"{self.key or 'a photo'}: the record of {self.version} was damaged; it was put aside "
            f"at {self.location}, and the version is made again. Delete that file once you have "
            "looked at it"
        )


@dataclass(frozen=True, slots=True)
class ObjectFile:
    """An object as it lies there. path: where a person finds it: a path or URL. changed: when it
    was last put, Unix time."""

    path: str
    sha256: str
    size: int
    changed: float


@dataclass(frozen=True, slots=True)
class RecordText:
    """A record's file. path: as of objects. changed: when it was written, Unix time.
    replaced: it is in the history. aside: it was damaged and set aside."""

    path: str
    text: bytes
    changed: float
    replaced: bool
    aside: bool


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """The record files of one image as they lie there, not looked into.

    digest: sha256 of the key that they must be of. current: by the version that they are named
    after. replaced: version and sha256 of those in the history. damaged: the names of those that
    were set aside.
    """

    digest: str
    current: dict[Version, bytes]
    replaced: frozenset[tuple[Version, str]]
    damaged: tuple[str, ...]


class Store(Protocol):
    """Content-addressed originals and objects, and one current record per image and version.

    Every write is atomic: a reader sees all of it or nothing. Nothing is ever overwritten but
    a record, whose predecessor moves to its history, and a published file, whose bytes stay
    in the objects. All methods raise StoreError (codes: object_missing, object_damaged, and
    those of UNUSABLE).
    """

    def without_archiving(self) -> Store:
        """The same store, which only tells the hash of an original that it is given."""

    def put_original(self, data: bytes) -> str:
        """Archive the bytes that a user gave us; returns their sha256."""

    def put_object(self, data: bytes, media_type: str) -> str:
        """Keep derived bytes; returns their sha256."""

    def read(self, ref: ObjectRef) -> bytes:
        """The object's bytes, checked against their hash."""

    def read_original(self, sha256: str) -> bytes:
        """An archived original's bytes, checked against their hash."""

    def exists(self, ref: ObjectRef) -> bool:
        """Whether the object is there (its bytes are not checked)."""

    def location(self, ref: ObjectRef) -> str:
        """Where a person can open the object: a path or URL."""

    def put_record(self, record: Record) -> None:
        """Commit a version. A record that it replaces is kept in the history."""

    def get_record(self, catalog: str, key: ImageKey, version: Version) -> Record | None:
        """The current record, or None."""

    def records(self, catalog: str) -> Iterator[Record]:
        """All current records of a catalog, image by image, in the order of the line."""

    def image_keys(self, catalog: str) -> Iterator[ImageKey]:
        """The keys of all images that have a record, in no particular order."""

    def image_files(self, catalog: str, digest: str | None = None) -> Iterator[ImageFiles]:
        """The record files of one image, or of all in the order of their keys' digests.

        Nothing is set aside. An image without any has none."""

    def record_stamps(self, catalog: str) -> Iterator[tuple[str, Version, str]]:
        """Digest of the key, version, and what tells whether a record's file has been replaced,
        of all current records."""

    def replaced_record(self, catalog: str, digest: str, version: Version, sha256: str) -> bytes:
        """A record of the history, checked against its hash."""

    def record_sha256(self, catalog: str, key: ImageKey, version: Version) -> str:
        """The hash of the current record's file; empty where there is none."""

    def publish(self, catalog: str, path: str, data: bytes) -> None:
        """Put a rendition where shops fetch it: `path` below the catalog's published folder."""

    def is_published(self, catalog: str, path: str, ref: ObjectRef) -> bool:
        """Whether a published file is in place, by name and size."""

    def withdraw(self, catalog: str, path: str) -> None:
        """Take a published file away. Its bytes stay in the objects."""

    def published_location(self, catalog: str, path: str) -> str:
        """Where a person can open a published file."""

    def published_sha256(self, catalog: str, path: str) -> str:
        """The hash of a published file's bytes; empty where there is none."""

    def published_paths(self, catalog: str) -> Iterator[str]:
        """The paths of all published files."""

    def catalogs(self) -> list[str]:
        """The names of all catalogs that have records."""

    def damaged(self, catalog: str, key: ImageKey | None = None) -> Iterator[Damaged]:
        """The records that were set aside, of one image or of all, until somebody deletes them."""

    def record_texts(self) -> Iterator[RecordText]:
        """The files of all records of all catalogs: current, replaced and set aside."""

    def object_files(self) -> Iterator[ObjectFile]:
        """All objects, whoever names them. Originals are none."""

    def drop_object(self, file: ObjectFile, older_than: float) -> bool:
        """Delete an object unless it was put again since `older_than` (Unix time)."""

    def sweep(self) -> int:
        """Delete what writers that were killed long ago left half-written; returns how much."""

    def get_cached(self, kind: str, digest: str) -> bytes | None:
        """A cached intermediate (a detection, say), or None. Safe to delete at any time."""

    def put_cached(self, kind: str, digest: str, data: bytes) -> None: ...


# The extension makes an object open in a browser or viewer.
SUFFIXES = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
    "image/avif": ".avif",
    "application/json": ".json",
}
