"""A supervised pool of worker processes: an item that crashes its worker costs that item only."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import pickle
import resource
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Generic, TypeVar

from imgflow.scratch import scratch
from imgflow.worker import Answer, Duty, Limits, late_log, serve

Item = TypeVar("Item")
Result = TypeVar("Result")

# Items that a worker is given at once: one at work and one waiting.
_GIVEN = 2
# Workers that may die one after the other without an item begun: they cannot work.
_FRUITLESS_WORKERS = 3
# Seconds that loading may take for an item, beside its own time.
LOAD_TIMEOUT_S = 900.0
# Seconds that a worker has for ending itself when the time is up, before it is ended.
_GRACE_S = 10.0
# Seconds that workers have for ending themselves when the pool ends.
_LEAVE_S = 3.0
# How faulthandler begins where it ends a process whose time is up.
_TIME_IS_UP = "Timeout ("
_MAX_LOG = 20_000


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
    that dies while it has no item costs none. An exception that `work` or `initializer` raises is
    raised here. Raises RuntimeError where workers die one after the other before they have begun
    an item. Workers end with this process, however that ends.
    """
    with scratch("imgflow-pool-") as folder:
        limits = Limits(timeout_s, load_timeout_s, folder / "hung")
        (folder / "temporary").mkdir()
        duty = Duty(work, limits, folder / "temporary", initializer, initargs)
        logs = (folder / str(number) for number in count())
        crew: list[_Worker[Item]] = []
        stop = atexit.register(partial(_stop, crew))
        try:
            yield from _supervise(items, logs, duty, crew, workers)
        finally:
            atexit.unregister(stop)
            stop()


@dataclass(slots=True)
class _Given(Generic[Item]):
    """An item in the hands of a worker. log: there from its beginning until its result is told."""

    item: Item
    log: Path


class _Worker(Generic[Item]):
    """A worker process, and the items it was given: it is at the first of them.

    It has a pipe of its own. Workers that share one (as those of concurrent.futures and pebble
    do) share its locks too: one that is killed with a lock in its hands stops all the others.
    """

    def __init__(self, duty: Duty) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, end = context.Pipe()
        self.given: deque[_Given[Item]] = deque()
        self.ready = False
        self._limits = duty.limits
        self._since = time.monotonic()
        self._stopped_late = False
        self._process = context.Process(target=serve, args=(end, duty))
        self._process.start()
        end.close()

    def give(self, item: Item, log: Path) -> None:
        """Hand it an item, which it takes at once and begins in its turn."""
        packed = pickle.dumps(item)
        if not self.given:
            self._since = time.monotonic()
        self.given.append(_Given(item, log))
        try:
            self.pipe.send_bytes(os.fsencode(log))
            self.pipe.send_bytes(packed)
        except OSError:  # it is dead: `hear` will tell
            pass

    def hear(self) -> Answer | None:
        """What it says; None: it is dead."""
        try:
            packed = self.pipe.recv_bytes()
        except (EOFError, OSError):
            return None
        self._since = time.monotonic()
        answer: Answer = pickle.loads(packed)  # noqa: S301 - from our own process
        return answer

    def end_if_late(self) -> None:
        """A worker keeps the time itself; one that cannot is ended at the very latest."""
        latest = self._limits.work_s + self._limits.load_s + _GRACE_S
        if self.given and time.monotonic() - self._since > latest:
            self._stopped_late = True
            self._process.kill()

    def loss(self) -> Loss | None:
        """What became of the first item that a dead worker was given; None: it was not begun."""
        self._process.join()
        log = self.given[0].log if self.given else None
        if log is None or not log.exists():
            return None
        cause = None if self._stopped_late else _cause(self._process.exitcode or 0)
        return _loss(log, cause, self._limits)

    def leave(self, patience_s: float) -> None:
        """Have the process end: by itself, as its pipe is closed, or not."""
        self.pipe.close()
        self._process.join(patience_s)
        if self._process.is_alive():
            self._process.kill()
        self._process.join()


def _supervise(
    items: Iterable[Item],
    logs: Iterator[Path],
    duty: Duty,
    crew: list[_Worker[Item]],
    workers: int,
) -> Iterator[Done[Item, Any]]:
    waiting = iter(items)
    ready: deque[Item] = deque()
    fruitless = 0
    while True:
        room = _GIVEN * workers - len(ready) - sum(len(worker.given) for worker in crew)
        last = _take(waiting, ready, room)
        if not ready and not any(worker.given for worker in crew):
            return
        crew.extend(_Worker(duty) for _ in range(workers - len(crew)))
        # Of the last items none waits for a certain worker: whoever is free first takes it.
        _hand_out(ready, crew, logs, each=1 if last else _GIVEN)
        for worker in _heard(crew):
            answer = worker.hear()
            if answer is None:
                crew.remove(worker)
                loss = worker.loss()
                given = [each.item for each in worker.given]
                worker.leave(0)
                if loss is not None:
                    fruitless = 0
                    ready.extendleft(reversed(given[1:]))
                    yield Done(given[0], loss=loss)
                else:
                    fruitless += 1
                    ready.extendleft(reversed(given))
                    if fruitless == _FRUITLESS_WORKERS:
                        raise RuntimeError("worker processes die before they begin an item")
            elif answer.error is not None:
                raise answer.error
            elif not worker.ready:
                worker.ready = True
            else:
                fruitless = 0
                yield Done(worker.given.popleft().item, result=answer.result)


def _take(waiting: Iterator[Item], ready: deque[Item], room: int) -> bool:
    """Take as many items as there is room for; True: there are no more."""
    before = len(ready)
    ready.extend(islice(waiting, room))
    return len(ready) - before < room


def _hand_out(
    ready: deque[Item], crew: Iterable[_Worker[Item]], logs: Iterator[Path], each: int
) -> None:
    for share in range(1, each + 1):
        for worker in crew:
            if ready and worker.ready and len(worker.given) < share:
                worker.give(ready.popleft(), next(logs))


def _heard(crew: list[_Worker[Item]]) -> list[_Worker[Item]]:
    """Workers that have something to say, or are dead; at least one."""
    while True:
        for worker in crew:
            worker.end_if_late()
        heard = wait([worker.pipe for worker in crew], timeout=1)
        if heard:
            return [worker for worker in crew if worker.pipe in heard]


def _stop(crew: list[_Worker[Any]]) -> None:
    """End all workers. Those that can end by themselves as soon as their pipes are closed."""
    for worker in crew:
        worker.pipe.close()
    until = time.monotonic() + _LEAVE_S
    for worker in crew:
        worker.leave(max(until - time.monotonic(), 0))
    crew.clear()


def _loss(log: Path, cause: str | None, limits: Limits) -> Loss:
    """What became of a lost item. cause: how its worker ended; None: it was ended for its time."""
    text, late = _text_of(log), _text_of(late_log(log))
    what, up, _ = late.partition(_TIME_IS_UP)
    loaded = what.strip()
    log_text = "\n".join(each for each in (text, late if up else "") if each)[-_MAX_LOG:]
    if up and loaded:
        limits.avoid(loaded)
        message = f"loading {loaded} took longer than {limits.load_s:g} seconds"
        return Loss("load_timed_out", message, log_text)
    if up or cause is None:
        message = f"it took longer than {limits.work_s:g} seconds and was stopped"
        return Loss("timed_out", message, log_text)
    return Loss("worker_died", f"its worker process died ({cause})", log_text)


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
    except FileNotFoundError:  # there is nothing to tell
        return ""
    log.unlink()
    return data[-_MAX_LOG:].decode("utf-8", "backslashreplace").strip()
