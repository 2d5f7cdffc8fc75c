"""Files that come into being whole, and what is left where their writer was killed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from imgflow.errors import ImgflowError
from imgflow.files import ABANDONED_S, replacing, sweep


def age(path: Path, seconds: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"half")
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


def test_what_goes_wrong_leaves_the_target_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    target.write_text("before")

    def write_half() -> None:
        with replacing(target) as partial:
            partial.write_text("half")
            raise OSError("the disk is gone")

    with pytest.raises(ImgflowError):
        write_half()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [
        ("report.json", "before")
    ]


def test_a_sweep_takes_what_killed_writers_left_long_ago_and_nothing_else(tmp_path: Path) -> None:
    gone = [
        age(tmp_path / "store/objects/ab/.writing-x1", ABANDONED_S + 60),
        age(tmp_path / "uploads/.4711.part", ABANDONED_S + 60),
    ]
    kept = [
        age(tmp_path / "store/objects/ab/.writing-x2", 60),  # at work, perhaps
        age(tmp_path / "uploads/.4712.part", 60),
        age(tmp_path / "uploads/.photo.jpg.part", ABANDONED_S + 60),  # of another tool
        age(tmp_path / "store/objects/ab/abcd.png", ABANDONED_S + 60),
    ]
    assert sweep(tmp_path) == len(gone)
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in kept)
