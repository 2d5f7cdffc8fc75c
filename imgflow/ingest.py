"""Bringing photos into the upload folder without ever losing one that is there."""

from __future__ import annotations

import filecmp
import os
import shutil
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from imgflow.errors import BadKey, BadManifest, BadPhoto, ImgflowError, StoreError
from imgflow.files import printable, replacing
from imgflow.home import Home
from imgflow.policy.manifest import Inpaint, find_manifest, mask_path, parse_manifest, read_manifest
from imgflow.store.keys import MASK_ENDING, PHOTO_SUFFIXES, ImageKey, Uploads

_MAX_NAME_BYTES = 255
_ENDINGS = ", ".join(sorted(PHOTO_SUFFIXES))
_Status = Literal["new", "changed", "unchanged", "incomplete", "failed"]


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of one photo.

    key: its key; empty where it failed. incomplete: the photo was taken, but what lies beside it
    cannot be used; the line will say so, too. message: why it failed or is incomplete.
    """

    source: str
    key: str
    status: _Status
    message: str = ""

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def ingest_paths(paths: Iterable[Path], home: Home) -> Iterator[Ingested]:
    """Copy photos, and folders' photos below the folders' names, with manifests and masks.

    Photos that lie in the upload folder already stay where they are. A photo that replaces
    another of the same name archives the other's bytes first; two of the same name in one call
    are told apart by nobody, so that the second fails. Raises StoreError.
    """
    if home.inbox is None:
        home.uploads.root.mkdir(parents=True, exist_ok=True)
    carrier = _Carrier(home)
    for path in paths:
        try:
            found, problems = _photos(path, home)
        except ImgflowError as error:
            yield _failed(path, error)
            continue
        yield from (_failed(problem.photo, problem) for problem in problems)
        for photo, relative in found:
            try:
                yield carrier.bring(photo, relative)
            except StoreError:
                raise
            except (ImgflowError, OSError) as error:
                yield _failed(photo, error)


def _photos(path: Path, home: Home) -> tuple[list[tuple[Path, Path]], list[ImgflowError]]:
    """The photos of a path with the paths that they get below the upload folder."""
    if not path.exists():
        raise BadPhoto("not_found", "there is no such file or folder", hint="Check the path")
    whole = _unlinked(path.absolute())
    root = _real(home.uploads.root)
    # A folder in which uploads once were is like any other when they are in a bucket now.
    inside = home.inbox is None and (whole == root or root in whole.parents)
    if not inside:
        _require_usual_name(whole, is_folder=path.is_dir())
    if not path.is_dir():
        return [(path, Path(path.name))], []
    scan = Uploads(path).scan()
    found = [
        (photo, Path(whole.name, photo.relative_to(path)))
        for _, photo in scan.photos
        if not _is_own(photo, home)
    ]
    problems = [each for each in scan.problems if not _is_own(Path(each.photo), home)]
    if not found and not problems and not inside:
        raise BadPhoto(
            "no_photo",
            "there is no photo in this folder",
            hint=f"Photos are files named {_ENDINGS}",
        )
    return found, problems


def _is_own(path: Path, home: Home) -> bool:
    """What the line has made is no upload, even where a folder around it is ingested."""
    parents = _unlinked(path).parents
    return _real(home.store_folder) in parents or _real(home.dagster) in parents


def _require_usual_name(path: Path, *, is_folder: bool) -> None:
    """The line finds nothing in the upload folder whose name says that it is something else."""
    name = path.name.lower()
    is_photo = path.suffix.lower() in PHOTO_SUFFIXES and not name.endswith(MASK_ENDING)
    hint = "Rename it, or name the photos one by one" if is_folder else "Rename it"
    if name.startswith("."):
        what = "its name begins with a dot: such files and folders are passed over"
    elif is_folder and is_photo:
        what = "this is a folder with the name of a photo"
    elif is_folder and name == "masks":
        what = "a folder of this name is for masks"
    elif not is_folder and name.endswith(MASK_ENDING):
        what = "its name is that of a mask"
        hint = "Name the photo: a mask that its manifest names comes along"
    elif not is_folder and not is_photo:
        what, hint = "its name is not that of a photo", f"Photos are files named {_ENDINGS}"
    else:
        return
    raise BadPhoto("name_not_taken", what, hint=hint)


@dataclass(slots=True)
class _Carrier:
    """Carries files into the upload folder. brought: which file each path there is from."""

    home: Home
    brought: dict[Path, Path] = field(default_factory=dict)

    def bring(self, photo: Path, relative: Path) -> Ingested:
        root = _real(self.home.uploads.root)
        place = _unlinked(photo)
        if self.home.inbox is None and place.is_relative_to(root):
            key = ImageKey.from_path(place.relative_to(root))
            return Ingested(printable(photo), key, "unchanged")
        key = ImageKey.from_path(relative)
        target = _place(root, key) if self.home.inbox is None else root / key.relative_path
        companions, problem = _companions(photo, target)
        # The photo comes last: where it is seen, what belongs to it is there.
        copies = [*companions, (photo, target)]
        for source, copy in copies:
            self._claim(source, copy)
        *others, status = [self._copy(source, copy) for source, copy in copies]
        if status == "unchanged" and set(others) - {"unchanged"}:
            status = "changed"
        return Ingested(printable(photo), key, "incomplete" if problem else status, problem)

    def _claim(self, source: Path, target: Path) -> None:
        other = self.brought.setdefault(target, source)
        if other != source and not filecmp.cmp(source, other, shallow=False):
            raise BadKey(
                "same_name",
                f"{printable(other)} was ingested under the same name just now",
                hint="Rename one of them, or ingest the folders that they are in",
            )

    def _copy(self, source: Path, target: Path) -> _Status:
        """Copy a file in one step, archiving what it replaces."""
        if self.home.inbox is not None:
            return self._send(source, target)
        exists = target.exists()
        if exists and filecmp.cmp(source, target, shallow=False):
            return "unchanged"
        if exists:
            self.home.store.put_original(target.read_bytes())
        with source.open("rb") as data, replacing(target) as partial, partial.open("wb") as copy:
            shutil.copyfileobj(data, copy)
        return "changed" if exists else "new"

    def _send(self, source: Path, target: Path) -> _Status:
        """The same into a bucket. What came there in this very moment is archived as well."""
        from imgflow.bucketuploads import BucketUploads
        from imgflow.store.bucket import Conflict

        uploads, data = self.home.uploads, source.read_bytes()
        assert isinstance(uploads, BucketUploads)
        name = uploads.name_of(target)
        while True:
            there = uploads.bucket.get(name, damaged=True)
            if there is not None and there.data == data:
                return "unchanged"
            if there is not None:
                self.home.store.put_original(there.data)
            with suppress(Conflict):
                uploads.bucket.put(
                    name, data, if_absent=there is None, if_etag=there.etag if there else ""
                )
                return "changed" if there else "new"


def _companions(photo: Path, target: Path) -> tuple[list[tuple[Path, Path]], str]:
    """A photo's manifest and masks, each with where it goes; and what is wrong with them.

    Raises BadManifest where nobody knows whose manifest it is.
    """
    manifest = find_manifest(photo)
    if manifest is None:
        return [], ""
    found = [(manifest, _beside(target, manifest))]
    try:
        for step in parse_manifest(read_manifest(manifest), printable(manifest)).steps:
            if isinstance(step, Inpaint) and step.mask is not None:
                mask = mask_path(manifest, step.mask)
                if not mask.is_file():
                    return found, f"there is no mask {printable(mask)}, which its manifest names"
                found.append((mask, target.parent / step.mask))
    except BadManifest as error:
        return found, str(error)
    return found, ""


def _beside(target: Path, manifest: Path) -> Path:
    """Where a photo's manifest goes: under the name that no other photo can claim."""
    name = f"{target.name}.json"
    return target.with_name(name if len(os.fsencode(name)) <= _MAX_NAME_BYTES else manifest.name)


def _place(root: Path, key: ImageKey) -> Path:
    """The path of a key, by way of the folders and files that are there in any Unicode form."""
    path = root
    for part in key.relative_path.parts:
        names = [] if part.isascii() or not path.is_dir() else os.listdir(path)
        path /= next((each for each in names if unicodedata.normalize("NFC", each) == part), part)
    return path


def _unlinked(path: Path) -> Path:
    """Where a file or link itself lies: its folder without links, and its own name."""
    return _real(path) if path.name in ("", "..") else _real(path.parent) / path.name


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _failed(path: Path | str, error: ImgflowError | OSError) -> Ingested:
    if isinstance(error, ImgflowError):
        message = f"{error.what}. {error.hint}" if error.hint else error.what
    else:
        message = error.strerror or str(error)
    return Ingested(printable(path), "", "failed", message)
