"""What worker processes do in the tests of pool and batch. Importable, as spawned workers need."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from imgflow import batch, chain
from imgflow.chain import Passage
from imgflow.engines.classical import Lanczos
from imgflow.engines.loading import loading
from imgflow.engines.outside import Outside
from imgflow.errors import EngineUnavailable
from imgflow.stages import raw
from imgflow.store.keys import ImageKey


def start() -> None:
    """Nothing to prepare."""


def leave_a_folder(number: int) -> str:
    """Of the temporary ones, as long as the process lives."""
    _left.append(TemporaryDirectory(prefix="imgflow-test-"))
    return _left[-1].name


_left: list[TemporaryDirectory[str]] = []


def refuse_to_start() -> None:
    raise RuntimeError("no model")


def start_with(_: object) -> None:
    """Nothing to prepare either."""


@dataclass(frozen=True, slots=True)
class SlowStart:
    """What two workers are given to start with: the second to unpack it is at it until the pool
    has ended, whatever it is told. They leave marks in `folder`."""

    folder: Path

    @property
    def ending(self) -> Path:
        """To be left as the pool begins to end."""
        return self.folder / "ending"

    def wait_for_another(self) -> None:
        """Until the second worker is at it."""
        _wait_for(self.folder / "second")

    def __reduce__(self) -> tuple[Callable[[Path], SlowStart], tuple[Path]]:
        return _unpacked, (self.folder,)


def _unpacked(folder: Path) -> SlowStart:
    slow = SlowStart(folder)
    try:
        (folder / "first").touch(exist_ok=False)
    except FileExistsError:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (folder / "second").touch()
        _wait_for(slow.ending)
        # The pool needs a moment to end.
        time.sleep(0.8)
    return slow


def _wait_for(mark: Path) -> None:
    until = time.monotonic() + 60
    while not mark.exists():
        assert time.monotonic() < until, f"nobody leaves {mark.name}"
        time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Deadly:
    """An item, or a result, that kills the worker that unpacks it, or packs it to send it."""

    number: int
    parent: int

    def __reduce__(self) -> tuple[Callable[[int, int], Deadly], tuple[int, int]]:
        if os.getpid() != self.parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return _deadly, (self.number, self.parent)


def _deadly(number: int, parent: int) -> Deadly:
    if number % 2 and os.getpid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
    return Deadly(number, parent)


def same(item: int | Deadly) -> int | Deadly:
    return item


def die_between(number: int) -> int:
    """Twice the number; the worker is killed a moment later, at whatever it is by then."""
    threading.Timer(number % 7 / 2000, os.kill, (os.getpid(), signal.SIGKILL)).start()
    return 2 * number


def die_at_first(mark: Path) -> None:
    """The first worker that starts is killed before it has taken an item."""
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def work(item: int | str) -> int:
    """Twice a number; a word says how to go wrong."""
    match item:
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "hang":
            time.sleep(60)
        case "raise":
            raise ValueError("this item cannot be done")
        case "exit":
            os._exit(3)
        case "complain and die":
            print("the decoder gave up", file=sys.stderr)
            read_what_is_not_there()
        case "hang in C":
            wait_in_c()
        case "load slowly":
            with loading("the model 'slow'"), loading("its parts"):
                time.sleep(2)
            return 1
        case "load for ever, and again":
            return _load_for_ever()
        case "load for ever":
            return _load_for_ever()
        case "load and hang":
            with loading("the model 'quick'"):
                pass
            time.sleep(60)
        case "complain":
            os.write(2, b"a warning of a C library\n")
            return 0
    return 2 * int(item)


def _load_for_ever() -> int:
    try:
        with loading("the model 'huge'"):
            wait_in_c()
    except EngineUnavailable as error:
        return -1 if error.code == "load_hung" else 0
    return 0


def read_what_is_not_there() -> None:
    ctypes.string_at(0)


def wait_in_c() -> None:
    """Holds the interpreter: no other thread of it runs, and no signal handler."""
    ctypes.PyDLL(None).sleep(60)


def rescue_with_slow_engine(key: ImageKey) -> Passage:
    """The batch's work, with an engine of the user's whose files are on a slow disk."""
    make = Outside.make

    def slowly(_: Outside, task: str, name: str, engines: object, scale: int = 1) -> Lanczos:
        time.sleep(float(os.environ["IMGFLOW_TEST_LOAD_S"]))
        return Lanczos(scale)

    Outside.make = slowly  # type: ignore[assignment, method-assign]
    try:
        return batch._rescue(key)
    finally:
        Outside.make = make  # type: ignore[method-assign]


def rescue_with_trouble(key: ImageKey) -> Passage:
    """The batch's work, but a photo's name may make its worker fail."""
    name = str(key)
    if name.startswith("segfault"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if name.startswith("hang"):
        time.sleep(60)
    if name.startswith("odd"):
        return _with_a_fault_of_the_line(key)
    if name.startswith("flaky"):
        return _strained_at_first(key)
    return batch._rescue(key)


def _with_a_fault_of_the_line(key: ImageKey) -> Passage:
    def faulty(*_: object) -> None:
        raise KeyError("a fault of the line itself")

    informed, chain._informed = chain._informed, faulty  # type: ignore[assignment]
    try:
        return batch._rescue(key)
    finally:
        chain._informed = informed


def _strained_at_first(key: ImageKey) -> Passage:
    """The first N passages of `flaky-N.png` crash as on a machine short of something."""
    folder = Path(os.environ["IMGFLOW_TEST_TRIES"])
    tries = len(list(folder.glob(f"{key}*")))
    (folder / f"{key}-{tries}").touch()
    if tries >= int(Path(key).stem.split("-")[1]):
        return batch._rescue(key)

    def strained(*_: object, **__: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    # The worker goes on to other photos: they must find it as it was.
    decode, raw.decode = raw.decode, strained  # type: ignore[assignment]
    try:
        return batch._rescue(key)
    finally:
        raw.decode = decode
