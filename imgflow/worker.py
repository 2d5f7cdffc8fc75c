"""What a worker process of the pool does: item after item, with a log and a time limit for each.

Nothing heavy is imported here at the top: every worker imports this module first.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Self, TextIO

from imgflow.engines.loading import kept_by
from imgflow.errors import EngineUnavailable

LOAD_HINT = (
    "Look after the disk that the weights are on, or allow more time (run.load_timeout_s in the "
    "policy)"
)
_STDERR = 2


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that an item may take: at work, and in loading. hung: file with the names of what
    is not loaded again, a line each: workers that are at work already must know as well."""

    work_s: float
    load_s: float
    hung: Path

    def has_hung(self, what: str) -> bool:
        return self.hung.exists() and what in self.hung.read_text().splitlines()

    def avoid(self, what: str) -> None:
        with self.hung.open("a") as file:
            file.write(f"{what}\n")


@dataclass(frozen=True, slots=True)
class Duty:
    """What a worker is there for.

    work, initializer: importable functions. temporary: folder of its temporary files: it ends as
    it is, with no time to delete them.
    """

    work: Callable[[Any], Any]
    limits: Limits
    temporary: Path
    initializer: Callable[..., None]
    initargs: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker says: that it is ready, then, for each item, the result or the error."""

    result: Any = None
    error: Exception | None = None


def serve(pipe: Connection, duty: Duty) -> None:
    """Be a worker: say when ready, then take an item's log and the item, and answer; for ever.

    Ends with the process at the pipe's other end, however that ends and whatever it is at.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it as well, and ends this
    os.environ["TMPDIR"] = tempfile.tempdir = str(duty.temporary)
    given: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_receive, args=(pipe, given), daemon=True).start()
    try:
        duty.initializer(*duty.initargs)
    except Exception as error:
        _tell(pipe, _packed(Answer(error=_with_traceback(error))))
        return
    _tell(pipe, _packed(Answer()))
    while True:
        log = Path(os.fsdecode(given.get()))
        _tell(pipe, _logged(given.get(), duty, log))
        log.unlink(missing_ok=True)  # not before: what has a log is never begun again


def late_log(log: Path) -> Path:
    """Where the worker writes what it was doing when its time was up."""
    return log.with_suffix(".late")


def _receive(pipe: Connection, given: SimpleQueue[bytes]) -> None:
    """Take what comes at once, so that nobody waits for it to be taken.

    A killed parent cannot stop its workers. They would finish their images beside the next run,
    and nobody would keep the time of one that hangs.
    """
    while True:
        try:
            given.put(pipe.recv_bytes())
        except (EOFError, OSError):  # nobody is there any more
            os._exit(1)


def _tell(pipe: Connection, packed: bytes) -> None:
    try:
        pipe.send_bytes(packed)
    except OSError:  # nobody is there any more
        os._exit(1)


def _packed(answer: Answer) -> bytes:
    try:
        return pickle.dumps(answer)
    except Exception as error:
        return pickle.dumps(Answer(error=TypeError(f"{answer} cannot leave its worker: {error}")))


def _with_traceback(error: Exception) -> Exception:
    """The error, with a note of where it was raised, which it would not take along."""
    error.add_note(f"In a worker process:\n{traceback.format_exc()}")
    return error


def _logged(item: bytes, duty: Duty, log: Path) -> bytes:
    """Do the work; what becomes of a worker that dies meanwhile stands in `log`, and beside it
    what it was doing when its time was up."""
    with _stderr_to(log):
        faulthandler.enable(_STDERR)
        with _Patience(duty.limits, late_log(log)) as patience, kept_by(patience.loading):
            try:
                return _packed(Answer(duty.work(pickle.loads(item))))  # noqa: S301 - from our own process
            except Exception as error:
                return _packed(Answer(error=_with_traceback(error)))


class _Patience:
    """Ends this process when an item has had its time, and writes down what it was at.

    By a thread of its own, which works while other code holds the interpreter.
    """

    def __init__(self, limits: Limits, late: Path) -> None:
        self._limits, self._late = limits, late
        self._work_s, self._load_s = limits.work_s, limits.load_s

    def __enter__(self) -> Self:
        self._file: TextIO = self._late.open("w", buffering=1)
        self._wait(self._work_s)
        return self

    def __exit__(self, *_: object) -> None:
        faulthandler.cancel_dump_traceback_later()
        self._file.close()
        self._late.unlink()

    @contextmanager
    def loading(self, what: str) -> Iterator[None]:
        """Meanwhile another clock runs. Raises EngineUnavailable for what has hung before."""
        if self._limits.has_hung(what):
            raise EngineUnavailable(
                "load_hung",
                f"loading {what} took longer than {self._limits.load_s:g} seconds in this run, "
                "and is not tried again",
                hint=f"{LOAD_HINT}; then run the photo again",
            )
        self._work_s -= self._waited()
        self._file.write(f"{what}\n")
        self._wait(self._load_s)
        try:
            yield
        finally:
            self._load_s -= self._waited()
            self._file.seek(0)
            self._file.truncate()
            self._wait(self._work_s)

    def _wait(self, seconds: float) -> None:
        self._since = time.monotonic()
        faulthandler.dump_traceback_later(max(seconds, 0.001), exit=True, file=self._file)

    def _waited(self) -> float:
        return time.monotonic() - self._since


@contextmanager
def _stderr_to(log: Path) -> Iterator[None]:
    """Have stderr, of C libraries too, written to a file; at the end it goes where it belongs."""
    with log.open("w+b", buffering=0) as file:
        before = os.dup(_STDERR)
        os.dup2(file.fileno(), _STDERR)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(before, _STDERR)
            os.close(before)
            file.seek(0)
            sys.stderr.buffer.write(file.read())
            sys.stderr.flush()
