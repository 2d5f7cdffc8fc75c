"""The local store loses nothing, overwrites nothing but records, and says what is damaged."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgflow.errors import StoreError
from imgflow.lineage.environment import environment
from imgflow.lineage.record import ObjectRef, Record, Verdict, Version
from imgflow.store.keys import ImageKey
from imgflow.store.local import LocalStore
from imgflow.store.store import sha256_hex


def record(key: str = "a.jpg", version: Version = Version.RAW, **fields: Any) -> Record:
    given = {
        "catalog": "main",
        "key": key,
        "version": version,
        "verdict": Verdict.PASSED_THROUGH,
        "fingerprint": "f",
        "policy_sha256": "p",
        "imgflow_version": "0",
        "code_version": "c",
        "run_id": "r",
        "started_at": datetime(2026, 1, 2, tzinfo=UTC),
        "seconds": 0.5,
        "environment": environment(1),
    }
    return Record(**{**given, **fields})


def png(sha256: str, size: int = 0) -> ObjectRef:
    return ObjectRef(sha256=sha256, media_type="image/png", size=size)


def original(sha256: str) -> ObjectRef:
    return ObjectRef(sha256=sha256, media_type="image/jpeg", size=0, area="originals")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def files(store: LocalStore) -> list[Path]:
    """All that it keeps; its lock is empty."""
    found = (path for path in store.root.rglob("*") if path.is_file())
    return sorted(path for path in found if path.name != ".objects.lock")


# ---- originals and objects -------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=8))
def test_objects_and_originals_come_back_as_they_were_given(contents: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = LocalStore(Path(folder))
        kept = [
            (data, store.put_original(data), store.put_object(data, "image/png"))
            for data in contents
        ]
        for data, archived, derived in kept:
            assert archived == derived == sha256_hex(data)
            assert store.read_original(archived) == store.read(original(archived)) == data
            assert store.read(png(derived)) == data
        assert len(files(store)) == 2 * len(set(contents))


def test_an_object_is_written_once(store: LocalStore) -> None:
    sha256 = store.put_object(b"pixels", "image/png")
    path = Path(store.location(png(sha256)))
    before = path.stat()
    assert store.put_object(b"pixels", "image/png") == sha256
    assert path.stat().st_ino == before.st_ino
    assert path.stat().st_mtime_ns >= before.st_mtime_ns  # young again: nobody drops it now
    assert files(store) == [path]


def test_a_half_written_object_is_written_anew(store: LocalStore) -> None:
    sha256 = store.put_object(b"pixels", "image/png")
    Path(store.location(png(sha256))).write_bytes(b"pix")
    store.put_object(b"pixels", "image/png")
    assert store.read(png(sha256)) == b"pixels"


@pytest.mark.parametrize("area", ["originals", "objects"])
def test_missing_and_damaged_bytes_are_found(store: LocalStore, area: str) -> None:
    sha256 = store.put_original(b"abc")
    store.put_object(b"abc", "image/png")
    ref = original(sha256) if area == "originals" else png(sha256)
    assert store.exists(ref)
    assert Path(store.location(ref)).is_file()

    Path(store.location(ref)).write_bytes(b"abd")
    with pytest.raises(StoreError) as damaged:
        store.read(ref)
    assert damaged.value.code == "object_damaged"

    Path(store.location(ref)).unlink()
    with pytest.raises(StoreError) as missing:
        store.read(ref)
    assert missing.value.code == "object_missing"
    assert sha256 in str(missing.value)
    assert not store.exists(ref)
    assert not Path(store.location(ref)).exists()


def test_an_object_opens_in_a_browser_by_its_name(store: LocalStore) -> None:
    for media_type, suffix in (("image/png", ".png"), ("image/webp", ".webp")):
        ref = ObjectRef(sha256=store.put_object(b"x", media_type), media_type=media_type, size=1)
        assert store.location(ref).endswith(suffix)


# ---- records ---------------------------------------------------------------------------

NAMES = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="/\0"), min_size=1, max_size=30
).filter(lambda name: name not in (".", ".."))


@settings(max_examples=25, deadline=None)
@given(st.lists(NAMES, min_size=1, max_size=5), st.data())
def test_records_come_back_as_they_were_put(names: list[str], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = LocalStore(Path(folder))
        expected: dict[tuple[str, Version], Record] = {}
        for name in names:
            key = ImageKey.from_path(name)
            version = data.draw(st.sampled_from(Version))
            note = data.draw(st.text(st.characters(exclude_categories=("Cs",)), max_size=20))
            put = record(key, version, notes=[note], seconds=data.draw(st.floats(0, 1e6)))
            store.put_record(put)
            expected[key, version] = put
        for (name, version), put in expected.items():
            assert store.get_record("main", ImageKey(name), version) == put
        listed = {(each.key, each.version): each for each in store.records("main")}
        assert listed == expected


def test_no_record_is_none_and_no_catalog_is_empty(store: LocalStore) -> None:
    assert store.get_record("main", ImageKey("a.jpg"), Version.RAW) is None
    assert list(store.records("main")) == []


def test_records_of_an_image_come_in_the_order_of_the_line(store: LocalStore) -> None:
    for version in reversed(Version):
        store.put_record(record("a.jpg", version))
        store.put_record(record("b.jpg", version))
    listed = list(store.records("main"))
    assert [each.version for each in listed] == [*Version, *Version]
    assert [each.key for each in listed[:5]] == 5 * [listed[0].key]


def test_catalogs_do_not_mix(store: LocalStore) -> None:
    store.put_record(record(catalog="shoes"))
    assert store.get_record("hats", ImageKey("a.jpg"), Version.RAW) is None


def test_a_replaced_record_goes_to_the_history(store: LocalStore) -> None:
    versions = [record(run_id=str(number)) for number in range(4)]
    for each in versions:
        store.put_record(each)
    assert store.get_record("main", ImageKey("a.jpg"), Version.RAW) == versions[-1]
    history = [Record.from_json(path.read_bytes()) for path in store.root.rglob("history/*.json")]
    assert sorted(each.run_id for each in history) == ["0", "1", "2"]
    assert list(store.records("main")) == versions[-1:], "the history is not current"


def test_the_same_record_again_leaves_no_history(store: LocalStore) -> None:
    store.put_record(record())
    store.put_record(record())
    assert len(files(store)) == 1


def test_a_kill_while_a_record_is_written_leaves_the_old_one(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put_record(record(run_id="old"))
    renamed = os.replace

    def killed(source: Any, target: Any, **options: Any) -> None:
        if "history" in str(target):
            return renamed(source, target, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        store.put_record(record(run_id="new"))
    monkeypatch.undo()

    assert [each.run_id for each in store.records("main")] == ["old"]
    store.put_record(record(run_id="new"))
    assert [each.run_id for each in store.records("main")] == ["new"]


def test_a_damaged_record_is_set_aside_and_its_version_made_again(store: LocalStore) -> None:
    store.put_record(record())
    path = files(store)[0]
    path.write_bytes(path.read_bytes()[:-20])
    torn = path.read_bytes()
    assert list(store.records("main")) == []
    assert store.get_record("main", ImageKey("a.jpg"), Version.RAW) is None
    aside = path.parent / "history" / "damaged-raw.json"
    assert aside.read_bytes() == torn


def test_damaged_records_are_told_until_somebody_deletes_them(store: LocalStore) -> None:
    for key in ("a.jpg", "b.jpg", "c.jpg"):
        store.put_record(record(ImageKey(key)))
    assert list(store.damaged("main")) == []
    for key in ("a.jpg", "b.jpg"):
        store._record_path("main", ImageKey(key), Version.RAW).write_bytes(b"{")
        assert store.get_record("main", ImageKey(key), Version.RAW) is None
    store.put_record(record(ImageKey("a.jpg")))  # made again
    found = list(store.damaged("main"))
    assert sorted((each.key, each.version) for each in found) == [("", "raw"), ("a.jpg", "raw")]
    (ours,) = store.damaged("main", ImageKey("a.jpg"))
    assert Path(ours.location).read_bytes() == b"{"
    assert ours.location in str(ours)
    assert list(store.damaged("main", ImageKey("c.jpg"))) == []
    Path(ours.location).unlink()
    assert len(list(store.damaged("main"))) == 1


AWKWARD = [
    "A.jpg",
    "a.jpg",
    "a.JPG",
    "n" * 246 + ".jpg",
    "n" * 245 + "N.jpg",
    "é" * 123 + ".jpg",
    "商品/写真 1.jpg",
    "a,b|c...d%.jpg",
    "-rf *.jpg",
    os.fsdecode(b"caf\xe9.jpg"),
]


def test_awkward_keys_live_side_by_side(store: LocalStore) -> None:
    keys = [ImageKey.from_path(name) for name in AWKWARD]
    for key in keys:
        store.put_record(record(key))
        store.publish("main", f"{key.relative_path}/web.jpg", key.encode())
    assert {each.key for each in store.records("main")} == set(keys)
    for key in keys:
        path = store.published_location("main", f"{key.relative_path}/web.jpg")
        assert Path(path).read_bytes() == key.encode()


# ---- a disk that is full, a folder that is not ours ---------------------------------------


@pytest.mark.parametrize("call", ["original", "object", "record", "publish", "cache"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_an_error_and_leaves_nothing_half_written(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    store.put_record(record(run_id="old"))
    before = {path: path.read_bytes() for path in files(store)}
    opened = os.fdopen

    def full(handle: int, mode: str) -> Any:
        file = opened(handle, mode)

        class Full:
            def __enter__(self) -> Full:
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

            def write(self, data: bytes) -> None:
                file.write(data[:1])
                raise OSError(number, os.strerror(number))

        return Full()

    monkeypatch.setattr(os, "fdopen", full)
    writes: dict[str, Callable[[], object]] = {
        "original": lambda: store.put_original(b"data"),
        "object": lambda: store.put_object(b"data", "image/png"),
        "record": lambda: store.put_record(record(run_id="new")),
        "publish": lambda: store.publish("main", "a.jpg/web.jpg", b"data"),
        "cache": lambda: store.put_cached("text", "ab" * 32, b"data"),
    }
    with pytest.raises(StoreError) as error:
        writes[call]()
    assert error.value.code == "disk_full"
    assert error.value.hint
    assert {path: path.read_bytes() for path in files(store)} == before


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(b"a file in the place of the folder")
    with pytest.raises(StoreError) as error:
        LocalStore(tmp_path / "store").put_object(b"x", "image/png")
    assert error.value.code == "store_unwritable"
    assert str(tmp_path) in str(error.value)


# ---- published files and cache ------------------------------------------------------------


def test_publishing_replaces_and_withdrawing_takes_away(store: LocalStore) -> None:
    path = "shoes/a.jpg/web.jpg"
    store.publish("main", path, b"first")
    store.publish("main", path, b"second one")
    assert Path(store.published_location("main", path)).read_bytes() == b"second one"
    assert store.is_published("main", path, png("x", size=10))
    assert not store.is_published("main", path, png("x", size=5))
    store.withdraw("main", path)
    store.withdraw("main", path)
    assert not store.is_published("main", path, png("x", size=10))


def test_the_cache_keeps_by_kind_and_may_be_deleted(store: LocalStore) -> None:
    digest = sha256_hex(b"question")
    assert store.get_cached("text", digest) is None
    store.put_cached("text", digest, b"answer")
    assert store.get_cached("text", digest) == b"answer"
    assert store.get_cached("faces", digest) is None
    for path in files(store):
        path.unlink()
    assert store.get_cached("text", digest) is None
