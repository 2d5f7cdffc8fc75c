"""What the assets work with."""

from pathlib import Path
from typing import cast

import dagster as dg

from imgflow.chain import Passage
from imgflow.engines.compute import PRECISIONS, Compute, Precision
from imgflow.home import Home
from imgflow.policy.catalogs import MAIN


class HomeResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The installation's folder. Empty: IMGFLOW_HOME, or `data` in the current folder."""

    root: str = ""

    def home(self, catalog: str = MAIN) -> Home:
        """One catalog of the installation. Raises BadCatalog where it is not listed (any more)."""
        return self.installation().of(catalog)

    def installation(self) -> Home:
        return Home(Path(self.root).absolute()) if self.root else Home.installation()


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
