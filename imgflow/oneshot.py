"""One-shot repairs of files and folders: the same stages, without Dagster and without a store."""

from __future__ import annotations

import getpass
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from imgflow.chain import Line, Passage, rescue
from imgflow.engines.registry import Engines
from imgflow.errors import BadPhoto, ImgflowError
from imgflow.files import printable, replacing
from imgflow.imaging.decode import read_photo_bytes
from imgflow.imaging.encode import RenditionFormat, encode_rendition
from imgflow.imaging.photo import Rights
from imgflow.imaging.xmp import xmp_packet
from imgflow.lineage.provenance import provenance_of
from imgflow.lineage.record import Record, Version
from imgflow.policy.choice import Prices
from imgflow.policy.manifest import Manifest
from imgflow.policy.policy import Policy
from imgflow.stages import raw
from imgflow.stages.intake import Intake, archived
from imgflow.stages.stage import Picture
from imgflow.store.keys import PHOTO_SUFFIXES, ImageKey, Uploads
from imgflow.store.local import LocalStore

_ONCE = "once"
_FORMATS: dict[str, RenditionFormat] = {
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".jpe": "jpeg",
    ".jfif": "jpeg",
    ".png": "png",
    ".webp": "webp",
    ".avif": "avif",
}
# A repaired photo replaces the master copy: lossy formats are kept near lossless.
_QUALITY = 95


@dataclass(frozen=True, slots=True)
class Task:
    """What to do to each photo.

    versions: as far as the photo shall go. manifest: what is asked, in place of manifests beside
    the photos; None: those are read. masks: bytes of the mask files that the manifest names.
    prices: what engines take, where the policy chooses by a budget.
    """

    versions: tuple[Version, ...]
    policy: Policy
    manifest: Manifest | None = None
    masks: dict[str, bytes] | None = None
    prices: Prices = field(default_factory=Prices)


