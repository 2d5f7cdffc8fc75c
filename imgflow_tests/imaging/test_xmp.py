"""XMP that others read, that imgflow reads back, and that hostile files cannot abuse."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from samples import photo

from imgflow.imaging.decode import decode
from imgflow.imaging.encode import RenditionFormat, encode_rendition
from imgflow.imaging.photo import Rights
from imgflow.imaging.xmp import (
    SOURCE_TYPES,
    Provenance,
    ProvenanceStep,
    parse_packet,
    read_provenance,
    xmp_packet,
)

FORMATS: tuple[RenditionFormat, ...] = ("jpeg", "webp", "png", "avif")
RIGHTS = Rights("© Zoë & Co <Ltd>", "Jörg", 'Agentur "Süd"', "digitalCapture")
PROVENANCE = Provenance(
    source_type="compositeWithTrainedAlgorithmicMedia",
    catalog="main",
    key="schuhe & <co>/rot é.jpg",
    rendition="web",
    original_sha256="ab" * 32,
    source_sha256="cd" * 32,
    steps=(
        ProvenanceStep("remove_text", "imgflow-eraser-2", "ef" * 32),
        ProvenanceStep("inpaint", "lama-1", "01" * 32, 7, 'a "lawn" & <sky>'),
        ProvenanceStep("enlarge", "lanczos"),
    ),
)
needs_exiftool = pytest.mark.skipif(
    shutil.which("exiftool") is None,
    reason="exiftool (Debian: libimage-exiftool-perl) is not installed",
)


def rendition(format: RenditionFormat, packet: bytes, rights: Rights = RIGHTS) -> bytes:
    return encode_rendition(
        photo("coffee", 60),
        format=format,
        quality=88,
        dpi=300,
        background=(255, 255, 255),
        rights=rights,
        xmp=packet,
    )


@pytest.mark.parametrize("format", FORMATS)
def test_what_a_file_states_is_read_back(format: RenditionFormat) -> None:
    data = rendition(format, xmp_packet(RIGHTS, PROVENANCE))
    assert read_provenance(data) == PROVENANCE
    assert decode(data).rights == Rights(
        RIGHTS.copyright, RIGHTS.creator, RIGHTS.credit, PROVENANCE.source_type
    )
    assert data == rendition(format, xmp_packet(RIGHTS, PROVENANCE))


@needs_exiftool
@pytest.mark.parametrize("format", FORMATS)
def test_others_read_it_too(format: RenditionFormat, tmp_path: Path) -> None:
    path = tmp_path / f"renamed.{format}"
    path.write_bytes(rendition(format, xmp_packet(RIGHTS, PROVENANCE)))
    found = exiftool(path)
    assert found["XMP-iptcExt:DigitalSourceType"] == SOURCE_TYPES + PROVENANCE.source_type
    assert found["XMP-dc:Rights"] == RIGHTS.copyright
    assert found["XMP-dc:Creator"] in (RIGHTS.creator, [RIGHTS.creator])
    assert found["XMP-photoshop:Credit"] == RIGHTS.credit
    assert found["XMP-imgflow:OriginalSha256"] == PROVENANCE.original_sha256
    assert found["XMP-imgflow:Key"] == PROVENANCE.key
    assert found["XMP-iptcExt:AISystemUsed"] == "imgflow-eraser-2; lama-1"
    assert found["XMP-iptcExt:AIPromptInformation"] == PROVENANCE.steps[1].prompt
    steps = found["XMP-imgflow:Steps"]
    assert [step["Name"] for step in steps] == ["remove_text", "inpaint", "enlarge"]
    assert (steps[1]["Model"], steps[1]["Seed"]) == ("lama-1", 7)
    assert "ExifTool:Warning" not in found


def exiftool(path: Path) -> dict[str, Any]:
    done = subprocess.run(
        ["exiftool", "-json", "-G1", "-n", "-struct", str(path)],
        capture_output=True,
        check=True,
    )
    (found,) = json.loads(done.stdout)
    return dict(found)


@pytest.mark.parametrize("format", FORMATS)
def test_without_a_packet_there_is_none(format: RenditionFormat) -> None:
    data = rendition(format, b"")
    assert read_provenance(data) is None
    with Image.open(io.BytesIO(data)) as image:
        assert not image.info.get("xmp")


def test_the_longest_texts_fit_into_a_jpeg() -> None:
    rights = Rights("&" * 1000, "é" * 1000, "<" * 1000)
    steps = tuple(ProvenanceStep("&" * 300, "&" * 300, "ef" * 32, 7, "&" * 2000) for _ in range(99))
    provenance = Provenance("composite", "main", "&" * 1024, "web", "ab" * 32, "cd" * 32, steps)
    packet = xmp_packet(rights, provenance)
    assert 60_000 < len(packet) <= 64_000
    data = rendition("jpeg", packet, rights)
    found = read_provenance(data)
    assert found is not None
    assert found.key == provenance.key
    assert 4 <= len(found.steps) < 16
    assert found.steps[0].prompt.endswith("…")


def test_what_xml_cannot_hold_is_left_out() -> None:
    step = ProvenanceStep("inpaint", prompt="a\x00b\x0bc\ud800d\uffffe\n")
    packet = xmp_packet(Rights(), Provenance("x", original_sha256="ab", steps=(step,)))
    found = read_provenance(rendition("png", packet))
    assert found is not None
    assert found.steps[0].prompt == "a b c d e\n"


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"no xml",
        b"<a>",
        b'<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>',
        b"<x>" * 100_000,
        b"<!ENTITY lol 'lol'>" + b"x" * 100,
        b"\xff\xfe<\x00x\x00",
    ],
)
def test_hostile_packets_say_nothing(packet: bytes) -> None:
    jpeg = rendition("jpeg", b"")
    # Pillow writes no broken packets: APP1 by hand, after SOI.
    segment = b"http://ns.adobe.com/xap/1.0/\x00" + packet[:65000]
    data = jpeg[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2) + segment + jpeg[2:]
    assert read_provenance(data) is None


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\xff\xd8\xff", b"RIFF\x00\x00\x00\x00WEBP"])
def test_what_is_no_picture_says_nothing(data: bytes) -> None:
    assert read_provenance(data) is None


def test_entities_are_refused() -> None:
    with pytest.raises(ValueError, match="plain"):
        parse_packet(b'<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>')
    assert parse_packet(b" \x00\n") is None


def test_a_stated_seed_that_is_none() -> None:
    packet = xmp_packet(Rights(), PROVENANCE).replace(b"<imgflow:Seed>7<", b"<imgflow:Seed>x<")
    found = read_provenance(rendition("webp", packet))
    assert found is not None
    assert found.steps[1].seed is None
