"""Everything that a user gives is archived before anything is done with it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from samples import encoded, photo

from imgflow.chain import Line, rescue
from imgflow.errors import BadPhoto, StoreError
from imgflow.imaging.decode import DecodeLimits
from imgflow.lineage.record import Version
from imgflow.stages.intake import Intake, take_in
from imgflow.store.keys import ImageKey
from imgflow.store.store import sha256_hex

MakeLine = Callable[..., Line]
Drop = Callable[..., ImageKey]

PHOTO = encoded(photo("coffee", 64))
MASK = np.zeros(photo("coffee", 64).shape[:2], np.uint8)
MASK[10:14, 10:14] = 255
STEPS: dict[str, Any] = {"steps": [{"op": "inpaint", "mask": "a.mask.png"}]}


def take(key: ImageKey, line: Line, **limits: int) -> Intake:
    return take_in(key, line.catalog, line.store, line.uploads, DecodeLimits(**limits))


def test_a_photo_alone(make_line: MakeLine, drop: Drop) -> None:
    line = make_line()
    intake = take(drop("a.png", PHOTO), line)
    assert intake.original is not None
    assert intake.original.area == "originals"
    assert intake.original.media_type == "image/png"
    assert line.store.read_original(intake.original.sha256) == intake.data == PHOTO
    assert intake.attachments == {}
    assert intake.masks == {}
    assert intake.manifest.steps == []


def test_manifest_and_masks_are_archived(make_line: MakeLine, drop: Drop) -> None:
    line = make_line()
    key = drop("a.png", PHOTO, STEPS, {"a.mask.png": encoded(MASK)})
    intake = take(key, line)
    assert set(intake.attachments) == {"/manifest", "a.mask.png"}
    assert intake.masks == {"a.mask.png": encoded(MASK)}
    assert line.store.read_original(intake.attachments["a.mask.png"]) == encoded(MASK)
    assert b"inpaint" in line.store.read_original(intake.attachments["/manifest"])


def test_what_is_not_a_photo_is_archived_all_the_same(make_line: MakeLine, drop: Drop) -> None:
    line = make_line()
    intake = take(drop("a.jpg", b"<html>"), line)
    assert intake.original is not None
    assert line.store.read_original(intake.original.sha256) == b"<html>"


def test_a_deleted_upload_is_taken_from_the_archive(make_line: MakeLine, drop: Drop) -> None:
    line = make_line()
    key = drop("a.png", PHOTO, STEPS, {"a.mask.png": encoded(MASK)})
    first = take(key, line)
    rescue(key, line, [Version.RAW])
    for path in line.uploads.root.iterdir():
        path.unlink()
    assert take(key, line) == first


def test_a_manifest_that_came_later_is_in_the_archive_too(make_line: MakeLine, drop: Drop) -> None:
    line = make_line()
    key = drop("a.png", PHOTO)
    rescue(key, line, [Version.RAW])
    drop("a.png", PHOTO, STEPS, {"a.mask.png": encoded(MASK)})
    rescue(key, line, [Version.RAW])
    for path in line.uploads.root.iterdir():
        path.unlink()
    assert len(take(key, line).manifest.steps) == 1


def test_an_upload_that_never_was_is_not_found(make_line: MakeLine) -> None:
    with pytest.raises(BadPhoto) as error:
        take(ImageKey("a.png"), make_line())
    assert error.value.code == "not_found"


def test_the_archive_does_not_stand_in_for_an_upload_that_is_refused(
    make_line: MakeLine, drop: Drop
) -> None:
    line = make_line()
    key = drop("a.png", PHOTO)
    rescue(key, line, [Version.RAW])
    path = line.uploads.root / "a.png"
    path.unlink()
    path.symlink_to("/etc/hostname")
    with pytest.raises(BadPhoto) as error:
        take(key, line)
    assert error.value.code == "symlink_outside"


@pytest.mark.parametrize(
    ("data", "limits", "code"),
    [(b"", {}, "zero_bytes"), (PHOTO, {"max_bytes": 100}, "too_many_bytes")],
)
def test_nothing_and_far_too_much_are_refused(
    data: bytes, limits: dict[str, int], code: str, make_line: MakeLine, drop: Drop
) -> None:
    with pytest.raises(BadPhoto) as error:
        take(drop("a.png", data), make_line(), **limits)
    assert error.value.code == code


@pytest.mark.parametrize(
    ("manifest", "masks", "code", "named"),
    [
        (b"{", {}, "manifest_invalid", "a.png.json"),
        ({"asset_type": "poster"}, {}, "manifest_invalid", "asset_type"),
        ({"image_sha256": "0" * 64}, {}, "manifest_for_other_image", "a.png.json"),
        (STEPS, {}, "mask_unreadable", "a.mask.png"),
        (
            {"steps": [{"op": "inpaint", "mask": "../../secret.png"}]},
            {},
            "mask_path_outside",
            "secret.png",
        ),
    ],
)
def test_what_is_wrong_beside_a_photo_is_a_problem_and_the_photo_is_archived(
    manifest: Any,
    masks: dict[str, bytes],
    code: str,
    named: str,
    make_line: MakeLine,
    drop: Drop,
) -> None:
    line = make_line()
    intake = take(drop("a.png", PHOTO, manifest, masks), line)
    assert intake.problem is not None
    assert intake.problem.code == code
    assert named in intake.problem.what
    assert intake.original is not None
    assert "/manifest" in intake.attachments
    assert line.store.read_original(intake.original.sha256) == PHOTO


def test_a_manifest_for_this_very_image_is_taken(make_line: MakeLine, drop: Drop) -> None:
    intake = take(drop("a.png", PHOTO, {"image_sha256": sha256_hex(PHOTO)}), make_line())
    assert intake.problem is None
    assert intake.manifest.image_sha256 == sha256_hex(PHOTO)


def test_a_full_disk_is_not_the_photos_problem(
    make_line: MakeLine, drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = make_line()
    key = drop("a.png", PHOTO, STEPS, {"a.mask.png": encoded(MASK)})

    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdopen", full)
    with pytest.raises(StoreError) as error:
        take(key, line)
    assert error.value.code == "disk_full"
