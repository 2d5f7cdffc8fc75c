"""Keys name files, every file has one key, and the upload folder gives no file up."""

import os
import pickle
import unicodedata
from pathlib import Path, PurePosixPath

import pytest
from dagster._core.definitions.partitions.utils.base import INVALID_PARTITION_SUBSTRINGS
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from imgflow.errors import BadKey, BadPhoto
from imgflow.store.keys import MAX_KEY_BYTES, ImageKey, Uploads

# What a POSIX folder may hold: any bytes but the slash and NUL.
NAMES = st.one_of(
    st.binary(min_size=1, max_size=20).map(os.fsdecode),
    st.text(min_size=1, max_size=20),
    st.text(alphabet=". ,%|E\u0301\u00e9\n\t", min_size=1, max_size=12),
).filter(lambda name: "/" not in name and "\0" not in name and name not in (".", ".."))
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)


def on_disk(path: str) -> str:
    """A path as the file system and Unicode see it; skips what no file can be called."""
    try:
        data = path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        assume(False)
    return unicodedata.normalize("NFC", data.decode("utf-8", "surrogateescape"))


@settings(deadline=None, max_examples=200)
@given(PATHS)
@example("a...b.jpg")
@example("...\u0301.jpg")
@example(" \u0301.jpg ")
@example("\udcff\udcfe.jpg")
@example("100%25.jpg")
def test_a_key_gives_its_path_back(path: str) -> None:
    canonical = on_disk(path)
    key = ImageKey.from_path(path)
    assert str(key.relative_path) == canonical
    assert ImageKey(str(key)) == key
    assert pickle.loads(pickle.dumps(key)) == key
    assert ImageKey.from_path(key.relative_path) == key


@settings(deadline=None, max_examples=200)
@given(PATHS)
@example("...\u0301.jpg")
def test_a_key_fits_everywhere_that_it_is_written(path: str) -> None:
    on_disk(path)
    key = str(ImageKey.from_path(path))
    assert not [each for each in INVALID_PARTITION_SUBSTRINGS if each in key]
    assert key == key.strip() and key.splitlines() == [key]
    assert unicodedata.is_normalized("NFC", key)
    assert f"{key}...{key}".split("...") == [key, key]
    assert "," not in key and "|" not in key
    key.encode()


@settings(deadline=None, max_examples=200)
@given(PATHS, PATHS)
@example("a.jpg", "A.jpg")
@example("a%2C.jpg", "a,.jpg")
def test_different_paths_have_different_keys(one: str, other: str) -> None:
    same_path = PurePosixPath(on_disk(one)) == PurePosixPath(on_disk(other))
    assert (ImageKey.from_path(one) == ImageKey.from_path(other)) == same_path


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=30))
def test_a_text_is_a_key_or_refused(text: str) -> None:
    try:
        assert str(ImageKey(text)) == text
    except BadKey:
        pass


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("", "key_empty"),
        (".", "key_empty"),
        ("/a.jpg", "key_absolute"),
        ("../a.jpg", "key_outside"),
        ("a/../../b.jpg", "key_outside"),
        ("a" * (MAX_KEY_BYTES + 1), "key_too_long"),
        ("\u00e9" * (MAX_KEY_BYTES // 2 + 1), "key_too_long"),
        ("a\0.jpg", "key_invalid"),
        ("a\ud800.jpg", "key_invalid"),
    ],
)
def test_what_names_no_image_is_refused(path: str, code: str) -> None:
    with pytest.raises(BadKey) as refused:
        ImageKey.from_path(path)
    assert refused.value.code == code
    str(refused.value).encode()


@pytest.mark.parametrize(
    "text", ["a//b.jpg", "a,b.jpg", "%2e.jpg", "e\u0301.jpg", "50%.jpg", "%00"]
)
def test_a_key_has_one_spelling(text: str) -> None:
    with pytest.raises(BadKey) as refused:
        ImageKey(text)
    assert refused.value.code == "key_invalid"


def test_the_longest_key_is_accepted() -> None:
    assert len(ImageKey.from_path("a" * MAX_KEY_BYTES)) == MAX_KEY_BYTES


def test_ordinary_names_stay_as_they_are() -> None:
    for name in ("shop/shirt [red] (1).JPG", "\u65e5\u672c.jpg", "a..b.jpg", 'it\'s "x".png'):
        assert str(ImageKey.from_path(name)) == name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "uploads"
    root.mkdir()
    return root


