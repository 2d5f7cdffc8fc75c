"""All photos in worker processes, then the clock, alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from imgflow.bench.upscale.cases import Source
from imgflow.bench.upscale.clock import read_clock, read_gpu_fresh, timings
from imgflow.bench.upscale.measure import measure, start
from imgflow.bench.upscale.results import UpscaleBench
from imgflow.pool import supervise

_TIMEOUT_S = 1800.0
_WORKERS = 2
_THREADS = 2


def steps(sources: Sequence[Source], engines: Sequence[str], rounds: int) -> int:
    """How often `bench_upscale` tells that it got on."""
    return len(sources) + (len(timings(engines, rounds)) if rounds else 0)


def bench_upscale(
    sources: Sequence[Source],
    engines: Sequence[str],
    looks: int | None,
    rounds: int,
    advance: Callable[[], None],
) -> UpscaleBench:
    """Measure engines, by their names in the registry, on photos; then take the time.

    looks: mirrored copies that are enlarged; None: the policy's default. Times are of one.
    rounds: photos per timing; 0: no times are taken. Raises BadPhoto for a photo that cannot be
    read, EngineUnavailable for an engine that cannot work.
    """
    bench = UpscaleBench()
    for done in supervise(
        measure,
        sources,
        workers=_WORKERS,
        timeout_s=_TIMEOUT_S,
        initializer=start,
        initargs=(tuple(engines), looks),
    ):
        advance()
        if done.result is not None:
            bench.photos.append(done.result)
        else:
            bench.lost[done.loss.code if done.loss else "unknown"] += 1
    bench.photos.sort(key=lambda each: each.name)
    if rounds:
        asked = timings(engines, rounds)
        bench.readings.extend(read_clock(sources[0], asked, _THREADS, advance))
        bench.gpu = read_gpu_fresh()
    return bench
