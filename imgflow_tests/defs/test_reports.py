"""The two assets of the whole catalog, as Dagster makes them."""

from collections.abc import Callable
from pathlib import Path

import dagster as dg
from samples import encoded, photo

from imgflow.chain import Line, rescue
from imgflow.definitions import defs
from imgflow.defs.reports import reports_of
from imgflow.defs.resources import HomeResource
from imgflow.home import Home
from imgflow.store.keys import ImageKey


def test_table_and_report_are_made_and_linked(
    home: Home, make_line: Callable[..., Line], drop: Callable[..., ImageKey]
) -> None:
    line = make_line(
        detext={"text": "none"},
        upscale={"max_scale": 1, "sharpen_below": 0},
        renditions=[{"name": "web", "long_side": 80}],
    )
    rescue(drop("a.png", encoded(photo("coffee", 120))), line)
    rescue(drop("no.png", b"<html>"), line)
    result = dg.materialize(reports_of(), resources={"home": HomeResource(root=str(home.root))})
    assert result.success
    (table,) = result.asset_materializations_for_node("catalog")
    assert table.metadata["dagster/row_count"].value == 6
    assert table.metadata["photos"].value == 2
    columns = table.metadata["dagster/column_schema"].value.columns
    assert {each.name for each in columns} >= {"key", "models", "weights", "seeds", "psnr"}
    (report,) = result.asset_materializations_for_node("quality_report")
    assert report.metadata["report"].value == home.quality_report.as_uri()
    assert Path(report.metadata["file"].value).read_text("utf-8").count("<article") == 2
    assert "| quarantined | 1 |" in report.metadata["summary"].value


def test_a_schedule_keeps_them_up_to_date() -> None:
    schedule = defs.resolve_schedule_def("reports_refresh")
    assert schedule.job_name == "reports"
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