def put(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def problems(root: Path) -> list[tuple[str, str]]:
    found = Uploads(root).scan([".jpg", ".png"]).problems
    for each in found:
        str(each).encode()
    return [(each.code, each.photo) for each in found]


def test_photos_are_found_at_any_depth_in_order(folder: Path) -> None:
    put(folder, "b.JPG", "a/deep/z.png", "a.jpg", "A.jpg", "notes.txt", "no_suffix")
    scan = Uploads(folder).scan([".jpg", ".png"])
    assert [str(key) for key, _ in scan.photos] == ["A.jpg", "a.jpg", "a/deep/z.png", "b.JPG"]
    assert scan.ignored == 2 and scan.problems == ()
    assert all(Uploads(folder).path_of(key) == path for key, path in scan.photos)


def test_what_lies_beside_photos_is_no_photo(folder: Path) -> None:
    put(folder, ".hidden.jpg", ".cache/a.jpg", "b.jpg.part", "b.jpg.tmp", "b.jpg.crdownload")
    put(folder, "c.jpg.json", "c.mask.png", "d.MASK.PNG", "masks/e.png", "shop/Masks/f.png")
    scan = Uploads(folder).scan([".jpg", ".png"])
    assert (scan.photos, scan.problems, scan.ignored) == ((), (), 0)


def test_a_link_is_followed_only_inside_the_folder(folder: Path) -> None:
    outside = folder.parent / "secret.jpg"
    outside.write_bytes(b"x")
    (folder.parent / "elsewhere").mkdir()
    put(folder, "real.jpg", "album/x.jpg")
    (folder / "inside.jpg").symlink_to("real.jpg")
    (folder / "leak.jpg").symlink_to(outside)
    (folder / "broken.jpg").symlink_to("nothing.jpg")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "away").symlink_to(folder.parent / "elsewhere")
    (folder / "again").symlink_to("album")
    (folder / "round").symlink_to(".")
    scan = Uploads(folder).scan([".jpg", ".png"])
    assert [str(key) for key, _ in scan.photos] == ["album/x.jpg", "inside.jpg", "real.jpg"]
    assert sorted((code, Path(photo).name) for code, photo in problems(folder)) == [
        ("not_a_file", "broken.jpg"),
        ("not_a_file", "loop.jpg"),
        ("symlink_outside", "away"),
        ("symlink_outside", "leak.jpg"),
    ]
    with pytest.raises(BadPhoto) as refused:
        Uploads(folder).path_of(ImageKey.from_path("leak.jpg"))
    assert refused.value.code == "symlink_outside"


def test_a_linked_folder_on_the_way_cannot_lead_outside(folder: Path) -> None:
    put(folder.parent, "elsewhere/a.jpg")
    (folder / "album").symlink_to(folder.parent / "elsewhere")
    with pytest.raises(BadPhoto) as refused:
        Uploads(folder).path_of(ImageKey.from_path("album/a.jpg"))
    assert refused.value.code == "symlink_outside"


def test_a_folder_or_pipe_named_like_a_photo_is_reported(folder: Path) -> None:
    (folder / "x.png").mkdir()
    os.mkfifo(folder / "y.jpg")
    assert problems(folder) == [
        ("not_a_file", str(folder / "x.png")),
        ("not_a_file", str(folder / "y.jpg")),
    ]


def test_two_spellings_of_one_name_are_both_refused(folder: Path) -> None:
    composed, decomposed = "caf\u00e9.jpg", "cafe\u0301.jpg"
    put(folder, composed, decomposed, "good.jpg")
    scan = Uploads(folder).scan([".jpg"])
    assert [str(key) for key, _ in scan.photos] == ["good.jpg"]
    (problem,) = scan.problems
    assert problem.code == "key_collision"
    assert "caf\\xe9.jpg" in problem.what and "cafe\\u0301.jpg" in problem.what
    with pytest.raises(BadPhoto) as refused:
        Uploads(folder).path_of(ImageKey.from_path(composed))
    assert refused.value.code == "key_collision"


def test_a_name_in_another_unicode_form_or_encoding_is_found(folder: Path) -> None:
    names = [b"cafe\xcc\x81.jpg", b"caf\xe9.jpg"]
    for name in names:
        (folder / os.fsdecode(name)).write_bytes(name)
    scan = Uploads(folder).scan([".jpg"])
    assert [str(key) for key, _ in scan.photos] == ["caf%E9.jpg", "caf\u00e9.jpg"]
    found = {Uploads(folder).path_of(key).read_bytes() for key, _ in scan.photos}
    assert found == set(names)


def test_a_key_that_is_too_long_is_a_problem_of_its_photo_alone(folder: Path) -> None:
    put(folder, "/".join(["f" * 250] * 4 + ["long-name-of-a-photo.jpg"]), "good.jpg")
    scan = Uploads(folder).scan([".jpg"])
    assert [str(key) for key, _ in scan.photos] == ["good.jpg"]
    assert [each.code for each in scan.problems] == ["key_too_long"]


def test_what_is_not_there_is_said(folder: Path) -> None:
    for missing in ("a.jpg", "caf\u00e9.jpg", "a/b.jpg"):
        with pytest.raises(BadPhoto) as refused:
            Uploads(folder).path_of(ImageKey.from_path(missing))
        assert refused.value.code == "not_found"
    with pytest.raises(BadPhoto):
        Uploads(folder / "nowhere").scan([".jpg"])
