"""The store in a bucket keeps what the store in a folder keeps, and loses nothing between two
writers, nor on a bad network. moto's server is a process of its own."""

from __future__ import annotations

import pickle
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_local import AWKWARD, original, png, record

from imgflow.bench.s3.faults import FAULTS, Fault, faulty
from imgflow.bench.s3.server import Server
from imgflow.errors import ImgflowError, StoreError
from imgflow.lineage.record import Record, Version
from imgflow.store.bucket import Conflict
from imgflow.store.keys import ImageKey
from imgflow.store.place import Place
from imgflow.store.s3 import S3Store
from imgflow.store.store import sha256_hex

KEY = ImageKey("a.jpg")


@pytest.fixture
def place(bucket_server: Server, monkeypatch: pytest.MonkeyPatch, request: Any) -> Place:
    """A prefix of its own in the server's bucket."""
    for name, value in bucket_server.settings.items():
        monkeypatch.setenv(name, value)
    return replace(
        Place.parse(f"s3://shop/{sha256_hex(request.node.nodeid.encode())[:12]}"), backoff_s=0.002
    )


@pytest.fixture
def store(place: Place) -> S3Store:
    return S3Store(place)


def names(store: S3Store) -> list[str]:
    return [each.key for page in store.bucket.pages() for each in page]


# ---- places ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    ["s3://", "s3:///a", "bucket/a", "s3://Bucket", "s3://b/a", "s3://bucket/../a", "s3://bucket/a//b",
     "s3://bucket?x=1", "https://bucket/a", "s3://user@bucket/a"],
)  # fmt: skip
def test_what_names_no_place_is_refused(url: str) -> None:
    with pytest.raises(ImgflowError) as error:
        Place.parse(url)
    assert error.value.code == "place_invalid"


def test_a_place_is_a_bucket_and_a_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://minio:9000")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    place = Place.parse("s3://my.shop/photos/line/")
    assert (place.bucket, place.prefix) == ("my.shop", "photos/line")
    assert (place.endpoint, place.region) == ("http://minio:9000", "eu-west-1")
    assert place.url == "s3://my.shop/photos/line"
    assert Place.parse(Place.parse("s3://shop").url) == Place.parse("s3://shop")


# ---- originals and objects -----------------------------------------------------------------


def test_objects_and_originals_come_back_as_they_were_given(store: S3Store) -> None:
    for data in (b"", b"pixels", bytes(range(256)) * 99):
        assert store.put_original(data) == store.put_object(data, "image/png") == sha256_hex(data)
        sha256 = sha256_hex(data)
        assert store.read_original(sha256) == store.read(original(sha256)) == data
        assert store.read(png(sha256)) == data
        assert store.exists(png(sha256)) and store.exists(original(sha256))
    assert len(names(store)) == 6


@pytest.mark.parametrize("fault", ["500", "lost", "sent_wrong"])
def test_parts_are_sent_again_on_a_bad_network(
    place: Place, bucket_server: Server, fault: Fault
) -> None:
    data = bytes(range(251)) * 50_000
    with faulty(bucket_server.endpoint, {fault: 0.25}, seed=3) as proxy:
        bad = S3Store(replace(place, endpoint=proxy.endpoint, part_bytes=5 << 20))
        sha256 = bad.put_object(data, "image/png")
    assert proxy.met[fault] > 0
    assert S3Store(place).read(png(sha256)) == data


def test_a_large_object_goes_in_parts_and_comes_back_whole(place: Place) -> None:
    store = S3Store(replace(place, part_bytes=5 << 20))  # S3's least
    data = bytes(range(251)) * 60_000
    sha256 = store.put_object(data, "image/png")
    assert store.read(png(sha256)) == data
    found = store.bucket.head(names(store)[0])
    assert found is not None and found.etag.endswith("-3") and found.sha256 == sha256
    assert store.sweep() == 0


def test_uploads_in_parts_that_were_never_ended_are_swept(
    store: S3Store, bucket_server: Server
) -> None:
    client = bucket_server.client()
    client.create_multipart_upload(Bucket="shop", Key=f"{store.place.prefix}/objects/x")
    assert store.bucket.abort_uploads(older_than=0) == 0, "it is young"
    assert store.bucket.abort_uploads(older_than=time.time() + 60) == 1
    assert store.bucket.abort_uploads(older_than=time.time() + 60) == 0


