"""Pictures that no camera has taken, marked as such in the file itself: XMP of IPTC.

The mark is IPTC's DigitalSourceType, which shops, search engines and other tools read; beside it
imgflow keeps what made the picture, so that it can be made again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from PIL import ImageFile

_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_IMGFLOW = "urn:imgflow:generation:1"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_SOURCES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
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


@dataclass(frozen=True, slots=True)
class Generation:
    """What made a picture. parameters: of the engine, JSON values. Empty where nobody says."""

    engine: str = ""
    model_id: str = ""
    weights_sha256: str = ""
    licence: str = ""
    prompt: str = ""
    negative_prompt: str = ""
    seed: int | None = None
    variant: int = 0
    parameters: dict[str, Any] = field(default_factory=dict)


def synthetic_xmp(generation: Generation | None = None) -> bytes:
    """An XMP packet that marks a picture as made by a model; the same input, the same bytes."""
    told = ""
    if generation is not None:
        text = json.dumps(asdict(generation), sort_keys=True, ensure_ascii=True)
        told = f" xmlns:imgflow={quoteattr(_IMGFLOW)} imgflow:generation={quoteattr(text)}"
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        f'<rdf:RDF xmlns:rdf="{_RDF}"><rdf:Description rdf:about="" '
        f'xmlns:Iptc4xmpExt="{_IPTC}" '
        f'Iptc4xmpExt:DigitalSourceType="{_SOURCES}{_GENERATED}"{told}/>'
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
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    if isinstance(packet, str):
        packet = packet.encode("utf-8")
    packet = packet.strip(b"\x00 \r\n\t")
    # No honest packet declares entities; a hostile one expands them to gigabytes.
    if not packet or len(packet) > _LARGEST or b"<!" in packet.replace(b"<!--", b""):
        return None
    root = ElementTree.fromstring(packet)  # noqa: S314 - declares no entities, see above
    for description in root.iter(f"{{{_RDF}}}Description"):
        source = description.get(f"{{{_IPTC}}}DigitalSourceType", "")
        element = description.find(f"{{{_IPTC}}}DigitalSourceType")
        if element is not None:
            source = element.text or element.get(f"{{{_RDF}}}resource") or ""
        if source.strip().rpartition("/")[2] in _SYNTHETIC:
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
