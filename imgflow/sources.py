"""What lies in the uploads of a catalog, wherever that is: a folder, or whatever else can list.

The comparison of a whole catalog (refresh.py) asks this of its uploads and no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from imgflow.errors import ImgflowError
from imgflow.home import Home
from imgflow.store.keys import ImageKey, Uploads
from imgflow.watch import Folders, Given


@dataclass(frozen=True, slots=True)
class Listing:
    """All photos of the uploads, sorted by key. problems: photos that cannot be taken, each with
    its `photo`; they are there all the same, so that nothing of theirs is withdrawn."""

    keys: tuple[ImageKey, ...] = ()
    problems: tuple[ImgflowError, ...] = ()


class UploadSource(Protocol):
    """The uploads as a list. Nothing of a photo is read here: its bytes come by the line's own
    `uploads` once it is known that it may have changed."""

    @property
    def where(self) -> str:
        """Where they lie, for people."""

    def listing(self) -> Listing:
        """What lies there now. Raises BadPhoto (not_found) where the place itself is not there:
        an empty list would have every photo taken for deleted."""

    def given(self, key: ImageKey, masks: Sequence[str]) -> Given | None:
        """What of a photo of the latest listing tells whether it has changed since it was last
        compared: sizes and times, or etags, of the photo, its manifest, and `masks`, which its
        manifest named then. None if it is gone by now."""


@dataclass(slots=True)
class UploadFolder:
    """The uploads in a folder."""

    uploads: Uploads
    _paths: dict[ImageKey, Path] = field(default_factory=dict)
    _folders: Folders = field(default_factory=Folders)

    @property
    def where(self) -> str:
        return str(self.uploads.root)

    def listing(self) -> Listing:
        scan = self.uploads.scan()
        self._paths, self._folders = dict(scan.photos), Folders()
        return Listing(tuple(self._paths), scan.problems)

    def given(self, key: ImageKey, masks: Sequence[str]) -> Given | None:
        path = self._paths.get(key)
        return None if path is None else self._folders.given(path, masks)


def uploads_of(home: Home) -> UploadSource:
    """The uploads of a catalog, where it has them."""
    if home.inbox is None:
        return UploadFolder(home.uploads)
    from imgflow.bucketsource import UploadBucket  # boto3 comes with it
    from imgflow.bucketuploads import BucketUploads

    uploads = home.uploads
    assert isinstance(uploads, BucketUploads)
    return UploadBucket(uploads)