@dataclass(frozen=True, slots=True)
class Errand:
    """One photo: its file and its key below `uploads`, and the file to write."""

    uploads: Uploads
    key: ImageKey
    source: Path
    target: Path


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one file.

    converted: nothing was repaired, but written in another format. error: empty unless failed.
    notes: what a person should know of what was written.
    """

    source: Path
    status: Literal["repaired", "converted", "copied", "failed"]
    records: tuple[Record, ...] = ()
    error: str = ""
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        return sum(record.seconds for record in self.records)


def errands(source: Path, target: Path) -> tuple[list[Errand], list[Result]]:
    """Each photo below `source` with the file to write; and failures: what cannot be taken.

    A folder keeps its relative paths below `target`. A photo in a format that is read but not
    written gets `.png` appended, as often as it takes that no two photos share a target.
    Raises BadPhoto.
    """
    if not source.exists():
        raise BadPhoto("not_found", "there is no such file or folder", photo=printable(source))
    if source.is_dir():
        _require_outside(source, target)
        uploads = Uploads(source)
        scan = uploads.scan()
        names = _written_names([str(path.relative_to(source)) for _, path in scan.photos])
        found = [
            Errand(uploads, key, path, target / name)
            for (key, path), name in zip(scan.photos, names, strict=True)
        ]
        return found, [_failed(Path(each.photo), each) for each in scan.problems]
    if target.is_dir() or target.suffix.lower() not in PHOTO_SUFFIXES:
        target /= _written_names([source.name])[0]
    elif target.suffix.lower() not in _FORMATS:
        raise BadPhoto(
            "format_not_written",
            f"files of type {target.suffix} are not written",
            hint=f"Name the result {', '.join(sorted(_FORMATS))}",
            photo=printable(target),
        )
    # A link that is named is followed; what lies beside the photo itself belongs to it.
    real = Path(os.path.realpath(source))
    return [Errand(Uploads(real.parent), ImageKey.from_path(real.name), source, target)], []


def _require_outside(source: Path, target: Path) -> None:
    if target.exists() and not target.is_dir():
        raise BadPhoto(
            "target_is_a_file",
            "this is a file, and the photos of a folder go to a folder",
            hint="Name another folder",
            photo=printable(target),
        )
    if Path(os.path.realpath(target)).is_relative_to(os.path.realpath(source)):
        raise BadPhoto(
            "target_inside_source",
            f"this is inside of {printable(source)}: the results would lie among the photos",
            hint="Name a folder outside of it",
            photo=printable(target),
        )


def _written_names(names: Sequence[str]) -> list[str]:
    taken = {name for name in names if _is_written(name)}
    written = []
    for name in names:
        if not _is_written(name):
            name += ".png"
            while name in taken:
                name += ".png"
            taken.add(name)
        written.append(name)
    return written


def _is_written(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in _FORMATS


def repair_files(
    files: Sequence[Errand], task: Task, engines: Engines, *, overwrite: bool = False
) -> Iterator[Result]:
    """Repair files one after the other; one that fails does not stop the rest."""
    for errand in files:
        try:
            yield _repair(errand, task, engines, overwrite)
        except (ImgflowError, OSError) as error:
            yield _failed(errand.source, error)


def _failed(source: Path, error: ImgflowError | OSError) -> Result:
    if isinstance(error, OSError):
        text = error.strerror or str(error)
    else:
        text = f"{error.what}. {error.hint}" if error.hint else error.what
    return Result(source, "failed", error=text)


def _repair(errand: Errand, task: Task, engines: Engines, overwrite: bool) -> Result:
    _require_free(errand.source, errand.target, overwrite)
    with tempfile.TemporaryDirectory(prefix="imgflow-") as folder:
        store = LocalStore(Path(folder))
        line = Line(
            catalog=_ONCE,
            store=store,
            engines=engines,
            policy=task.policy,
            uploads=errand.uploads,
            run_id=_ONCE,
            person=_person(),
            prices=task.prices,
        )
        intake = None
        if task.manifest is not None:
            data = read_photo_bytes(errand.source, raw.limits(task.policy.raw))
            original = archived(data, store)
            intake = Intake(errand.key, data, original, task.manifest, masks=task.masks or {})
        passage = rescue(errand.key, line, task.versions, intake=intake)
        return _write(errand, task, passage, store)


def _write(errand: Errand, task: Task, passage: Passage, store: LocalStore) -> Result:
    records = tuple(step.record for step in passage.steps)
    last = records[-1]
    if last.verdict.stops or last.output is None:
        return Result(errand.source, "failed", records, error=_why_stopped(last))
    changed = any(record.operations for record in records)
    if task.manifest is not None and task.manifest.steps and not changed:
        return Result(errand.source, "failed", records, error="; ".join(last.notes))
    format = _FORMATS[errand.target.suffix.lower()]
    if not changed and format == _FORMATS.get(errand.source.suffix.lower()):
        with replacing(errand.target) as partial:
            shutil.copyfile(errand.source, partial)
        return Result(errand.source, "copied", records)
    pixels = Picture(store, last.output).pixels
    rights = Rights(**last.rights)
    data = encode_rendition(
        pixels,
        format=format,
        quality=_QUALITY,
        dpi=None,
        background=(255, 255, 255),
        rights=rights,
        xmp=xmp_packet(rights, provenance_of(records, rights.source_type)),
    )
    with replacing(errand.target) as partial:
        partial.write_bytes(data)
    notes = list(_notes(records))
    if pixels.dtype != np.uint8:
        notes.append("repaired with 16 bits a channel, written with 8")
    return Result(
        errand.source, "repaired" if changed else "converted", records, notes=tuple(notes)
    )


def _notes(records: Sequence[Record]) -> Iterator[str]:
    """How the photo was read, and what was asked for but not used."""
    for record in records:
        if record.version is Version.RAW or (
            record.version is Version.INPAINTED and record.operations
        ):
            yield from record.notes


def _why_stopped(last: Record) -> str:
    reason = last.reason
    text = str(last.verdict) if reason is None else reason.message
    if reason is not None and reason.hint:
        text = f"{text}. {reason.hint}"
    return text if last.version is Version.RAW else f"stopped at {last.version}: {text}"


def _require_free(source: Path, target: Path, overwrite: bool) -> None:
    # os.path.lexists, which has no opinion on names that are too long; writing has.
    if not os.path.lexists(target):
        return
    if target.exists() and target.samefile(source):
        raise BadPhoto(
            "would_overwrite",
            f"{printable(target)} is the photo itself, which is never overwritten",
            hint="Write to another file or folder",
        )
    if not overwrite:
        raise BadPhoto(
            "target_exists",
            f"{printable(target)} exists already",
            hint="Use --overwrite to replace it",
        )


def _person() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"


def text_report(result: Result) -> dict[str, Any]:
    """What text was found in a photo and what was done about it, as JSON values."""
    detexted = next((each for each in result.records if each.version is Version.DETEXTED), None)
    operations = detexted.operations if detexted else []
    regions = [region.model_dump() for operation in operations for region in operation.regions]
    engine = next((each.engine.model_id for each in operations if each.engine), None)
    # Text that hardly stands out is found and left to a person: no operation, no regions.
    found = detexted is not None and detexted.measures.get("text_regions", 0) > 0
    return {
        "file": printable(result.source),
        "flagged": found or bool(regions),
        "regions": regions,
        "engine": engine,
        "seconds": round(result.seconds, 3),
        "verdict": str(detexted.verdict) if detexted else "failed",
        "error": result.error,
    }
