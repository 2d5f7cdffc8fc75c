"""The audit finds whatever is done to originals, objects, masks, records and published files, and
names it; and finds nothing where nothing was done."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from told import Told
from two_photos import SEED, A, B, flip, record, record_path, the_stamp, two_line

from imgflow.chain import rescue
from imgflow.home import CATALOG, Home
from imgflow.lineage.audit import ImageAudit, Problem, audit
from imgflow.lineage.record import Verdict, Version
from imgflow.lineage.seal import sealed, unsealed
from imgflow.lineage.story import story
from imgflow.refresh import retire
from imgflow.store.keys import ImageKey
from imgflow.store.store import sha256_hex


def problems(home: Home, events: Told | None, *keys: ImageKey) -> list[Problem]:
    images = audit(home.store, CATALOG, events, keys or None)
    return [problem for image in images for problem in image.problems]


def codes(home: Home, events: Told | None) -> set[tuple[str, str, str]]:
    return {(each.code, each.key, each.version) for each in problems(home, events)}


def test_what_nobody_touched_is_as_recorded(home: Home, told: Told) -> None:
    images = {image.key: image for image in audit(home.store, CATALOG, told)}
    assert set(images) == {"a.png", "b.jpg", "no.jpg"}
    for image in images.values():
        assert image.problems == []
        assert image.outdated == {}
    assert list(images["a.png"].records) == list(Version)
    assert images["a.png"].events == 5
    # Original, manifest, mask file, two stroke masks, two outputs, two renditions twice.
    assert images["a.png"].files == 11
    assert images["no.jpg"].records[Version.RAW].verdict is Verdict.QUARANTINED
    assert problems(home, None) == []


# -- tampering -------------------------------------------------------------------------


def stored_files(home: Home) -> Iterator[tuple[str, str, Path]]:
    """(kind, photo, path) of every file that a record names."""
    store = home.store
    for key in (A, B):
        raw = record(home, Version.RAW, key)
        assert raw.original_sha256
        originals = home.root / "store/originals"
        yield "original", key, originals / raw.original_sha256[:2] / raw.original_sha256
        for name, sha256 in raw.attachments.items():
            kind = "manifest" if name == "/manifest" else "mask"
            yield kind, key, originals / sha256[:2] / sha256
    for version in (Version.DETEXTED, Version.INPAINTED):
        for operation in record(home, version).operations:
            assert operation.mask is not None
            yield "mask", A, Path(store.location(operation.mask))
        output = record(home, version).output
        assert output is not None
        yield "object", A, Path(store.location(output))
    for key in (A, B):
        for rendition in record(home, Version.PUBLISHED, key).renditions:
            yield "object", key, Path(store.location(rendition.object))


@pytest.mark.parametrize("number", range(12))
@pytest.mark.parametrize("harm", ["flipped", "deleted", "shortened"])
def test_every_file_is_watched(home: Home, told: Told, number: int, harm: str) -> None:
    files = list(stored_files(home))
    assert len(files) == 12
    kind, key, path = files[number]
    if harm == "flipped":
        flip(path, at=len(path.read_bytes()) // 2)
    elif harm == "shortened":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()
    found = problems(home, told)
    what = "missing" if harm == "deleted" else "damaged"
    assert {(each.code, each.key, each.where) for each in found} == {
        (f"{kind}_{what}", key, str(path))
    }
    assert str(path) in str(found[0])


@pytest.mark.parametrize("version", Version)
@pytest.mark.parametrize("at", [1, 100, -200, -40])
def test_a_flipped_bit_of_a_record_is_found(
    home: Home, told: Told, version: Version, at: int
) -> None:
    flip(record_path(home, version), at)
    for events in (told, None):
        found = codes(home, events)
        assert {code for code, _, _ in found} <= {"record_changed", "record_damaged"}
        assert {(key, each) for _, key, each in found} == {("a.png", str(version))}


@pytest.mark.parametrize("version", Version)
def test_a_deleted_record_is_found(home: Home, told: Told, version: Version) -> None:
    record_path(home, version).unlink()
    found = codes(home, told)
    assert {each for _, _, each in found} >= {str(version)}
    if version is Version.PUBLISHED:
        # Even without an event log: its files lie there without a record.
        assert {code for code, _, _ in codes(home, None)} == {"published_unrecorded"}
    else:
        assert ("record_missing", "a.png", str(version)) in codes(home, None)


def test_all_records_of_a_photo_deleted(home: Home, told: Told) -> None:
    shutil.rmtree(record_path(home, Version.RAW).parent)
    assert ("event_without_record", "a.png", "") in codes(home, told)
    assert codes(home, None) == {("published_unrecorded", "a.png", "")}


def reseal(path: Path, old: bytes, new: bytes) -> None:
    body, _ = unsealed(path.read_bytes())
    assert old in body
    path.write_bytes(sealed(body.replace(old, new)))


def test_an_edited_seed_is_found(home: Home, told: Told) -> None:
    path = record_path(home, Version.INPAINTED)
    text = path.read_bytes()
    assert b'"seed": 7' in text
    path.write_bytes(text.replace(b'"seed": 7', b'"seed": 8'))
    for events in (told, None):
        assert codes(home, events) == {("record_changed", "a.png", "inpainted")}


def test_an_edited_seed_with_a_new_seal_is_found_by_the_event_log(home: Home, told: Told) -> None:
    reseal(record_path(home, Version.INPAINTED), b'"seed": 7', b'"seed": 8')
    assert {code for code, _, version in codes(home, told) if version == "inpainted"} == {
        "event_without_record"
    }


def test_a_removed_seal_is_found(home: Home, told: Told) -> None:
    path = record_path(home, Version.INPAINTED)
    path.write_bytes(unsealed(path.read_bytes())[0])
    assert ("record_changed", "a.png", "inpainted") in codes(home, None)


def swap(first: Path, second: Path) -> None:
    a, b = first.read_bytes(), second.read_bytes()
    assert a != b
    first.write_bytes(b)
    second.write_bytes(a)


def test_swapped_objects_are_found(home: Home, told: Told) -> None:
    first, second = (
        Path(home.store.location(record(home, each).output))  # type: ignore[arg-type]
        for each in (Version.DETEXTED, Version.INPAINTED)
    )
    swap(first, second)
    assert {each.where for each in problems(home, told)} == {str(first), str(second)}


def test_swapped_originals_are_found(home: Home, told: Told) -> None:
    paths = [path for kind, _, path in stored_files(home) if kind == "original"]
    swap(*paths)
    assert {each.code for each in problems(home, told)} == {"original_damaged"}
    assert {each.key for each in problems(home, told)} == {"a.png", "b.jpg"}


def test_swapped_records_are_found(home: Home, told: Told) -> None:
    swap(record_path(home, Version.INPAINTED), record_path(home, Version.INPAINTED, B))
    found = codes(home, None)
    assert found == {
        ("record_misplaced", "a.png", "inpainted"),
        ("record_misplaced", "b.jpg", "inpainted"),
    }


def test_records_swapped_within_a_photo_are_found(home: Home, told: Told) -> None:
    swap(record_path(home, Version.DETEXTED), record_path(home, Version.UPSCALED))
    assert codes(home, None) >= {
        ("record_misplaced", "a.png", "detexted"),
        ("record_misplaced", "a.png", "upscaled"),
    }


def test_published_files_changed_swapped_gone_or_added(home: Home, told: Told) -> None:
    folder = home.root / "store/published" / CATALOG
    swap(folder / "a.png/web.jpg", folder / "b.jpg/web.jpg")
    (folder / "a.png/thumb.webp").unlink()
    (folder / "b.jpg/extra.jpg").write_bytes(b"?")
    found = problems(home, told)
    assert {(each.code, each.key) for each in found} == {
        ("published_changed", "a.png"),
        ("published_changed", "b.jpg"),
        ("published_missing", "a.png"),
        ("published_unrecorded", "b.jpg"),
    }


def test_a_link_that_was_bent_is_found(home: Home) -> None:
    output = record(home, Version.DETEXTED).output
    assert output is not None
    other = record(home, Version.RAW, B).output
    assert other is not None
    path = record_path(home, Version.INPAINTED)
    document = json.loads(unsealed(path.read_bytes())[0])
    document["input"] = json.loads(other.model_dump_json())
    path.write_bytes(sealed(json.dumps(document, indent=1).encode()))
    assert ("link_broken", "a.png", "inpainted") in codes(home, None)


def test_a_mask_of_another_image_is_stale(home: Home) -> None:
    path = record_path(home, Version.INPAINTED)
    reseal(path, b'"mask_image_sha256": null', b'"mask_image_sha256": "' + b"0" * 64 + b'"')
    (problem,) = problems(home, None)
    assert (problem.code, problem.key) == ("mask_stale", "a.png")
    assert "a.mask.png" in problem.message


def test_a_mask_of_the_original_is_not(home: Home) -> None:
    original = record(home, Version.RAW).original_sha256 or ""
    path = record_path(home, Version.INPAINTED)
    reseal(path, b'"mask_image_sha256": null', f'"mask_image_sha256": "{original}"'.encode())
    assert problems(home, None) == []


def test_a_mask_of_another_size_is_found(home: Home) -> None:
    mask = record(home, Version.INPAINTED).operations[0].mask
    assert mask is not None
    path = record_path(home, Version.INPAINTED)
    document = json.loads(unsealed(path.read_bytes())[0])
    document["operations"][0]["mask"]["width"] += 1
    path.write_bytes(sealed(json.dumps(document, indent=1).encode()))
    assert ("mask_wrong_size", "a.png", "inpainted") in codes(home, None)


# -- the event log ---------------------------------------------------------------------


def test_a_record_of_which_nobody_was_told(home: Home, told: Told) -> None:
    told.events = [each for each in told.events if (each.key, each.version) != (A, "upscaled")]
    assert codes(home, told) == {("event_missing", "a.png", "upscaled")}
    told.under_way = {"run-1"}  # it will say so
    assert codes(home, told) == set()


def test_an_event_of_which_there_is_no_record(home: Home, told: Told) -> None:
    event = told.events[0]
    told.events.insert(0, type(event)(A, Version.RAW, "d", "1" * 32, "run-0", event.at - 1))
    told.events.append(type(event)("gone.jpg", Version.RAW, "d", "2" * 32, "run-0", event.at))
    assert codes(home, told) == {
        ("event_without_record", "a.png", "raw"),
        ("event_without_record", "gone.jpg", ""),
    }
    assert {key for _, key, _ in codes(home, told)} == {"a.png", "gone.jpg"}


def test_an_earlier_making_put_back_is_found(home: Home, told: Told) -> None:
    path = record_path(home, Version.UPSCALED)
    old = path.read_bytes()
    line = two_line(home, the_stamp())
    for step in rescue(A, line, force=True).steps:
        told.tell(home.store, step.record)
    assert codes(home, told) == set()
    path.with_name("history").joinpath(
        f"upscaled-{sha256_hex(path.read_bytes())}.json"
    ).write_bytes(path.read_bytes())
    path.write_bytes(old)
    assert codes(home, told) == {("event_differs", "a.png", "upscaled")}


def test_events_of_an_earlier_imgflow_say_the_data_version_alone(home: Home, told: Told) -> None:
    kind = type(told.events[0])
    told.events = [
        kind(each.key, each.version, each.data_version, "", each.run_id, each.at)
        for each in told.events
    ]
    assert codes(home, told) == set()
    told.events[2] = kind(A, told.events[2].version, "other", "", "run-1", 0.0)
    assert {code for code, _, _ in codes(home, told)} == {"event_differs"}


# -- history ---------------------------------------------------------------------------


def test_a_changed_history_is_found(home: Home, told: Told) -> None:
    rescue(A, two_line(home, the_stamp()), force=True)
    (path,) = (record_path(home, Version.UPSCALED).parent / "history").glob("upscaled-*")
    flip(path, 50)
    assert ("record_changed", "a.png", "upscaled") in codes(home, None)
    path.unlink()
    assert codes(home, None) == set()
    assert ("event_without_record", "a.png", "upscaled") in codes(home, told)


def test_a_version_made_from_an_earlier_one_is_outdated_and_no_damage(home: Home) -> None:
    """As after a run that was killed between two versions."""
    line = two_line(home)
    detext = line.policy.detext.model_copy(update={"text": "none"})
    line = replace(line, policy=line.policy.model_copy(update={"detext": detext}))
    rescue(A, line, [Version.RAW, Version.DETEXTED])
    (image,) = audit(home.store, CATALOG, None, [A])
    assert image.problems == []
    assert list(image.outdated) == [Version.INPAINTED]
    assert "earlier detexted" in image.outdated[Version.INPAINTED]


def test_a_photo_that_is_refused_later_keeps_what_was_published(home: Home) -> None:
    (home.uploads.root / "b.jpg").write_bytes(b"<html>")
    rescue(B, two_line(home))
    (image,) = audit(home.store, CATALOG, None, [B])
    assert image.problems == []
    assert list(image.outdated) == [Version.DETEXTED]


def test_a_retired_photo_is_as_recorded(home: Home, told: Told) -> None:
    assert retire(B, home) is not None
    assert codes(home, told) == set()


def test_a_record_that_the_line_has_set_aside_is_told(home: Home) -> None:
    flip(record_path(home, Version.UPSCALED))
    assert home.store.get_record(CATALOG, A, Version.UPSCALED) is None
    found = problems(home, None, A)
    assert {each.code for each in found} == {"record_damaged", "record_missing"}
    assert any("damaged-upscaled.json" in each.where for each in found)


def test_nothing_is_changed_by_an_audit(home: Home, told: Told) -> None:
    flip(record_path(home, Version.UPSCALED))
    before = {path: path.stat().st_mtime_ns for path in home.root.rglob("*")}
    assert problems(home, told)
    assert {path: path.stat().st_mtime_ns for path in home.root.rglob("*")} == before


# -- the story -------------------------------------------------------------------------


def test_the_story_names_all_that_was_used(home: Home) -> None:
    (image,) = audit(home.store, CATALOG, None, [A])
    assert isinstance(image, ImageAudit)
    text = "\n".join(story(image.records))
    inpainted, detexted = record(home, Version.INPAINTED), record(home, Version.DETEXTED)
    operation = inpainted.operations[0]
    assert operation.mask is not None
    assert operation.engine is not None
    wanted: list[Any] = [
        inpainted.original_sha256,
        *inpainted.attachments.values(),
        f"seed {SEED}",
        "prompt: a lawn",
        operation.mask.sha256,
        operation.engine.model_id,
        "asked by manifest:j",
        detexted.operations[0].regions[0].text,
        inpainted.policy_sha256,
        inpainted.code_version,
        "run run-1",
        "gates: ",
        *(each.object.sha256 for each in record(home, Version.PUBLISHED).renditions),
        *(each.path for each in record(home, Version.PUBLISHED).renditions),
    ]
    for each in wanted:
        assert each in text
