"""All engines, each in a process of its own, one after the other: the clock has the machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from imgflow.bench.engines.measure import Candidate, Reading, measure
from imgflow.pool import supervise

_TIMEOUT_S = 3600.0


def bench_engines(found: Sequence[Candidate], advance: Callable[[], None]) -> list[Reading]:
    """A reading of each; one that crashes or hangs has a problem, and the others go on."""
    readings = []
    for candidate in found:
        # A pool of its own for each: memory that one has taken is not the next one's.
        for done in supervise(
            measure, [candidate], workers=1, timeout_s=_TIMEOUT_S, initializer=_nothing
        ):
            lost = done.loss.message if done.loss else "it came to nothing"
            readings.append(done.result or Reading(candidate.task, candidate.name, problem=lost))
        advance()
    return readings


def _nothing() -> None:
    pass
