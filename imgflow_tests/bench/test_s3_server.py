"""The server of tests and benches lists as S3 does: in order, page by page, folders once."""

from __future__ import annotations

import random
from itertools import pairwise
from unittest.mock import Mock

import pytest

from imgflow.bench.s3.names import SortedNames
from imgflow.bench.s3.server import Server
from imgflow.store.bucket import Bucket
from imgflow.store.place import Place

NAMES = ["a", "a.jpg", "a/1.jpg", "a/2.jpg", "a/b/3.jpg", "a/b/4.jpg", "a0", "b/é.jpg", "c/x", "c0"]


@pytest.fixture
def bucket(bucket_server: Server, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    for name, value in bucket_server.settings.items():
        monkeypatch.setenv(name, value)
    found = Bucket(Place.parse("s3://shop/names"))
    shuffled = random.Random(3).sample(NAMES, len(NAMES))
    for name in (*shuffled, "a/1.jpg", "gone", "gone/too"):
        found.put(name, name.encode())
    found.delete("gone")
    found.delete("gone/too")
    return found


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_listing_is_in_order_and_whole(bucket: Bucket, size: int) -> None:
    def listed(prefix: str = "", after: str = "") -> list[str]:
        pages = list(bucket.pages(prefix, after=after, size=size))
        assert all(0 < len(page) <= size for page in pages)
        return [each.key for page in pages for each in page]

    assert listed() == NAMES
    assert listed("a/") == ["a/1.jpg", "a/2.jpg", "a/b/3.jpg", "a/b/4.jpg"]
    assert listed("a.jpg") == ["a.jpg"]
    for before, name in pairwise(NAMES):
        assert listed(after=before)[0] == name
    assert listed("a/", after="a/2.jpg") == ["a/b/3.jpg", "a/b/4.jpg"]
    # Between two names, and behind the last.
    assert listed(after="a/b/3") == NAMES[4:]
    assert list(bucket.pages(after="d")) == [[]]


def test_folders_are_told_once(bucket: Bucket) -> None:
    assert list(bucket.folders()) == ["a", "b", "c"]
    assert list(bucket.folders("a/")) == ["b"]


def test_folders_are_told_once_though_a_page_ends_in_one() -> None:
    names = SortedNames()
    for name in NAMES:
        names[name] = Mock()
    told, after = [], ""
    while found := next(names.listed("", "/", after), ""):
        told.append(found)
        after = found
    assert told == ["a/", "b/", "c/"]
    assert names.names == sorted(NAMES)
    names.pop("a0")
    assert names.names == sorted({*NAMES} - {"a0"})


def test_requests_are_counted(bucket: Bucket, bucket_server: Server) -> None:
    before = bucket_server.requests()
    bucket.get("a.jpg")
    bucket.head("a.jpg")
    list(bucket.pages())
    after = bucket_server.requests()
    assert {kind: after[kind] - before.get(kind, 0) for kind in after} == {
        **dict.fromkeys(after, 0), "GET": 1, "HEAD": 1, "LIST": 1,
    }  # fmt: skip
