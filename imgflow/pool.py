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
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count, islice
from multiprocessing.context import SpawnContext
from multiprocessing.synchronize import RLock
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from pebble import ProcessExpired, ProcessPool

from imgflow.files import printable

Item = TypeVar("Item")
Result = TypeVar("Result")

# Tasks handed to the pool at once, per worker: one at work and one waiting.
_IN_FLIGHT = 2
# Pools that may break one after the other without an item done: their workers cannot start.
_FRUITLESS_POOLS = 3
# Of the time that an item may take: when a worker writes down what it is doing.
_LATE = 0.9
_MAX_LOG = 20_000
_STDERR = 2


@dataclass(frozen=True, slots=True)
class Loss:
    """An item that came to nothing because its worker did. code: worker_died | timed_out.

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
    initializer: Callable[..., None],
    initargs: tuple[Any, ...] = (),
) -> Iterator[Done[Item, Result]]:
    """Do `work` on each item in `workers` processes, and yield them as they are done.

    work, initializer: importable functions. An item that takes longer than `timeout_s` seconds,
    or whose worker dies (segmentation fault, out of memory, kill), yields its loss; the worker
    is replaced. A worker that dies while it has no item costs none. An exception that `work`
    raises is raised here. Workers end with this process, however that ends.
    """
    with tempfile.TemporaryDirectory(prefix="imgflow-pool-") as folder:
        logs = (Path(folder) / str(number) for number in count())
        yield from _supervise(work, items, logs, workers, timeout_s, (initializer, initargs))


def _supervise(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    logs: Iterator[Path],
    workers: int,
    timeout_s: float,
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
                            future = _schedule(pool, work, ready[0], timeout_s, log)
                            running[future] = ready.popleft(), log
                        if not running:
                            return
                        for future in _finished(running, pool):
                            item, log = running[future]
                            done = _done(item, future, timeout_s, log)
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
    pool: ProcessPool, work: Callable[[Item], Any], item: Item, timeout_s: float, log: Path
) -> Any:
    try:
        return pool.schedule(_logged, args=[work, item, timeout_s, log], timeout=timeout_s)
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


def _logged(work: Callable[[Item], Result], item: Item, timeout_s: float, log: Path) -> Result:
    """In the worker: do the work; what becomes of a worker that dies meanwhile stands in `log`.

    What it is doing when it is late stands in a file beside that, which nobody sees if the worker
    comes back in time: then one line says that it was close.
    """
    late_s, stack = _LATE * timeout_s, _stack(log)
    with stack.open("wb") as doing, _stderr_to(log):
        faulthandler.enable(_STDERR)
        # A thread of its own: it works while other code holds the interpreter.
        faulthandler.dump_traceback_later(late_s, file=doing)
        started = time.monotonic()
        try:
            return work(item)
        finally:
            faulthandler.cancel_dump_traceback_later()
            took = time.monotonic() - started
            if took > late_s:
                name = printable(str(item))
                print(f"{name}: took {took:.0f} of {timeout_s:g} seconds", file=sys.stderr)
            stack.unlink()


def _stack(log: Path) -> Path:
    return log.with_suffix(".stack")


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


def _done(item: Item, future: Any, timeout_s: float, log: Path) -> Done[Item, Any]:
    try:
        return Done(item, result=future.result())
    except TimeoutError:
        message = f"it took longer than {timeout_s:g} seconds and was stopped"
        return Done(item, loss=Loss("timed_out", message, _text_of(log)))
    except ProcessExpired as error:
        message = f"its worker process died ({_cause(error.exitcode)})"
        return Done(item, loss=Loss("worker_died", message, _text_of(log)))


def _cause(exitcode: int) -> str:
    """How a process ended, in words."""
    if exitcode >= 0:
        return f"exit code {exitcode}"
    name = signal.strsignal(-exitcode) or f"signal {-exitcode}"
    return f"{name}: perhaps out of memory" if -exitcode == signal.SIGKILL else name


def _text_of(log: Path) -> str:
    """The end of a lost item's log, and of what its worker was doing when it was late."""
    data = b""
    for path in (log, _stack(log)):
        with suppress(FileNotFoundError):  # lost before it was begun
            data += path.read_bytes()
            path.unlink()
    return data[-_MAX_LOG:].decode("utf-8", "backslashreplace").strip()
