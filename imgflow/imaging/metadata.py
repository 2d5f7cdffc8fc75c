"""What a photo's EXIF, IPTC and XMP say. Broken metadata costs a note, never the photo."""

from __future__ import annotations

import re

from PIL import ExifTags, ImageFile, IptcImagePlugin

from imgflow.imaging.photo import Rights
from imgflow.imaging.xmp import (
    DC,
    PHOTOSHOP,
    RDF,
    field_texts,
    packet_of,
    parse_packet,
    source_type_of,
)

_LONGEST_TEXT = 1000


def read_orientation(image: ImageFile.ImageFile, notes: list[str]) -> int:
    """EXIF orientation 1..8; 1 with a note where the EXIF is broken or its value senseless."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception as error:
        notes.append(f"EXIF is damaged and was ignored ({type(error).__name__})")
        return 1
    if value in range(1, 9):
        return int(value)
    notes.append("EXIF orientation is not one of 1 to 8 and was ignored")
    return 1


def read_rights(image: ImageFile.ImageFile, notes: list[str]) -> Rights:
    """Copyright, creator and credit; of several sources XMP wins, then IPTC, then EXIF."""
    found: dict[str, str] = {}
    for name, read in (("XMP", _from_xmp), ("IPTC", _from_iptc), ("EXIF", _from_exif)):
        try:
            texts = read(image)
        except Exception as error:
            notes.append(f"{name} rights are damaged and were ignored ({type(error).__name__})")
            continue
        for field, text in texts.items():
            if cleaned := _clean(text):
                found.setdefault(field, cleaned)
    return Rights(**found)


def _clean(text: str) -> str:
    printable = re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+", " ", text)
    return printable.strip()[:_LONGEST_TEXT]


def _decoded(raw: object) -> str:
    """Text of a metadata field; UTF-8 where it is valid, Latin-1 otherwise."""
    if isinstance(raw, str):
        # Pillow reads EXIF's ASCII as Latin-1, but writers put UTF-8 there.
        try:
            raw = raw.encode("latin-1")
        except UnicodeEncodeError:
            return str(raw)
    if not isinstance(raw, bytes):
        return ""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _from_exif(image: ImageFile.ImageFile) -> dict[str, str]:
    exif = image.getexif()
    return {
        "copyright": _decoded(exif.get(ExifTags.Base.Copyright)),
        "creator": _decoded(exif.get(ExifTags.Base.Artist)),
    }


def _from_iptc(image: ImageFile.ImageFile) -> dict[str, str]:
    records = IptcImagePlugin.getiptcinfo(image) or {}

    def text(record: tuple[int, int]) -> str:
        values = records.get(record, b"")
        return ", ".join(map(_decoded, values)) if isinstance(values, list) else _decoded(values)

    return {"copyright": text((2, 116)), "creator": text((2, 80)), "credit": text((2, 110))}


def _from_xmp(image: ImageFile.ImageFile) -> dict[str, str]:
    root = parse_packet(packet_of(image.info))
    found: dict[str, str] = {}
    for description in root.iter(f"{RDF}Description") if root is not None else ():
        for field, tag in (
            ("copyright", f"{DC}rights"),
            ("creator", f"{DC}creator"),
            ("credit", f"{PHOTOSHOP}Credit"),
        ):
            if texts := field_texts(description, tag):
                found[field] = ", ".join(texts)
        if source_type := source_type_of(description):
            found["source_type"] = source_type
    return found
