"""Files as users see them: never half written, and with names that can be printed."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imgflow.errors import ImgflowError

_HINTS = {
    errno.ENOSPC: "Make room on the disk and run again",
    errno.EDQUOT: "Make room in your quota and run again",
    errno.ENAMETOOLONG: "Give it a shorter name",
    errno.EACCES: "Write to a folder that belongs to you, or change its permissions",
    errno.EROFS: "Write to another disk: this one can only be read",
}


# Of `replacing` and of the store.
_HALF_WRITTEN = re.compile(r"\.\d+\.part|\.writing-.*")
ABANDONED_S = 24 * 3600.0
"""A half-written file that nobody has touched for so long has no writer any more."""


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A path beside `target` to write to, which takes the target's place when all went well.

    Raises ImgflowError (code not_written); the target is then as it was before.
    """
    # Upload folders pass over .part files. Not named after the target: that name may be as long
    # as names can be.
    partial = target.parent / f".{os.getpid()}.part"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(target)
    except OSError as error:
        raise ImgflowError(
            "not_written",
            f"{printable(target)} cannot be written: {error.strerror or error}",
            hint=_HINTS.get(error.errno or 0, ""),
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def sweep(root: Path) -> int:
    """Delete what killed writers left half-written below `root`; returns how many files it was."""
    swept = 0
    for folder, _, names in os.walk(root):
        for path in (Path(folder, name) for name in names if _HALF_WRITTEN.fullmatch(name)):
            try:
                if time.time() - path.stat().st_mtime > ABANDONED_S:
                    path.unlink()
                    swept += 1
            except OSError:  # finished in this moment, or not ours to delete
                continue
    return swept


def printable(path: os.PathLike[str] | str) -> str:
    """A path with the bytes that are not UTF-8 made visible."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
