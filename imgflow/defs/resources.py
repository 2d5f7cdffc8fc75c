"""What the assets work with."""

from pathlib import Path
from typing import cast

import dagster as dg

from imgflow.chain import Passage
from imgflow.engines.compute import PRECISIONS, Compute, Precision
from imgflow.home import Home
from imgflow.store.place import Place


class HomeResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The installation's folder. Empty: IMGFLOW_HOME, or `data` in the current folder.

    store: s3://bucket/prefix; empty: a folder of the home; None: as IMGFLOW_STORE says.
    uploads: the same, and IMGFLOW_UPLOADS.
    """

    root: str = ""
    store: str | None = None
    uploads: str | None = None

    def home(self) -> Home:
        found = Home.find()
        root = Path(self.root).absolute() if self.root else found.root
        store = found.storage.url if found.storage and self.store is None else self.store
        uploads = found.inbox.url if found.inbox and self.uploads is None else self.uploads
        return Home(
            root, self.place(store) if store else None, self.place(uploads) if uploads else None
        )

    def place(self, url: str) -> Place:
        """Raises ImgflowError for what names no place in a bucket."""
        return Place.parse(url)


def home_resource(
    root: str = "", store: str | None = None, uploads: str | None = None
) -> HomeResource:
    """The installation at `root`, by an S3Resource where it has to do with buckets."""
    plain = HomeResource(root=root, store=store, uploads=uploads)
    home = plain.home()
    if home.storage is None and home.inbox is None:
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
