"""Bytes of a far store kept on this machine: by their hash, and no more than a limit."""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from imgflow.store.store import sha256_hex

_ROOM = 0.9
"""So much of the limit is left when room was made: not every write looks through the folder."""
_LOOK_EVERY = 0.02
"""Of the limit: after so many bytes written, a process looks how much there is."""
_PARTIAL = ".writing-"


class ReadCache:
    """A folder that several processes share; what was used longest ago goes first.

    It never fails: a disk that is full or damaged costs the saving, and no more. The limit may be
    passed by a fiftieth for each process that writes.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        """limit: bytes; 0: nothing is kept."""
        self.folder = folder
        self.limit = limit
        self._written = float("inf")  # the first write looks, too

    def get(self, sha256: str) -> bytes | None:
        """The bytes of a hash, checked; None where they are not here."""
        path = self._path(sha256)
        try:
            data = path.read_bytes()
            os.utime(path)  # used just now
        except OSError:
            return None
        if sha256_hex(data) == sha256:
            return data
        with suppress(OSError):
            path.unlink()
        return None

    def put(self, sha256: str, data: bytes) -> None:
        """Keep bytes whose hash is known to be this one."""
        if len(data) > self.limit * _ROOM:
            return
        path = self._path(sha256)
        temporary = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=_PARTIAL)
            temporary = Path(name)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            temporary.replace(path)
        except OSError:
            if temporary is not None:
                with suppress(OSError):
                    temporary.unlink()
            return
        self._written += len(data)
        if self._written > self.limit * _LOOK_EVERY:
            self._written = 0
            self._make_room()

    def drop(self, sha256: str) -> None:
        with suppress(OSError):
            self._path(sha256).unlink()

    def size(self) -> int:
        """Bytes that are kept."""
        return sum(size for _, size, _ in self._files())

    def _make_room(self) -> None:
        with suppress(OSError), (self.folder / ".lock").open("ab") as lock:
            # Who finds another at it need not wait for that.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            files = sorted(self._files())
            left = sum(size for _, size, _ in files)
            if left <= self.limit:
                return
            for _, size, path in files:
                if left <= self.limit * _ROOM:
                    return
                with suppress(OSError):
                    os.unlink(path)  # noqa: PTH108 - many thousand of them
                    left -= size

    def _files(self) -> list[tuple[float, int, str]]:
        """When each was last used, its bytes and its path."""
        found = []
        for folder, _, names in os.walk(self.folder):
            for name in names:
                if name == ".lock":
                    continue
                path = f"{folder}/{name}"
                with suppress(OSError):
                    stat = os.stat(path)  # noqa: PTH116 - many thousand of them
                    found.append((stat.st_mtime, stat.st_size, path))
        return found

    def _path(self, sha256: str) -> Path:
        return self.folder / sha256[:2] / sha256
