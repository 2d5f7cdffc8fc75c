"""A published file is found again, under whatever name, and whatever became of it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image
from two_photos import A, B, record, the_stamp, two_line

from imgflow.chain import rescue
from imgflow.home import CATALOG, Home
from imgflow.lineage.record import Version
from imgflow.lineage.whoami import Identity, identify


def published(home: Home, path: str) -> bytes:
    return (home.root / "store/published" / CATALOG / path).read_bytes()


def who(home: Home, data: bytes) -> Identity:
    return identify(data, home.store, CATALOG)


def saved_again(data: bytes, *, keep: bool) -> bytes:
    """As a shop's system may do: another JPEG of the same picture, with its XMP or without."""
    file = io.BytesIO()
    with Image.open(io.BytesIO(data)) as image:
        more = {"xmp": image.info["xmp"]} if keep else {}
        image.convert("RGB").save(file, "JPEG", quality=60, **more)
    return file.getvalue()


@pytest.mark.parametrize(
    ("path", "key", "name"),
    [("a.png/web.jpg", A, "web"), ("a.png/thumb.webp", A, "thumb"), ("b.jpg/web.jpg", B, "web")],
)
def test_a_published_file_is_proven(home: Home, path: str, key: str, name: str) -> None:
    found = who(home, published(home, path))
    assert found.match == "published"
    assert found.record == record(home, Version.PUBLISHED, key)  # type: ignore[arg-type]
    assert found.rendition is not None
    assert found.rendition.name == name
    assert found.is_current
    assert found.states is not None
    assert found.states.key == key


def test_a_file_that_was_saved_again_is_known_by_what_it_states(home: Home) -> None:
    found = who(home, saved_again(published(home, "a.png/web.jpg"), keep=True))
    assert found.match == "stated"
    assert found.record == record(home, Version.PUBLISHED)
    assert found.states is not None
    assert [step.name for step in found.states.steps] == ["remove_text", "inpaint"]


def test_without_its_xmp_a_changed_file_is_nobody(home: Home) -> None:
    found = who(home, saved_again(published(home, "a.png/web.jpg"), keep=False))
    assert (found.match, found.record, found.states) == ("none", None, None)


def test_a_file_that_was_replaced_is_found_in_the_history(home: Home) -> None:
    before = published(home, "a.png/web.jpg")
    line = two_line(home, the_stamp())
    object.__setattr__(
        line.policy, "renditions", [line.policy.renditions[0].model_copy(update={"long_side": 90})]
    )
    rescue(A, line)
    assert published(home, "a.png/web.jpg") != before
    found = who(home, before)
    assert (found.match, found.is_current) == ("published", False)
    assert found.record is not None
    assert found.record != record(home, Version.PUBLISHED)
    assert who(home, saved_again(before, keep=True)).match == "stated"


def test_an_original_is_known(home: Home) -> None:
    found = who(home, (home.uploads.root / "b.jpg").read_bytes())
    assert found.match == "original"
    assert found.record == record(home, Version.RAW, B)


def test_a_file_that_names_another_photo_is_not_believed(home: Home) -> None:
    """Its XMP says a.png, its picture is something else."""
    with Image.open(io.BytesIO(published(home, "a.png/web.jpg"))) as image:
        packet = image.info["xmp"]
    file = io.BytesIO()
    Image.new("RGB", (9, 9)).save(file, "JPEG", xmp=packet)
    assert who(home, file.getvalue()).match == "stated"  # and no more than that
    packet = packet.replace(b">a.png<", b">../../etc/passwd<")
    Image.new("RGB", (9, 9)).save(file := io.BytesIO(), "JPEG", xmp=packet)
    assert who(home, file.getvalue()).match == "none"


def test_damaged_records_are_passed_over(home: Home) -> None:
    data = published(home, "b.jpg/web.jpg")
    for path in Path(home.root / "store/records").rglob("raw.json"):
        path.write_bytes(b"{")
    assert who(home, data).match == "published"
