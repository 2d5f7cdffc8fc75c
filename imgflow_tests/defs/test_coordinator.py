"""Whoever asks for a run of photos: in the queue it names its catalog."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.run_coordinator import SubmitRunContext

from imgflow.defs.coordinator import CatalogRunCoordinator, catalog_of
from imgflow.defs.queue import CATALOG_TAG

ORIGIN = RemoteJobOrigin(
    RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("imgflow"), "__repository__"), "__ASSET_JOB"
)
DEPLOY = Path(__file__).parents[2] / "deploy"


def keys(*paths: str) -> frozenset[dg.AssetKey]:
    return frozenset(dg.AssetKey(path.split("/")) for path in paths)


@pytest.mark.parametrize(
    ("paths", "catalog"),
    [
        (["raw", "published"], "main"),
        (["shoes/raw"], "shoes"),
        (["shoes/03/raw", "shoes/03/detexted"], "shoes"),
        (["shoes/raw", "bags/raw"], ""),
        (["raw", "shoes/raw"], ""),
        (["shoes/quality_report"], ""),
        (["raw", "catalog"], ""),
        ([], ""),
    ],
)
def test_a_catalog_is_known_by_its_assets(paths: list[str], catalog: str) -> None:
    assert catalog_of(keys(*paths)) == catalog


@pytest.fixture(params=["dagster.yaml", "compose/dagster.yaml"])
def instance(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance with the queue of a deployment, in files."""
    settings = yaml.safe_load((DEPLOY / request.param).read_text())
    kept = {name: settings[name] for name in ("telemetry", "run_coordinator", "concurrency")}
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(kept))
    with dg.DagsterInstance.from_config(str(tmp_path)) as found:
        yield found


def test_the_queue_of_a_deployment_keeps_its_limits_and_adds_the_tag(
    instance: dg.DagsterInstance,
) -> None:
    queue = instance.run_coordinator
    assert isinstance(queue, CatalogRunCoordinator)
    limits = instance.get_concurrency_config().run_queue_config
    assert limits is not None
    (limit,) = limits.tag_concurrency_limits
    assert limit["key"] == CATALOG_TAG
    for selected, tags, expected in (
        (keys("shoes/03/raw"), {}, "shoes"),
        (keys("raw"), {}, "main"),
        (keys("raw"), {CATALOG_TAG: "kept"}, "kept"),
        (keys("catalog"), {}, None),
        (None, {}, None),
    ):
        run = instance.add_run(
            dg.DagsterRun(
                "__ASSET_JOB", asset_selection=selected, tags=tags, remote_job_origin=ORIGIN
            )
        )
        # The workspace is not asked.
        queued = queue.submit_run(SubmitRunContext(run, workspace=None))  # type: ignore[arg-type]
        assert queued.status is dg.DagsterRunStatus.QUEUED
        assert queued.tags.get(CATALOG_TAG) == expected
