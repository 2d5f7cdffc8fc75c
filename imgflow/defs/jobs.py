"""Jobs: runs that are asked for by name."""

from __future__ import annotations

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from imgflow.defs.naming import PLAIN, Part
from imgflow.defs.queue import CATALOG_TAG

Job = UnresolvedAssetJobDefinition
"""What `define_asset_job` returns; it has no public name."""


def rescue_job_of(rescue: dg.AssetsDefinition, part: Part = PLAIN) -> Job:
    """All versions of photos of a partition set, by `rescue`, its assets."""
    return dg.define_asset_job(
        part.job,
        selection=dg.AssetSelection.assets(rescue),
        # In one process: the op has a worker pool of its own.
        executor_def=dg.in_process_executor,
        description="All five versions of the chosen photos"
        + ("" if part.is_plain else f" of {part.label}"),
        tags={CATALOG_TAG: part.catalog},
    )
