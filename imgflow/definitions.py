"""The Dagster code location."""

from __future__ import annotations

import warnings

import dagster as dg

# Checks on partitions and backfills in several runs are used on purpose.
warnings.filterwarnings("ignore", category=dg.PreviewWarning, message=".*partitions_def.*")
warnings.filterwarnings("ignore", category=dg.BetaWarning, message=".*multi_run.*")

from imgflow.alerts import Webhook  # noqa: E402
from imgflow.defs.alerts import quarantine_rate_alert, run_failure_alert  # noqa: E402
from imgflow.defs.assets import rescue, with_code_versions  # noqa: E402
from imgflow.defs.jobs import rescue_job  # noqa: E402
from imgflow.defs.reports import (  # noqa: E402
    catalog,
    quality_report,
    reports_job,
    reports_schedule,
)
from imgflow.defs.resources import GpuResource, Progress, home_resource  # noqa: E402
from imgflow.defs.schedules import catalog_refresh  # noqa: E402
from imgflow.defs.sensors import upload_sensor  # noqa: E402


def line_definitions(
    root: str = "",
    progress: Progress | None = None,
    store: str | None = None,
    uploads: str | None = None,
) -> dg.Definitions:
    """All definitions. root: the installation's folder; empty: where Home.find() finds it.
    store, uploads: as HomeResource has them."""
    home, gpu = home_resource(root, store, uploads), GpuResource()
    return dg.Definitions(
        assets=[
            with_code_versions(rescue, home.home(), gpu.models(home.home())),
            catalog,
            quality_report,
        ],
        jobs=[rescue_job, reports_job],
        sensors=[upload_sensor, run_failure_alert, quarantine_rate_alert],
        schedules=[catalog_refresh, reports_schedule],
        resources={
            "home": home,
            "gpu": gpu,
            "progress": progress or Progress(),
            "alerts": Webhook(),
        },
        # Of backfills and runs from the UI too. The op has a worker pool of its own: a process
        # for its one step would only cost its start, seconds in every run.
        executor=dg.in_process_executor,
    )


defs = line_definitions()
