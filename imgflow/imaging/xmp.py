"""XMP packets: what a file says of its rights and of how its picture came to be.

Fields with a meaning of their own elsewhere stand where everybody looks for them (Dublin Core,
Photoshop, IPTC Extension); what only imgflow reads back has a namespace of its own.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from PIL import Image

from imgflow.imaging.photo import Rights

_LARGEST_PACKET = 4 << 20
_NAMESPACES = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "imgflow": "urn:imgflow:provenance:1/",
}
RDF, DC, PHOTOSHOP, _XMP, IPTC, _OURS = (f"{{{uri}}}" for uri in _NAMESPACES.values())
SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
"""Where IPTC defines the terms for how a picture came to be."""
_TERM = re.compile(r"[A-Za-z]{1,60}")
_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF")
# A JPEG holds 65,502 bytes of XMP. The records have all of what is left out or cut short here.
_MOST_BYTES = 64_000
_MOST_STEPS = 16
_LONGEST = 200
# What XML cannot hold.
_INVALID = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class ProvenanceStep:
    """One thing that was done to the picture. weights: sha256; empty without any."""

    name: str
    model: str = ""
    weights: str = ""
    seed: int | None = None
    prompt: str = ""


@dataclass(frozen=True, slots=True)
class Provenance:
    """How a picture came to be.

    source_type: a term of IPTC's DigitalSourceType. catalog, key, rendition: which record tells
    more; empty where none is kept. original_sha256: of the file that was uploaded. source_sha256:
    of the picture that this file shows.
    """

    source_type: str
    catalog: str = ""
    key: str = ""
    rendition: str = ""
    original_sha256: str = ""
    source_sha256: str = ""
    steps: tuple[ProvenanceStep, ...] = ()


def xmp_packet(rights: Rights, provenance: Provenance) -> bytes:
    """The packet of a file; the same values give the same bytes. Of too many steps, or too long
    ones, the first stand in it."""
    steps = provenance.steps[:_MOST_STEPS]
    while len(packet := _packet(rights, replace(provenance, steps=steps))) > _MOST_BYTES and steps:
        steps = steps[:-1]
    return packet


def _packet(rights: Rights, provenance: Provenance) -> bytes:
    fields = [
        _text("xmp:CreatorTool", "imgflow"),
        _text("Iptc4xmpExt:DigitalSourceType", SOURCE_TYPES + provenance.source_type),
    ]
    if rights.copyright:
        item = f'<rdf:li xml:lang="x-default">{_escaped(rights.copyright)}</rdf:li>'
        fields.append(f"<dc:rights><rdf:Alt>{item}</rdf:Alt></dc:rights>")
    if rights.creator:
        item = f"<rdf:li>{_escaped(rights.creator)}</rdf:li>"
        fields.append(f"<dc:creator><rdf:Seq>{item}</rdf:Seq></dc:creator>")
    if rights.credit:
        fields.append(_text("photoshop:Credit", rights.credit))
    models = dict.fromkeys(step.model for step in provenance.steps if step.weights)
    prompts = dict.fromkeys(step.prompt for step in provenance.steps if step.prompt)
    if models:
        fields.append(_text("Iptc4xmpExt:AISystemUsed", _short("; ".join(models))))
    if prompts:
        fields.append(_text("Iptc4xmpExt:AIPromptInformation", _short("; ".join(prompts))))
    fields += _own_fields(provenance)
    spaces = " ".join(f'xmlns:{name}="{uri}"' for name, uri in _NAMESPACES.items())
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
        f"<rdf:RDF {spaces}>\n"
        '<rdf:Description rdf:about="">\n'
        + "\n".join(fields)
        + "\n</rdf:Description>\n</rdf:RDF>\n</x:xmpmeta>\n"
        '<?xpacket end="r"?>'
    ).encode()


def _own_fields(provenance: Provenance) -> Iterator[str]:
    for name, value in (
        ("Catalog", provenance.catalog),
        ("Key", provenance.key),
        ("Rendition", provenance.rendition),
        ("OriginalSha256", provenance.original_sha256),
        ("SourceSha256", provenance.source_sha256),
    ):
        if value:
            yield _text(f"imgflow:{name}", value)
    steps = "\n".join(map(_step, provenance.steps))
    if steps:
        yield f"<imgflow:Steps><rdf:Seq>\n{steps}\n</rdf:Seq></imgflow:Steps>"


def _step(step: ProvenanceStep) -> str:
    fields = {
        "Name": step.name,
        "Model": step.model,
        "Weights": step.weights,
        "Seed": "" if step.seed is None else str(step.seed),
        "Prompt": step.prompt,
    }
    texts = (_text(f"imgflow:{name}", _short(value)) for name, value in fields.items() if value)
    return f'<rdf:li rdf:parseType="Resource">{"".join(texts)}</rdf:li>'


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"


def _text(name: str, value: str) -> str:
    return f"<{name}>{_escaped(value)}</{name}>"


def _escaped(text: str) -> str:
    return escape(_INVALID.sub(" ", text))


# -- reading ---------------------------------------------------------------------------


def parse_packet(packet: bytes | str) -> ElementTree.Element | None:
    """The elements of a packet; None for an empty one. Raises ValueError, ParseError."""
    if isinstance(packet, str):
        packet = packet.encode("utf-8")
    packet = packet.strip(b"\x00 \r\n\t")
    if not packet:
        return None
    # No honest packet declares entities; a hostile one expands them to gigabytes.
    if len(packet) > _LARGEST_PACKET or b"<!" in packet.replace(b"<!--", b""):
        raise ValueError("not a plain XMP packet")
    return ElementTree.fromstring(packet)  # noqa: S314 - declares no entities, see above


def packet_of(info: dict[Any, Any]) -> bytes | str:
    """The packet among what Pillow has read of a file; empty where there is none."""
    found = info.get("xmp") or info.get("XML:com.adobe.xmp") or b""
    return found if isinstance(found, bytes | str) else b""


def field_texts(description: ElementTree.Element, tag: str) -> list[str]:
    """The texts of a field, whether it is an element, a list or an attribute; empty: it is not
    there."""
    element = description.find(tag)
    if element is None:
        return [description.attrib[tag]] if tag in description.attrib else []
    items = [item.text or "" for item in element.iter(f"{RDF}li")]
    return items or [element.text or ""]


def source_type_of(description: ElementTree.Element) -> str:
    """The term of DigitalSourceType that a packet states; empty where it states none."""
    stated = "".join(field_texts(description, f"{IPTC}DigitalSourceType")).strip()
    term = stated.rpartition("/")[2]
    return term if _TERM.fullmatch(term) else ""


def read_provenance(data: bytes) -> Provenance | None:
    """What a file's XMP states; None where it has none of imgflow's, or none that can be read.

    Whoever can write a file can write that: it is a hint at a record, and proves nothing.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            root = parse_packet(packet_of(image.info))
    except Exception:  # hostile or broken: whatever Pillow makes of it
        return None
    for description in root.iter(f"{RDF}Description") if root is not None else ():

        def text(name: str, description: ElementTree.Element = description) -> str:
            return "".join(field_texts(description, f"{_OURS}{name}"))[: _LONGEST * 10]

        if text("OriginalSha256"):
            return Provenance(
                source_type=source_type_of(description),
                catalog=text("Catalog"),
                key=text("Key"),
                rendition=text("Rendition"),
                original_sha256=text("OriginalSha256"),
                source_sha256=text("SourceSha256"),
                steps=tuple(_steps_of(description)),
            )
    return None


def _steps_of(description: ElementTree.Element) -> Iterator[ProvenanceStep]:
    steps = description.find(f"{_OURS}Steps")
    for item in list(steps.iter(f"{RDF}li"))[:_MOST_STEPS] if steps is not None else ():

        def text(name: str, item: ElementTree.Element = item) -> str:
            return (item.findtext(f"{_OURS}{name}") or "")[:_LONGEST]

        seed = text("Seed")
        yield ProvenanceStep(
            name=text("Name"),
            model=text("Model"),
            weights=text("Weights"),
            seed=int(seed) if seed.isascii() and seed.isdigit() else None,
            prompt=text("Prompt"),
        )
