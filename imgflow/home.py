"""Where an installation keeps its things: `data/`, or the folder that IMGFLOW_HOME names."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imgflow.errors import ImgflowError
from imgflow.store.keys import Uploads
from imgflow.store.local import LocalStore
from imgflow.store.place import Place
from imgflow.store.store import Store

if TYPE_CHECKING:  # numpy comes with them, and commands that only read records are quick without
    from imgflow.policy.catalog import Catalog
    from imgflow.policy.policy import Policy

CATALOG = "main"
_CACHE_MB = 2000


@dataclass(frozen=True, slots=True)
class Home:
    """The folders of an installation. Picklable: workers get it too.

    storage: where in a bucket the store is; None: in a folder of the home. inbox: the same of
    the uploads.
    """

    root: Path
    storage: Place | None = None
    inbox: Place | None = None

    @classmethod
    def find(cls) -> Home:
        """The home that IMGFLOW_HOME names, or `data` in the current folder; its store and
        uploads where IMGFLOW_STORE and IMGFLOW_UPLOADS (s3://bucket/prefix) say."""
        root = Path(os.environ.get("IMGFLOW_HOME") or "data").absolute()
        return cls(root, Place.named_by("IMGFLOW_STORE"), Place.named_by("IMGFLOW_UPLOADS"))

    @property
    def uploads(self) -> Uploads:
        if self.inbox is None:
            return Uploads(self.root / "uploads")
        from imgflow.bucketuploads import bucket_uploads  # boto3 comes with it

        return bucket_uploads(self.inbox, self.root / "uploads")

    @property
    def uploads_place(self) -> str:
        """Where people put photos: a path or URL."""
        return self.inbox.url if self.inbox else str(self.root / "uploads")

    @property
    def store(self) -> Store:
        if self.storage is None:
            return LocalStore(self.store_folder)
        from imgflow.store.s3 import opened  # boto3 comes with it

        return opened(self.storage, self.root / "store-cache", _cache_bytes())

    @property
    def store_folder(self) -> Path:
        """Where the store is, unless it is in a bucket."""
        return self.root / "store"

    @property
    def dagster(self) -> Path:
        """Dagster's own folder: runs, events, schedules."""
        return self.root / "dagster"

    @property
    def policy_file(self) -> Path:
        return self.root / "policy.yaml"

    @property
    def catalog_file(self) -> Path:
        return self.root / "catalog.csv"

    @property
    def watch(self) -> Path:
        """What the sensor and the refresh remember. A cache: it can be deleted at any time."""
        return self.root / "sensor"

    @property
    def catalog_table(self) -> Path:
        """The lineage table of the whole catalog."""
        return self.root / "reports" / "catalog.parquet"

    @property
    def quality_report(self) -> Path:
        return self.root / "reports" / "quality.html"

    @property
    def models(self) -> Path:
        """The model shelf: what IMGFLOW_MODELS names, or a folder of the home."""
        named = os.environ.get("IMGFLOW_MODELS")
        return Path(named).absolute() if named else self.root / "models"

    def catalog_changed_within(self, seconds: float) -> bool:
        """Whether catalog.csv was written so shortly ago that it may not be whole."""
        try:
            changed = self.catalog_file.stat().st_ctime
        except FileNotFoundError:
            return False
        return 0 <= time.time() - changed < seconds

    def catalog(self) -> Catalog:
        """What catalog.csv says of the photos; empty without one. Raises BadCatalog."""
        from imgflow.policy.catalog import load_catalog

        return load_catalog(self.catalog_file)

    def policy(self) -> Policy:
        """The policy in force: of policy.yaml, or the defaults without one. Raises BadPolicy."""
        from imgflow.policy.policy import load_policy

        return load_policy(self.policy_file if self.policy_file.exists() else None)


def _cache_bytes() -> int:
    """How much of a store in a bucket is kept on this machine."""
    text = os.environ.get("IMGFLOW_STORE_CACHE_MB") or str(_CACHE_MB)
    if not text.isdecimal():
        raise ImgflowError(
            "cache_invalid",
            f"IMGFLOW_STORE_CACHE_MB is no number of megabytes: {text!r}",
            hint="Write a whole number; 0 keeps nothing on this machine",
        )
    return int(text) * 10**6
