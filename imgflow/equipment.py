"""The engines of an installation: those that come with imgflow, and those its policy brings."""

from __future__ import annotations

from pathlib import Path

from imgflow.engines.compute import Compute
from imgflow.engines.outside import Outside
from imgflow.engines.registry import Engines
from imgflow.home import Home
from imgflow.policy.policy import Policy


def equip(
    home: Home,
    policy: Policy,
    *,
    threads: int = 1,
    compute: Compute | None = None,
    models: Path | None = None,
) -> Engines:
    """All engines that the policy may name. Nothing is loaded yet.

    threads: how many each engine may use. compute: where models of the shelf work; None: as the
    environment says. models: the shelf's folder; None: the home's.
    """
    engines = Engines(threads=threads)
    engines.outside = Outside(
        root=home.root,
        models=models or home.models,
        declared=policy.engines,
        compute=compute or Compute.from_environment(),
        threads=threads,
    )
    return engines
