"""Everything that a user gave for one image: the photo, its manifest, its masks. All archived."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from imgflow.errors import BadManifest, BadMask, BadPhoto, ImgflowError, StoreError
from imgflow.imaging.decode import DecodeLimits, read_photo_bytes, sniff_format
from imgflow.lineage.record import ObjectRef, Version
from imgflow.policy.manifest import (
    Inpaint,
    Manifest,
    find_manifest,
    mask_path,
    parse_manifest,
    read_manifest,
)
from imgflow.store.keys import ImageKey, Uploads
from imgflow.store.store import Store

_MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
# A name that no mask can have: masks are named relative to their manifest.
MANIFEST = "/manifest"


@dataclass(frozen=True, slots=True)
class Intake:
    """What was given for one image.

    original: the archived photo. attachments: sha256 of archived files by the name that the
    manifest gives them (and '/manifest' for itself). masks: bytes of the mask files by the same
    name.
    """

    key: ImageKey
    data: bytes = b""
    original: ObjectRef | None = None
    manifest: Manifest = field(default_factory=lambda: Manifest())
    attachments: dict[str, str] = field(default_factory=dict)
    masks: dict[str, bytes] = field(default_factory=dict)
    problem: ImgflowError | None = None
    """Why the manifest or a mask cannot be used; what was archived is named all the same."""


def take_in(
    key: ImageKey, catalog: str, store: Store, uploads: Uploads, limits: DecodeLimits
) -> Intake:
    """Read and archive an upload with what lies beside it.

    An upload that is gone is taken from the archive, where an earlier run put it: deleting from
    the upload folder loses nothing. What is wrong beside the photo is the intake's `problem`.
    Raises BadPhoto, StoreError.
    """
    try:
        photo = uploads.path_of(key)
    except BadPhoto as missing:
        recorded = store.get_record(catalog, key, Version.RAW)
        if missing.code != "not_found" or recorded is None or recorded.original_sha256 is None:
            raise missing
        return _from_archive(key, recorded.original_sha256, recorded.attachments, store)

    data = read_photo_bytes(photo, limits)
    intake = Intake(key, data, archived(data, store))
    try:
        path = find_manifest(photo)
        return intake if path is None else _with_manifest(intake, path, store, limits)
    except StoreError:
        raise
    except ImgflowError as error:
        return replace(intake, problem=error)


def _with_manifest(intake: Intake, path: Path, store: Store, limits: DecodeLimits) -> Intake:
    text = read_manifest(path)
    intake.attachments[MANIFEST] = store.put_original(text)
    manifest = parse_manifest(text, str(path))
    assert intake.original is not None  # it was archived first
    _require_same_photo(manifest, path, intake.original)
    for step in manifest.steps:
        if isinstance(step, Inpaint) and step.mask is not None:
            data = _read_mask(path, step.mask, limits)
            intake.masks[step.mask] = data
            intake.attachments[step.mask] = store.put_original(data)
    return replace(intake, manifest=manifest)


def _read_mask(manifest: Path, mask: str, limits: DecodeLimits) -> bytes:
    try:
        return read_photo_bytes(mask_path(manifest, mask), limits)
    except BadPhoto as error:
        raise BadMask(
            "mask_unreadable",
            f"the mask {mask} that the manifest {manifest} names cannot be read: {error.what}",
            hint=error.hint,
        ) from error


def _require_same_photo(manifest: Manifest, path: Path, original: ObjectRef) -> None:
    if manifest.image_sha256 not in (None, original.sha256):
        raise BadManifest(
            "manifest_for_other_image",
            f"the manifest {path} was written for another image "
            f"(sha256 {manifest.image_sha256[:12]}..., this is {original.sha256[:12]}...)",
            hint="Write the manifest anew for the photo as it is now",
        )


def _from_archive(key: ImageKey, sha256: str, attachments: dict[str, str], store: Store) -> Intake:
    data = store.read_original(sha256)
    files = {name: store.read_original(each) for name, each in attachments.items()}
    text = files.pop(MANIFEST, None)
    intake = Intake(key, data, _reference(sha256, data), attachments=attachments, masks=files)
    if text is None:
        return intake
    try:
        return replace(intake, manifest=parse_manifest(text, f"of {key}"))
    except BadManifest as error:
        return replace(intake, problem=error)


def archived(data: bytes, store: Store) -> ObjectRef:
    """Archive a photo's bytes before anything else is done with them."""
    return _reference(store.put_original(data), data)


def _reference(sha256: str, data: bytes) -> ObjectRef:
    media_type = _MEDIA_TYPES.get(sniff_format(data[:64]) or "", "application/octet-stream")
    return ObjectRef(sha256=sha256, media_type=media_type, size=len(data), area="originals")
