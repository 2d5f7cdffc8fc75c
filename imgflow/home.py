"""Where an installation keeps its things: `data/`, or the folder that IMGFLOW_HOME names.

It may have several catalogs (`catalogs.yaml`): a Home is what one of them sees.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from imgflow.errors import BadCatalog, ImgflowError
from imgflow.policy.catalogs import (
    MAIN,
    MAIN_SPEC,
    CatalogSpec,
    load_catalogs,
    uploads_folder,
    uploads_place,
)
from imgflow.store.keys import Uploads
from imgflow.store.local import LocalStore
from imgflow.store.place import Place
from imgflow.store.store import Store

if TYPE_CHECKING:  # numpy comes with them, and commands that only read records are quick without
    from imgflow.policy.catalog import Catalog
    from imgflow.policy.policy import Policy

CATALOG = MAIN
"""The one catalog of an installation that lists none."""
_CACHE_MB = 2000


@dataclass(frozen=True, slots=True)
class Home:
    """The folders of an installation, and of one catalog of it. Picklable: workers get it too.

    storage: where in a bucket the store of all catalogs is; None: in a folder of the home.
    inbox: where in a bucket this catalog's uploads are; None: in a folder. Of an installation
    (`installation`) what its only catalog has unless the list says otherwise.
    """

    root: Path
    storage: Place | None = None
    inbox: Place | None = None
    spec: CatalogSpec = MAIN_SPEC

    @classmethod
    def installation(cls) -> Home:
        """What IMGFLOW_HOME names, or `data` in the current folder; of no catalog in particular.
        Its store and uploads where IMGFLOW_STORE and IMGFLOW_UPLOADS (s3://bucket/prefix) say."""
        root = Path(os.environ.get("IMGFLOW_HOME") or "data").absolute()
        return cls(root, Place.named_by("IMGFLOW_STORE"), Place.named_by("IMGFLOW_UPLOADS"))

    @classmethod
    def find(cls) -> Home:
        """The installation's catalog: the one that IMGFLOW_CATALOG names, or the only one.

        Raises BadCatalog.
        """
        return cls.installation().of(os.environ.get("IMGFLOW_CATALOG", ""))

    def all(self) -> tuple[Home, ...]:
        """The installation's catalogs, in the list's order.

        Raises BadCatalog, also where it cannot be told whose the uploads in a bucket are (codes
        uploads_unclear, queue_unclear), or where the store lies among them (store_in_uploads).
        """
        listed = load_catalogs(self.root / "catalogs.yaml", self.root)
        given = self._given_inbox
        if given is not None and (len(listed) > 1 or listed[0].uploads is not None):
            raise BadCatalog(
                "uploads_unclear",
                f"{given.url} is to be the uploads of a catalog, and catalogs.yaml "
                + ("lists several" if len(listed) > 1 else "names others"),
                hint="Unset IMGFLOW_UPLOADS, and write `uploads: s3://...` into catalogs.yaml",
            )
        found = tuple(
            replace(self, spec=spec, inbox=uploads_place(spec) or given) for spec in listed
        )
        _require_clear_places(found, self.storage)
        return found

    @property
    def places(self) -> tuple[str, str]:
        """URLs of what is in buckets and not from the list, or "": the store, and the uploads."""
        store, uploads = (each.url if each else "" for each in (self.storage, self._given_inbox))
        return store, uploads

    @property
    def _given_inbox(self) -> Place | None:
        """The uploads in a bucket that are not from the list."""
        return self.inbox if self.spec.uploads is None else None

    def of(self, name: str) -> Home:
        """A catalog by its name; empty: the only one.

        Raises BadCatalog (codes catalog_unknown, catalog_unnamed, and those of `all`).
        """
        found = self.all()
        names = ", ".join(each.name for each in found)
        if not name and len(found) == 1:
            return found[0]
        if not name:
            raise BadCatalog(
                "catalog_unnamed",
                f"there are several catalogs: {names}",
                hint="Say which: --catalog NAME, or the environment variable IMGFLOW_CATALOG",
            )
        for each in found:
            if each.name == name:
                return each
        raise BadCatalog("catalog_unknown", f"there is no catalog '{name}'", hint=f"One of {names}")

    @property
    def name(self) -> str:
        """The catalog's name."""
        return self.spec.name

    @property
    def folder(self) -> Path:
        """What is this catalog's alone; of `main` the installation's folder itself."""
        return self.root / self.spec.place

    @property
    def uploads(self) -> Uploads:
        folder = uploads_folder(self.spec, self.root)
        if self.inbox is None:
            return Uploads(folder)
        from imgflow.bucketuploads import bucket_uploads  # boto3 comes with it

        return bucket_uploads(self.inbox, folder)

    @property
    def uploads_place(self) -> str:
        """Where people put photos: a path or URL."""
        return self.inbox.url if self.inbox else str(uploads_folder(self.spec, self.root))

    def require_folders(self, what: str, *, of_store: bool = True) -> None:
        """Raises ImgflowError (code needs_folders) where uploads, or the store, are in a bucket:
        what writes files there itself would write them where nobody looks."""
        place = self.inbox or (self.storage if of_store else None)
        if place is not None:
            raise ImgflowError(
                "needs_folders",
                f"{what} works with folders, and this installation has {place.url}",
                hint="Use another installation for it: IMGFLOW_HOME=FOLDER without IMGFLOW_STORE "
                "and IMGFLOW_UPLOADS",
            )

    @property
    def has_uploads(self) -> bool:
        """Whether the place of the uploads is there. A bucket's is, as far as anyone asked."""
        return self.inbox is not None or self.uploads.root.is_dir()

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
        """The catalog's policy; the installation's where it has none of its own."""
        if self.spec.policy is not None:
            return self.root / self.spec.policy
        own = self.folder / "policy.yaml"
        return own if own.exists() else self.root / "policy.yaml"

    @property
    def catalog_file(self) -> Path:
        return self.root / self.spec.table if self.spec.table else self.folder / "catalog.csv"

    @property
    def watch(self) -> Path:
        """What the sensor and the refresh remember. A cache: it can be deleted at any time."""
        return self.folder / "sensor"

    @property
    def catalog_table(self) -> Path:
        """The lineage table of the whole catalog."""
        return self.folder / "reports" / "catalog.parquet"

    @property
    def quality_report(self) -> Path:
        return self.folder / "reports" / "quality.html"

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

        named = self.spec.policy is not None  # and so must be there
        return load_policy(self.policy_file if named or self.policy_file.exists() else None)


def _require_clear_places(homes: tuple[Home, ...], storage: Place | None) -> None:
    """Raises BadCatalog where what is in buckets would be mixed up."""
    inboxes = [each for each in homes if each.inbox is not None]
    for each in inboxes:
        if storage is not None and each.inbox is not None and storage.overlaps(each.inbox):
            raise BadCatalog(
                "store_in_uploads",
                f"the store {storage.url} and the uploads {each.inbox.url} of '{each.name}' lie in "
                "one another: what is made would be taken for photos, or the other way round",
                hint="Give each a prefix of its own, such as s3://bucket/store",
            )
    if len(inboxes) > 1 and os.environ.get("IMGFLOW_UPLOADS_QUEUE"):
        names = ", ".join(each.name for each in inboxes)
        raise BadCatalog(
            "queue_unclear",
            f"IMGFLOW_UPLOADS_QUEUE names one queue, and several catalogs read buckets: {names}",
            hint="Unset it, and write `queue: https://...` of each catalog into catalogs.yaml",
        )


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
