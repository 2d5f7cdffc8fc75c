"""What the assets work with."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import dagster as dg

from imgflow.chain import Passage
from imgflow.engines.compute import PRECISIONS, Compute, Precision
from imgflow.home import Home
from imgflow.policy.catalogs import MAIN
from imgflow.store.place import Place


class HomeResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The installation's folder. Empty: IMGFLOW_HOME, or `data` in the current folder.

    store: s3://bucket/prefix; empty: a folder of the home; None: as IMGFLOW_STORE says.
    uploads: the same, and IMGFLOW_UPLOADS; what catalogs.yaml says of a catalog's is beside that.
    """

    root: str = ""
    store: str | None = None
    uploads: str | None = None

    def home(self, catalog: str = MAIN) -> Home:
        """One catalog of the installation. Raises BadCatalog where it is not listed (any more)."""
        return self._opened(self.installation().of(catalog))

    def catalogs(self) -> tuple[Home, ...]:
        """The installation's catalogs, in the list's order. Raises BadCatalog."""
        return tuple(map(self._opened, self.installation().all()))

    def installation(self) -> Home:
        """Raises ImgflowError for a store or uploads that are no place in a bucket."""
        found = Home.installation()
        return Home(
            Path(self.root).absolute() if self.root else found.root,
            storage=found.storage if self.store is None else _place(self.store),
            inbox=found.inbox if self.uploads is None else _place(self.uploads),
        )

    def place(self, place: Place) -> Place:
        """The same place, as this resource opens it. Raises ImgflowError where it cannot."""
        return place

    def _opened(self, home: Home) -> Home:
        storage, inbox = (each and self.place(each) for each in (home.storage, home.inbox))
        return replace(home, storage=storage, inbox=inbox)


def _place(url: str) -> Place | None:
    return Place.parse(url) if url else None


def home_resource(
    root: str = "", store: str | None = None, uploads: str | None = None
) -> HomeResource:
    """The installation at `root`, by an S3Resource where it has to do with buckets."""
    plain = HomeResource(root=root, store=store, uploads=uploads)
    if not any(each.storage or each.inbox for each in plain.catalogs()):
        return plain
    from imgflow.defs.buckets import BucketHomeResource, s3_resource

    return BucketHomeResource(root=root, store=store, uploads=uploads, s3=s3_resource())


class GpuResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Where models of the shelf work. What is left out is as the environment says: IMGFLOW_DEVICE,
    IMGFLOW_PRECISION, IMGFLOW_MODEL_MB, IMGFLOW_MODELS. No card is needed.

    device: auto, cpu, cuda:N or mps. precision: auto, float32, bfloat16 or float16.
    memory_mb: for the models of all workers together; 0: a share of what there is.
    cpu_when_full: whether the processor takes over when the card's memory is full.
    weights: the folder of the shelf.
    """

    device: str | None = None
    precision: str | None = None
    memory_mb: int | None = None
    cpu_when_full: bool = True
    weights: str | None = None

    def compute(self) -> Compute:
        """Raises ImgflowError for what is no device or precision."""
        known = Compute.from_environment()
        asked = self.precision or known.precision
        # One that is unknown is refused there, by name.
        precision = next((each for each in PRECISIONS if each == asked), asked)
        return Compute(
            device=self.device or known.device,
            precision=cast(Precision, precision),
            memory_mb=known.memory_mb if self.memory_mb is None else self.memory_mb,
            cpu_when_full=self.cpu_when_full,
        )

    def models(self, home: Home) -> Path:
        return Path(self.weights).absolute() if self.weights else home.models


class Progress:
    """Told of every image that a run is done with. The Dagster UI needs none: this one is mute."""

    def passed(self, passage: Passage) -> None:
        pass
