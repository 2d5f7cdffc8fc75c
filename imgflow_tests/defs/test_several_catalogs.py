"""Several catalogs in one Dagster, one of them in shards: names, partitions, refresh, alerts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from imgflow.definitions import line_definitions
from imgflow.defs import partitions, schedules
from imgflow.defs.launch import instance
from imgflow.defs.naming import PLAIN, Part, part_of, parts
from imgflow.defs.partitions import Known, add_keys, by_part, known_keys
from imgflow.defs.queue import CATALOG_TAG, is_of, keys_in_flight, photos_of
from imgflow.defs.refreshed import refresh_key
from imgflow.defs.resources import HomeResource
from imgflow.errors import ImgflowError
from imgflow.home import Home
from imgflow.lineage.record import Version
from imgflow.policy.catalogs import MAIN_SPEC, CatalogSpec
from imgflow.store.keys import ImageKey

LIST = """
catalogs:
  - {name: main}
  - {name: shoes, title: "Shoes, Europe", shards: 3, refresh: "0 2 * * *", fresh_within_hours: 12}
"""
NIGHT = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """An installation with two catalogs; files that are no photos lie in the uploads of one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        patch.setattr("imgflow.refresh.STABLE_S", 0.0)
        found = Home(tmp_path_factory.mktemp("home") / "data")
        found.root.mkdir()
        (found.root / "catalogs.yaml").write_text(LIST)
        (found.root / "policy.yaml").write_text("run: {batch_size: 3}\n")
        for each in found.all():
            each.uploads.root.mkdir(parents=True)
        for number in range(20):
            (found.of("shoes").uploads.root / f"{number}.png").write_bytes(b"no picture")
        yield found


@pytest.fixture(scope="module")
def definitions(home: Home) -> dg.Definitions:
    return line_definitions(str(home.root))


@pytest.fixture
def dagster(home: Home) -> Iterator[dg.DagsterInstance]:
    with instance(home) as found:
        yield found


def test_names_are_those_of_before_for_main_and_begin_with_the_catalog_for_others() -> None:
    shoes, large = CatalogSpec(name="shoes"), CatalogSpec(name="large", shards=12)
    assert PLAIN.path(Version.RAW) == ["raw"]
    assert (PLAIN.partitions, PLAIN.op, PLAIN.job) == ("photos", "rescue", "rescue_photos")
    assert Part(shoes).path(Version.RAW) == ["shoes", "raw"]
    assert Part(large, 3).path(Version.RAW) == ["large", "03", "raw"]
    assert Part(large, 3).partitions == "large/03-of-12"
    names = [name for spec in (MAIN_SPEC, shoes, large) for part in parts(spec)
             for name in (part.op, part.job)]  # fmt: skip
    assert len(set(names)) == len(names)


def test_the_location_has_both_catalogs(definitions: dg.Definitions) -> None:
    repository = definitions.get_repository_def()
    graph = definitions.resolve_asset_graph()
    assert graph.get(dg.AssetKey("raw")).group_name == "photos"
    for shard in "012":
        node = graph.get(dg.AssetKey(["shoes", shard, "published"]))
        assert node.partitions_def is not None
        assert node.partitions_def.name == f"shoes/{shard}-of-3"
        assert "Shoes, Europe" in (node.description or "")
        assert len(node.parent_keys) == 4
    table = graph.get(dg.AssetKey(["shoes", "catalog"]))
    assert len(table.parent_keys) == 15
    assert {each.name for each in repository.schedule_defs} == {
        "catalog_refresh", "reports_refresh", "shoes_catalog_refresh", "shoes_reports_refresh",
    }  # fmt: skip
    assert repository.get_schedule_def("shoes_catalog_refresh").cron_schedule == "0 2 * * *"
    assert repository.has_sensor_def("shoes_upload_sensor")
    assert len(repository.get_sensor_def("shoes_upload_sensor").jobs) == 3


