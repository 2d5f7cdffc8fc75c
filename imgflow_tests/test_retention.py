"""Only objects that no record names are dropped, and none that a running line is about to name."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from samples import encoded, photo

from imgflow.chain import Line, rescue
from imgflow.errors import StoreError
from imgflow.home import Home
from imgflow.retention import drop, find_waste
from imgflow.store.keys import ImageKey
from imgflow.store.local import LocalStore
from imgflow.store.store import sha256_hex

OLD = time.time() - 3 * 24 * 3600


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def put(store: LocalStore, data: bytes, *, changed: float = OLD) -> Path:
    sha256 = store.put_object(data, "image/png")
    path = store.root / "objects" / sha256[:2] / f"{sha256}.png"
    os.utime(path, (changed, changed))
    return path


def dropped(store: LocalStore, **options: float) -> set[Path]:
    return {Path(each.path) for each in drop(store, find_waste(store, **options))}


def age(home: Home) -> None:
    """As if all had been made some days ago."""
    for path in (home.root / "store").rglob("*"):
        os.utime(path, (OLD, OLD))


@pytest.fixture
def made(home: Home, make_line: object, drop: object) -> tuple[Home, Line, ImageKey]:
    region = {"x": 10, "y": 10, "width": 6, "height": 6}
    manifest = {"steps": [{"op": "inpaint", "region": region}]}
    key = drop("a.png", encoded(photo("coffee", 120)), manifest)  # type: ignore[operator]
    line = make_line(  # type: ignore[operator]
        upscale={"max_scale": 1, "sharpen_below": 0},
        inpaint={"gates": {"accept_artifacts": True}},
        renditions=[{"name": "web", "long_side": 80}],
    )
    assert rescue(key, line).last.renditions  # type: ignore[union-attr]
    age(home)
    return home, line, key


def files(home: Home) -> set[Path]:
    return {path for path in (home.root / "store").rglob("*") if path.is_file()}


def test_what_records_name_stays_and_the_rest_goes(made: tuple[Home, Line, ImageKey]) -> None:
    home, _, _ = made
    before = files(home)
    waste = put(home.store, b"nobody's")
    original = home.store.put_original(b"an upload of which there is no record")
    found = find_waste(home.store)
    assert [each.path for each in found.objects] == [str(waste)]
    assert (found.size, found.young) == (8, 0)
    assert found.kept >= 3  # mask, inpainted, web
    assert waste.exists()  # to find is not to drop
    assert dropped(home.store) == {waste}
    kept = home.root / "store/originals" / original[:2] / original
    assert files(home) - {kept, home.root / "store/.objects.lock"} == before - {
        home.root / "store/.objects.lock"
    }
    assert dropped(home.store) == set()


def test_the_history_is_kept_until_told_otherwise(made: tuple[Home, Line, ImageKey]) -> None:
    home, line, key = made
    (home.uploads.root / "a.png").write_bytes(encoded(photo("rocket", 120)))
    rescue(key, line)
    age(home)
    assert dropped(home.store) == set()
    assert dropped(home.store, history_days=30) == set()
    gone = dropped(home.store, history_days=1)
    assert len(gone) >= 2  # inpainted and web of the photo before
    originals = [path for path in files(home) if "originals" in path.parts]
    assert len(originals) == 3  # two photos and a manifest
    assert rescue(key, line).steps[-1].reused  # what is current is whole


def test_what_was_put_lately_stays(store: LocalStore) -> None:
    put(store, b"young", changed=time.time() - 60)
    found = find_waste(store)
    assert (found.objects, found.young) == ([], 1)
    assert len(find_waste(store, grace_s=30).objects) == 1


def test_what_is_put_again_in_between_stays(store: LocalStore) -> None:
    path = put(store, b"once more")
    waste = find_waste(store)
    assert len(waste.objects) == 1
    store.put_object(b"once more", "image/png")  # by a running line, which finds it there
    assert list(drop(store, waste)) == []
    assert path.exists()


def test_nothing_is_dropped_while_somebody_puts(store: LocalStore) -> None:
    put(store, b"waste")
    waste = find_waste(store)
    done: list[int] = []
    dropping = threading.Thread(target=lambda: done.append(len(list(drop(store, waste)))))
    with store._locked(exclusive=False):
        dropping.start()
        dropping.join(0.2)
        assert dropping.is_alive()
        assert done == []
    dropping.join(5)
    assert done == [1]


def test_putting_and_dropping_side_by_side_loses_nothing(store: LocalStore) -> None:
    """What was put is there at once afterwards, however often it is dropped meanwhile."""
    stop = threading.Event()

    def drop_all() -> None:
        while not stop.is_set():
            for each in store.object_files():
                store.drop_object(each, older_than=OLD + 1)

    dropping = threading.Thread(target=drop_all)
    dropping.start()
    try:
        for number in range(300):
            data = str(number % 3).encode()
            sha256 = store.put_object(data, "image/png")
            path = store.root / "objects" / sha256[:2] / f"{sha256}.png"
            assert path.read_bytes() == data
            os.utime(path, (OLD, OLD))
    finally:
        stop.set()
        dropping.join()


def test_beside_a_damaged_record_nothing_is_dropped(made: tuple[Home, Line, ImageKey]) -> None:
    home, _, key = made
    waste = put(home.store, b"nobody's")
    path = home.root / "store/records/main" / key.digest / "inpainted.json"
    text = path.read_bytes()
    path.write_bytes(text.replace(b'"seed": null', b'"seed": 12'))
    with pytest.raises(StoreError, match="nothing is dropped"):
        find_waste(home.store)
    path.write_bytes(text)
    aside = path.parent / "history/damaged-inpainted.json"
    aside.parent.mkdir(exist_ok=True)
    aside.write_bytes(b"{" + sha256_hex(b"nobody's").encode())  # names it, as far as one can read
    assert dropped(home.store) == set()
    aside.unlink()
    assert dropped(home.store) == {waste}


def test_files_that_are_no_objects_are_left_alone(store: LocalStore) -> None:
    put(store, b"x")
    strange = store.root / "objects" / "ab" / "notes.txt"
    strange.parent.mkdir(exist_ok=True)
    strange.write_text("somebody's")
    os.utime(strange, (OLD, OLD))
    assert len(dropped(store)) == 1
    assert strange.exists()
