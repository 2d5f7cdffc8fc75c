"""Scratch folders go with whoever made them, at the latest before the next one is made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgflow.scratch import scratch

HOLD = """
import sys, time
from imgflow.scratch import scratch
with scratch("imgflow-test-") as folder:
    (folder / "some" / "more").mkdir(parents=True)
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def holder() -> Iterator[subprocess.Popen[str]]:
    """A process that has a folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.wait()


def folder_of(process: subprocess.Popen[str]) -> Path:
    assert process.stdout is not None
    return Path(process.stdout.readline().strip())


def test_a_folder_goes_with_its_block() -> None:
    with scratch("imgflow-test-") as folder:
        (folder / "file").write_text("here")
    assert not folder.exists()


def test_what_a_killed_process_left_goes_before_the_next(holder: subprocess.Popen[str]) -> None:
    left = folder_of(holder)
    with scratch("imgflow-test-") as other:
        assert left.is_dir(), "its owner is alive"
        assert other != left
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert left.is_dir()
    with scratch("imgflow-test-"):
        assert not left.exists()


def test_only_folders_with_an_owner_of_that_name_are_deleted(tmp_path: Path) -> None:
    other, begun, elsewhere = (
        tmp_path / name for name in ("imgflow-other-1", "imgflow-test-1", "elsewhere")
    )
    for folder in (other, begun, elsewhere):
        folder.mkdir()
    for folder in (other, elsewhere):
        (folder / "owner").touch()
    (tmp_path / "imgflow-test-2").symlink_to(elsewhere)
    (tmp_path / "imgflow-test-3").touch()
    with scratch("imgflow-test-"):
        pass
    assert other.is_dir(), "another name"
    assert begun.is_dir(), "it may be somebody's who is about to lock it"
    assert (elsewhere / "owner").exists(), "links are not followed"
