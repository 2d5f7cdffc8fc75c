"""One-shot repairs of files and folders: the same stages, without Dagster and without a store."""

from __future__ import annotations

import getpass
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgflow.chain import Line, Passage, rescue
from imgflow.engines.registry import Engines
from imgflow.errors import BadPhoto, ImgflowError
from imgflow.imaging.decode import read_photo_bytes
from imgflow.imaging.encode import encode_rendition
from imgflow.imaging.photo import Rights
from imgflow.lineage.record import Record, Version
from imgflow.policy.manifest import Manifest
from imgflow.policy.policy import Policy
from imgflow.stages import raw
from imgflow.stages.intake import Intake, archived
from imgflow.stages.stage import Picture
from imgflow.store.keys import PHOTO_SUFFIXES, ImageKey, Uploads
from imgflow.store.local import LocalStore

_ONCE = "once"
_FORMATS = {
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
    the photos; None: those are read. mask: bytes of the mask that the manifest names.
    """

    versions: tuple[Version, ...]
    policy: Policy
    manifest: Manifest | None = None
    masks: dict[str, bytes] | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one file. error: empty where `target` was written."""

    source: Path
    target: Path
    records: tuple[Record, ...] = ()
    changed: bool = False
    error: str = ""

    @property
    def seconds(self) -> float:
        return sum(record.seconds for record in self.records)


def pairs(source: Path, target: Path) -> tuple[list[tuple[Path, Path]], list[ImgflowError]]:
    """Each photo below `source` with the file to write; and what was found but is no photo.

    A folder keeps its relative paths below `target`. A photo in a format that is read but not
    written gets `.png` appended, so that no two photos ever share a target.
    """
    if not source.exists():
        raise BadPhoto("not_found", "there is no such file or folder", photo=str(source))
    if source.is_dir():
        scan = Uploads(source).scan()
        found = [(path, _writable(target / path.relative_to(source))) for _, path in scan.photos]
        return found, list(scan.problems)
    if target.is_dir() or target.suffix.lower() not in PHOTO_SUFFIXES:
        return [(source, _writable(target / source.name))], []
    if target.suffix.lower() not in _FORMATS:
        raise BadPhoto(
            "format_not_written",
            f"files of type {target.suffix} are not written",
            hint=f"Name the result {', '.join(sorted(_FORMATS))}",
            photo=str(target),
        )
    return [(source, target)], []


def repair_files(
    files: list[tuple[Path, Path]], task: Task, engines: Engines, *, overwrite: bool = False
) -> Iterator[Result]:
    """Repair files one after the other; one that fails does not stop the rest."""
    for source, target in files:
        try:
            yield _repair(source, target, task, engines, overwrite)
        except ImgflowError as error:
            yield Result(source, target, error=f"{error.what}. {error.hint}".strip())


def _repair(source: Path, target: Path, task: Task, engines: Engines, overwrite: bool) -> Result:
    _require_free(source, target, overwrite)
    with tempfile.TemporaryDirectory(prefix="imgflow-") as folder:
        store = LocalStore(Path(folder))
        line = Line(
            catalog=_ONCE,
            store=store,
            engines=engines,
            policy=task.policy,
            uploads=Uploads(source.parent),
            run_id=_ONCE,
            person=_person(),
        )
        key = ImageKey.from_path(source.name)
        intake = None
        if task.manifest is not None:
            data = read_photo_bytes(source, raw.limits(task.policy.raw))
            intake = Intake(key, data, archived(data, store), task.manifest, masks=task.masks or {})
        passage = rescue(key, line, task.versions, intake=intake)
        return _write(source, target, passage, store)


def _write(source: Path, target: Path, passage: Passage, store: LocalStore) -> Result:
    records = tuple(step.record for step in passage.steps)
    last = records[-1]
    if last.verdict.stops or last.output is None:
        reason = last.reason
        text = f"{reason.message}. {reason.hint}" if reason else str(last.verdict)
        return Result(source, target, records, error=f"stopped at {last.version}: {text}")
    target.parent.mkdir(parents=True, exist_ok=True)
    changed = any(record.operations for record in records)
    if not changed and target.suffix.lower() == source.suffix.lower():
        shutil.copyfile(source, target)
        return Result(source, target, records)
    data = encode_rendition(
        Picture(store, last.output).pixels,
        format=_FORMATS[target.suffix.lower()],  # type: ignore[arg-type]
        quality=_QUALITY,
        dpi=None,
        background=(255, 255, 255),
        rights=Rights(**last.rights),
    )
    target.write_bytes(data)
    return Result(source, target, records, changed=True)


def _require_free(source: Path, target: Path, overwrite: bool) -> None:
    if target.exists() and target.samefile(source):
        raise BadPhoto("would_overwrite", "the result would overwrite the photo itself")
    if target.exists() and not overwrite:
        raise BadPhoto(
            "target_exists", f"{target} exists already", hint="Use --overwrite to replace it"
        )


def _writable(target: Path) -> Path:
    if target.suffix.lower() in _FORMATS:
        return target
    return target.with_name(target.name + ".png")


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
    return {
        "file": str(result.source),
        "flagged": bool(regions),
        "regions": regions,
        "engine": engine,
        "seconds": round(result.seconds, 3),
        "verdict": str(detexted.verdict) if detexted else "failed",
        "error": result.error,
    }
