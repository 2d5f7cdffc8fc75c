"""The two assets of the whole catalog: its lineage table, and the quality report."""

# No postponed annotations here: Dagster reads the functions' signatures.
import os
from typing import TYPE_CHECKING

import dagster as dg

from imgflow.defs.resources import HomeResource
from imgflow.home import CATALOG
from imgflow.lineage.record import Version

if TYPE_CHECKING:
    from imgflow.reports.page import Report

REPORTS_CRON = os.environ.get("IMGFLOW_REPORTS_CRON") or "20 * * * *"
"""When table and report are brought up to date."""


@dg.asset(
    deps=[str(version) for version in Version],
    group_name="reports",
    kinds={"pandas", "parquet"},
    owners=["team:photo-desk"],
    description="The lineage of all photos as one Parquet table, a row for each version: engine, "
    "model, weights, seed, prompt, gates, policy, run, time. Only records that are new are read.",
)
def catalog(context: dg.AssetExecutionContext, home: HomeResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    from imgflow.reports.table import SCHEMA, rebuild

    found = home.home()
    table = rebuild(found.store, CATALOG, found.catalog_table)
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


@dg.asset(
    deps=[catalog],
    group_name="reports",
    kinds={"html"},
    owners=["team:photo-desk"],
    description="How well the line does: gates, engines, failures, over time, with a gallery to "
    "search. One HTML file that opens offline; its link is in the metadata.",
)
def quality_report(home: HomeResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    from imgflow.reports.page import write_report

    found = home.home()
    report = write_report(found.store, CATALOG, found.catalog_table, found.quality_report)
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


reports_job = dg.define_asset_job(
    "reports",
    selection=dg.AssetSelection.assets(catalog, quality_report),
    executor_def=dg.in_process_executor,
    description="Brings the lineage table and the quality report up to date",
)

reports_schedule = dg.ScheduleDefinition(
    name="reports_refresh",
    job=reports_job,
    cron_schedule=REPORTS_CRON,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Brings the lineage table and the quality report up to date.",
)
