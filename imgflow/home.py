"""Where an installation keeps its things: `data/`, or the folder that IMGFLOW_HOME names.

It may have several catalogs (`catalogs.yaml`): a Home is what one of them sees.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from imgflow.errors import BadCatalog
from imgflow.policy.catalogs import MAIN, MAIN_SPEC, CatalogSpec, load_catalogs, uploads_folder
from imgflow.store.keys import Uploads
from imgflow.store.local import LocalStore

if TYPE_CHECKING:  # numpy comes with them, and commands that only read records are quick without
    from imgflow.policy.catalog import Catalog
    from imgflow.policy.policy import Policy

CATALOG = MAIN
"""The one catalog of an installation that lists none."""


@dataclass(frozen=True, slots=True)
class Home:
    """The folders of an installation, and of one catalog of it. Picklable: workers get it too."""

    root: Path
    spec: CatalogSpec = MAIN_SPEC

    @classmethod
    def installation(cls) -> Home:
        """What IMGFLOW_HOME names, or `data` in the current folder; of no catalog in particular."""
        return cls(Path(os.environ.get("IMGFLOW_HOME") or "data").absolute())

    @classmethod
    def find(cls) -> Home:
        """The installation's catalog: the one that IMGFLOW_CATALOG names, or the only one.

        Raises BadCatalog.
        """
        return cls.installation().of(os.environ.get("IMGFLOW_CATALOG", ""))

    def all(self) -> tuple[Home, ...]:
        """The installation's catalogs, in the list's order. Raises BadCatalog."""
        listed = load_catalogs(self.root / "catalogs.yaml", self.root)
        return tuple(replace(self, spec=spec) for spec in listed)

    def of(self, name: str) -> Home:
        """A catalog by its name; empty: the only one.

        Raises BadCatalog (codes catalog_unknown, catalog_unnamed).
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
        return Uploads(uploads_folder(self.spec, self.root))

    @property
    def store(self) -> LocalStore:
        return LocalStore(self.root / "store")

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
