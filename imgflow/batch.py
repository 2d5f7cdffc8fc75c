"""Many images through the line, in worker processes. What a Dagster run, and a benchmark, does."""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from imgflow.calibration import prices_of
from imgflow.chain import Line, Passage, crash_reason, first_unmade, rescue, stop
from imgflow.engines.compute import Compute
from imgflow.equipment import equip
from imgflow.errors import StoreError
from imgflow.home import Home
from imgflow.lineage.record import Reason, Version
from imgflow.pool import Done, Loss, cores, peak_mb, supervise
from imgflow.store.keys import ImageKey
from imgflow.worker import LOAD_HINT


@dataclass(frozen=True, slots=True)
class Order:
    """What a batch shall do; goes to every worker.

    compute: where models of the shelf work; None: as the environment says. models: the shelf's
    folder; None: the home's.
    """

    home: Home
    run_id: str
    versions: tuple[Version, ...] = tuple(Version)
    force: bool = False
    compute: Compute | None = None
    models: Path | None = None

    def line(self) -> Line:
        """The line of one process. Raises BadPolicy, BadCatalog."""
        policy = self.home.policy()
        return Line(
            catalog=self.home.name,
            store=self.home.store,
            engines=equip(self.home, policy, compute=self.compute, models=self.models),
            policy=policy,
            uploads=self.home.uploads,
            run_id=self.run_id,
            rows=self.home.catalog(),
            prices=prices_of(self.home.root, policy),
        )


def run_batch(keys: Sequence[ImageKey], order: Order) -> Iterator[Passage]:
    """Take images through the line; passages come as they are done.

    One bad photo, or one that kills its worker or takes too long, costs that photo alone: it is
    quarantined. Errors that may go away by themselves are tried again as often as the policy's
    budget says. Raises BadPolicy, StoreError.
    """
    line = order.line()
    settings, retries = line.policy.run, line.policy.retries
    # More workers than images would only cost their start.
    workers = min(settings.workers or cores(), max(len(keys), 1))
    compute = order.compute or Compute.from_environment()
    order = replace(order, compute=replace(compute, processes=workers))
    waiting = list(keys)
    for attempt in range(retries.budget + 1):
        again: list[ImageKey] = []
        for done in supervise(
            _rescue,
            waiting,
            workers=workers,
            timeout_s=settings.image_timeout_s,
            load_timeout_s=settings.load_timeout_s,
            initializer=_start,
            initargs=(order,),
        ):
            passage = done.result or _lost(done, line, order)
            last = passage.last
            transient = last is not None and last.reason is not None and last.reason.transient
            if transient and attempt < retries.budget:
                again.append(done.item)
            else:
                yield passage
        if not again:
            return
        waiting = again
        # Jitter keeps several runs from coming back to a strained machine at once.
        time.sleep(retries.backoff_s * 2**attempt * random.uniform(0.5, 1.5))


def _lost(done: Done[ImageKey, Passage], line: Line, order: Order) -> Passage:
    """The passage of an image whose worker did not come back."""
    loss = done.loss or Loss("worker_died", "its worker returned nothing")
    late = loss.code == "timed_out"
    busy = "The machine may be busy: run it again, or raise run.image_timeout_s in the policy"
    again = "the photo or an engine has a fault: `imgflow rescue` on the photo alone shows more"
    hint = f"{busy if late else 'Run it again'}; if it happens again, {again}"
    if loss.code == "load_timed_out":
        hint = f"{LOAD_HINT}; then run it again"
    reason = Reason(code=loss.code, message=loss.message, hint=hint, traceback=loss.log)
    version = first_unmade(done.item, line, order.versions) or order.versions[-1]
    return stop(done.item, line, version, reason)


_order: Order
_line: Line


def _start(order: Order) -> None:
    global _order, _line
    import cv2

    # One worker per core: threads of their own would only get in each other's way.
    cv2.setNumThreads(1)
    _order, _line = order, order.line()


def _rescue(key: ImageKey) -> Passage:
    try:
        passage = rescue(key, _line, _order.versions, force=_order.force)
    except StoreError:  # nothing can be recorded: the run ends
        raise
    except Exception as error:  # a fault of the line itself: it costs this image
        reason = crash_reason(error, traceback.format_exc())
        passage = stop(key, _line, _order.versions[0], reason)
    passage.peak_mb = peak_mb()
    return passage
