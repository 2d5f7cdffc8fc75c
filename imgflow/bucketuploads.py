"""Uploads in a bucket: photos that others put there, listed page by page and fetched one by one."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from imgflow.errors import BadKey, BadManifest, BadPhoto, ImgflowError
from imgflow.policy.manifest import (
    Inpaint,
    find_manifest,
    mask_path,
    parse_manifest,
    read_manifest,
)
from imgflow.store.bucket import Bucket, Listed
from imgflow.store.keys import PHOTO_SUFFIXES, ImageKey, Scan, Uploads, is_passed_over
from imgflow.store.place import Place

_MAX_NAME_BYTES = 255
_KEPT = 2
"""So many photos of one thread lie on this machine: the one at work, and the one before."""


@dataclass(slots=True)
class Listing:
    """What of a bucket's uploads was listed.

    after, upto: names later than the one, and not later than the other; upto is None where the
    listing came to its end. files: by name.
    """

    after: str = ""
    upto: str | None = None
    files: dict[str, Listed] = field(default_factory=dict)
    pages: int = 0

    def covers(self, name: str) -> bool:
        # As S3 sorts: by the bytes of their UTF-8, which is by code points.
        return name > self.after and (self.upto is None or name <= self.upto)


class BucketUploads(Uploads):
    """The objects below a place, as an upload folder. `root`, and the paths of scans, stand for
    them: a photo lies on this machine from when `path_of` fetched it until others are fetched.

    What is passed over is the same as in a folder. Keys of objects that no path can have (`..`,
    `a//b`) are problems.
    """

    def __init__(self, place: Place, root: Path) -> None:
        super().__init__(root)
        self.place = place
        self.bucket = Bucket(place)
        self._of_thread = threading.local()

    def __reduce__(self) -> tuple[type[BucketUploads], tuple[Place, Path]]:
        return BucketUploads, (self.place, self.root)

    # -- listing -----------------------------------------------------------------------

    def listing(
        self,
        after: str = "",
        *,
        most: int | None = None,
        most_new: int | None = None,
        known: Collection[str] = (),
        budget_s: float | None = None,
    ) -> Listing:
        """The objects after a name: a page at least, then until there are `most`, or `most_new`
        photos whose keys are not `known`, or until the time is up."""
        deadline = time.monotonic() + budget_s if budget_s is not None else float("inf")
        found, new = Listing(after), 0
        for page in self.bucket.pages(after=after):
            found.pages += 1
            found.files.update((each.key, each) for each in page)
            if most_new is not None:
                new += sum(key not in known for key, _ in self.photos(page).photos)
            if page and (
                time.monotonic() > deadline
                or (most is not None and len(found.files) >= most)
                or (most_new is not None and new >= most_new)
            ):
                found.upto = page[-1].key
                return found
        return found

    def scan(self, suffixes: Collection[str] = PHOTO_SUFFIXES) -> Scan:
        return self.photos(self.listing().files.values(), suffixes)

    def photos(self, files: Iterable[Listed], suffixes: Collection[str] = PHOTO_SUFFIXES) -> Scan:
        """The photos among objects, in the order of these."""
        photos: list[tuple[ImageKey, Path]] = []
        problems: list[ImgflowError] = []
        ignored = 0
        for file in files:
            name = PurePosixPath(file.key)
            if file.key.endswith("/") or is_passed_over(name):
                continue
            if name.suffix.lower() not in suffixes:
                ignored += 1
                continue
            try:
                photos.append((_key(file.key), self.root / file.key))
            except BadKey as error:
                error.photo = self.bucket.location(file.key)
                problems.append(error)
        return Scan(tuple(photos), tuple(problems), ignored)

    def name_of(self, path: Path) -> str:
        """The object that a path of a scan stands for."""
        return path.relative_to(self.root).as_posix()

    # -- fetching ----------------------------------------------------------------------

    def path_of(self, key: ImageKey) -> Path:
        """Fetch a photo with its manifests; the path where it lies now.

        Raises BadPhoto (code not_found), BadKey, StoreError.
        """
        name = str(key.relative_path)
        folder = self._folder(key)
        path = folder / PurePosixPath(name).name
        found = self.bucket.get(name)
        if found is None:
            raise BadPhoto(
                "not_found",
                f"there is no such photo (any more) in {self.place.url}",
                hint="Upload it again, or check the key's spelling",
                photo=key,
            )
        stem = os.path.splitext(name)[0]
        # Others of its stem as well, though empty: whose a.json is decides itself by their names.
        beside = {each.key for page in self.bucket.pages(f"{stem}.") for each in page}
        for each in beside:
            other = PurePosixPath(each)
            if len(os.fsencode(other.name)) > _MAX_NAME_BYTES or "/" in each[len(stem) :]:
                continue
            if each in (f"{name}.json", f"{stem}.json"):
                self.fetch(each, folder / other.name)
            elif os.path.splitext(each)[0] == stem and other.suffix.lower() in PHOTO_SUFFIXES:
                (folder / other.name).touch()
        path.write_bytes(found.data)
        self._fetch_masks(path, PurePosixPath(name).parent)
        return path

    def _fetch_masks(self, photo: Path, folder: PurePosixPath) -> None:
        """What the manifest names, as far as that can be used: who reads it will say so, too."""
        try:
            manifest = find_manifest(photo)
            if manifest is None:
                return
            for step in parse_manifest(read_manifest(manifest), manifest.name).steps:
                if isinstance(step, Inpaint) and step.mask and ".." not in step.mask.split("/"):
                    self.fetch(str(folder / step.mask), mask_path(manifest, step.mask))
        except BadManifest:
            return

    def fetch(self, name: str, path: Path) -> bool:
        """Put an object's bytes into a file; false where there is none. Raises StoreError."""
        found = self.bucket.get(name)
        if found is None:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(found.data)
        return True

    def _folder(self, key: ImageKey) -> Path:
        """An empty folder for a photo. Those of photos before are deleted."""
        # A thread's own: a sensor's photo must not go because a schedule beside it fetches others.
        fetched: OrderedDict[ImageKey, TemporaryDirectory[str]]
        fetched = self._of_thread.__dict__.setdefault("fetched", OrderedDict())
        if key in fetched:
            fetched.pop(key).cleanup()
        while len(fetched) >= _KEPT:
            fetched.popitem(last=False)[1].cleanup()
        fetched[key] = TemporaryDirectory(prefix="imgflow-upload-")
        return Path(fetched[key].name)


@cache
def bucket_uploads(place: Place, root: Path) -> BucketUploads:
    """The uploads of a place, one for all who ask in this process: connections are kept."""
    return BucketUploads(place, root)


def _key(name: str) -> ImageKey:
    """The key of an object. Raises BadKey for one that no file could have as its path."""
    path = PurePosixPath(name)
    if str(path) != name or any(len(os.fsencode(each)) > _MAX_NAME_BYTES for each in path.parts):
        raise BadKey(
            "key_invalid",
            "no file can have this as its path",
            hint="Upload it under another name, with parts of at most 255 bytes",
        )
    key = ImageKey.from_path(name)
    if str(key.relative_path) != name:
        raise BadKey(
            "key_invalid",
            "its name is not written in the usual Unicode form (NFC)",
            hint="Upload it under its name in that form",
        )
    return key
