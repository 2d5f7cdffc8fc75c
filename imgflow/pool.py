"""A supervised pool of worker processes: an item that crashes its worker costs that item only.

Nothing heavy is imported here at the top: every worker imports this module first.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, islice
from multiprocessing.context import SpawnContext
from multiprocessing.synchronize import RLock
from pathlib import Path
from typing import Any, Generic, Self, TextIO, TypeVar

from pebble import ProcessExpired, ProcessPool

from imgflow.engines.loading import kept_by
from imgflow.errors import EngineUnavailable

Item = TypeVar("Item")
Result = TypeVar("Result")

# Tasks handed to the pool at once, per worker: one at work and one waiting.
_IN_FLIGHT = 2
# Pools that may break one after the other without an item done: their workers cannot start.
_FRUITLESS_POOLS = 3
# Seconds that loading may take for an item, beside its own time.
LOAD_TIMEOUT_S = 900.0
LOAD_HINT = (
    "Look after the disk that the weights are on, or allow more time (run.load_timeout_s in the "
    "policy)"
)
# Seconds that a worker has for ending itself when the time is up, before it is ended.
_GRACE_S = 10.0
# How faulthandler begins where it ends a process whose time is up.
_TIME_IS_UP = "Timeout ("
_MAX_LOG = 20_000
_STDERR = 2


@dataclass(frozen=True, slots=True)
class Loss:
    """An item that came to nothing because its worker did.

    code: worker_died | timed_out | load_timed_out.

    log: what the worker wrote to stderr meanwhile, and the stack where it crashed or hung; empty
    where it was killed from outside and had written nothing.
    """

    code: str
    message: str
    log: str = ""


@dataclass(frozen=True, slots=True)
class Done(Generic[Item, Result]):
    """An item and its result, or its loss."""

    item: Item
    result: Result | None = None
    loss: Loss | None = None


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_mb() -> float:
    """The most resident memory that this process has had, libraries included; MB of 2**20."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def supervise(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int,
    timeout_s: float,
    load_timeout_s: float = LOAD_TIMEOUT_S,
    initializer: Callable[..., None],
    initargs: tuple[Any, ...] = (),
) -> Iterator[Done[Item, Result]]:
    """Do `work` on each item in `workers` processes, and yield them as they are done.

    work, initializer: importable functions. An item that takes longer than `timeout_s` seconds,
    or whose worker dies (segmentation fault, out of memory, kill), yields its loss; the worker
    is replaced. What engines load (engines/loading.py) is not charged to that time: all of it may
    take `load_timeout_s` for an item, and what has hung once is not loaded for another. A worker
    that dies while it has no item costs none. An exception that `work` raises is raised here.
    Workers end with this process, however that ends.
    """
    with tempfile.TemporaryDirectory(prefix="imgflow-pool-") as folder:
        limits = _Limits(timeout_s, load_timeout_s, Path(folder) / "hung")
        logs = (Path(folder) / str(number) for number in count())
        yield from _supervise(work, items, logs, workers, limits, (initializer, initargs))


@dataclass(frozen=True, slots=True)
class _Limits:
    """Seconds that an item may take: at work, and in loading. hung: file with the names of what
    is not loaded again, a line each: items that wait already must know as well."""

    work_s: float
    load_s: float
    hung: Path

    def has_hung(self, what: str) -> bool:
        return self.hung.exists() and what in self.hung.read_text().splitlines()

    def avoid(self, what: str) -> None:
        with self.hung.open("a") as file:
            file.write(f"{what}\n")


def _supervise(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    logs: Iterator[Path],
    workers: int,
    limits: _Limits,
    initargs: tuple[Callable[..., None], tuple[Any, ...]],
) -> Iterator[Done[Item, Result]]:
    waiting = iter(items)
    ready: deque[Item] = deque()
    fruitless = 0
    while True:
        running: dict[Any, tuple[Item, Path]] = {}
        try:
            with (
                _Spawning() as context,
                ProcessPool(
                    max_workers=workers, context=context, initializer=_start, initargs=initargs
                ) as pool,
            ):
                try:
                    while True:
                        room = _IN_FLIGHT * workers - len(running) - len(ready)
                        ready.extend(islice(waiting, room))
                        while ready:
                            log = next(logs)
                            future = _schedule(pool, work, ready[0], limits, log)
                            running[future] = ready.popleft(), log
                        if not running:
                            return
                        for future in _finished(running, pool):
                            item, log = running[future]
                            done = _done(item, future, limits, log)
                            del running[future]
                            fruitless = 0
                            yield done
                except BaseException:
                    pool.stop()  # type: ignore[no-untyped-call]
                    raise
        except BrokenProcessPool:
            # A worker that dies between two items takes its pool along: none of them is to blame.
            fruitless += 1
            if fruitless == _FRUITLESS_POOLS:
                raise
            ready.extendleft(reversed([item for item, _ in running.values()]))