@pytest.mark.parametrize("area", ["originals", "objects"])
def test_missing_and_damaged_bytes_are_found_and_named(store: S3Store, area: str) -> None:
    sha256 = store.put_original(b"abc")
    store.put_object(b"abc", "image/png")
    ref = original(sha256) if area == "originals" else png(sha256)
    name = store.location(ref).removeprefix(store.bucket.location(""))
    store.bucket.put(name, b"abd")
    with pytest.raises(StoreError) as damaged:
        store.read(ref)
    assert damaged.value.code == "object_damaged"
    assert store.location(ref) in str(damaged.value)
    assert store.bucket.retried == 1, "what lies there like that is not asked for again and again"

    store.bucket.delete(name)
    with pytest.raises(StoreError) as missing:
        store.read(ref)
    assert missing.value.code == "object_missing"
    assert not store.exists(ref)
    store.put_original(b"abc")
    store.put_object(b"abc", "image/png")
    assert store.read(ref) == b"abc"


def test_reading_goes_to_the_bucket_once(place: Place, tmp_path: Path) -> None:
    store = S3Store(place, tmp_path / "cache", 10**6)
    sha256 = S3Store(place).put_object(b"pixels", "image/png")
    assert store.read(png(sha256)) == b"pixels"
    S3Store(place).bucket.delete(names(store)[0])
    assert store.read(png(sha256)) == b"pixels"


# ---- what is dropped ------------------------------------------------------------------------


def test_what_is_dropped_lies_in_the_trash_and_comes_back_when_it_is_read(store: S3Store) -> None:
    sha256 = store.put_object(b"pixels", "image/png")
    (file,) = store.object_files()
    assert file.sha256 == sha256
    assert not store.drop_object(file, older_than=time.time() - 60), "it is young"
    assert store.drop_object(file, older_than=time.time() + 60)
    (trashed,) = store.object_files()
    assert trashed.path != file.path
    assert store.exists(png(sha256))
    assert store.read(png(sha256)) == b"pixels"


def test_what_lies_in_the_trash_is_deleted_for_good(store: S3Store) -> None:
    sha256 = store.put_object(b"pixels", "image/png")
    for _ in range(2):
        (file,) = store.object_files()
        assert store.drop_object(file, older_than=time.time() + 60)
    assert names(store) == []
    assert not store.exists(png(sha256))


# ---- records --------------------------------------------------------------------------------


def test_records_come_back_in_the_order_of_the_line(store: S3Store) -> None:
    keys = [ImageKey.from_path(name) for name in AWKWARD]
    for key in keys:
        for version in reversed(Version):
            store.put_record(record(key, version))
    listed = list(store.records("main"))
    assert [each.version for each in listed] == [*Version] * len(keys)
    assert {each.key for each in listed} == set(keys) == set(store.image_keys("main"))
    assert store.catalogs() == ["main"]
    assert len(list(store.record_stamps("main"))) == len(listed)
    assert list(store.records("hats")) == list(store.image_keys("hats")) == []
    assert store.get_record("main", KEY, Version.RAW) == record(KEY, Version.RAW)
    assert store.get_record("main", ImageKey("b.jpg"), Version.RAW) is None


def test_a_key_without_a_record_is_no_image(store: S3Store) -> None:
    store._note("main", KEY)  # and then its writer was killed
    assert list(store.image_keys("main")) == []


def test_keys_that_are_too_long_for_s3_live_as_well(store: S3Store) -> None:
    key = ImageKey("/".join(["n" * 200] * 5))
    store.put_record(record(key))
    store.publish("main", f"{key}/web.jpg", b"jpeg")
    assert list(store.image_keys("main")) == [key]
    assert store.published_sha256("main", f"{key}/web.jpg") == sha256_hex(b"jpeg")


def test_a_replaced_record_goes_to_the_history(store: S3Store) -> None:
    versions = [record(run_id=str(number)) for number in range(3)]
    for each in (*versions, versions[-1]):
        store.put_record(each)
    assert store.get_record("main", KEY, Version.RAW) == versions[-1]
    (files,) = store.image_files("main")
    assert files.digest == KEY.digest
    assert files.current == {Version.RAW: versions[-1].to_json()}
    history = [store.replaced_record("main", KEY.digest, *each) for each in files.replaced]
    assert sorted(history) == sorted(each.to_json() for each in versions[:-1])
    assert store.record_sha256("main", KEY, Version.RAW) == sha256_hex(versions[-1].to_json())
    texts = list(store.record_texts())
    assert sorted(each.replaced for each in texts) == [False, True, True]


