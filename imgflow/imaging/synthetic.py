"""Pictures that no camera has taken, marked as such in the file itself: XMP of IPTC.

The mark is IPTC's DigitalSourceType, which shops, search engines and other tools read; beside it
imgflow keeps what made the picture, so that it can be made again.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from PIL import ImageFile

from imgflow.imaging.photo import Generation
from imgflow.imaging.xmp import (
    IPTC,
    RDF,
    SOURCE_TYPES,
    packet_of,
    parse_packet,
    source_type_of,
)

_IMGFLOW = "urn:imgflow:generation:1"
_GENERATED = "trainedAlgorithmicMedia"
_SYNTHETIC = (
    _GENERATED,
    "compositeWithTrainedAlgorithmicMedia",
    "algorithmicMedia",
    "compositeSynthetic",
    "virtualRecording",
)
_LARGEST = 64 << 10
_LONGEST = 4000


def synthetic_xmp(generation: Generation | None = None) -> bytes:
    """An XMP packet that marks a picture as made by a model; the same input, the same bytes."""
    told = ""
    if generation is not None:
        text = json.dumps(asdict(generation), sort_keys=True, ensure_ascii=True)
        told = f" xmlns:imgflow={quoteattr(_IMGFLOW)} imgflow:generation={quoteattr(text)}"
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        f'<rdf:RDF xmlns:rdf="{RDF[1:-1]}"><rdf:Description rdf:about="" '
        f'xmlns:Iptc4xmpExt="{IPTC[1:-1]}" '
        f'Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPES}{_GENERATED}"{told}/>'
        "</rdf:RDF></x:xmpmeta>"
    ).encode("ascii")


def read_generation(image: ImageFile.ImageFile) -> Generation | None:
    """What made a picture that says it is synthetic; None for one that does not.

    A file's own word: nobody can prove it. Broken metadata says nothing.
    """
    try:
        return _read(image)
    except (ValueError, TypeError, ElementTree.ParseError, UnicodeError):
        return None


def _read(image: ImageFile.ImageFile) -> Generation | None:
    packet = packet_of(image.info)
    if len(packet) > _LARGEST:
        return None
    root = parse_packet(packet)
    for description in root.iter(f"{RDF}Description") if root is not None else ():
        if source_type_of(description) in _SYNTHETIC:
            return _parsed(description.get(f"{{{_IMGFLOW}}}generation", ""))
    return None


def _parsed(text: str) -> Generation:
    try:
        given = json.loads(text) if text else {}
    except ValueError:
        return Generation()
    if not isinstance(given, dict):
        return Generation()

    def words(name: str) -> str:
        value = given.get(name)
        return value[:_LONGEST] if isinstance(value, str) and value.isprintable() else ""

    def number(name: str) -> int | None:
        value = given.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            return None
        return value if 0 <= value < 2**32 else None

    parameters = given.get("parameters")
    plain = (str, int, float, bool)
    return Generation(
        engine=words("engine"),
        model_id=words("model_id"),
        weights_sha256=words("weights_sha256"),
        licence=words("licence"),
        prompt=words("prompt"),
        negative_prompt=words("negative_prompt"),
        seed=number("seed"),
        variant=number("variant") or 0,
        parameters={
            str(name)[:100]: value
            for name, value in (parameters if isinstance(parameters, dict) else {}).items()
            if isinstance(value, plain) and len(str(value)) <= _LONGEST
        },
    )
