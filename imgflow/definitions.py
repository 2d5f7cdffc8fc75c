"""The Dagster code location."""

from __future__ import annotations

import warnings

import dagster as dg

# Checks on partitions and backfills in several runs are used on purpose.
warnings.filterwarnings("ignore", category=dg.PreviewWarning, message=".*partitions_def.*")
warnings.filterwarnings("ignore", category=dg.BetaWarning, message=".*multi_run.*")

from imgflow.defs.assets import rescue  # noqa: E402
from imgflow.defs.jobs import rescue_job  # noqa: E402
from imgflow.defs.resources import HomeResource, Progress  # noqa: E402


def line_definitions(root: str = "", progress: Progress | None = None) -> dg.Definitions:
    """All definitions. root: the installation's folder; empty: where Home.find() finds it."""
    return dg.Definitions(
        assets=[rescue],
        jobs=[rescue_job],
        resources={"home": HomeResource(root=root), "progress": progress or Progress()},
    )


defs = line_definitions()
