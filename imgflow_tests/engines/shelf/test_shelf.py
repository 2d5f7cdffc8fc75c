"""The shelf: known files are checked, unknown ones pinned, wrong ones never used."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from imgflow.engines.shelf.cards import Card, CardError, CardFile, shipped_cards
from imgflow.engines.shelf.shelf import PINS, Shelf
from imgflow.errors import EngineUnavailable


def card(*paths: str, **fields: object) -> Card:
    files = [CardFile(path=path) for path in paths]
    given = {"title": "T", "task": "upscaler", "loader": "spandrel", "licence": "MIT"}
    return Card.model_validate({**given, "files": files, **fields}, strict=False)


def put(shelf: Shelf, name: str, path: str, data: bytes = b"weights") -> Path:
    file = shelf.folder(name) / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


def shelf_with(root: Path, name: str, made: Card) -> Shelf:
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.json").write_text(made.model_dump_json(exclude_defaults=True))
    return Shelf(root)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_the_shipped_catalog_is_valid_and_names_licence_and_source_of_each() -> None:
    cards = shipped_cards()
    assert {"realesrgan-x4plus", "realesr-general-x4", "span-x4", "lama", "lpips"} <= set(cards)
    assert {"sd-inpainting", "sd-x4-upscaler", "lcm-dreamshaper", "easyocr-latin"} <= set(cards)
    assert all(each.licence and each.source and each.pullable for each in cards.values())


def test_missing_weights_name_the_command_that_fetches_them(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable) as error:
        Shelf(tmp_path / "models").weights("lama")
    assert error.value.code == "weights_missing"
    assert "imgflow models pull lama" in error.value.hint


def test_an_unknown_name_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="no model named 'nope'"):
        Shelf(tmp_path).weights("nope")


def test_a_file_of_unknown_hash_is_pinned_at_first_use_and_must_stay(tmp_path: Path) -> None:
    shelf = shelf_with(tmp_path, "mine", card("a.pth"))
    file = put(shelf, "mine", "a.pth", b"first")
    assert shelf.weights("mine").sha256 == sha(b"first")
    pins = json.loads((tmp_path / PINS).read_text())
    assert pins["mine/a.pth"]["sha256"] == sha(b"first")
    assert pins["mine/a.pth"]["why"] == "first use"

    file.write_bytes(b"other")
    with pytest.raises(EngineUnavailable) as error:
        shelf.weights("mine")
    assert error.value.code == "weights_changed"
    shelf.accept("mine", "a.pth", sha(b"other"), "added")
    assert shelf.weights("mine").sha256 == sha(b"other")


def test_the_catalogs_hash_is_checked_before_first_use(tmp_path: Path) -> None:
    wrong = card("a.pth").model_copy(update={"files": [CardFile(path="a.pth", sha256="0" * 64)]})
    shelf = shelf_with(tmp_path, "mine", wrong)
    put(shelf, "mine", "a.pth")
    with pytest.raises(EngineUnavailable) as error:
        shelf.weights("mine")
    assert error.value.code == "weights_changed"
    assert "imgflow models add mine PATH" in error.value.hint
    # The catalog's hash stands, whatever is pinned.
    assert "--pin" not in error.value.hint
    assert not (tmp_path / PINS).exists()


def test_other_weights_than_pinned_are_fetched_again_or_pinned(tmp_path: Path) -> None:
    file = CardFile(path="a.pth", url="https://example.com/a.pth")
    shelf = shelf_with(tmp_path, "mine", card("a.pth").model_copy(update={"files": [file]}))
    path = put(shelf, "mine", "a.pth", b"first")
    shelf.weights("mine")
    path.write_bytes(b"other")
    with pytest.raises(EngineUnavailable) as error:
        shelf.weights("mine")
    assert "imgflow models pull mine --again" in error.value.hint
    assert "imgflow models verify mine --pin" in error.value.hint


def test_md5_is_checked_where_upstream_names_nothing_else(tmp_path: Path) -> None:
    data = b"weights"
    right = hashlib.md5(data).hexdigest()
    for md5, good in ((right, True), ("0" * 32, False)):
        root = tmp_path / md5
        made = card("a.pth").model_copy(update={"files": [CardFile(path="a.pth", md5=md5)]})
        shelf = shelf_with(root, "mine", made)
        put(shelf, "mine", "a.pth", data)
        if good:
            assert shelf.weights("mine").sha256 == sha(data)
        else:
            with pytest.raises(EngineUnavailable):
                shelf.weights("mine")


def test_files_are_hashed_once_as_long_as_they_do_not_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = shelf_with(tmp_path, "mine", card("a.pth"))
    put(shelf, "mine", "a.pth")
    first = shelf.weights("mine").sha256

    def never(*_: object) -> str:
        raise AssertionError("it was hashed again")

    monkeypatch.setattr("imgflow.engines.shelf.shelf.sha256_of", never)
    assert Shelf(tmp_path).weights("mine").sha256 == first


def test_a_same_size_change_with_the_old_time_is_noticed(tmp_path: Path) -> None:
    shelf = shelf_with(tmp_path, "mine", card("a.pth"))
    file = put(shelf, "mine", "a.pth", b"aaaa")
    shelf.weights("mine")
    status = file.stat()
    file.write_bytes(b"bbbb")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(EngineUnavailable):
        shelf.weights("mine")


def test_several_files_and_those_that_nobody_listed_make_one_hash(tmp_path: Path) -> None:
    shelf = shelf_with(tmp_path, "mine", card("a.pth", "sub/b.json"))
    put(shelf, "mine", "a.pth")
    put(shelf, "mine", "sub/b.json")
    before = shelf.weights("mine")
    assert before.paths == ("a.pth", "sub/b.json")
    put(shelf, "mine", "sub/unlisted.json")
    assert shelf.weights("mine").sha256 != before.sha256


def test_a_copied_folder_is_as_good_as_a_fetched_one(tmp_path: Path) -> None:
    here = shelf_with(tmp_path / "a", "mine", card("a.pth"))
    put(here, "mine", "a.pth")
    first = here.weights("mine").sha256
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert Shelf(tmp_path / "b").weights("mine").sha256 == first
    put(Shelf(tmp_path / "b"), "mine", "a.pth", b"tampered with")
    with pytest.raises(EngineUnavailable):
        Shelf(tmp_path / "b").weights("mine")


def test_verify_tells_of_each_file(tmp_path: Path) -> None:
    shelf = shelf_with(tmp_path, "mine", card("a.pth", "b.pth", "c.pth"))
    put(shelf, "mine", "a.pth")
    put(shelf, "mine", "b.pth")
    shelf.accept("mine", "a.pth", sha(b"weights"), "added")
    shelf.accept("mine", "b.pth", "0" * 64, "added")
    found = {each.path: each.status for each in shelf.verify("mine")}
    assert found == {"a.pth": "ok", "b.pth": "changed", "c.pth": "missing"}


def test_added_and_removed(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "models")
    source = tmp_path / "net.pth"
    source.write_bytes(b"net")
    shelf.add("net", source, card("net.pth"))
    assert shelf.weights("net").sha256 == sha(b"net")
    assert source.exists()
    with pytest.raises(CardError, match="already"):
        shelf.add("net", source, card("net.pth"))
    assert shelf.remove("net") == 2
    assert "net/net.pth" not in shelf.pins()
    with pytest.raises(CardError):
        shelf.card("net")


@pytest.mark.parametrize(
    "path",
    ["../a.pth", "/a.pth", "a/../../b.pth", ".hidden.pth", "a\\b.pth", "run.py", "card.json"],
)
def test_paths_that_leave_the_folder_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        CardFile(path=path)


@pytest.mark.parametrize("name", ["../x", "", ".x", "A", "a/b", "x" * 65])
def test_names_that_are_no_folder_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CardError):
        Shelf(tmp_path).folder(name)


@pytest.mark.parametrize("url", ["http://example.com/a", "file:///etc/passwd", "https://u:p@x/a"])
def test_addresses_that_anyone_could_change_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="https"):
        CardFile(path="a.pth", url=url)


def test_a_broken_user_catalog_says_where(tmp_path: Path) -> None:
    (tmp_path / "catalog.yaml").write_text("mine: {title: T, task: upscaler}\n")
    with pytest.raises(CardError, match="mine") as error:
        _ = Shelf(tmp_path).cards
    assert error.value.code == "models_invalid"


def test_a_read_only_shelf_works_and_pins_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = shelf_with(tmp_path, "mine", card("a.pth"))
    put(shelf, "mine", "a.pth")
    monkeypatch.setattr("imgflow.engines.shelf.shelf.os.access", lambda *_: False)
    assert shelf.weights("mine").sha256 == sha(b"weights")
    assert not (tmp_path / PINS).exists()
