"""The line under its real processes: code server, daemon, webserver, runs and workers.

One installation for all tests: a batch is dropped and the services are started; the daemon is
killed while the run is going; the services are started again, and `imgflow ingest` brings more
while the sensor looks.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
import yaml
from samples import encoded, photo

from imgflow.bench.service import Service, environment, imgflow_command, until
from imgflow.defs.launch import instance
from imgflow.defs.queue import NOT_ENDED
from imgflow.home import CATALOG, Home
from imgflow.lineage.record import Version

PROJECT = Path(__file__).parents[1]
DROPPED, INGESTS, INGESTED = 24, 2, 4
POLICY = {
    "upscale": {"max_scale": 1, "sharpen_below": 0.0},
    "detext": {"text": "none"},
    "renditions": [{"name": "web", "long_side": 48}],
    "run": {"workers": 2},
}
PATIENCE_S = 600  # of a machine with much else to do
STALE = """
query PartitionStaleness($keys: [AssetKeyInput!], $partition: String!) {
  assetNodes(assetKeys: $keys) { assetKey { path } staleStatus(partition: $partition) }
}
"""


@dataclass(frozen=True)
class Story:
    """What came of it. left_when_killed: photos that the daemon's run had not done by then.
    ingests: exit codes."""

    service: Service
    home: Home
    names: list[str]
    left_when_killed: int
    ingests: list[int]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("service")
    home = Home(folder / "data")
    service = Service(home, PROJECT)
    dropped = [f"dropped_{number:02}.png" for number in range(DROPPED)]
    home.uploads.root.mkdir(parents=True)
    set_policy(home)
    for number, name in enumerate(dropped):
        draw(home.uploads.root / name, number)
    try:
        service.start()
        until(lambda: published(home) > 0, PATIENCE_S, "nothing is published")
        service.kill(service.processes("daemon"))
        left = DROPPED - published(home)
        until(lambda: not service.is_running, PATIENCE_S, "the services go on without a daemon")
        service.start()
        brought, codes = [], []
        for round in range(INGESTS):
            source = folder / f"round_{round}"
            source.mkdir()
            for number in range(INGESTED):
                draw(source / f"{number}.png", 50 + 10 * round + number)
                brought.append(f"{source.name}/{number}.png")
            codes.append(ingest(home, source))
        names = [*dropped, *brought]
        until(lambda: is_done(home, len(names)), PATIENCE_S, "not all is published", every_s=0.5)
        service.wait_until_up()
        yield Story(service, home, names, left, codes)
    finally:
        service.stop()


def draw(path: Path, shade: int) -> None:
    pixels = photo("coffee", 160).copy()
    pixels[:8, :8] = shade
    path.write_bytes(encoded(pixels))


def set_policy(home: Home, **changes: object) -> None:
    home.policy_file.write_text(yaml.safe_dump({**POLICY, **changes}))


def ingest(home: Home, source: Path) -> int:
    return subprocess.run(
        [imgflow_command(), "ingest", str(source)], env=environment(home), check=False
    ).returncode


def published(home: Home) -> int:
    return len(list((home.root / "store").glob(f"records/{CATALOG}/*/published.json")))


def is_done(home: Home, count: int) -> bool:
    if published(home) < count:
        return False
    with instance(home) as dagster:
        return not dagster.get_runs(dg.RunsFilter(statuses=NOT_ENDED))


def stale(story: Story, name: str) -> dict[str, str]:
    keys = [{"path": [str(version)]} for version in Version]
    nodes = story.service.ask(STALE, keys=keys, partition=name)["assetNodes"]
    return {node["assetKey"]["path"][0]: node["staleStatus"] for node in nodes}


def test_all_is_published_once_though_the_daemon_was_killed_in_the_midst(story: Story) -> None:
    assert story.left_when_killed > 0
    records = list(story.home.store.records(CATALOG))
    places = Counter((record.key, record.version) for record in records)
    assert places == Counter((name, version) for name in story.names for version in Version)
    assert not any(record.verdict.stops for record in records)
    assert list((story.home.root / "store/records").rglob("history/*")) == [], "none twice"


def test_dagster_shows_all_and_no_run_is_left_over(story: Story) -> None:
    with instance(story.home) as dagster:
        for version in Version:
            shown = dagster.get_materialized_partitions(dg.AssetKey(str(version)))
            assert shown == set(story.names), version
        statuses = Counter(run.status for run in dagster.get_runs())
    assert set(statuses) <= {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE}


def test_ingest_beside_the_sensor_makes_each_partition_once(story: Story) -> None:
    assert story.ingests == [0] * INGESTS
    with instance(story.home) as dagster:
        partitions = Counter(dagster.get_dynamic_partitions("photos"))
    assert partitions == Counter(story.names)


def test_after_a_policy_change_the_ui_shows_exactly_the_affected_versions_as_stale(
    story: Story,
) -> None:
    fresh = {str(version): "FRESH" for version in Version}
    photos = (story.names[0], story.names[-1])
    assert [stale(story, name) for name in photos] == [fresh, fresh]
    set_policy(story.home, renditions=[{"name": "web", "long_side": 32}])
    story.service.reload()
    affected = {**fresh, "published": "STALE"}
    assert [stale(story, name) for name in photos] == [affected, affected]
