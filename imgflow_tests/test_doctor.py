"""The doctor names what is wrong, once, and changes nothing."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from imgflow import doctor
from imgflow.bench.s3.server import Server
from imgflow.home import Home
from imgflow.store.bucket import Bucket
from imgflow.store.place import Place


def findings(home: Home) -> dict[str, doctor.Finding]:
    return {finding.what: finding for finding in doctor.examine(home)}


def test_a_good_machine_is_fit(home: Home) -> None:
    assert {each.status for each in findings(home).values()} == {"ok"}


def test_a_broken_policy_is_one_finding(home: Home) -> None:
    home.policy_file.write_text("detext: {fil: telea}\n")
    failed = [each for each in findings(home).values() if each.status == "failed"]
    assert [each.what for each in failed] == ["policy"]
    assert "policy.yaml" in failed[0].found
    assert "detext.fil" in failed[0].found


def test_an_unknown_detector_fails(home: Home) -> None:
    home.policy_file.write_text("detext: {detector: eagle-eye}\n")
    assert "eagle-eye" in findings(home)["text detector"].found


def test_nothing_is_made_where_nothing_is(tmp_path: Path) -> None:
    assert findings(Home(tmp_path / "new" / "data"))["folders"].status == "ok"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_fails(home: Home) -> None:
    home.store_folder.write_text("a file")
    failed = [each for each in doctor.examine(home) if each.status == "failed"]
    assert [each.what for each in failed] == ["folders"]
    assert "store cannot be written" in failed[0].found


def test_scarce_room_is_a_warning(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1 << 29))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1 << 29))
    found = findings(home)
    assert (found["disk"].status, found["memory"].status) == ("warning", "warning")
    assert "make room" in found["disk"].found
    assert "run.workers" in found["memory"].found


def test_two_builds_of_opencv_fail(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    builds = [SimpleNamespace(name=f"opencv-{each}") for each in ("python", "contrib-python")]
    monkeypatch.setattr("importlib.metadata.distributions", lambda: builds)
    assert "opencv-python, opencv-contrib-python" in findings(home)["OpenCV"].found


def test_a_check_that_breaks_is_a_finding(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> int:
        raise ValueError("no idea")

    monkeypatch.setattr(doctor, "cores", broken)
    assert findings(home)["processor"].found == "ValueError: no idea"


def test_a_bucket_that_passes_over_a_condition_fails_and_uploads_are_tried(
    tmp_path: Path, bucket_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in bucket_server.settings.items():
        monkeypatch.setenv(name, value)
    home = Home(
        tmp_path / "data",
        storage=Place.parse("s3://shop/doctor/store"),
        inbox=Place.parse("s3://shop/doctor/in"),
    )
    found = findings(home)
    assert (found["bucket"].status, found["uploads"].status) == ("ok", "ok")
    put = Bucket.put

    def passing_over(bucket: Bucket, key: str, data: bytes, **asked: Any) -> str:
        return put(bucket, key, data, **{**asked, "if_etag": ""})

    monkeypatch.setattr(Bucket, "put", passing_over)
    found = findings(replace(home, inbox=Place.parse("s3://nowhere/in")))
    assert (found["bucket"].status, found["uploads"].status) == ("failed", "failed")
    assert "(If-Match)" in found["bucket"].found
    assert "no bucket nowhere" in found["uploads"].found
    assert "IMGFLOW_UPLOADS" in found["uploads"].found
    assert bucket_server.client().list_objects_v2(Bucket="shop", Prefix="doctor/")["KeyCount"] == 0
