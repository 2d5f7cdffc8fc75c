"""The quality report: figures, plots, a gallery to search; one HTML file that works offline."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from imgflow.errors import ImgflowError
from imgflow.files import replacing
from imgflow.imaging.colour import to_uint8
from imgflow.imaging.decode import DecodeLimits, decode
from imgflow.lineage.audit import read_image
from imgflow.lineage.record import ObjectRef, Record, Version
from imgflow.reports.figures import Figures, figures, frontier
from imgflow.reports.svg import histogram, over_time
from imgflow.reports.table import read_table
from imgflow.store.store import Store

MOST_PHOTOS = 600
"""Photos in the gallery: those that wait, and then the latest. Each takes about 15 kB."""
_SIDE = 240
_TRUSTED = DecodeLimits(max_bytes=1 << 33, max_pixels=1 << 31)
_TONES = {
    "published": "good",
    "accepted_with_artifacts": "warn",
    "needs_review": "warn",
    "quarantined": "bad",
}


@dataclass(frozen=True, slots=True)
class Card:
    """One photo of the gallery. before, after: data: URIs; empty where there is no picture.
    words: all that a search looks at, in lower case."""

    key: str
    verdict: str
    tone: str
    version: str
    reason: str
    models: str
    made: str
    before: str
    after: str
    words: str


@dataclass(frozen=True, slots=True)
class Report:
    """A report that was written. images: of the catalog; shown: of them, in the gallery."""

    path: Path
    figures: Figures
    images: int
    shown: int


def write_report(store: Store, catalog: str, table: Path, path: Path) -> Report:
    """Write the report of a catalog's table. Raises ImgflowError."""
    frame = read_table(table)
    found = figures(frame)
    chosen = _chosen(frontier(frame))
    script = _template("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.from_string(_template("report.html.j2"))
    with replacing(path) as partial, partial.open("wb") as file:
        # Card by card: the pictures of a large gallery never are in memory at once.
        page.stream(
            catalog=catalog,
            made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            figures=found,
            time_plot=Markup(over_time(found.days)) if found.days else "",  # noqa: S704 - ours
            histograms=[(each, Markup(histogram(each))) for each in found.distributions],  # noqa: S704
            cards=_cards(store, catalog, frame, chosen),
            shown=len(chosen),
            style=_template("gallery.css") + _template("report.css"),
            script=script,
            script_hash=f"'sha256-{digest}'",
            tones=_TONES,
        ).dump(file, encoding="utf-8")
    return Report(path, found, found.images, len(chosen))


def _template(name: str) -> str:
    return (files("imgflow") / "templates" / name).read_text("utf-8")


def _chosen(last: pd.DataFrame) -> pd.DataFrame:
    """The photos of the gallery: those that wait for a person first, then the latest."""
    verdict = last["verdict"].astype(str)
    waits = verdict.isin(["needs_review", "quarantined"])
    ordered = last.assign(waits=waits).sort_values(["waits", "started_at"], ascending=False)
    return ordered.head(MOST_PHOTOS)


def _cards(store: Store, catalog: str, frame: pd.DataFrame, chosen: pd.DataFrame) -> Iterator[Card]:
    models = _models(frame[frame["key"].isin(chosen["key"])])
    for row in chosen.to_dict("records"):
        made: list[Record] = []
        for image in store.image_files(catalog, row["digest"]):
            made = list(read_image(image, catalog).records.values())
        message = "" if pd.isna(row["message"]) else str(row["message"])
        used = ", ".join(models.get(row["key"], ()))
        verdict, version = str(row["verdict"]), str(row["version"])
        yield Card(
            key=row["key"],
            verdict=verdict.replace("_", " "),
            tone=_TONES.get(verdict, "calm"),
            version=version,
            reason=message,
            models=used,
            made=row["started_at"].strftime("%Y-%m-%d %H:%M"),
            before=_preview(store, _before(made)),
            after=_preview(store, _after(made)),
            words=f"{row['key']} {verdict} {version} {message} {used}".lower(),
        )


def _models(frame: pd.DataFrame) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, models in zip(frame["key"], frame["models"], strict=True):
        found.setdefault(key, []).extend(each for each in models if each)
    return {key: list(dict.fromkeys(models)) for key, models in found.items()}


def _before(records: list[Record]) -> ObjectRef | None:
    first = records[0] if records else None
    return first.output if first and first.version is Version.RAW else None


def _after(records: list[Record]) -> ObjectRef | None:
    """The best picture before it is reduced, or what a gate rejected."""
    for at, record in enumerate(records):
        if record.verdict.stops:
            return record.rejected or (records[at - 1].output if at else None)
    outputs = [record.output for record in records if record.version is not Version.PUBLISHED]
    return outputs[-1] if outputs else None


def _preview(store: Store, ref: ObjectRef | None) -> str:
    """A picture of at most _SIDE pixels a side as a data: URI; empty where there is none."""
    if ref is None:
        return ""
    kind = f"preview-{_SIDE}"
    data = store.get_cached(kind, ref.sha256)
    if data is None:
        try:
            pixels = to_uint8(decode(store.read(ref), _TRUSTED).pixels)
        except ImgflowError:  # the audit tells of those
            return ""
        data = _webp(pixels)
        store.put_cached(kind, ref.sha256, data)
    return f"data:image/webp;base64,{base64.b64encode(data).decode()}"


def _webp(pixels: NDArray[np.uint8]) -> bytes:
    height, width = pixels.shape[:2]
    ratio = min(_SIDE / max(height, width), 1.0)
    size = max(round(width * ratio), 1), max(round(height * ratio), 1)
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    order = cv2.COLOR_RGBA2BGRA if small.shape[2] == 4 else cv2.COLOR_RGB2BGR
    _, encoded = cv2.imencode(".webp", cv2.cvtColor(small, order), [cv2.IMWRITE_WEBP_QUALITY, 74])
    return encoded.tobytes()
