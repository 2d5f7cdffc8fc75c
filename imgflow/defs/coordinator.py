"""Dagster's run queue, in which every run of the line names its catalog.

Sensors, schedules and jobs put the tag on their runs themselves; backfills from the UI do not, and
the queue's limits for each catalog (`tag_concurrency_limits` in dagster.yaml) would not count them.
"""

from __future__ import annotations

from collections.abc import Collection

import dagster as dg
from dagster._core.run_coordinator import QueuedRunCoordinator, SubmitRunContext

from imgflow.defs.queue import CATALOG_TAG
from imgflow.lineage.record import Version
from imgflow.policy.catalogs import MAIN

_VERSIONS = frozenset(map(str, Version))


class CatalogRunCoordinator(QueuedRunCoordinator[dg.DagsterInstance]):
    """QueuedRunCoordinator that tags a run of photos with its catalog before it is queued.

    It goes by the run's asset keys, as webserver and daemon, which submit runs, have no catalogs.
    """

    def submit_run(self, context: SubmitRunContext) -> dg.DagsterRun:
        run = context.dagster_run
        catalog = catalog_of(run.asset_selection or ())
        if catalog and CATALOG_TAG not in run.tags:
            self._instance.add_run_tags(run.run_id, {CATALOG_TAG: catalog})
        return super().submit_run(context)


def catalog_of(assets: Collection[dg.AssetKey]) -> str:
    """The catalog whose photos' versions these assets are; empty where they are none, or not all
    of one catalog: that is raw, shoes/raw, or of a shard shoes/03/raw."""
    prefixes = {each.path[0] if len(each.path) > 1 else MAIN for each in assets}
    if len(prefixes) != 1 or not all(each.path[-1] in _VERSIONS for each in assets):
        return ""
    return prefixes.pop()
