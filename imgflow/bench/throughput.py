"""Images per hour through Dagster, and through the bare chain with the same pool and store."""

from __future__ import annotations

import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imgflow.batch import Order, run_batch
from imgflow.bench.photos import write_photos
from imgflow.chain import Passage
from imgflow.home import Home
from imgflow.store.keys import ImageKey


@dataclass(slots=True)
class Throughput:
    """One way through the line. stage_seconds: worker seconds, summed over all images."""

    name: str
    images: int
    seconds: float
    parent_cpu_s: float
    verdicts: Counter[str] = field(default_factory=Counter)
    stage_seconds: dict[str, float] = field(default_factory=dict)
    peak_mb_per_worker: float = 0.0

    @property
    def per_hour(self) -> float:
        return 3600 * self.images / self.seconds

    @property
    def parent_ms(self) -> float:
        """The parent's processor milliseconds per image."""
        return 1000 * self.parent_cpu_s / self.images


def bench_throughput(
    images: int, size: tuple[int, int], advance: Callable[[], None]
) -> tuple[Throughput, Throughput]:
    """Take the same photos through Dagster and through the bare chain: (Dagster, bare).

    Each has a store of its own, on the same disk, and begins with nothing made.
    """
    with tempfile.TemporaryDirectory(prefix="imgflow-bench-") as folder:
        homes = [Home(Path(folder) / name) for name in ("dagster", "bare")]
        for home in homes:
            write_photos(home.uploads.root, images, size=size)
        # The bare chain comes first, so that warm disk caches favour neither for long.
        bare = _measure("bare chain", homes[1], _bare, advance)
        dagster = _measure("Dagster", homes[0], _dagster, advance)
        return dagster, bare


def _measure(
    name: str,
    home: Home,
    run: Callable[[list[ImageKey], Home, Callable[[Passage], None]], None],
    advance: Callable[[], None],
) -> Throughput:
    keys = [key for key, _ in home.uploads.scan().photos]
    verdicts: Counter[str] = Counter()
    stages: dict[str, float] = defaultdict(float)
    peaks = [0.0]

    def done(passage: Passage) -> None:
        advance()
        verdicts[str(passage.last.verdict) if passage.last else "none"] += 1
        peaks.append(passage.peak_mb)
        for step in passage.steps:
            stages[str(step.record.version)] += step.record.seconds

    cpu, clock = time.process_time(), time.perf_counter()
    run(keys, home, done)
    return Throughput(
        name=name,
        images=len(keys),
        seconds=time.perf_counter() - clock,
        parent_cpu_s=time.process_time() - cpu,
        verdicts=verdicts,
        stage_seconds=dict(stages),
        peak_mb_per_worker=max(peaks),
    )


def measure_bare(name: str, home: Home, advance: Callable[[], None]) -> Throughput:
    """All uploads of a home through the chain alone."""
    return _measure(name, home, _bare, advance)


def _bare(keys: list[ImageKey], home: Home, done: Callable[[Passage], None]) -> None:
    size = home.policy().run.batch_size
    for start in range(0, len(keys), size):
        for passage in run_batch(keys[start : start + size], Order(home, run_id="bench")):
            done(passage)


def _dagster(keys: list[ImageKey], home: Home, done: Callable[[Passage], None]) -> None:
    from imgflow.defs.launch import launch
    from imgflow.defs.resources import Progress

    class Watch(Progress):
        def passed(self, passage: Passage) -> None:
            done(passage)

    launch(keys, home, Watch())


def as_json(dagster: Throughput, bare: Throughput) -> dict[str, Any]:
    """The line of JSON that the command prints last."""
    total = sum(dagster.stage_seconds.values())
    return {
        "images": dagster.images,
        "images_per_hour": round(dagster.per_hour),
        "bare_images_per_hour": round(bare.per_hour),
        "ratio": round(dagster.per_hour / bare.per_hour, 3),
        "parent_ms_per_image": round(dagster.parent_ms, 1),
        "peak_mb_per_worker": round(max(dagster.peak_mb_per_worker, bare.peak_mb_per_worker), 1),
        "stage_share": {
            name: round(seconds / total, 3) for name, seconds in dagster.stage_seconds.items()
        },
        "verdicts": dict(dagster.verdicts),
    }


def published_share(verdicts: Iterable[tuple[str, int]]) -> float:
    """Share of images that needed no person."""
    counts = dict(verdicts)
    good = counts.get("published", 0) + counts.get("accepted_with_artifacts", 0)
    return good / max(sum(counts.values()), 1)