def test_freshness_of_each_catalog_is_a_policy_on_its_refresh(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    for spec, hours in ((MAIN_SPEC, 36), (CatalogSpec(name="shoes"), 12)):
        policy = graph.get(refresh_key(spec)).freshness_policy
        assert policy == dg.FreshnessPolicy.time_window(
            fail_window=timedelta(hours=hours), warn_window=timedelta(hours=0.75 * hours)
        )


def test_keys_go_to_their_shards_and_sets_have_a_limit(
    dagster: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = CatalogSpec(name="many", shards=4)
    keys = [ImageKey(f"{number}.jpg") for number in range(40)]
    assert add_keys(dagster, keys, spec) == 40
    assert add_keys(dagster, keys, spec) == 0
    for part in parts(spec):
        here = known_keys(dagster, part)
        assert here
        assert here == [key for key in keys if part_of(spec, key) == part]  # order is kept
    monkeypatch.setattr(partitions, "MOST_KEYS", 12)
    more = [ImageKey(f"more/{number}.jpg") for number in range(40)]
    before = {part: known_keys(dagster, part) for part in parts(spec)}
    with pytest.raises(ImgflowError) as raised:
        add_keys(dagster, more, spec)
    assert raised.value.code == "partition_set_full"
    assert before == {part: known_keys(dagster, part) for part in parts(spec)}, "all or nothing"


def test_another_shard_count_is_refused(dagster: dg.DagsterInstance) -> None:
    add_keys(dagster, [ImageKey("a.jpg")], CatalogSpec(name="grown", shards=2))
    with pytest.raises(ImgflowError) as raised:
        add_keys(dagster, [ImageKey("b.jpg")], CatalogSpec(name="grown", shards=4))
    assert raised.value.code == "shards_changed"
    assert "2 shards" in raised.value.what
    assert add_keys(dagster, [ImageKey("b.jpg")], CatalogSpec(name="grown", shards=2)) == 1


def tick(
    home: Home, definitions: dg.Definitions, dagster: dg.DagsterInstance, at: datetime
) -> list[dg.RunRequest]:
    context = dg.build_schedule_context(
        instance=dagster,
        scheduled_execution_time=at,
        repository_def=definitions.get_repository_def(),
        resources={"home": HomeResource(root=str(home.root))},
    )
    schedule = definitions.resolve_schedule_def("shoes_catalog_refresh")
    return list(schedule.evaluate_tick(context).run_requests or [])


def test_a_refresh_asks_for_runs_in_every_shard_and_tells_what_it_did(
    home: Home,
    definitions: dg.Definitions,
    dagster: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shoes = home.of("shoes")
    monkeypatch.setattr(schedules, "MAX_KEYS", 12)
    first = tick(home, definitions, dagster, NIGHT)
    key = refresh_key(shoes.spec)
    assert dagster.get_latest_materialization_event(key) is None, "the pass is not through"
    second = tick(home, definitions, dagster, NIGHT + timedelta(minutes=5))
    assert tick(home, definitions, dagster, NIGHT + timedelta(minutes=10)) == []

    asked: list[str] = []
    known = Known(dagster)
    for request in [*first, *second]:
        assert request.tags[CATALOG_TAG] == "shoes"
        assert request.asset_selection is not None
        (shard,) = {each.path[1] for each in request.asset_selection}
        assert len({each.path[2] for each in request.asset_selection}) == 5
        run = dg.DagsterRun(
            "__ASSET_JOB", run_config=request.run_config, tags=dict(request.tags),
            asset_selection=frozenset(request.asset_selection),
        )  # fmt: skip
        keys = photos_of(run, shoes.spec, known)
        assert 0 < len(keys) <= 3
        assert {part_of(shoes.spec, ImageKey(each)).shard for each in keys} == {int(shard)}
        assert is_of(run, shoes.spec)
        assert not is_of(run, MAIN_SPEC)
        assert photos_of(run, MAIN_SPEC, known) == []
        asked += keys
    assert sorted(asked) == sorted(f"{number}.png" for number in range(20)), "each once"
    assert set(by_part(asked, shoes.spec)) == set(parts(shoes.spec))

    event = dagster.get_latest_materialization_event(key)
    assert event is not None
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    assert metadata["new"].value == 20
    assert metadata["runs requested"].value == len(first) + len(second)
    assert "| new | 20 | requested" in str(metadata["summary"].value)


def test_what_is_in_a_run_of_one_catalog_is_not_in_flight_in_another(
    dagster: dg.DagsterInstance,
) -> None:
    shoes = CatalogSpec(name="shoes", shards=3)
    part = part_of(shoes, ImageKey("7.png"))
    config = {"ops": {part.op: {"config": {"keys": ["7.png"]}}}}
    run = dagster.add_run(
        dg.DagsterRun(part.job, run_config=config, status=dg.DagsterRunStatus.STARTED)
    )
    assert keys_in_flight(dagster, shoes) == {"7.png"}
    assert keys_in_flight(dagster, MAIN_SPEC) == set()
    dagster.delete_run(run.run_id)


def test_a_list_that_cannot_be_read_stops_the_location(tmp_path: Path) -> None:
    (tmp_path / "catalogs.yaml").write_text("catalogs: [{name: Shoes}]\n")
    with pytest.raises(ImgflowError, match=r"catalogs\[0\]\.name"):
        line_definitions(str(tmp_path))
