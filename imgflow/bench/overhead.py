"""What orchestration costs: images that need nothing any more, through Dagster."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from imgflow.batch import Order, run_batch
from imgflow.bench.photos import write_photos
from imgflow.defs.launch import instance, launch
from imgflow.defs.resources import Progress
from imgflow.home import Home

# Dagster as it is without imgflow's event log.
_DAGSTERS_OWN = "# Dagster's defaults\ntelemetry: {enabled: false}\n"


@dataclass(frozen=True, slots=True)
class Overhead:
    """One way to take images through that are all made: per image, in milliseconds."""

    name: str
    wall_ms: float
    parent_cpu_ms: float
    events: float


def bench_overhead(images: int) -> list[Overhead]:
    """The bare chain, Dagster with the project's settings, Dagster with its own event log."""
    with tempfile.TemporaryDirectory(prefix="imgflow-bench-") as folder:
        ours, plain = Home(Path(folder) / "ours"), Home(Path(folder) / "plain")
        plain.dagster.mkdir(parents=True)
        (plain.dagster / "dagster.yaml").write_text(_DAGSTERS_OWN)
        for home in (ours, plain):
            write_photos(home.uploads.root, images, size=(160, 120))
        return [
            _bare(ours, images),
            _dagster("Dagster", ours, images),
            _dagster("Dagster, its own event log", plain, images),
        ]


def _bare(home: Home, images: int) -> Overhead:
    keys = [key for key, _ in home.uploads.scan().photos]
    order = Order(home, run_id="bench")
    list(run_batch(keys, order))
    cpu, clock = time.process_time(), time.perf_counter()
    list(run_batch(keys, order))
    return _overhead("bare chain", cpu, clock, images)


def _dagster(name: str, home: Home, images: int) -> Overhead:
    keys = [key for key, _ in home.uploads.scan().photos]
    launch(keys, home, Progress())
    cpu, clock = time.process_time(), time.perf_counter()
    runs = launch(keys, home, Progress())
    measured = _overhead(name, cpu, clock, images)
    with instance(home) as found:
        events = sum(len(found.all_logs(run.run_id)) for run in runs)
    return replace(measured, events=events / images)


def _overhead(name: str, cpu: float, clock: float, images: int) -> Overhead:
    scale = 1000 / images
    return Overhead(
        name,
        (time.perf_counter() - clock) * scale,
        (time.process_time() - cpu) * scale,
        events=0,
    )


def as_json(rows: list[Overhead]) -> dict[str, Any]:
    """The line of JSON that the command prints last."""
    return {"ways": [asdict(row) for row in rows]}
