"""Versions made again by their records alone: the same bytes, or what made the difference."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import FakeFiller, encoded, painted, photo, stamp

sys.path.append(str(Path(__file__).parent / "lineage"))  # what these tests share
from two_photos import A, B, make_two, record, record_path, the_stamp, two_engines, two_line

from imgflow.chain import Line, rescue
from imgflow.engines.registry import Engines
from imgflow.home import CATALOG, Home
from imgflow.lineage.record import EngineStamp, Record, Verdict, Version
from imgflow.lineage.seal import sealed, unsealed
from imgflow.replay import Replay, Replayed, replay_all, replay_image, summary
from imgflow.store.keys import ImageKey


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("whole"))
    make_two(home)
    return home


@pytest.fixture
def home(whole: Home, tmp_path: Path) -> Home:
    shutil.copytree(whole.root, tmp_path / "data")
    return Home(tmp_path / "data")


def order(home: Home, **changes: Any) -> Replay:
    return Replay(home.store, CATALOG, home.root / "again", **changes)


def again(home: Home, key: ImageKey = A, **changes: Any) -> list[Replayed]:
    return replay_image(key, order(home, **changes), two_engines(the_stamp()))


def only_archive(home: Home) -> None:
    """Leave nothing but records and originals."""
    shutil.rmtree(home.uploads.root)
    for name in ("objects", "published", "cache"):
        shutil.rmtree(home.root / "store" / name, ignore_errors=True)


def test_every_version_is_the_same_by_records_and_originals_alone(home: Home) -> None:
    only_archive(home)
    for key in (A, B):
        found = again(home, key)
        assert [(each.version, each.status) for each in found] == [(v, "same") for v in Version]
    last = found[-1]
    assert [Path(each).name for each in last.pictures] == ["web.jpg", "thumb.webp"]
    assert all(Path(each).is_relative_to(home.root / "again") for each in last.pictures)
    assert not (home.root / "store/objects").exists()
    assert summary(found) == {"versions": 5, "same": 5, "different": 0, "unavailable": 0}


def test_one_version_alone(home: Home) -> None:
    (found,) = again(home, versions=(Version.INPAINTED,))
    assert (found.version, found.status) == ("inpainted", "same")


def test_a_photo_without_a_picture_has_no_version_to_compare(home: Home) -> None:
    assert again(home, ImageKey("no.jpg")) == []


def test_what_a_gate_rejected_is_made_again(home: Home) -> None:
    line = two_line(home, the_stamp())
    gates = line.policy.detext.gates.model_copy(update={"psnr": 99.0})
    detext = line.policy.detext.model_copy(update={"gates": gates})
    policy = line.policy.model_copy(update={"detext": detext})
    _replaced(line, policy)
    assert record(home, Version.DETEXTED).verdict is Verdict.QUARANTINED
    found = again(home, versions=(Version.DETEXTED,))
    assert [each.status for each in found] == ["same"]


def _replaced(line: Line, policy: Any) -> None:
    rescue(A, replace(line, policy=policy))


def test_a_version_from_an_earlier_making_is_replayed_by_the_history(home: Home) -> None:
    """As after a run that was killed: inpainted is still of the detexted before."""
    line = two_line(home)
    detext = line.policy.detext.model_copy(update={"text": "none"})
    line = replace(line, policy=line.policy.model_copy(update={"detext": detext}))
    rescue(A, line, [Version.RAW, Version.DETEXTED])
    found = again(home)
    assert [each.status for each in found] == ["same"] * 5


@pytest.mark.parametrize("harm", ["gone", "damaged"])
def test_without_its_original_a_version_is_unavailable(home: Home, harm: str) -> None:
    sha256 = record(home, Version.RAW).original_sha256 or ""
    path = home.root / "store/originals" / sha256[:2] / sha256
    path.unlink() if harm == "gone" else path.write_bytes(b"?" * path.stat().st_size)
    found = again(home)
    assert {each.status for each in found} == {"unavailable"}
    assert all(str(path) in each.why[0] for each in found)


def edited(home: Home, version: Version, edit: Callable[[dict[str, Any]], None]) -> None:
    path = record_path(home, version)
    document = json.loads(unsealed(path.read_bytes())[0])
    edit(document)
    path.write_bytes(sealed(json.dumps(document, indent=1).encode()))


def test_other_bytes_are_told_with_psnr_and_what_has_changed(home: Home) -> None:
    engines = two_engines(the_stamp())
    # The same name and model, but another library below: it paints all a little darker.
    engines.register_filler(
        "telea",
        lambda: FakeFiller("telea", lambda p, m: painted(p, m, p[0, 0] // 2), model_id="other"),
    )

    def elsewhere(document: dict[str, Any]) -> None:
        document["environment"]["instruction_set"] = "sse4_2"
        document["environment"]["libraries"]["numpy"] = "1.0"

    edited(home, Version.INPAINTED, elsewhere)
    found = {each.version: each for each in replay_image(A, order(home), engines)}
    assert [found[each].status for each in ("raw", "detexted")] == ["same"] * 2
    inpainted = found["inpainted"]
    assert inpainted.status == "different"
    assert inpainted.psnr is not None
    assert 20 < inpainted.psnr < 60
    told = "; ".join(inpainted.why)
    for text in ("instruction set: sse4_2 then", "numpy 1.0 then", "other", "picture: "):
        assert text in told
    assert found["published"].status == "different"  # made from it
    assert Path(inpainted.pictures[0]).exists()


def test_weights_that_are_not_there_are_no_matter_of_luck(home: Home) -> None:
    def by_lama(document: dict[str, Any]) -> None:
        stamp = EngineStamp(name="lama", model_id="lama-1", weights_sha256="ab" * 32)
        document["operations"][0]["engine"] = json.loads(stamp.model_dump_json())

    edited(home, Version.INPAINTED, by_lama)
    found = {each.version: each for each in again(home)}
    assert found["inpainted"].status == "unavailable"
    assert "ab" * 32 in found["inpainted"].why[0]
    assert found["upscaled"].status == "unavailable"
    assert found["detexted"].status == "same"


def test_remote_engines_are_only_asked_when_told_to(home: Home) -> None:
    def remote(document: dict[str, Any]) -> None:
        document["operations"][0]["endpoint"] = "https://engine.example/fill"

    edited(home, Version.INPAINTED, remote)
    (found,) = again(home, versions=(Version.INPAINTED,))
    assert found.status == "unavailable"
    assert "--remote" in found.why[0]
    (found,) = again(home, versions=(Version.INPAINTED,), remote=True)
    assert found.status == "same"


def test_settings_of_another_imgflow_are_unavailable(home: Home) -> None:
    edited(home, Version.DETEXTED, lambda document: document["settings"].update(magic=1))
    found = {each.version: each for each in again(home)}
    assert found["detexted"].status == "unavailable"
    assert "magic" in found["detexted"].why[0]


def test_a_crash_costs_its_version(home: Home) -> None:
    engines = two_engines(the_stamp())

    def broken(pixels: Any, mask: Any) -> Any:
        raise RuntimeError("out of order")

    engines.register_filler("telea", lambda: FakeFiller("telea", broken))
    found = {each.version: each for each in replay_image(A, order(home), engines)}
    assert found["inpainted"].status == "unavailable"
    assert "out of order" in found["inpainted"].why[0]


def test_a_record_of_schema_1_is_replayed_by_its_manifest(home: Home) -> None:
    def old(document: dict[str, Any]) -> None:
        del document["steps"]
        document["schema_version"] = 1

    for version in Version:
        edited(home, version, old)
    assert {each.status for each in again(home)} == {"same"}


def test_16_bits_and_alpha(home: Home, tmp_path: Path) -> None:
    import cv2

    deep = np.zeros((40, 60, 4), np.uint16)
    deep[..., :3] = photo("coffee", 60)[:40].astype(np.uint16) * 257
    deep[..., 3] = np.linspace(0, 65535, 60, dtype=np.uint16)
    (home.uploads.root / "deep.png").write_bytes(cv2.imencode(".png", deep)[1].tobytes())
    line = two_line(home)
    raw = line.policy.raw.model_copy(update={"keep_16_bit": True})
    key = ImageKey("deep.png")
    rescue(key, replace(line, policy=line.policy.model_copy(update={"raw": raw})))
    kept = record(home, Version.RAW, key).output
    assert kept is not None
    assert kept.bit_depth == 16
    assert {each.status for each in again(home, key)} == {"same"}


def test_with_the_shipped_engines_in_worker_processes(tmp_path: Path) -> None:
    """OCR, eraser and enlargement as they ship, on a small photo."""
    from imgflow.policy.policy import Policy

    home = Home(tmp_path / "data")
    home.uploads.root.mkdir(parents=True)
    key = ImageKey("a.png")
    small = stamp(photo("rocket", 160), "24-03-15", at=(90, 4), size=14)
    (home.uploads.root / key).write_bytes(encoded(small.pixels))
    policy = Policy.model_validate({"upscale": {"min_long_side": 300}})
    line = Line(CATALOG, home.store, Engines(threads=1), policy, home.uploads, "run-1")
    made: list[Record] = [step.record for step in rescue(key, line).steps]
    assert made[-1].version is Version.PUBLISHED
    assert sum(len(each.operations) for each in made) >= 1
    only_archive(home)
    ((done, found),) = replay_all([key], order(home), workers=1)
    assert done == key
    assert [(each.version, each.status, each.why) for each in found] == [
        (version, "same", ()) for version in Version
    ]
