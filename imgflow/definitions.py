"""The Dagster code location."""

from __future__ import annotations

import warnings

import dagster as dg

# Checks on partitions and backfill policies of several runs are used on purpose.
warnings.filterwarnings("ignore", category=dg.PreviewWarning, message=".*partitions_def.*")
warnings.filterwarnings("ignore", category=dg.BetaWarning, message=".*multi_run.*")

from imgflow.defs.assets import rescue  # noqa: E402
from imgflow.defs.jobs import rescue_job  # noqa: E402
from imgflow.defs.resources import HomeResource  # noqa: E402

defs = dg.Definitions(assets=[rescue], jobs=[rescue_job], resources={"home": HomeResource()})
