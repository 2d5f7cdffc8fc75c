"""All cases, in worker processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from imgflow.bench.text.cases import Sources
from imgflow.bench.text.clock import Seconds
from imgflow.bench.text.measure import CaseId, measure, start
from imgflow.bench.text.results import OverlayResult, PlainResult, TextBench
from imgflow.pool import supervise

_TIMEOUT_S = 600.0


def bench_text(
    sources: Sources,
    cases: int,
    advance: Callable[[], None],
    *,
    pictures: Path | None = None,
    workers: int = 2,
) -> TextBench:
    """Measure `cases` photos with an overlay and as many without, then take the time.

    pictures: a folder for what the line made: `overlay-<number>.png` of each overlay case, and
    `plain-<number>.png` of each other case that it altered.
    """
    bench = TextBench()
    ids = [CaseId(role, number) for number in range(cases) for role in ("overlay", "plain")]
    # The clock comes last and alone, with nothing beside it on the other cores.
    rounds = ((ids, workers), ([CaseId("clock")], 1))
    with TemporaryDirectory(prefix="imgflow-bench-") as scratch:
        start_with = (sources, Path(scratch), pictures)
        for items, count in rounds:
            for done in supervise(
                measure,
                items,
                workers=count,
                timeout_s=_TIMEOUT_S,
                initializer=start,
                initargs=start_with,
            ):
                advance()
                match done.result:
                    case OverlayResult():
                        bench.overlays.append(done.result)
                    case PlainResult():
                        bench.plain.append(done.result)
                    case Seconds():
                        bench.seconds = done.result
                    case None:
                        bench.lost[done.loss.code if done.loss else "unknown"] += 1
    bench.overlays.sort(key=lambda each: each.number)
    bench.plain.sort(key=lambda each: each.number)
    return bench
