"""Dagster's side of buckets: the S3Resource says where, and the sensor looks there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster_aws.s3 import S3Resource

from imgflow.bench.s3.server import Server
from imgflow.definitions import line_definitions
from imgflow.defs.buckets import BucketHomeResource
from imgflow.defs.launch import instance
from imgflow.defs.naming import PLAIN
from imgflow.defs.partitions import known_keys
from imgflow.defs.resources import HomeResource, home_resource
from imgflow.errors import ImgflowError
from imgflow.home import Home
from imgflow.store.bucket import Bucket
from imgflow.store.local import LocalStore
from imgflow.store.s3 import S3Store


def test_the_resource_says_endpoint_and_region(tmp_path: Path) -> None:
    s3 = S3Resource(endpoint_url="http://minio:9000", region_name="eu-west-1")
    home = BucketHomeResource(root=str(tmp_path), store="s3://shop/line", s3=s3).home()
    assert home.storage is not None
    assert (home.storage.endpoint, home.storage.region) == ("http://minio:9000", "eu-west-1")
    assert isinstance(home.store, S3Store)
    assert home.inbox is None


def test_credentials_in_the_resource_are_refused(tmp_path: Path) -> None:
    s3 = S3Resource(aws_access_key_id="key", aws_secret_access_key="secret")
    with pytest.raises(ImgflowError) as error:
        BucketHomeResource(root=str(tmp_path), store="s3://shop/line", s3=s3).home()
    assert error.value.code == "credentials_in_resource"


def test_the_environment_says_where_unless_the_resource_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert type(home_resource(str(tmp_path))) is HomeResource
    monkeypatch.setenv("IMGFLOW_STORE", "s3://shop/line")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://minio:9000")
    found = home_resource(str(tmp_path))
    assert isinstance(found, BucketHomeResource)
    assert found.home().storage == Home.find().storage
    plain = home_resource(str(tmp_path), store="", uploads="").home()
    assert isinstance(plain.store, LocalStore)
    monkeypatch.setenv("IMGFLOW_STORE_CACHE_MB", "many")
    with pytest.raises(ImgflowError) as error:
        _ = found.home().store
    assert error.value.code == "cache_invalid"


def test_the_sensor_asks_for_what_is_in_the_bucket_once(
    tmp_path: Path, bucket_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in bucket_server.settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    root, uploads = str(tmp_path / "data"), "s3://shop/sensed"
    definitions = line_definitions(root, uploads=uploads)
    resource = home_resource(root, uploads=uploads)
    home = resource.home()
    assert home.inbox is not None
    for number in range(3):
        Bucket(home.inbox).put(f"{number}.jpg", b"%d" % number)
    monkeypatch.setattr("imgflow.watch.STABLE_S", 0.0)
    cursor = None
    keys: list[Any] = []
    with instance(home) as dagster:
        for _ in range(2):
            # As the daemon does: the resource has another one in it, which is opened and closed.
            with dg.build_sensor_context(
                instance=dagster,
                cursor=cursor,
                definitions=definitions,
                resources={"home": resource},
            ) as context:
                sensor = definitions.resolve_sensor_def("upload_sensor")
                result = sensor.evaluate_tick(context)
            for added in result.dynamic_partitions_requests or []:
                dagster.add_dynamic_partitions(PLAIN.partitions, list(added.partition_keys))
            for request in result.run_requests or []:
                dagster.add_run(
                    dg.DagsterRun("rescue_photos", run_config=request.run_config, tags=request.tags)
                )
            keys.append([dict(request.tags) for request in result.run_requests or []])
            cursor = result.cursor
            assert cursor is not None
            assert len(cursor) < 300
            assert json.loads(cursor)["bucket"][0] == ""
        assert known_keys(dagster) == ["0.jpg", "1.jpg", "2.jpg"]
    assert [len(each) for each in keys] == [1, 0]
