"""The uploads in a bucket, as the comparison of a whole catalog asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imgflow.bucketuploads import BucketUploads
from imgflow.bucketwatch import BucketSource
from imgflow.sources import Listing
from imgflow.store.keys import ImageKey
from imgflow.watch import Given, Source


@dataclass(slots=True)
class UploadBucket:
    """The uploads below a prefix. Raises StoreError where the bucket does not answer."""

    uploads: BucketUploads
    _paths: dict[ImageKey, Path] = field(default_factory=dict)
    _files: Source | None = None

    @property
    def where(self) -> str:
        return self.uploads.place.url

    def listing(self) -> Listing:
        listed = self.uploads.listing()
        scan = self.uploads.photos(listed.files.values())
        self._paths, self._files = dict(scan.photos), BucketSource(self.uploads, listed)
        return Listing(tuple(sorted(self._paths)), scan.problems)

    def given(self, key: ImageKey, masks: Sequence[str]) -> Given | None:
        path = self._paths.get(key)
        return None if path is None or self._files is None else self._files.given(path, masks)
