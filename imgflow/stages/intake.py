"""Everything that a user gave for one image: the photo, its manifest, its masks. All archived."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from imgflow.errors import BadManifest, BadPhoto
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
_MANIFEST = "manifest"


@dataclass(frozen=True, slots=True)
class Intake:
    """What was given for one image.

    original: the archived photo. attachments: sha256 of archived files by the name that the
    manifest gives them (and 'manifest' for itself). masks: bytes of the mask files by the same
    name.
    """

    key: ImageKey
    data: bytes = b""
    original: ObjectRef | None = None
    manifest: Manifest = field(default_factory=lambda: Manifest())
    attachments: dict[str, str] = field(default_factory=dict)
    masks: dict[str, bytes] = field(default_factory=dict)


def take_in(
    key: ImageKey, catalog: str, store: Store, uploads: Uploads, limits: DecodeLimits
) -> Intake:
    """Read and archive an upload with what lies beside it.

    An upload that is gone is taken from the archive, where an earlier run put it: deleting from
    the upload folder loses nothing. Raises BadPhoto, BadManifest, BadMask, StoreError.
    """
    try:
        photo = uploads.path_of(key)
    except BadPhoto as missing:
        recorded = store.get_record(catalog, key, Version.RAW)
        if recorded is None or recorded.original_sha256 is None:
            raise missing
        return _from_archive(key, recorded.original_sha256, recorded.attachments, store)

    data = read_photo_bytes(photo, limits)
    original = archived(data, store)
    path = find_manifest(photo)
    if path is None:
        return Intake(key, data, original)
    text = read_manifest(path)
    attachments = {_MANIFEST: store.put_original(text)}
    manifest = parse_manifest(text, str(path))
    _require_same_photo(manifest, path, original)
    masks = {}
    for step in manifest.steps:
        if isinstance(step, Inpaint) and step.mask is not None:
            masks[step.mask] = read_photo_bytes(mask_path(path, step.mask), limits)
            attachments[step.mask] = store.put_original(masks[step.mask])
    return Intake(key, data, original, manifest, attachments, masks)


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
    text = files.pop(_MANIFEST, None)
    manifest = Manifest() if text is None else parse_manifest(text, f"the manifest of {key}")
    return Intake(key, data, _reference(sha256, data), manifest, attachments, files)


def archived(data: bytes, store: Store) -> ObjectRef:
    """Archive a photo's bytes before anything else is done with them."""
    return _reference(store.put_original(data), data)


def _reference(sha256: str, data: bytes) -> ObjectRef:
    media_type = _MEDIA_TYPES.get(sniff_format(data[:64]) or "", "application/octet-stream")
    return ObjectRef(sha256=sha256, media_type=media_type, size=len(data), area="originals")
