"""Ingesting brings photos into the upload folder, and nothing that lies there is ever lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from imgflow.errors import ImgflowError
from imgflow.home import Home
from imgflow.ingest import Ingested, ingest_paths
from imgflow.store.keys import ImageKey
from imgflow.store.store import sha256_hex

PNG = b"\x89PNG a photo, as far as copying goes"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    return folder


def put(path: Path, data: bytes = PNG) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def ingest(home: Home, *paths: Path) -> list[Ingested]:
    return list(ingest_paths(paths, home))


def one(home: Home, path: Path) -> Ingested:
    [result] = ingest(home, path)
    return result


def uploaded(home: Home) -> dict[str, bytes]:
    root = home.uploads.root
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def test_a_file_comes_under_its_name_and_a_folder_below_its_own(home: Home, source: Path) -> None:
    put(source / "a.png")
    put(source / "deep" / "er" / "a.png", b"another")
    assert one(home, source / "a.png") == Ingested(str(source / "a.png"), "a.png", "new")
    assert [each.key for each in ingest(home, source)] == ["shop/a.png", "shop/deep/er/a.png"]
    assert uploaded(home) == {
        "a.png": PNG,
        "shop/a.png": PNG,
        "shop/deep/er/a.png": b"another",
    }


def test_the_same_bytes_again_change_nothing(home: Home, source: Path) -> None:
    photo = put(source / "a.png")
    ingest(home, photo)
    copy = home.uploads.root / "a.png"
    before = copy.stat().st_mtime_ns
    assert one(home, photo).status == "unchanged"
    assert copy.stat().st_mtime_ns == before


def test_what_a_changed_photo_replaces_is_archived(home: Home, source: Path) -> None:
    photo = put(source / "a.png")
    ingest(home, photo)
    put(photo, b"retaken")
    assert one(home, photo).status == "changed"
    assert uploaded(home) == {"a.png": b"retaken"}
    assert home.store.read_original(sha256_hex(PNG)) == PNG


@pytest.mark.parametrize(
    "name",
    ["ü 日本.png", "two words.JPG", "[red] shoe[1].png", "a,b|c.png", "x" * 251 + ".png"],
)
def test_unusual_names_are_taken(home: Home, source: Path, name: str) -> None:
    result = one(home, put(source / name))
    assert result.status == "new"
    assert home.uploads.path_of(ImageKey(result.key)).read_bytes() == PNG


def test_names_that_differ_in_case_only_are_two_photos(home: Home, source: Path) -> None:
    put(source / "A.png", b"upper")
    put(source / "a.png", b"lower")
    ingest(home, source)
    assert uploaded(home) == {"shop/A.png": b"upper", "shop/a.png": b"lower"}


def test_another_unicode_form_of_a_name_is_the_same_photo(home: Home, source: Path) -> None:
    composed, decomposed = "b\u00fccher/\u00e9.png", "bu\u0308cher/e\u0301.png"
    put(home.uploads.root / composed, b"old")
    put(source / decomposed)
    [result] = ingest(home, source / "bu\u0308cher")
    assert (result.key, result.status) == (composed, "changed")
    assert [key for key, _ in home.uploads.scan().photos] == [composed]
    assert uploaded(home) == {composed: PNG}


def test_a_new_photo_joins_a_folder_in_another_unicode_form(home: Home, source: Path) -> None:
    put(home.uploads.root / "bu\u0308cher" / "old.png")
    ingest(home, put(source / "b\u00fccher" / "new.png").parent)
    assert [key for key, _ in home.uploads.scan().photos] == [
        "b\u00fccher/new.png",
        "b\u00fccher/old.png",
    ]
    for key, _ in home.uploads.scan().photos:
        home.uploads.path_of(key)


def test_two_photos_of_one_name_in_one_call_are_not_one(home: Home, source: Path) -> None:
    first, second = put(source / "x" / "a.png", b"1"), put(source / "y" / "a.png", b"2")
    put(second.with_name("a.png.json"), b"{}")
    results = ingest(home, first, second)
    assert [each.status for each in results] == ["new", "failed"]
    assert str(first) in results[1].message
    assert uploaded(home) == {"a.png": b"1"}  # the second's manifest is not the first's


def test_what_cannot_be_taken_is_named_and_does_not_stop_the_rest(
    home: Home, source: Path, tmp_path: Path
) -> None:
    put(source / "good.png")
    outside = put(tmp_path / "outside.png")
    (source / "link.png").symlink_to(outside)
    (source / "folder.png").mkdir()
    put(source / "notes.txt")
    results = {Path(each.source).name: each for each in ingest(home, source)}
    assert {name: each.status for name, each in results.items()} == {
        "good.png": "new",
        "link.png": "failed",
        "folder.png": "failed",
    }
    assert "leads out of" in results["link.png"].message
    assert "is a folder" in results["folder.png"].message


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("missing.png", "there is no such file"),
        ("notes.txt", "not that of a photo. Photos are files named .avif"),
        ("hole.mask.png", "that of a mask"),
        (".hidden.png", "begins with a dot"),
        ("empty", "no photo in this folder"),
        ("folder.png", "folder with the name of a photo"),
        ("masks", "for masks"),
    ],
)
def test_a_path_that_the_line_would_never_find_again_is_refused(
    home: Home, source: Path, name: str, what: str
) -> None:
    path = source / name
    if name in ("empty", "masks", "folder.png"):
        path.mkdir()
    elif name != "missing.png":
        put(path)
    result = one(home, path)
    assert result.status == "failed"
    assert what in result.message
    assert uploaded(home) == {}


def test_what_is_no_image_is_taken_as_it_is(home: Home, source: Path) -> None:
    """The line says what is wrong with it, and keeps the original."""
    put(source / "page.jpg", b"<html>")
    put(source / "empty.jpg", b"")
    assert {each.status for each in ingest(home, source)} == {"new"}
    assert uploaded(home) == {"shop/page.jpg": b"<html>", "shop/empty.jpg": b""}


def test_a_manifest_and_its_masks_come_with_the_photo(home: Home, source: Path) -> None:
    photo = put(source / "a.png")
    manifest = json.dumps({"steps": [{"op": "inpaint", "mask": "masks/hole.png"}]}).encode()
    put(source / "a.png.json", manifest)
    put(source / "masks" / "hole.png", b"mask")
    assert one(home, photo).status == "new"
    everything = {"a.png": PNG, "a.png.json": manifest, "masks/hole.png": b"mask"}
    assert uploaded(home) == everything
    put(source / "masks" / "hole.png", b"repainted")
    assert one(home, photo).status == "changed"
    assert uploaded(home) == {**everything, "masks/hole.png": b"repainted"}
    assert home.store.read_original(sha256_hex(b"mask")) == b"mask"


def test_a_manifest_of_the_stem_stays_that_photos_own(home: Home, source: Path) -> None:
    put(source / "x" / "a.png")
    put(source / "x" / "a.json", b'{"job_id": "1"}')
    ingest(home, source / "x" / "a.png", put(source / "y" / "a.jpg"))
    assert set(uploaded(home)) == {"a.png", "a.png.json", "a.jpg"}


@pytest.mark.parametrize(
    ("manifest", "what"),
    [
        (b'{"steps": [{"op": "polish"}]}', "polish"),
        (b'{"steps": [{"op": "inpaint", "mask": "gone.mask.png"}]}', "gone.mask.png"),
        (b'{"steps": [{"op": "inpaint", "mask": "../out.mask.png"}]}', "out.mask.png"),
    ],
)
def test_a_photo_with_a_bad_manifest_comes_with_it(
    home: Home, source: Path, manifest: bytes, what: str
) -> None:
    """The line quarantines it with the reason; ingesting says so already."""
    photo = put(source / "a.png")
    put(source / "a.png.json", manifest)
    result = one(home, photo)
    assert (result.key, result.status) == ("a.png", "incomplete")
    assert what in result.message
    assert uploaded(home) == {"a.png": PNG, "a.png.json": manifest}


def test_a_manifest_that_two_photos_claim_is_refused(home: Home, source: Path) -> None:
    put(source / "a.png")
    put(source / "a.jpg")
    put(source / "a.json", b"{}")
    results = ingest(home, source)
    assert [each.status for each in results] == ["failed", "failed"]
    assert "Name it a.jpg.json" in results[0].message


def test_the_upload_folder_itself_stays_as_it_is(home: Home) -> None:
    put(home.uploads.root / "in" / "a.png")
    put(home.uploads.root / "a.png.json", b"{}")
    before = uploaded(home)
    assert one(home, home.uploads.root) == Ingested(
        str(home.uploads.root / "in/a.png"), "in/a.png", "unchanged"
    )
    assert one(home, home.uploads.root / "in").status == "unchanged"
    assert uploaded(home) == before


def test_what_the_line_made_is_no_upload(home: Home) -> None:
    put(home.store_folder / "objects" / "ab" / "abc.png")
    put(home.store_folder / "published" / "main" / "a.png" / "web.jpg")
    put(home.root.parent / "a.png")
    assert [Path(each.source).name for each in ingest(home, home.root.parent)] == ["a.png"]


def test_a_full_disk_leaves_no_half_photo(
    home: Home, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = put(source / "a.png")
    ingest(home, photo)
    put(photo, b"retaken")

    def full(data: object, copy: object) -> None:
        copy.write(b"ret")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    result = one(home, photo)
    assert result.status == "failed"
    assert "a.png cannot be written: No space left on device. Make room" in result.message
    assert uploaded(home) == {"a.png": PNG}


def test_a_store_that_cannot_keep_what_is_replaced_ends_it(home: Home, source: Path) -> None:
    photo = put(source / "a.png")
    ingest(home, photo)
    put(photo, b"retaken")
    home.store_folder.write_text("a file where the store should be")
    with pytest.raises(ImgflowError, match="cannot write"):
        ingest(home, photo)
    assert uploaded(home) == {"a.png": PNG}
