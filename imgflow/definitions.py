"""The Dagster code location."""

from __future__ import annotations

import warnings

import dagster as dg

# Checks on partitions and backfills in several runs are used on purpose.
warnings.filterwarnings("ignore", category=dg.PreviewWarning, message=".*partitions_def.*")
warnings.filterwarnings("ignore", category=dg.BetaWarning, message=".*multi_run.*")

from imgflow.alerts import Webhook  # noqa: E402
from imgflow.defs.alerts import (  # noqa: E402
    overdue_alert_of,
    quarantine_rate_alert_of,
    run_failure_alert_of,
)
from imgflow.defs.assets import rescue_of, with_code_versions  # noqa: E402
from imgflow.defs.jobs import rescue_job_of  # noqa: E402
from imgflow.defs.naming import named, parts  # noqa: E402
from imgflow.defs.refreshed import refresh_spec  # noqa: E402
from imgflow.defs.reports import reports_job_of, reports_of, reports_schedule_of  # noqa: E402
from imgflow.defs.resources import GpuResource, Progress, home_resource  # noqa: E402
from imgflow.defs.schedules import catalog_refresh_of  # noqa: E402
from imgflow.defs.sensors import upload_sensor_of  # noqa: E402
from imgflow.home import Home  # noqa: E402


def line_definitions(
    root: str = "",
    progress: Progress | None = None,
    store: str | None = None,
    uploads: str | None = None,
) -> dg.Definitions:
    """All definitions, of every catalog. root: the installation's folder; empty: where
    Home.installation() finds it. store, uploads: as HomeResource has them.

    Raises BadCatalog, BadPolicy.
    """
    home, gpu = home_resource(root, store, uploads), GpuResource()
    catalogs = home.catalogs()
    shared = dg.Definitions(
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
    return dg.Definitions.merge(
        shared, *(_catalog_definitions(each, catalogs, gpu) for each in catalogs)
    )


def _catalog_definitions(
    home: Home, catalogs: tuple[Home, ...], gpu: GpuResource
) -> dg.Definitions:
    """What one catalog brings: assets and jobs of its partition sets, sensors, schedules."""
    spec = home.spec
    others = [each.spec for each in catalogs if each != home]
    photos = with_code_versions(
        {part: rescue_of(part) for part in parts(spec)}, home, gpu.models(home)
    )
    jobs = [rescue_job_of(assets, part) for part, assets in photos.items()]
    reports = reports_of(spec)
    reports_job = reports_job_of(reports, spec)
    return dg.Definitions(
        assets=[*photos.values(), *reports, refresh_spec(spec, group=named(spec, "reports"))],
        jobs=[*jobs, reports_job],
        sensors=[
            upload_sensor_of(jobs, spec),
            # The first catalog's tells of runs that are of none, too.
            run_failure_alert_of(spec, others if home == catalogs[0] else None),
            quarantine_rate_alert_of(spec),
            overdue_alert_of(spec),
        ],
        schedules=[catalog_refresh_of(jobs, spec), reports_schedule_of(reports_job, spec)],
    )


defs = line_definitions()
