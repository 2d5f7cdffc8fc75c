"""How long something takes: on the clock, and of the processors."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Seconds:
    """wall: on the clock. cpu: of processors, by this process and those of its children that have
    ended; it does not grow with what else a machine does."""

    wall: float = 0.0
    cpu: float = 0.0


def timed(work: Callable[[], object]) -> Seconds:
    """The time that `work` takes."""
    began, worked = time.perf_counter(), _cpu()
    work()
    return Seconds(time.perf_counter() - began, _cpu() - worked)


def _cpu() -> float:
    return sum(os.times()[:4])
