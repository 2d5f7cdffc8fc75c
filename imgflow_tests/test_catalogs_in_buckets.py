"""Two catalogs with their store and one's uploads in a bucket: each keeps to itself."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from samples import at_once, encoded, photo
from typer.testing import CliRunner

from imgflow import batch
from imgflow.bench.s3.server import Server
from imgflow.bucketuploads import BucketUploads
from imgflow.cli import app
from imgflow.definitions import line_definitions
from imgflow.defs.launch import instance
from imgflow.defs.naming import parts
from imgflow.defs.partitions import known_keys
from imgflow.defs.resources import home_resource
from imgflow.home import Home
from imgflow.lineage.record import Verdict, Version
from imgflow.store.bucket import Bucket
from imgflow.store.keys import ImageKey
from imgflow.store.place import Place
from imgflow.store.s3 import S3Store

LIST = """
catalogs:
  - {name: shoes, uploads: "s3://shop/two/in/shoes", shards: 2}
  - {name: bags, uploads: "s3://shop/two/in/bags"}
  - {name: hats}
"""
POLICY = (
    "upscale: {max_scale: 1, sharpen_below: 0}\ndetext: {text: none}\nrun: {workers: 1}\n"
    "renditions: [{name: web, long_side: 48}]\nrefresh: {retire_missing: true}\n"
)
STORE = Place("shop", "two/store")
PROJECT = Path(__file__).parents[1]


def picture(shade: int) -> bytes:
    pixels = photo("coffee", 64).copy()
    pixels[:8, :8] = shade
    return encoded(pixels)


def asked(*arguments: str, code: int = 0) -> dict[str, Any]:
    found = CliRunner().invoke(app, [*arguments, "--json"])
    assert found.exit_code == code, found.output
    answer: dict[str, Any] = json.loads(found.stdout)
    return answer


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, bucket_server: Server) -> Iterator[Home]:
    """a.png in each catalog, with other pixels in each, and more shoes; all through the line."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("home") / "data"
        root.mkdir()
        for name, value in bucket_server.settings.items():
            patch.setenv(name, value)
        for name in ("DAGSTER_HOME", "IMGFLOW_CATALOG", "IMGFLOW_UPLOADS"):
            patch.delenv(name, raising=False)
        patch.setenv("IMGFLOW_HOME", str(root))
        patch.setenv("IMGFLOW_STORE", STORE.url)
        patch.setattr("imgflow.refresh.STABLE_S", 0.0)
        patch.setattr("imgflow.watch.STABLE_S", 0.0)
        patch.setattr(batch, "supervise", at_once)
        patch.chdir(root.parent)
        # As in the project's folder: events are written twice as fast by its storage.
        (root.parent / "dagster.yaml").write_bytes((PROJECT / "dagster.yaml").read_bytes())
        (root / "catalogs.yaml").write_text(LIST)
        (root / "policy.yaml").write_text(POLICY)
        source = root.parent / "a.png"
        source.write_bytes(picture(10))
        for name, shade in (("shoes", 10), ("bags", 20), ("hats", 30)):
            source.write_bytes(picture(shade))
            assert asked("ingest", str(source), "--catalog", name)["new"] == 1
        found = Home.installation()
        shoes = found.of("shoes").uploads
        assert isinstance(shoes, BucketUploads)
        for number in range(3):
            shoes.bucket.put(f"{number}.png", picture(40 + number))
        assert asked("run")["verdicts"] == {"published": 6}
        yield found


def test_a_catalogs_things_lie_by_its_name_in_the_bucket(home: Home) -> None:
    assert isinstance(home.of("shoes").store, S3Store)
    assert sorted(home.of("bags").store.catalogs()) == ["bags", "hats", "shoes"]
    published = {each.name: sorted(each.store.published_paths(each.name)) for each in home.all()}
    assert published["bags"] == published["hats"] == ["a.png/web.jpg"]
    assert len(published["shoes"]) == 4
    key = ImageKey("a.png")
    made = {
        each.name: each.store.record_sha256(each.name, key, Version.PUBLISHED)
        for each in home.all()
    }
    assert len(set(made.values())) == 3
    assert not (home.root / "store").exists()
    assert (home.root / "catalogs/hats/uploads/a.png").is_file()
    assert not (home.root / "catalogs/shoes/uploads").exists()


def test_the_audit_and_replay_go_over_all_of_them(home: Home) -> None:
    found = asked("audit")
    assert (found["images"], found["versions"], found["events"]) == (6, 30, 30)
    assert found["problems"] == []
    assert asked("audit", "a.png", code=1)["code"] == "key_ambiguous"
    assert asked("audit", "a.png", "--catalog", "bags")["images"] == 1
    again = asked("replay", "a.png", "--catalog", "bags")
    assert (again["same"], again["versions"]) == (len(Version), len(Version))
    rows = asked("catalogs")["catalogs"]
    assert [(row["uploads"], row["photos"]) for row in rows] == [
        ("s3://shop/two/in/shoes", 4),
        ("s3://shop/two/in/bags", 1),
        (str(home.root / "catalogs/hats/uploads"), 1),
    ]