class _Spawning(SpawnContext):
    """How the workers of one pool are started; keeps the locks they share until all have ended.

    A pool that ends lets go of its locks, which takes their names away, and only then stops its
    workers, one after the other. One that is still starting would look for the locks by name,
    and tell of their absence with a traceback.
    """

    def __init__(self) -> None:
        super().__init__()
        self._locks: list[RLock] = []

    def RLock(self) -> RLock:  # noqa: N802
        lock = super().RLock()
        self._locks.append(lock)
        return lock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._locks.clear()


def _schedule(
    pool: ProcessPool, work: Callable[[Item], Any], item: Item, limits: _Limits, log: Path
) -> Any:
    # A worker keeps the time itself; one that cannot is ended at the very latest.
    latest = limits.work_s + limits.load_s + _GRACE_S
    try:
        return pool.schedule(_logged, args=[work, item, limits, log], timeout=latest)
    except RuntimeError as error:
        raise BrokenProcessPool("the pool of workers broke") from error


def _finished(running: dict[Any, Any], pool: ProcessPool) -> set[Any]:
    """The futures that are done, at least one. Raises BrokenProcessPool."""
    while True:
        finished, _ = wait(running, timeout=1, return_when=FIRST_COMPLETED)
        if finished:
            return finished
        if not pool.active:
            raise BrokenProcessPool("the pool of workers broke")


def _start(initializer: Callable[..., None], initargs: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    initializer(*initargs)


def _end_with_parent() -> None:
    """End this worker as soon as its parent is gone, whatever it is doing.

    A killed parent cannot stop its workers. They would finish their images beside the next run,
    and nobody would keep the time of one that hangs.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _logged(work: Callable[[Item], Result], item: Item, limits: _Limits, log: Path) -> Result:
    """In the worker: do the work; what becomes of a worker that dies meanwhile stands in `log`,
    and beside it what it was doing when its time was up."""
    with _stderr_to(log):
        faulthandler.enable(_STDERR)
        with _Patience(limits, _late(log)) as patience, kept_by(patience.loading):
            return work(item)


def _late(log: Path) -> Path:
    return log.with_suffix(".late")


class _Patience:
    """Ends this process when an item has had its time, and writes down what it was at.

    By a thread of its own, which works while other code holds the interpreter.
    """

    def __init__(self, limits: _Limits, late: Path) -> None:
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
    log.unlink()


def _done(item: Item, future: Any, limits: _Limits, log: Path) -> Done[Item, Any]:
    try:
        return Done(item, result=future.result())
    except TimeoutError:
        code, cause = "timed_out", ""
    except ProcessExpired as error:
        code, cause = "worker_died", _cause(error.exitcode)
    text, late = _text_of(log), _text_of(_late(log))
    what, up, _ = late.partition(_TIME_IS_UP)
    loaded = what.strip()
    if up:
        code = "load_timed_out" if loaded else "timed_out"
    match code:
        case "worker_died":
            message = f"its worker process died ({cause})"
        case "load_timed_out":
            limits.avoid(loaded)
            message = f"loading {loaded} took longer than {limits.load_s:g} seconds"
        case _:
            message = f"it took longer than {limits.work_s:g} seconds and was stopped"
    log_text = "\n".join(each for each in (text, late if up else "") if each)
    return Done(item, loss=Loss(code, message, log_text[-_MAX_LOG:]))


def _cause(exitcode: int) -> str:
    """How a process ended, in words."""
    if exitcode >= 0:
        return f"exit code {exitcode}"
    name = signal.strsignal(-exitcode) or f"signal {-exitcode}"
    return f"{name}: perhaps out of memory" if -exitcode == signal.SIGKILL else name


def _text_of(log: Path) -> str:
    """The end of a lost item's log."""
    try:
        data = log.read_bytes()
    except FileNotFoundError:  # lost before it was begun
        return ""
    log.unlink()
    return data[-_MAX_LOG:].decode("utf-8", "backslashreplace").strip()
