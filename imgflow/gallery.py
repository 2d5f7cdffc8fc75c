"""The gallery: before and after of any catalog's photos, as one HTML file that works offline."""

from __future__ import annotations

import base64
import hashlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

import cv2
import numpy as np
from jinja2 import Environment, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

from imgflow.imaging.colour import data_range, to_uint8
from imgflow.imaging.decode import DecodeLimits, decode
from imgflow.imaging.encode import decode_mask
from imgflow.lineage.record import GateResult, ObjectRef, Operation, Record, Verdict, Version
from imgflow.store.store import Store

_PREVIEW_SIDE = 480
_MARK = (236, 0, 140)  # magenta: the colour that photos have least of
# Objects are our own and were within the limits when they came in.
_TRUSTED = DecodeLimits(max_bytes=1 << 33, max_pixels=1 << 31)

Tone = Literal["good", "calm", "warn", "bad"]
_WORDS: dict[Verdict, tuple[str, Tone]] = {
    Verdict.PUBLISHED: ("Published", "good"),
    Verdict.REPAIRED: ("Repaired, not published yet", "calm"),
    Verdict.PASSED_THROUGH: ("Unchanged, not published yet", "calm"),
    Verdict.ACCEPTED_WITH_ARTIFACTS: ("Accepted with artifacts", "warn"),
    Verdict.NEEDS_REVIEW: ("Needs a person", "warn"),
    Verdict.QUARANTINED: ("Quarantined", "bad"),
    Verdict.RETIRED: ("Retired", "calm"),
}
_UNTOUCHED: tuple[str, Tone] = ("Published untouched", "good")


@dataclass(frozen=True, slots=True)
class View:
    """A picture of the gallery. source: data: URI; size: of the version that it shows."""

    source: str
    size: str


@dataclass(frozen=True, slots=True)
class Step:
    """One operation in words."""

    name: str
    engine: str
    model: str
    weights: str
    detail: str
    requested_by: str


@dataclass(frozen=True, slots=True)
class Gate:
    """One gate in words. state: pass, fail or 'not evaluated'."""

    version: str
    name: str
    value: str
    threshold: str
    state: Literal["pass", "fail", "not evaluated"]
    note: str


@dataclass(frozen=True, slots=True)
class GalleryRow:
    """One photo: pictures and words, ready to be shown.

    before: as uploaded, upright; None where it does not open. marked: the same with what was
    masked in colour; None where nothing was. after: the result, or what a gate rejected
    (`rejected` is then true); None where there is neither. figures: further names and values.
    """

    key: str
    title: str
    about: str
    badge: str
    tone: Tone
    stopped_at: str
    before: View | None
    marked: View | None
    after: View | None
    rejected: bool
    reason: str
    hint: str
    steps: tuple[Step, ...]
    gates: tuple[Gate, ...]
    notes: tuple[str, ...]
    figures: tuple[tuple[str, str], ...]
    seconds: float


def passage_of(records: Mapping[Version, Record]) -> list[Record]:
    """An image's records in the order of the line, up to the first gap or stop.

    Later records may be left from an earlier run: they do not count. Raises ValueError where
    there is no record at all.
    """
    passage: list[Record] = []
    for version in Version:
        if version not in records:
            if passage:
                break
            continue  # a refused upload is recorded at the first version that was asked for
        passage.append(records[version])
        if records[version].verdict.stops:
            break
    if not passage:
        raise ValueError("an image without any record has nothing to show")
    return passage


def gallery_row(
    store: Store,
    records: Mapping[Version, Record],
    title: str = "",
    *,
    about: str = "",
    figures: Sequence[tuple[str, str]] = (),
) -> GalleryRow:
    """The row of one image, whose records by version are given (at least one).

    title, about: what to call the photo, and a sentence on it. figures: names and values to
    show beside it, such as a comparison with a known truth. Raises StoreError, ValueError.
    """
    passage = passage_of(records)
    last = passage[-1]
    operations = [operation for record in passage for operation in record.operations]
    badge, tone = _WORDS[last.verdict]
    # Raw may have been converted; untouched means that no stage worked on the picture.
    if last.verdict is Verdict.PUBLISHED and not operations:
        badge, tone = _UNTOUCHED

    upload = passage[0].output if passage[0].version is Version.RAW else None
    before = _pixels(store, upload) if upload else None
    shown = last.rejected or (None if last.verdict.stops else _result(passage))
    return GalleryRow(
        key=last.key,
        title=title or last.key.rpartition("/")[2],
        about=" ".join(filter(None, [about, _synthetic(last)])),
        badge=badge,
        tone=tone,
        stopped_at=str(last.version) if last.verdict.stops else "",
        before=_view(before) if before is not None else None,
        marked=_marked(before, operations, store) if before is not None else None,
        after=_view(_pixels(store, shown)) if shown else None,
        rejected=last.rejected is not None,
        reason=last.reason.message if last.reason else "",
        hint=last.reason.hint if last.reason else "",
        steps=tuple(_step(operation) for operation in operations),
        gates=tuple(_gate(record.version, gate) for record in passage for gate in record.gates),
        notes=tuple(note for record in passage for note in record.notes),
        figures=tuple(figures),
        seconds=sum(record.seconds for record in passage),
    )