def test_nothing_is_dropped_that_another_catalog_names(home: Home) -> None:
    assert asked("gc")["unnamed"] == 0


def test_each_refresh_compares_its_own_uploads(home: Home) -> None:
    plans = asked("refresh", "--dry-run")["catalogs"]
    assert {name: plan["current"] for name, plan in plans.items()} == {
        "shoes": 4, "bags": 1, "hats": 1,
    }  # fmt: skip
    shoes = home.of("shoes").uploads
    assert isinstance(shoes, BucketUploads)
    shoes.bucket.delete("a.png")
    shoes.bucket.put("1.png", picture(90))
    assert asked("refresh")["verdicts"] == {"published": 1}
    last = home.of("shoes").store.get_record("shoes", ImageKey("a.png"), Version.PUBLISHED)
    assert last is not None
    assert last.verdict is Verdict.RETIRED
    store = home.of("shoes").store
    assert not store.published_sha256("shoes", "a.png/web.jpg")
    for name in ("bags", "hats"):
        assert store.published_sha256(name, "a.png/web.jpg")
    assert asked("audit")["problems"] == []


def test_each_sensor_finds_what_is_in_its_own_bucket(home: Home) -> None:
    inbox = home.of("shoes").inbox
    assert inbox is not None
    names = [f"new/{number}.png" for number in range(6)]
    for at, name in enumerate(names):
        Bucket(inbox).put(name, picture(100 + at))
    definitions = line_definitions()
    cursors: dict[str, str | None] = {}
    found: dict[str, list[Any]] = {}
    with instance(home) as dagster:
        before = {key for part in parts(home.of("shoes").spec) for key in known_keys(dagster, part)}
        for name in ("shoes", "bags", "hats"):
            with dg.build_sensor_context(
                instance=dagster, cursor=cursors.get(name), definitions=definitions,
                resources={"home": home_resource()},
            ) as context:  # fmt: skip
                result = definitions.resolve_sensor_def(f"{name}_upload_sensor").evaluate_tick(
                    context
                )
            found[name] = list(result.run_requests or [])
            for added in result.dynamic_partitions_requests or []:
                dagster.add_dynamic_partitions(
                    added.partitions_def_name, list(added.partition_keys)
                )
        after = {key for part in parts(home.of("shoes").spec) for key in known_keys(dagster, part)}
    assert after - before == set(names)
    assert {each.tags["imgflow/catalog"] for each in found["shoes"]} == {"shoes"}
    assert len({each.job_name for each in found["shoes"]}) == 2, "each shard has its run"
    assert found["bags"] == found["hats"] == []


def test_a_schedule_requests_for_its_own_shards(home: Home) -> None:
    from datetime import UTC, datetime

    definitions = line_definitions()
    with instance(home) as dagster:
        with dg.build_schedule_context(
            instance=dagster,
            scheduled_execution_time=datetime(2026, 3, 1, 3, 0, tzinfo=UTC),
            resources={"home": home_resource()},
        ) as context:
            found = definitions.resolve_schedule_def("shoes_catalog_refresh").evaluate_tick(context)
        keys = [
            key
            for request in found.run_requests or []
            for op in request.run_config.get("ops", {}).values()
            for key in op["config"].get("keys") or []
        ]
    told = " ".join(keys) + " ".join(str(each.tags) for each in found.run_requests or [])
    assert "new/0.png" in told
    assert not any("bags" in each.run_key for each in found.run_requests or [])


def test_what_works_with_folders_says_so(home: Home) -> None:
    assert asked_text("generate", "--catalog", catalog="shoes") == "needs_folders"


def asked_text(*arguments: str, catalog: str) -> str:
    os.environ["IMGFLOW_CATALOG"] = catalog
    try:
        code: str = asked(*arguments, code=1)["code"]
    finally:
        del os.environ["IMGFLOW_CATALOG"]
    return code


def test_ingest_sends_what_lies_in_the_folder_of_former_uploads(home: Home) -> None:
    former = home.of("bags").uploads.root
    former.mkdir(parents=True)
    (former / "former.png").write_bytes(picture(120))
    found = asked("ingest", str(former / "former.png"), "--catalog", "bags")
    assert found["new"] == 1
    inbox = home.of("bags").inbox
    assert inbox is not None
    assert Bucket(inbox).head("former.png") is not None
