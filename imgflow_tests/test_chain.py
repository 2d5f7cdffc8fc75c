"""One image through the line: what is made, what is reused, what is stopped, what is recorded."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import (
    FakeDetector,
    FakeEraser,
    FakeFiller,
    Pixels,
    Stamped,
    encoded,
    encoded_16,
    painted,
    photo,
    psnr_at,
)

from imgflow import chain
from imgflow.chain import Line, first_unmade, rescue, stop
from imgflow.engines.registry import Engines
from imgflow.errors import StoreError
from imgflow.home import Home
from imgflow.lineage.record import Reason, Record, Verdict, Version
from imgflow.stages.stage import Picture
from imgflow.store.keys import ImageKey
from imgflow.store.store import sha256_hex

MakeLine = Callable[..., Line]
Drop = Callable[..., ImageKey]

PHOTO = encoded(photo("coffee", 240))
# Small and quick: nothing is enlarged, one rendition.
QUICK: dict[str, Any] = {
    "upscale": {"min_long_side": 1, "sharpen_below": 0.0},
    "renditions": [{"name": "web", "long_side": 200}],
}


@pytest.fixture
def detector(engines: Engines, stamped: Stamped) -> FakeDetector:
    fake = FakeDetector(stamped)
    engines.register_text_detector("rapidocr", lambda: fake)
    return fake


@pytest.fixture
def line(make_line: MakeLine) -> Line:
    return make_line(**QUICK)


def published(home: Home) -> list[Path]:
    return sorted(path for path in home.root.glob("store/published/**/*") if path.is_file())


def records(line: Line, key: ImageKey) -> dict[Version, Record]:
    found = {version: line.store.get_record(line.catalog, key, version) for version in Version}
    return {version: record for version, record in found.items() if record is not None}


def verdicts(line: Line, key: ImageKey) -> list[Verdict]:
    return [record.verdict for record in records(line, key).values()]


# ---- the whole way -----------------------------------------------------------------------


def test_five_versions_are_recorded_in_order(line: Line, drop: Drop, home: Home) -> None:
    key = drop("shoes/red.png", PHOTO)
    passage = rescue(key, line)
    assert [step.record.version for step in passage.steps] == list(Version)
    assert not any(step.reused for step in passage.steps)
    assert passage.crash == ""
    assert not passage.stopped
    assert passage.last == passage.steps[-1].record
    assert verdicts(line, key) == [*[Verdict.PASSED_THROUGH] * 4, Verdict.PUBLISHED]
    assert [path.relative_to(home.root) for path in published(home)] == [
        Path("store/published/main/shoes/red.png/web.jpg")
    ]


def test_a_healthy_photo_is_never_encoded(
    line: Line, drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "encode_lossless", lambda pixels: pytest.fail("encoded"))
    key = drop("a.png", PHOTO)
    rescue(key, line)
    made = records(line, key)
    outputs = {made[version].output for version in list(Version)[1:4]}
    assert len(outputs) == 1
    assert made[Version.RAW].output in outputs
    assert made[Version.RAW].output is not None
    assert made[Version.RAW].output.sha256 == sha256_hex(PHOTO)
    assert all(made[version].notes for version in list(Version)[1:4]), "each says why"


@pytest.mark.usefixtures("detector")
def test_every_operation_names_engine_model_and_mask(
    make_line: MakeLine, drop: Drop, stamped: Stamped
) -> None:
    line = make_line(upscale={"min_long_side": 640}, renditions=QUICK["renditions"])
    region = {"x": 20, "y": 60, "width": 12, "height": 10}
    manifest = {
        "job_id": "job-9",
        "category": "rockets",
        "steps": [{"op": "inpaint", "region": region}],
    }
    key = drop("a.png", encoded(stamped.pixels), manifest)
    assert not rescue(key, line).stopped
    made = records(line, key)
    operations = {version: made[version].operations for version in made}
    assert [len(each) for each in operations.values()] == [0, 1, 1, 1, 0]
    for version in (Version.DETEXTED, Version.INPAINTED, Version.UPSCALED):
        (operation,) = operations[version]
        assert operation.engine is not None
        assert operation.engine.name
        assert operation.engine.model_id
        assert operation.engine.licence
        assert operation.engine.model_id in made[version].code_version
        if version is Version.UPSCALED:
            assert operation.tile_plan is not None
        else:
            assert operation.mask is not None
            assert line.store.exists(operation.mask)
    previous = None
    for record in made.values():
        if previous is not None:
            assert record.input == previous
        previous = record.output
        assert record.original_sha256 == sha256_hex(encoded(stamped.pixels))
        assert record.job_id == "job-9"
        assert record.traits["category"] == "rockets"
        assert record.run_id == "run-1"
        assert record.policy_sha256 == line.policy.digest()
        assert record.environment.threads == 1
        assert record.seconds >= 0
        assert Record.from_json(record.to_json()) == record


@pytest.mark.usefixtures("detector")
def test_a_stamped_photo_comes_out_clean(line: Line, drop: Drop, stamped: Stamped) -> None:
    key = drop("a.png", encoded(stamped.pixels))
    rescue(key, line)
    record = records(line, key)[Version.DETEXTED]
    assert record.verdict is Verdict.REPAIRED
    assert record.output is not None
    after = Picture(line.store, record.output).pixels
    assert psnr_at(stamped.clean, after, stamped.changed) > 30


@pytest.mark.usefixtures("detector")
def test_sixteen_bits_are_kept_by_policy(make_line: MakeLine, drop: Drop, stamped: Stamped) -> None:
    wide = stamped.pixels.astype(np.uint16) * np.uint16(257)
    key = drop("a.png", encoded_16(wide))
    line = make_line(raw={"keep_16_bit": True}, **QUICK)
    assert not rescue(key, line).stopped
    outputs = [records(line, key)[version].output for version in list(Version)[:4]]
    assert [each.bit_depth for each in outputs if each] == [16] * 4


# ---- again ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("detector")
def test_the_second_passage_reuses_everything(
    line: Line, drop: Drop, stamped: Stamped, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = drop("a.png", encoded(stamped.pixels), {"job_id": "job-1"})
    rescue(key, line)
    before = {path: path.stat().st_mtime_ns for path in home.root.rglob("*") if path.is_file()}
    monkeypatch.setattr(chain, "encode_lossless", lambda pixels: pytest.fail("encoded"))
    monkeypatch.setattr(Picture, "pixels", property(lambda self: pytest.fail("decoded")))
    passage = rescue(key, replace(line, run_id="run-2"))
    assert [step.reused for step in passage.steps] == [True] * 5
    assert {step.record.run_id for step in passage.steps} == {"run-1"}
    after = {path: path.stat().st_mtime_ns for path in home.root.rglob("*") if path.is_file()}
    assert after == before
    assert first_unmade(key, line, list(Version)) is None


@pytest.mark.usefixtures("detector")
def test_force_makes_everything_again_with_the_same_pixels(
    line: Line, drop: Drop, stamped: Stamped
) -> None:
    key = drop("a.png", encoded(stamped.pixels))
    first = rescue(key, line)
    again = rescue(key, line, force=True)
    assert not any(step.reused for step in again.steps)
    assert [step.record.data_version for step in again.steps] == [
        step.record.data_version for step in first.steps
    ]


CHANGES: list[tuple[dict[str, Any], Version]] = [
    ({"raw": {"keep_16_bit": True}}, Version.RAW),
    ({"detext": {"min_confidence": 0.5}}, Version.DETEXTED),
    ({"upscale": {"min_long_side": 1, "sharpen_below": 0.01}}, Version.UPSCALED),
    ({"renditions": [{"name": "web", "long_side": 100}]}, Version.PUBLISHED),
]


@pytest.mark.parametrize(("change", "version"), CHANGES)
def test_a_setting_remakes_its_version_and_what_its_output_changes(
    change: dict[str, Any], version: Version, make_line: MakeLine, drop: Drop
) -> None:
    key = drop("a.png", PHOTO)
    rescue(key, make_line(**QUICK))
    changed = make_line(**{**QUICK, **change})
    assert first_unmade(key, changed, list(Version)) is version
    passage = rescue(key, changed)
    remade = [step.record.version for step in passage.steps if not step.reused]
    # The photo has nothing to repair: what comes out is the same, so later versions stand.
    assert remade == [version]


@pytest.mark.usefixtures("detector")
def test_other_pixels_remake_all_later_versions(
    make_line: MakeLine, drop: Drop, stamped: Stamped
) -> None:
    key = drop("a.png", encoded(stamped.pixels))
    rescue(key, make_line(**QUICK))
    passage = rescue(key, make_line(**QUICK, detext={"fill": "navier-stokes"}))
    assert [step.reused for step in passage.steps] == [True, False, False, False, False]


@pytest.mark.usefixtures("detector")
def test_a_new_model_under_an_old_name_remakes(
    engines: Engines, line: Line, drop: Drop, stamped: Stamped
) -> None:
    key = drop("a.png", encoded(stamped.pixels))
    rescue(key, line)
    engines.register_eraser("eraser", lambda: FakeEraser(model_id="fake-2"))
    assert first_unmade(key, line, list(Version)) is Version.DETEXTED


def test_one_version_alone_stands_on_earlier_records(line: Line, drop: Drop) -> None:
    key = drop("a.png", PHOTO)
    rescue(key, line, [Version.RAW, Version.DETEXTED])
    assert list(records(line, key)) == [Version.RAW, Version.DETEXTED]
    passage = rescue(key, line, [Version.INPAINTED])
    assert [step.record.version for step in passage.steps] == [Version.INPAINTED]
    assert passage.last is not None
    assert passage.last.input == records(line, key)[Version.DETEXTED].output


def test_without_the_earlier_versions_nothing_is_made(line: Line, drop: Drop) -> None:
    key = drop("a.png", PHOTO)
    rescue(key, line, [Version.RAW])
    assert rescue(key, line, [Version.UPSCALED]).steps == []
    assert rescue(key, line, [Version.DETEXTED, Version.PUBLISHED]).steps[-1].record.version is (
        Version.DETEXTED
    ), "a gap ends the passage"


def test_a_version_behind_one_that_stopped_is_not_made(line: Line, drop: Drop) -> None:
    key = drop("a.jpg", b"no photo")
    rescue(key, line)
    assert rescue(key, line, [Version.DETEXTED]).steps == []


def test_new_bytes_under_a_key_are_a_new_version_and_the_old_stay(
    line: Line, drop: Drop, home: Home
) -> None:
    key = drop("a.png", PHOTO)
    first = rescue(key, line)
    other = encoded(photo("rocket", 240))
    drop("a.png", other)
    second = rescue(key, line)
    assert not any(step.reused for step in second.steps)
    assert line.store.read_original(sha256_hex(PHOTO)) == PHOTO
    assert line.store.read_original(sha256_hex(other)) == other
    history = [Record.from_json(path.read_bytes()) for path in home.root.rglob("history/*.json")]
    assert sorted(history, key=lambda each: list(Version).index(each.version)) == [
        step.record for step in first.steps
    ]
    assert len(published(home)) == 1


def test_the_line_works_from_the_archive_when_uploads_are_deleted(
    make_line: MakeLine, drop: Drop
) -> None:
    region = {"x": 20, "y": 20, "width": 10, "height": 10}
    key = drop("a.png", PHOTO)
    rescue(key, make_line(**QUICK))
    drop("a.png", PHOTO, {"steps": [{"op": "inpaint", "region": region}]})
    line = make_line(**QUICK)
    before = rescue(key, line)
    for path in line.uploads.root.iterdir():
        path.unlink()
    assert [step.reused for step in rescue(key, line).steps] == [True] * 5
    remade = rescue(key, line, force=True)
    assert [step.record.data_version for step in remade.steps] == [
        step.record.data_version for step in before.steps
    ]


def test_a_rendition_that_the_policy_drops_is_withdrawn(
    make_line: MakeLine, drop: Drop, home: Home
) -> None:
    key = drop("a.png", PHOTO)
    both = [{"name": "web", "long_side": 200}, {"name": "thumb", "long_side": 50}]
    rescue(key, make_line(**{**QUICK, "renditions": both}))
    assert [path.name for path in published(home)] == ["thumb.jpg", "web.jpg"]
    rescue(key, make_line(**QUICK))
    assert [path.name for path in published(home)] == ["web.jpg"]


@pytest.mark.parametrize("lost", ["published", "objects"])
def test_what_was_lost_is_made_again(lost: str, line: Line, drop: Drop, home: Home) -> None:
    key = drop("a.png", PHOTO)
    rescue(key, line)
    for path in (home.root / "store" / lost).rglob("*.*"):
        if path.is_file():
            path.unlink()
    assert first_unmade(key, line, list(Version)) is Version.PUBLISHED
    assert not rescue(key, line).stopped
    assert len(published(home)) == 1


# ---- bad input -------------------------------------------------------------------------------


def test_a_bad_file_is_quarantined_at_raw_and_archived(line: Line, drop: Drop, home: Home) -> None:
    key = drop("a.jpg", b"<html><body>404</body></html>")
    passage = rescue(key, line)
    assert len(passage.steps) == 1
    assert passage.stopped
    assert passage.crash == ""
    record = records(line, key)[Version.RAW]
    assert record.verdict is Verdict.QUARANTINED
    assert record.output is None
    assert record.reason is not None
    assert record.reason.code == "not_an_image"
    assert "HTML" in record.reason.message
    assert record.reason.hint
    assert record.original_sha256 is not None
    assert line.store.read_original(record.original_sha256).startswith(b"<html>")
    assert published(home) == []


@pytest.mark.parametrize(
    ("manifest", "code", "named"),
    [
        ({"asset_type": "poster"}, "manifest_invalid", ["a.png.json", "asset_type", "thumbnail"]),
        ({"steps": [{"op": "inpaint", "mask": "m.png"}]}, "mask_unreadable", ["m.png"]),
    ],
)
def test_a_bad_manifest_is_quarantined_naming_file_and_field(
    manifest: dict[str, Any], code: str, named: list[str], line: Line, drop: Drop
) -> None:
    key = drop("a.png", PHOTO, manifest)
    passage = rescue(key, line)
    assert len(passage.steps) == 1
    assert passage.last is not None
    assert passage.last.verdict is Verdict.QUARANTINED
    assert passage.last.reason is not None
    assert passage.last.reason.code == code
    assert all(each in passage.last.reason.message for each in named)
    assert passage.last.original_sha256 == sha256_hex(PHOTO), "nothing is lost"
    for path in line.uploads.root.iterdir():
        path.unlink()
    again = rescue(key, line).last
    assert again is not None
    assert again.verdict is Verdict.QUARANTINED, "nor done without it"


def test_a_mask_that_does_not_fit_stops_at_inpainted(line: Line, drop: Drop) -> None:
    small = encoded(np.full((10, 10), 255, np.uint8))
    manifest = {"steps": [{"op": "inpaint", "mask": "m.mask.png"}]}
    key = drop("a.png", PHOTO, manifest, {"m.mask.png": small})
    last = rescue(key, line).last
    assert last is not None
    assert last.version is Version.INPAINTED
    assert last.reason is not None
    assert last.reason.code == "mask_wrong_size"


def test_a_name_that_is_not_utf8_goes_the_whole_way(line: Line, drop: Drop, home: Home) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    key = drop(name, PHOTO)
    assert not rescue(key, line).stopped
    assert len(published(home)) == 1
    drop(name, PHOTO, b"{")
    last = rescue(key, line).last
    assert last is not None
    assert last.reason is not None
    assert last.reason.code == "manifest_invalid"


def test_an_engine_that_is_not_there_asks_a_person(make_line: MakeLine, drop: Drop) -> None:
    line = make_line(**QUICK, inpaint={"fill": "magic"})
    region = {"x": 8, "y": 8, "width": 12, "height": 10}
    key = drop("a.png", PHOTO, manifest={"steps": [{"op": "inpaint", "region": region}]})
    last = rescue(key, line).last
    assert last is not None
    assert last.version is Version.INPAINTED
    assert last.verdict is Verdict.NEEDS_REVIEW
    assert last.reason is not None
    assert last.reason.code == "engine_unknown"
    assert "magic" in last.reason.message
    assert first_unmade(key, line, list(Version)) is Version.INPAINTED


def test_a_damaged_object_stops_its_image_only(
    make_line: MakeLine, drop: Drop, stamped: Stamped, engines: Engines
) -> None:
    engines.register_text_detector("rapidocr", lambda: FakeDetector(stamped))
    key = drop("a.png", encoded(stamped.pixels))
    rescue(key, make_line(**QUICK))
    line = make_line(**{**QUICK, "renditions": [{"name": "web", "long_side": 90}]})
    output = records(line, key)[Version.UPSCALED].output
    assert output is not None
    path = Path(line.store.location(output))
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    last = rescue(key, line).last
    assert last is not None
    assert last.verdict is Verdict.QUARANTINED
    assert last.reason is not None
    assert last.reason.code == "object_damaged"


def test_a_full_disk_is_raised(line: Line, drop: Drop, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    key = drop("a.png", PHOTO)
    monkeypatch.setattr(os, "fdopen", full)
    with pytest.raises(StoreError) as error:
        rescue(key, line)
    assert error.value.code == "disk_full"


# ---- crashes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "transient"), [(ZeroDivisionError("oops"), False), (MemoryError(), True)]
)
@pytest.mark.usefixtures("detector")
def test_a_crash_in_an_engine_is_quarantined_with_its_traceback(
    error: Exception,
    transient: bool,
    engines: Engines,
    make_line: MakeLine,
    drop: Drop,
    stamped: Stamped,
    home: Home,
) -> None:
    def crash(crop: Pixels, hole: Pixels) -> Pixels:
        raise error

    engines.register_filler("crashing", lambda: FakeFiller("crashing", crash))
    line = make_line(**QUICK, detext={"fill": "crashing"})
    data = encoded(stamped.pixels)
    key = drop("a.png", data)
    passage = rescue(key, line)
    assert "in crash" in passage.crash
    assert passage.last is not None
    reason = passage.last.reason
    assert passage.last.version is Version.DETEXTED
    assert reason is not None
    assert (reason.code, reason.transient) == ("crashed", transient)
    assert type(error).__name__ in reason.message
    assert "in crash" in reason.traceback
    assert line.store.read_original(sha256_hex(data)) == data
    assert (line.uploads.root / "a.png").read_bytes() == data
    assert published(home) == []
    assert not rescue(key, make_line(**QUICK)).stopped, "another engine, and it goes on"


def test_an_image_stopped_from_outside_keeps_its_original(line: Line, drop: Drop) -> None:
    key = drop("a.png", PHOTO)
    passage = stop(key, line, Version.RAW, Reason(code="timed_out", message="too long"))
    assert passage.crash == "too long"
    record = records(line, key)[Version.RAW]
    assert record.verdict is Verdict.QUARANTINED
    assert record.reason is not None
    assert record.reason.code == "timed_out"
    assert record.original_sha256 == sha256_hex(PHOTO)
    assert record.input is not None
    assert record.input.sha256 == sha256_hex(PHOTO)


def test_an_image_stopped_from_outside_names_the_picture_it_had_come_to(
    line: Line, drop: Drop
) -> None:
    key = drop("a.png", PHOTO)
    rescue(key, line, [Version.RAW, Version.DETEXTED])
    lost = Reason(code="worker_died", message="gone")
    stop(key, line, Version.INPAINTED, lost)
    made = records(line, key)
    assert made[Version.INPAINTED].input == made[Version.DETEXTED].output
    stop(key, line, Version.PUBLISHED, lost)
    assert records(line, key)[Version.PUBLISHED].input is None, "nothing is upscaled yet"
    drop("a.png", encoded(photo("rocket", 240)))
    stop(key, line, Version.INPAINTED, lost)
    assert records(line, key)[Version.INPAINTED].input is None, "what was made is of other bytes"


# ---- a deliberately bad engine -----------------------------------------------------------------

_RANDOM = np.random.default_rng(5)
BAD: dict[str, Callable[[Pixels, Pixels], Pixels]] = {
    "magenta": lambda crop, hole: painted(crop, hole, (255, 0, 255)),
    "grey": lambda crop, hole: painted(crop, hole, 128),
    "noise": lambda crop, hole: painted(
        crop, hole, _RANDOM.integers(0, 256, (np.count_nonzero(hole), 3))
    ),
    "nothing": lambda crop, hole: crop.copy(),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.usefixtures("detector")
def test_a_bad_filler_is_stopped_at_detexted(
    name: str, engines: Engines, make_line: MakeLine, drop: Drop, stamped: Stamped, home: Home
) -> None:
    engines.register_filler("bad", lambda: FakeFiller("bad", BAD[name]))
    line = make_line(**QUICK, detext={"fill": "bad"})
    key = drop("a.png", encoded(stamped.pixels))
    passage = rescue(key, line)
    assert passage.last is not None
    assert passage.last.version is Version.DETEXTED
    assert passage.last.verdict is Verdict.QUARANTINED
    assert passage.last.output is None
    assert passage.last.reason is not None
    assert passage.last.reason.code == "gate_failed"
    failed = {each.name for each in passage.last.gates if each.passed is False}
    assert "psnr" in failed
    assert ("no_residual_text" in failed) == (name == "nothing")
    assert published(home) == []
    rejected = passage.last.rejected
    assert rejected is not None
    assert line.store.exists(rejected)
    assert Picture(line.store, rejected).pixels.shape == stamped.pixels.shape
    assert list(records(line, key)) == [Version.RAW, Version.DETEXTED]


@pytest.mark.usefixtures("detector")
def test_a_social_image_may_have_artifacts(
    engines: Engines, make_line: MakeLine, drop: Drop, stamped: Stamped, home: Home
) -> None:
    engines.register_filler("bad", lambda: FakeFiller("bad", BAD["grey"]))
    line = make_line(**QUICK, detext={"fill": "bad"})
    key = drop("a.png", encoded(stamped.pixels), {"asset_type": "social"})
    assert not rescue(key, line).stopped
    record = records(line, key)[Version.DETEXTED]
    assert record.verdict is Verdict.ACCEPTED_WITH_ARTIFACTS
    assert record.routes == ["social"]
    assert len(published(home)) == 1


@pytest.mark.usefixtures("detector")
def test_a_failed_repair_leaves_what_was_published_before(
    engines: Engines, make_line: MakeLine, drop: Drop, stamped: Stamped, home: Home
) -> None:
    engines.register_filler("bad", lambda: FakeFiller("bad", BAD["magenta"]))
    key = drop("a.png", encoded(stamped.pixels))
    rescue(key, make_line(**QUICK))
    before = published(home)[0].read_bytes()
    assert rescue(key, make_line(**QUICK, detext={"fill": "bad"})).stopped
    assert published(home)[0].read_bytes() == before


@pytest.mark.usefixtures("detector")
def test_detection_is_cached_between_fills(
    detector: FakeDetector, make_line: MakeLine, drop: Drop, stamped: Stamped
) -> None:
    key = drop("a.png", encoded(stamped.pixels))
    rescue(key, make_line(**QUICK))
    first = detector.calls
    rescue(key, make_line(**QUICK, detext={"fill": "navier-stokes"}))
    assert (first, detector.calls) == (2, 3)


def test_later_versions_are_not_made_from_another_uploads_earlier_ones(
    make_line: MakeLine, drop: Drop
) -> None:
    line = make_line(upscale={"max_scale": 1})
    key = drop("a.png", encoded(photo("coffee", 160)))
    rescue(key, line)
    drop("a.png", encoded(photo("rocket", 160)))
    passage = rescue(key, line, [Version.UPSCALED, Version.PUBLISHED])
    assert passage.steps == []
    assert passage.missing is Version.RAW
    assert rescue(key, line).last.verdict is Verdict.PUBLISHED


def test_a_gap_in_what_is_asked_never_mixes_old_and_new(make_line: MakeLine, drop: Drop) -> None:
    key = drop("a.png", encoded(photo("coffee", 160)))
    rescue(key, make_line(upscale={"max_scale": 1}))
    enlarging = make_line(upscale={"min_long_side": 300})
    passage = rescue(key, enlarging, [Version.UPSCALED])
    assert [step.record.version for step in passage.steps] == [Version.UPSCALED]
    # Detexted is as it was: what lies between fits, and publishing goes on from it.
    passage = rescue(key, enlarging, [Version.DETEXTED, Version.PUBLISHED])
    assert passage.last.version is Version.PUBLISHED