def render_gallery(
    rows: Sequence[GalleryRow], *, title: str = "imgflow gallery", seconds: float | None = None
) -> str:
    """One HTML page without anything from elsewhere.

    All text is escaped, and the page's own policy lets no other script run than the page's.
    """
    script = _template("gallery.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    page = environment.from_string(_template("gallery.html.j2"))
    counts = Counter((row.badge, row.tone) for row in rows)
    return page.render(
        title=title,
        rows=rows,
        counts=[(badge, tone, count) for (badge, tone), count in counts.most_common()],
        changed=sum(bool(row.steps) for row in rows),
        seconds=sum(row.seconds for row in rows) if seconds is None else seconds,
        style=_template("gallery.css"),
        script=script,
        script_hash=f"'sha256-{digest}'",
    )


def _template(name: str) -> str:
    return (files("imgflow") / "templates" / name).read_text("utf-8")


# ---- pictures --------------------------------------------------------------------------


def _result(passage: Sequence[Record]) -> ObjectRef | None:
    """The best version, before it is reduced to renditions."""
    outputs = [record.output for record in passage if record.version is not Version.PUBLISHED]
    return outputs[-1] if outputs else None


def _synthetic(record: Record) -> str:
    """A sentence on a picture that no camera has taken; empty for a photo."""
    if not record.synthetic:
        return ""
    made = record.generation or {}
    return f"Synthetic: made by {made.get('model_id') or 'an unknown model'}."


def _pixels(store: Store, ref: ObjectRef) -> NDArray[np.uint8]:
    return to_uint8(decode(store.read(ref), _TRUSTED).pixels)


def _view(pixels: NDArray[np.uint8]) -> View:
    height, width = pixels.shape[:2]
    return View(_data_uri(_preview(pixels)), f"{width} \N{MULTIPLICATION SIGN} {height}")


def _preview(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """At most _PREVIEW_SIDE pixels a side; transparency stays."""
    height, width = pixels.shape[:2]
    ratio = _PREVIEW_SIDE / max(height, width)
    if ratio >= 1:
        return pixels
    size = (max(round(width * ratio), 1), max(round(height * ratio), 1))
    # Pillow weighs colours by alpha here; OpenCV does not.
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))


def _data_uri(pixels: NDArray[np.uint8]) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", quality=82, method=4)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def _marked(
    before: NDArray[np.uint8], operations: Sequence[Operation], store: Store
) -> View | None:
    """The upload with all masks laid over it in colour."""
    masks = [decode_mask(store.read(each.mask), _TRUSTED) for each in operations if each.mask]
    masks = [mask for mask in masks if mask.shape == before.shape[:2]]
    if not masks:
        return None
    mask = np.maximum.reduce(masks)
    share = np.count_nonzero(mask) / mask.size
    colour = np.full_like(before, data_range(before.dtype))
    colour[:, :, :3] = _MARK
    over = cv2.addWeighted(before, 0.35, colour, 0.65, 0)
    marked = np.where(mask[:, :, None] > 0, over, before)
    return View(_data_uri(_preview(marked)), f"{share:.1%} of the picture")


# ---- words -----------------------------------------------------------------------------


def _step(operation: Operation) -> Step:
    engine = operation.engine
    weights = engine.weights_sha256 if engine else None
    return Step(
        name=operation.name.replace("_", " "),
        engine=engine.name if engine else "",
        model=engine.model_id if engine else "",
        weights=f"weights {weights[:12]}" if weights else "no weights",
        detail=_detail(operation),
        requested_by=operation.requested_by,
    )


def _detail(operation: Operation) -> str:
    details = [
        f"\N{LEFT DOUBLE QUOTATION MARK}{region.text}\N{RIGHT DOUBLE QUOTATION MARK}"
        for region in operation.regions
    ]
    scale = operation.parameters.get("scale", 1)
    if scale > 1:
        details.append(f"\N{MULTIPLICATION SIGN}{scale}")
    if operation.prompt:
        details.append(f"prompt: {operation.prompt}")
    if operation.seed is not None:
        details.append(f"seed {operation.seed}")
    return ", ".join(details)


def _gate(version: Version, gate: GateResult) -> Gate:
    state: Literal["pass", "fail", "not evaluated"] = "not evaluated"
    if gate.passed is not None:
        state = "pass" if gate.passed else "fail"
    return Gate(
        version=str(version),
        name=gate.name.replace("_", " "),
        value=_number(gate.value),
        threshold=_number(gate.threshold),
        state=state,
        note=gate.note,
    )


def _number(value: Any) -> str:
    return "\N{EN DASH}" if value is None else f"{value:.4g}"
