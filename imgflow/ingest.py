"""Bringing photos into the upload folder without ever losing one that is there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from imgflow.errors import BadPhoto, ImgflowError, StoreError
from imgflow.home import Home
from imgflow.policy.manifest import Inpaint, find_manifest, mask_path, parse_manifest, read_manifest
from imgflow.store.keys import Uploads


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of one photo. key: relative to the upload folder, empty where it failed."""

    source: str
    key: str
    status: Literal["new", "changed", "unchanged", "failed"]
    message: str = ""

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def ingest_path(path: Path, home: Home) -> Iterator[Ingested]:
    """Copy a photo, or a folder's photos below the folder's name, with manifests and masks.

    Photos that lie in the upload folder already stay where they are. A photo that replaces
    another of the same name archives the other's bytes first.
    """
    root = home.uploads.root
    root.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        yield Ingested(str(path), "", "failed", "there is no such file or folder")
        return
    base = path.resolve().parent
    if path.is_dir():
        scan = Uploads(path).scan()
        for problem in scan.problems:
            yield Ingested(problem.photo, "", "failed", problem.what)
        files = [photo for _, photo in scan.photos]
    else:
        files = [path]
    for photo in files:
        try:
            if photo.resolve().is_relative_to(root.resolve()):
                key = photo.resolve().relative_to(root.resolve())
                yield Ingested(str(photo), str(key), "unchanged")
                continue
            relative = photo.resolve().relative_to(base) if path.is_dir() else Path(photo.name)
            yield Ingested(str(photo), str(relative), _bring(photo, root / relative, home))
        except StoreError:
            raise
        except (ImgflowError, OSError) as error:
            message = error.what if isinstance(error, ImgflowError) else str(error)
            yield Ingested(str(photo), "", "failed", message)


def _bring(photo: Path, target: Path, home: Home) -> Literal["new", "changed", "unchanged"]:
    status = _copy(photo, target, home)
    manifest = find_manifest(photo)
    if manifest is None:
        return status
    companions = [(manifest, target.parent / manifest.name)]
    for step in parse_manifest(read_manifest(manifest), str(manifest)).steps:
        if isinstance(step, Inpaint) and step.mask is not None:
            companions.append((mask_path(manifest, step.mask), target.parent / step.mask))
    statuses = [status, *(_copy(source, copy, home) for source, copy in companions)]
    return "changed" if status == "unchanged" and set(statuses) != {"unchanged"} else status


def _copy(source: Path, target: Path, home: Home) -> Literal["new", "changed", "unchanged"]:
    """Copy a file in one step, archiving what it replaces."""
    if not source.is_file():
        raise BadPhoto("not_found", f"there is no file {source}", photo=str(source))
    status: Literal["new", "changed"] = "new"
    if target.exists():
        old = target.read_bytes()
        if old == source.read_bytes():
            return "unchanged"
        home.store.put_original(old)
        status = "changed"
    target.parent.mkdir(parents=True, exist_ok=True)
    # The upload folder passes over .part files: nobody sees half a photo.
    partial = target.with_name(f".{os.getpid()}.part")
    shutil.copyfile(source, partial)
    partial.replace(target)
    return status
