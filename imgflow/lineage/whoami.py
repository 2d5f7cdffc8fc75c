"""A file from anywhere back to its record: by its bytes, or by what its XMP states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from imgflow.errors import BadKey, StoreError
from imgflow.imaging.xmp import Provenance, read_provenance
from imgflow.lineage.record import Record, Rendition, Version
from imgflow.store.keys import ImageKey
from imgflow.store.store import ImageFiles, Store, sha256_hex


@dataclass(frozen=True, slots=True)
class Identity:
    """What a file is.

    match: "published": byte for byte what a record names. "original": an archived upload. "stated":
    its XMP names a record, but the bytes are not those that were published: the file has been
    changed since, or says what is not true. "none".
    record: of the published version, or of raw for an original. is_current: it was not replaced.
    states: what the file's XMP says, proven or not.
    """

    match: Literal["published", "original", "stated", "none"]
    sha256: str
    record: Record | None = None
    rendition: Rendition | None = None
    is_current: bool = False
    states: Provenance | None = None


def identify(data: bytes, store: Store, catalog: str) -> Identity:
    """Find the record of a file's bytes.

    The photo that its XMP names is looked at first; where that does not have these bytes, all
    records are searched for their hash.
    """
    sha256, states = sha256_hex(data), read_provenance(data)
    named = _digest(states, catalog)
    if named:
        for record, is_current in _records(store, catalog, store.image_files(catalog, named)):
            found = _of(record, sha256)
            if found is not None:
                return Identity("published", sha256, record, found, is_current, states)
    for record, is_current in _records(store, catalog, store.image_files(catalog), sha256):
        rendition = _of(record, sha256)
        if rendition is not None:
            return Identity("published", sha256, record, rendition, is_current, states)
        if record.version is Version.RAW and record.original_sha256 == sha256:
            return Identity("original", sha256, record, None, is_current, states)
    if named and states is not None:
        for record, is_current in _records(store, catalog, store.image_files(catalog, named)):
            if _is_stated(record, states):
                shown = [each for each in record.renditions if each.name == states.rendition]
                rendition = shown[0] if shown else None
                return Identity("stated", sha256, record, rendition, is_current, states)
    return Identity("none", sha256, states=states)


def _digest(states: Provenance | None, catalog: str) -> str:
    """The digest of the key that a file states, where that may be one of this catalog's."""
    if states is None or states.catalog != catalog:
        return ""
    try:
        return ImageKey(states.key).digest
    except BadKey:
        return ""


def _records(
    store: Store, catalog: str, images: Iterator[ImageFiles], containing: str = ""
) -> Iterator[tuple[Record, bool]]:
    """Records that can be read, each image's current ones first, and whether they are current.

    containing: only those whose text has this in it, which is quickly seen.
    """
    for files in images:
        for text in files.current.values():
            if containing.encode() in text and (record := _read(text)):
                yield record, True
        for version, sha256 in sorted(files.replaced):
            try:
                text = store.replaced_record(catalog, files.digest, version, sha256)
            except StoreError:
                continue
            if containing.encode() in text and (record := _read(text)):
                yield record, False


def _read(text: bytes) -> Record | None:
    try:
        return Record.from_json(text)
    except (ValueError, StoreError):  # the audit tells of those
        return None


def _of(record: Record, sha256: str) -> Rendition | None:
    return next((each for each in record.renditions if each.object.sha256 == sha256), None)


def _is_stated(record: Record, states: Provenance) -> bool:
    """Whether a published version is the one that a file says it is of."""
    return (
        record.version is Version.PUBLISHED
        and record.original_sha256 == states.original_sha256
        and record.input is not None
        and record.input.sha256 == states.source_sha256
    )
