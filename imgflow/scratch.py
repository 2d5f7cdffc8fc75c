"""Folders of no use after a run: they go with it, or before the next one if it was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# The file in a folder that is locked for as long as whoever made the folder is alive.
_OWNER = "owner"


@contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """A new folder among the system's temporary ones, its name beginning with `prefix`. Deletes
    those of this user that begin so and were left behind."""
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        _delete_if_left(left)
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as name:
        new = Path(name) / f"{_OWNER}.new"
        with new.open("w") as owner:
            fcntl.flock(owner, fcntl.LOCK_EX)
            # Nobody may find it unlocked.
            new.rename(Path(name) / _OWNER)
            yield Path(name)


def _delete_if_left(folder: Path) -> None:
    try:
        if folder.lstat().st_uid != os.getuid():
            return
        with (folder / _OWNER).open() as owner:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:  # in use, or gone meanwhile
        return
