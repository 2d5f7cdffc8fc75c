"""The two assets of a whole catalog: its lineage table, and the quality report."""

# No postponed annotations here: Dagster reads the functions' signatures.
import os
from typing import TYPE_CHECKING

import dagster as dg

from imgflow.defs.jobs import Job
from imgflow.defs.naming import named, parts, report_prefix
from imgflow.defs.queue import CATALOG_TAG
from imgflow.defs.resources import HomeResource
from imgflow.home import Home
from imgflow.lineage.record import Version
from imgflow.policy.catalogs import MAIN_SPEC, CatalogSpec

if TYPE_CHECKING:
    from imgflow.reports.page import Report

REPORTS_CRON = os.environ.get("IMGFLOW_REPORTS_CRON") or "20 * * * *"
"""When table and report are brought up to date."""


def reports_of(spec: CatalogSpec = MAIN_SPEC) -> list[dg.AssetsDefinition]:
    """A catalog's table and its report."""
    prefix, tags = report_prefix(spec), {CATALOG_TAG: spec.name}
    of = "" if spec == MAIN_SPEC else f" Of {spec.label}."

    @dg.asset(
        key=[*prefix, "catalog"],
        deps=[part.path(version) for part in parts(spec) for version in Version],
        group_name=_group(spec),
        tags=tags,
        kinds={"pandas", "parquet"},
        owners=["team:photo-desk"],
        description="The lineage of all photos as one Parquet table, a row for each version: "
        "engine, model, weights, seed, prompt, gates, policy, run, time. Only records that are "
        f"new are read.{of}",
    )
    def catalog(context: dg.AssetExecutionContext, home: HomeResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
        return _table(context, home.home(spec.name))

    @dg.asset(
        key=[*prefix, "quality_report"],
        deps=[catalog],
        group_name=_group(spec),
        tags=tags,
        kinds={"html"},
        owners=["team:photo-desk"],
        description="How well the line does: gates, engines, failures, over time, with a gallery "
        f"to search. One HTML file that opens offline; its link is in the metadata.{of}",
    )
    def quality_report(home: HomeResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
        return _quality(home.home(spec.name))

    return [catalog, quality_report]


def _group(spec: CatalogSpec) -> str:
    return named(spec, "reports")


def _table(context: dg.AssetExecutionContext, found: Home) -> dg.MaterializeResult:  # type: ignore[type-arg]
    from imgflow.reports.table import SCHEMA, rebuild

    table = rebuild(found.store, found.name, found.catalog_table)
    if table.unreadable:
        context.log.warning(
            f"{table.unreadable} records cannot be read; `imgflow audit` names them"
        )
    columns = [dg.TableColumn(field.name, str(field.type)) for field in SCHEMA]
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": table.rows,
            "dagster/column_schema": dg.TableSchema(columns),
            "table": dg.MetadataValue.path(str(table.path)),
            "photos": table.images,
            "rows read anew": table.read,
            "rows removed": table.removed,
        }
    )


def _quality(found: Home) -> dg.MaterializeResult:  # type: ignore[type-arg]
    from imgflow.reports.page import write_report

    report = write_report(found.store, found.name, found.catalog_table, found.quality_report)
    figures = report.figures
    return dg.MaterializeResult(
        metadata={
            "report": dg.MetadataValue.url(report.path.absolute().as_uri()),
            "file": dg.MetadataValue.path(str(report.path)),
            "summary": dg.MetadataValue.md(_summary(report)),
            "photos": figures.images,
            "published without a person": round(figures.automatic, 4),
        }
    )


def _summary(report: "Report") -> str:
    figures = report.figures
    lines = ["| photos | |", "|---|---|"]
    lines += [f"| {verdict.replace('_', ' ')} | {count} |" for verdict, count in figures.verdicts]
    lines += [
        f"| {reason.replace('_', ' ')} ({version}) | {count} |"
        for version, reason, count in figures.reasons[:10]
    ]
    return "\n".join(lines)


def reports_job_of(reports: list[dg.AssetsDefinition], spec: CatalogSpec = MAIN_SPEC) -> Job:
    return dg.define_asset_job(
        named(spec, "reports"),
        selection=dg.AssetSelection.assets(*reports),
        executor_def=dg.in_process_executor,
        description="Brings the lineage table and the quality report up to date",
        tags={CATALOG_TAG: spec.name},
    )


def reports_schedule_of(job: Job, spec: CatalogSpec = MAIN_SPEC) -> dg.ScheduleDefinition:
    return dg.ScheduleDefinition(
        name=named(spec, "reports_refresh"),
        job=job,
        cron_schedule=REPORTS_CRON,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Brings the lineage table and the quality report up to date.",
    )
