"""The store in a bucket: of AWS, MinIO, R2, or what else speaks S3."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import groupby
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from imgflow.errors import StoreError
from imgflow.files import ABANDONED_S
from imgflow.lineage.record import ObjectRef, Record, Version
from imgflow.lineage.seal import SealBroken
from imgflow.store.bucket import Bucket, Conflict, Fetched, Listed
from imgflow.store.keys import ImageKey
from imgflow.store.place import Place
from imgflow.store.readcache import ReadCache
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

MAX_KEY_BYTES = 1024
"""Longer keys S3 does not keep."""
_MOST_CONFLICTS = 20
_CONFLICT_WAIT_S = 0.05
_CURRENT = {f"{version}.json": version for version in Version}
_TRASH = "trash/"
_SHA256 = re.compile(r"[0-9a-f]{64}")


class S3Store:
    """Layout below the place's prefix, as in a folder, with three more::

        originals/ab/ab12...            write-once, what users gave us
        objects/ab/ab12....png          lossless versions, masks, renditions, by content
        records/<catalog>/<sha256 of the key>/<version>.json
        records/<catalog>/<sha256 of the key>/history/<version>-<sha256 of the record>.json
        published/<catalog>/<key>/<rendition>
        cache/<kind>/ab/ab12...
        keys/<catalog>/<key>            empty: a listing tells all keys, and no record is read
        published-long/, keys-long/     of keys that are too long for S3, by their digest
        trash/objects/ab/ab12....png    dropped objects, for another day

    A record is written under the condition that it still is what was read, so that of two writers
    none is lost: the later one takes the earlier one's record to the history. An empty record is
    none: deleting knows no conditions everywhere.

    cache: where originals and objects are kept on this machine. Picklable.
    """

    def __init__(self, place: Place, cache: Path | None = None, cache_bytes: int = 0) -> None:
        self.place = place
        self.bucket = Bucket(place)
        self._cache_folder, self._cache_bytes = cache, cache_bytes
        self._cache = ReadCache(cache, cache_bytes) if cache and cache_bytes else None

    def __reduce__(self) -> tuple[type[S3Store], tuple[Place, Path | None, int]]:
        return type(self), (self.place, self._cache_folder, self._cache_bytes)

    def without_archiving(self) -> S3Store:
        return _Hashing(self.place, self._cache_folder, self._cache_bytes)

    # -- originals and objects ---------------------------------------------------------

    def put_original(self, data: bytes) -> str:
        sha256 = sha256_hex(data)
        name = self._original(sha256)
        found = self.bucket.head(name)
        # The name is the content's hash. An object of another size is damage: write it anew.
        if found is None or found.size != len(data):
            self.bucket.put(name, data)
        self._keep(sha256, data)
        return sha256

    def put_object(self, data: bytes, media_type: str) -> str:
        sha256 = sha256_hex(data)
        # Though it may be there: it is young again, and a record is about to name it.
        self.bucket.put(self._object(sha256, media_type), data, media_type=media_type)
        self._keep(sha256, data)
        return sha256

    def read(self, ref: ObjectRef) -> bytes:
        return self._read(self._name(ref), ref.sha256)

    def read_original(self, sha256: str) -> bytes:
        return self._read(self._original(sha256), sha256)

    def exists(self, ref: ObjectRef) -> bool:
        return self.bucket.head(self._name(ref)) is not None or self._restored(self._name(ref))

    def location(self, ref: ObjectRef) -> str:
        return self.bucket.location(self._name(ref))

    def _read(self, name: str, sha256: str) -> bytes:
        if self._cache is not None and (kept := self._cache.get(sha256)) is not None:
            return kept
        found = self.bucket.get(name, sha256)
        if found is None and self._restored(name):
            found = self.bucket.get(name, sha256)
        if found is None:
            raise StoreError(
                "object_missing",
                f"{self.bucket.location(name)} is not in the store",
                hint="Restore it from a backup, or run the image's earlier versions again",
            )
        self._keep(sha256, found.data)
        return found.data

    def _keep(self, sha256: str, data: bytes) -> None:
        if self._cache is not None:
            self._cache.put(sha256, data)

    def _name(self, ref: ObjectRef) -> str:
        if ref.area == "originals":
            return self._original(ref.sha256)
        return self._object(ref.sha256, ref.media_type)

    def _original(self, sha256: str) -> str:
        return f"originals/{sha256[:2]}/{sha256}"

    def _object(self, sha256: str, media_type: str) -> str:
        return f"objects/{sha256[:2]}/{sha256}{SUFFIXES[media_type]}"

    def object_files(self) -> Iterator[ObjectFile]:
        """All objects, whoever names them, and those in the trash. Originals are none."""
        for area in ("objects/", f"{_TRASH}objects/"):
            for page in self.bucket.pages(area):
                for each in page:
                    sha256 = PurePosixPath(each.key).name.partition(".")[0]
                    path = self.bucket.location(each.key)
                    yield ObjectFile(path, sha256, each.size, each.modified)

    def drop_object(self, file: ObjectFile, older_than: float) -> bool:
        """Move an object to the trash, unless it was put again since `older_than` (Unix time);
        delete one that lies there since then.

        Nothing in a bucket can be locked: who puts an object in this very moment finds it in the
        trash, from where it comes back when it is read.
        """
        name = file.path.removeprefix(self.bucket.location(""))
        found = self.bucket.head(name)
        if found is None or found.modified >= older_than:
            return False
        if not name.startswith(_TRASH) and not self.bucket.copy(name, _TRASH + name):
            return False
        self.bucket.delete(name)
        if self._cache is not None:
            self._cache.drop(file.sha256)
        return True

    def _restored(self, name: str) -> bool:
        """Whether a dropped object was there, and is back."""
        return name.startswith("objects/") and self.bucket.copy(_TRASH + name, name)

    def sweep(self) -> int:
        return self.bucket.abort_uploads(time.time() - ABANDONED_S)

    # -- records -----------------------------------------------------------------------

    def catalogs(self) -> list[str]:
        return sorted(self.bucket.folders("records/"))

    def record_texts(self) -> Iterator[RecordText]:
        for catalog in self.catalogs():
            for each, found in self.bucket.each(self._text, self._listed(catalog)):
                if found is not None and found.data:
                    name = PurePosixPath(each.key)
                    aside = name.name.startswith(DAMAGED)
                    yield RecordText(
                        self.bucket.location(each.key),
                        found.data,
                        each.modified,
                        replaced=name.parent.name == "history" and not aside,
                        aside=aside,
                    )

    def put_record(self, record: Record) -> None:
        key, data = ImageKey(record.key), record.to_json()
        name = self._record(record.catalog, key.digest, record.version)
        for attempt in range(_MOST_CONFLICTS):
            current = self.bucket.get(name, damaged=True)
            if current is not None and current.data == data:
                return
            replaced = self._replaced(record.catalog, key.digest, record.version, sha256_hex(data))
            if attempt and self.bucket.head(replaced) is not None:
                return  # ours was written, and another one has followed it already
            try:
                self._commit(name, data, current, record, key)
            except Conflict:
                time.sleep(_CONFLICT_WAIT_S * random.uniform(0, 2))
            else:
                return
        raise StoreError(
            "store_unwritable",
            f"{self.bucket.location(name)}: others write this record again and again",
            hint="Look for a second line on the same photos",
        )

    def _commit(
        self, name: str, data: bytes, current: Fetched | None, record: Record, key: ImageKey
    ) -> None:
        """Write a record in the place of the current one. Raises Conflict if it is that no more."""
        if current is None:
            # Before the record: a key without a record is passed over.
            if record.version is Version.RAW or not self._is_noted(record.catalog, key):
                self._note(record.catalog, key)
            self.bucket.put(name, data, media_type="application/json", if_absent=True)
            return
        if current.data:
            old = sha256_hex(current.data)
            history = self._replaced(record.catalog, key.digest, record.version, old)
            if current.sha256 not in ("", old):  # not what its writer has sent: no record
                history = f"{PurePosixPath(history).parent}/{DAMAGED}{record.version}.json"
            self.bucket.put(history, current.data, media_type="application/json")
        self.bucket.put(name, data, media_type="application/json", if_etag=current.etag)

    def get_record(self, catalog: str, key: ImageKey, version: Version) -> Record | None:
        return self._current(self._record(catalog, key.digest, version))

    def records(self, catalog: str) -> Iterator[Record]:
        for _, found in self.bucket.each(self._records_of, self._images(catalog)):
            yield from found

    def image_keys(self, catalog: str) -> Iterator[ImageKey]:
        recorded = {bytes.fromhex(each) for each in self._digests(catalog)}
        for name in self._noted(catalog):
            key = ImageKey(name)
            if bytes.fromhex(key.digest) in recorded:
                yield key

    def damaged(self, catalog: str, key: ImageKey | None = None) -> Iterator[Damaged]:
        below = f"{key.digest}/history/{DAMAGED}" if key else ""
        for each in self._listed(catalog, below):
            name = PurePosixPath(each.key)
            if name.name.startswith(DAMAGED):
                version = name.stem.removeprefix(DAMAGED)
                digest = name.parent.parent.name
                yield Damaged(
                    key or self._key_of(catalog, digest), version, self.bucket.location(each.key)
                )

    def image_files(self, catalog: str, digest: str | None = None) -> Iterator[ImageFiles]:
        images = self._images(catalog, "" if digest is None else f"{digest}/")
        for _, found in self.bucket.each(self._files, images):
            if found.current or found.replaced or found.damaged:
                yield found

    def record_stamps(self, catalog: str) -> Iterator[tuple[str, Version, str]]:
        for image in self._images(catalog):
            current = _current_of(image)
            for version in Version:
                if version in current:
                    each = current[version]
                    yield _digest_of(each), version, f"{each.etag}:{each.size}"

    def replaced_record(self, catalog: str, digest: str, version: Version, sha256: str) -> bytes:
        return self._read(self._replaced(catalog, digest, version, sha256), sha256)

    def record_sha256(self, catalog: str, key: ImageKey, version: Version) -> str:
        found = self.bucket.get(self._record(catalog, key.digest, version), damaged=True)
        return sha256_hex(found.data) if found is not None and found.data else ""

    def _current(self, name: str) -> Record | None:
        """The record of a name, or None. One that is no record, or is not as it was written, is
        set aside, as in a folder."""
        found = self.bucket.get(name, damaged=True)
        if found is None or not found.data:
            return None
        try:
            return Record.from_json(found.data)
        except (ValidationError, SealBroken):
            path = PurePosixPath(name)
            self.bucket.put(f"{path.parent}/history/{DAMAGED}{path.name}", found.data)
            try:
                self.bucket.put(name, b"", if_etag=found.etag)
            except Conflict:  # made again by somebody else
                return self._current(name)
            return None

    def _text(self, listed: Listed) -> Fetched | None:
        return self.bucket.get(listed.key, damaged=True)

    def _records_of(self, image: tuple[Listed, ...]) -> list[Record]:
        current = _current_of(image)
        found = (self._current(current[version].key) for version in Version if version in current)
        return [record for record in found if record is not None]

    def _files(self, image: tuple[Listed, ...]) -> ImageFiles:
        texts = {
            version: found.data
            for version, each in _current_of(image).items()
            if (found := self._text(each)) is not None and found.data
        }
        names = [PurePosixPath(each.key).name for each in image if "/history/" in each.key]
        replaced = (match for name in names if (match := REPLACED.fullmatch(name)))
        return ImageFiles(
            digest=_digest_of(image[0]),
            current={version: texts[version] for version in Version if version in texts},
            replaced=frozenset((Version(each[1]), each[2]) for each in replaced),
            damaged=tuple(name for name in names if name.startswith(DAMAGED)),
        )

    def _images(self, catalog: str, below: str = "") -> Iterator[tuple[Listed, ...]]:
        """The record files of each image, in the order of their digests."""
        for _, files in groupby(self._listed(catalog, below), _digest_of):
            yield tuple(files)

    def _listed(self, catalog: str, below: str = "") -> Iterator[Listed]:
        for page in self.bucket.pages(f"records/{catalog}/{below}"):
            yield from page

    def _digests(self, catalog: str) -> Iterator[str]:
        folders = self.bucket.folders(f"records/{catalog}/")
        return (name for name in folders if _SHA256.fullmatch(name))

    def _key_of(self, catalog: str, digest: str) -> str:
        for version in Version:
            found = self.bucket.get(self._record(catalog, digest, version), damaged=True)
            try:
                key: str = json.loads(found.data if found else b"")["key"]
            except (ValueError, KeyError, TypeError):
                continue  # not made, or damaged: the next one names the image as well
            return key
        return ""

    def _record(self, catalog: str, digest: str, version: Version) -> str:
        return f"records/{catalog}/{digest}/{version}.json"

    def _replaced(self, catalog: str, digest: str, version: Version, sha256: str) -> str:
        return f"records/{catalog}/{digest}/history/{version}-{sha256}.json"

    # -- keys --------------------------------------------------------------------------

    def _note(self, catalog: str, key: ImageKey) -> None:
        name, data = self._note_of(catalog, key)
        self.bucket.put(name, data)

    def _is_noted(self, catalog: str, key: ImageKey) -> bool:
        return self.bucket.head(self._note_of(catalog, key)[0]) is not None

    def _note_of(self, catalog: str, key: ImageKey) -> tuple[str, bytes]:
        name = f"keys/{catalog}/{key}"
        if self._fits(name):
            return name, b""
        return f"keys-long/{catalog}/{key.digest}", key.encode()

    def _noted(self, catalog: str) -> Iterator[str]:
        folder = f"keys/{catalog}/"
        for page in self.bucket.pages(folder):
            for each in page:
                yield each.key[len(folder) :]
        for page in self.bucket.pages(f"keys-long/{catalog}/"):
            for _, found in self.bucket.each(self._text, page):
                if found is not None:
                    yield found.data.decode()

    def _fits(self, name: str) -> bool:
        return len(f"{self.place.prefix}/{name}".encode()) <= MAX_KEY_BYTES

    # -- published files ---------------------------------------------------------------

    def publish(self, catalog: str, path: str, data: bytes) -> None:
        self.bucket.put(self._published(catalog, path), data, media_type=_media_type(path))

    def is_published(self, catalog: str, path: str, ref: ObjectRef) -> bool:
        found = self.bucket.head(self._published(catalog, path))
        return found is not None and (
            found.sha256 == ref.sha256 if found.sha256 else found.size == ref.size
        )

    def withdraw(self, catalog: str, path: str) -> None:
        self.bucket.delete(self._published(catalog, path))

    def published_location(self, catalog: str, path: str) -> str:
        return self.bucket.location(self._published(catalog, path))

    def published_sha256(self, catalog: str, path: str) -> str:
        found = self.bucket.get(self._published(catalog, path), damaged=True)
        return "" if found is None else sha256_hex(found.data)

    def published_paths(self, catalog: str) -> Iterator[str]:
        folder = f"published/{catalog}/"
        for page in self.bucket.pages(folder):
            for each in page:
                yield each.key[len(folder) :]

    def _published(self, catalog: str, path: str) -> str:
        name = f"published/{catalog}/{path}"
        if self._fits(name):
            return name
        folder, _, file = path.rpartition("/")
        return f"published-long/{catalog}/{sha256_hex(folder.encode())}/{file}"

    # -- cache -------------------------------------------------------------------------

    def get_cached(self, kind: str, digest: str) -> bytes | None:
        try:
            found = self.bucket.get(self._cached(kind, digest))
        except StoreError as error:
            if error.code != "object_damaged":
                raise
            return None
        return None if found is None else found.data

    def put_cached(self, kind: str, digest: str, data: bytes) -> None:
        self.bucket.put(self._cached(kind, digest), data)

    def _cached(self, kind: str, digest: str) -> str:
        return f"cache/{kind}/{digest[:2]}/{digest}"


class _Hashing(S3Store):
    def put_original(self, data: bytes) -> str:
        return sha256_hex(data)


@lru_cache(maxsize=16)
def opened(place: Place, cache: Path, cache_bytes: int) -> S3Store:
    """The store of a place, one for all who ask in this process: connections are kept."""
    return S3Store(place, cache, cache_bytes)


def _current_of(image: Iterable[Listed]) -> dict[Version, Listed]:
    """The current records among an image's files. Those of no bytes are none."""
    found = {PurePosixPath(each.key).name: each for each in image if "/history/" not in each.key}
    return {_CURRENT[name]: each for name, each in found.items() if name in _CURRENT and each.size}


def _digest_of(file: Listed) -> str:
    return file.key.split("/", 3)[2]


def _media_type(path: str) -> str:
    suffix = PurePosixPath(path).suffix
    return next((kind for kind, each in SUFFIXES.items() if each == suffix), "")
