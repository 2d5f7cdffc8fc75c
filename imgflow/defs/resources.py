"""What the assets work with."""

from pathlib import Path

import dagster as dg

from imgflow.chain import Passage
from imgflow.home import Home


class HomeResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The installation's folder. Empty: IMGFLOW_HOME, or `data` in the current folder."""

    root: str = ""

    def home(self) -> Home:
        return Home(Path(self.root).absolute()) if self.root else Home.find()


class Progress:
    """Told of every image that a run is done with. The Dagster UI needs none: this one is mute."""

    def passed(self, passage: Passage) -> None:
        pass