def test_a_damaged_record_is_set_aside_and_told_until_somebody_deletes_it(store: S3Store) -> None:
    store.put_record(record())
    store.put_record(record(version=Version.DETEXTED))
    name = store._record("main", KEY.digest, Version.RAW)
    torn = record().to_json()[:-20]
    store.bucket.put(name, torn)
    assert [each.version for each in store.records("main")] == [Version.DETEXTED]
    assert store.get_record("main", KEY, Version.RAW) is None
    (aside,) = store.damaged("main")
    assert (aside.key, aside.version) == ("a.jpg", "raw")
    (files,) = store.image_files("main", KEY.digest)
    assert files.damaged == ("damaged-raw.json",)
    assert list(files.current) == [Version.DETEXTED]
    assert list(store.damaged("main", KEY)) == [aside]
    store.put_record(record(run_id="again"))
    assert len(list(store.records("main"))) == 2
    store.bucket.delete(aside.location.removeprefix(store.bucket.location("")))
    assert list(store.damaged("main")) == []


def test_what_is_no_record_is_set_aside_and_not_taken_for_one(
    store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that a server took though they had arrived as others than were sent."""
    client = store.bucket._connected()
    name = f"{store.place.prefix}/{store._record('main', KEY.digest, Version.RAW)}"
    client.put_object(Bucket="shop", Key=name, Body=b"{", Metadata={"sha256": sha256_hex(b"[")})
    store.put_record(record())
    (files,) = store.image_files("main")
    assert (files.replaced, files.damaged) == (frozenset(), ("damaged-raw.json",))


def test_of_two_writers_none_is_lost(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one writes between our reading and our writing, each time that it can."""
    others = iter([record(run_id="other-1"), record(run_id="other-2")])
    other = S3Store(store.place)
    put = store.bucket.put

    def late(key: str, data: bytes, **conditions: Any) -> str:
        if key.endswith("/raw.json") and (theirs := next(others, None)):
            other.put_record(theirs)
        return put(key, data, **conditions)

    monkeypatch.setattr(store.bucket, "put", late)
    store.put_record(record(run_id="ours"))
    (files,) = store.image_files("main")
    assert Record.from_json(files.current[Version.RAW]).run_id == "ours"
    history = [store.replaced_record("main", files.digest, *each) for each in files.replaced]
    assert sorted(Record.from_json(each).run_id for each in history) == ["other-1", "other-2"]


def test_ours_is_not_written_again_over_one_that_followed_it(
    store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, answers = store.bucket.put, iter(["lost"])

    def unheard(key: str, data: bytes, **conditions: Any) -> str:
        answer = put(key, data, **conditions)
        if key.endswith("/raw.json") and next(answers, None):
            S3Store(store.place).put_record(record(run_id="follower"))
            raise Conflict  # what the second attempt of the same request is told
        return answer

    monkeypatch.setattr(store.bucket, "put", unheard)
    store.put_record(record(run_id="ours"))
    assert [each.run_id for each in store.records("main")] == ["follower"]
    assert [each.replaced for each in store.record_texts()].count(True) == 1


def test_a_condition_that_fails_is_a_conflict(store: S3Store) -> None:
    etag = store.bucket.put("x", b"1", if_absent=True)
    with pytest.raises(Conflict):
        store.bucket.put("x", b"2", if_absent=True)
    store.bucket.put("x", b"3", if_etag=etag)
    with pytest.raises(Conflict):
        store.bucket.put("x", b"4", if_etag=etag)
    with pytest.raises(Conflict):
        store.bucket.put("gone", b"5", if_etag=etag)
    found = store.bucket.get("x")
    assert found is not None and found.data == b"3"


# ---- published files and cache ---------------------------------------------------------------


def test_publishing_replaces_and_withdrawing_takes_away(store: S3Store) -> None:
    path = "shoes/a,b %25 é.jpg/web.jpg"
    store.publish("main", path, b"first")
    store.publish("main", path, b"second one")
    assert list(store.published_paths("main")) == [path]
    assert store.published_sha256("main", path) == sha256_hex(b"second one")
    assert store.is_published("main", path, png(sha256_hex(b"second one"), size=10))
    assert not store.is_published("main", path, png("x", size=10)), "of that size, but another"
    store.withdraw("main", path)
    store.withdraw("main", path)
    assert not store.is_published("main", path, png("x", size=10))
    assert store.published_sha256("main", path) == ""


def test_the_cache_keeps_by_kind(store: S3Store) -> None:
    digest = sha256_hex(b"question")
    assert store.get_cached("text", digest) is None
    store.put_cached("text", digest, b"answer")
    assert store.get_cached("text", digest) == b"answer"
    assert store.get_cached("faces", digest) is None


def test_a_store_goes_to_other_processes(place: Place, tmp_path: Path) -> None:
    store = S3Store(place, tmp_path, 10**6)
    sha256 = store.put_original(b"abc")
    copy = pickle.loads(pickle.dumps(store))
    assert copy.read_original(sha256) == b"abc"
    hashing = store.without_archiving()
    assert hashing.put_original(b"new") == sha256_hex(b"new")
    assert not store.exists(original(sha256_hex(b"new")))


# ---- what cannot be used -----------------------------------------------------------------------


def test_no_bucket_no_server_and_no_credentials_are_told(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def code(place: Place) -> str:
        with pytest.raises(StoreError) as error:
            S3Store(place).put_object(b"x", "image/png")
        assert error.value.hint
        return error.value.code

    assert code(replace(place, bucket="elsewhere")) == "bucket_missing"
    assert code(replace(place, endpoint="http://127.0.0.1:1", attempts=2)) == "store_unreachable"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    assert code(place) == "store_forbidden"


# ---- a bad network -----------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_met_and_costs_nothing(
    place: Place, bucket_server: Server, fault: Fault
) -> None:
    # A machine with much else to do answers late, too: that must not look like this fault.
    slow = fault == "timeout"
    rate, timeout_s = (0.15, 0.5) if slow else (1 / 3, 30.0)
    with faulty(bucket_server.endpoint, {fault: rate}, seed=5, timeout_s=0.6) as proxy:
        hurried = replace(place, endpoint=proxy.endpoint, timeout_s=timeout_s, attempts=12)
        bad = S3Store(hurried)
        for number in range(5):
            key, data = ImageKey(f"{number}.jpg"), b"%d" % number * 1000
            sha256 = bad.put_object(data, "image/png")
            assert bad.read(png(sha256)) == data
            bad.put_record(record(key, run_id="first"))
            bad.put_record(record(key, run_id="second"))
            assert bad.get_record("main", key, Version.RAW) == record(key, run_id="second")
            bad.publish("main", f"{key}/web.png", data)
        listed = list(bad.records("main"))
    assert proxy.met[fault] > 3
    good = S3Store(place)
    assert listed == list(good.records("main"))
    assert [each.run_id for each in listed] == ["second"] * 5
    assert list(good.damaged("main")) == []
    for number in range(5):
        data = b"%d" % number * 1000
        assert good.published_sha256("main", f"{number}.jpg/web.png") == sha256_hex(data)
        assert good.read(png(sha256_hex(data))) == data
    assert [each.replaced for each in good.record_texts()].count(True) == 5


def test_a_body_that_stays_wrong_is_reported_with_its_key(
    place: Place, bucket_server: Server
) -> None:
    sha256 = S3Store(place).put_object(b"pixels", "image/png")
    with faulty(bucket_server.endpoint, {"wrong": 1.0}) as proxy:
        bad = S3Store(replace(place, endpoint=proxy.endpoint, attempts=4))
        with pytest.raises(StoreError) as error:
            bad.read(png(sha256))
    assert error.value.code == "object_damaged"
    assert sha256 in str(error.value)
    assert proxy.met["wrong"] == 4


def test_no_more_requests_are_under_way_than_allowed(place: Place) -> None:
    store = S3Store(replace(place, concurrency=3))
    most, now, lock = 0, 0, threading.Lock()

    def watched(client: Any) -> int:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.005)
        with lock:
            now -= 1
        return 1

    threads = [threading.Thread(target=store.bucket._tried, args=(watched, "x")) for _ in range(12)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert most == 3


def test_pages_come_whole_and_go_on_after_a_key(store: S3Store) -> None:
    wanted = sorted(f"{number:03}é" for number in range(25))
    for name in wanted:
        store.bucket.put(f"a/{name}", b"")
    store.bucket.put("b", b"")
    pages = list(store.bucket.pages("a/", size=10))
    assert [len(each) for each in pages] == [10, 10, 5]
    assert [each.key[2:] for page in pages for each in page] == wanted
    rest = [
        each.key[2:] for page in store.bucket.pages("a/", after=f"a/{wanted[7]}") for each in page
    ]
    assert rest == wanted[8:]
    assert sorted(store.bucket.folders()) == ["a"]
