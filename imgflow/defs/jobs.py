"""Jobs: runs that are asked for by name."""

from __future__ import annotations

import dagster as dg

from imgflow.defs.assets import rescue

# In one process: the op has a worker pool of its own.
rescue_job = dg.define_asset_job(
    "rescue_photos",
    selection=dg.AssetSelection.assets(rescue),
    executor_def=dg.in_process_executor,
    description="All five versions of the chosen photos",
)
