"""A batch of photos dropped into the upload folder: seconds until the last one is published."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgflow.bench.photos import write_photos
from imgflow.bench.service import Service, until
from imgflow.home import CATALOG, Home
from imgflow.lineage.record import Version

SIZE = (640, 480)
_PATIENCE_S = 600.0


@dataclass(frozen=True, slots=True)
class Drop:
    """One batch. Seconds since its last file was written; services_up: 0 if they were before."""

    what: str
    images: int
    services_up: float
    noticed: float
    run_started: float
    first_published: float
    all_done: float
    published: int
    stopped: int


def bench_drop(images: int, told: Callable[[str], None]) -> list[Drop]:
    """Two batches: one dropped as the services are started, one into the running service.

    Works on an installation of its own. Raises ImgflowError (code service_down).
    """
    with tempfile.TemporaryDirectory(prefix="imgflow-bench-") as folder:
        home = Home(Path(folder) / "data")
        service = Service(home, Path.cwd())
        batches = [Path(folder) / name for name in ("cold", "warm")]
        for seed, batch in enumerate(batches):
            told(f"making {images} photos")
            write_photos(batch, images, size=SIZE, seed=seed)
        home.uploads.root.mkdir(parents=True)
        try:
            told("services are starting")
            dropped = _drop(batches[0], home)
            service.start()
            service.wait_until_up()
            up = time.time() - dropped
            cold = _measured("services started with it", batches[0].name, home, dropped, up)
            told("services are warm")
            dropped = _drop(batches[1], home)
            return [cold, _measured("into running services", batches[1].name, home, dropped, 0.0)]
        finally:
            service.stop()


def _drop(batch: Path, home: Home) -> float:
    """Put a folder of photos in place, its files as new as the folder; returns when."""
    for photo in batch.iterdir():
        photo.touch()
    batch.rename(home.uploads.root / batch.name)
    return time.time()


def _measured(what: str, folder: str, home: Home, dropped: float, up: float) -> Drop:
    keys = {str(key) for key, _ in home.uploads.scan().photos if key.startswith(f"{folder}/")}
    outcomes: dict[str, tuple[float, bool]] = {}

    def are_done() -> bool:
        outcomes.update(_outcomes(home))
        return keys <= set(outcomes)

    until(are_done, _PATIENCE_S, f"{len(keys)} photos are not all done", every_s=1.0)
    times = {key: at for key, (at, _) in outcomes.items() if key in keys}
    published = [key for key in times if outcomes[key][1]]
    created, started = _first_run(home, dropped)
    return Drop(
        what=what,
        images=len(keys),
        services_up=up,
        noticed=created - dropped,
        run_started=started - dropped,
        first_published=min((times[key] for key in published), default=dropped) - dropped,
        all_done=max(times.values()) - dropped,
        published=len(published),
        stopped=len(keys) - len(published),
    )


def _outcomes(home: Home) -> dict[str, tuple[float, bool]]:
    """When each photo that is done was so, Unix time, and whether it is published."""
    found = {}
    for record in home.store.records(CATALOG):
        if record.version is Version.PUBLISHED or record.verdict.stops:
            done = record.started_at.timestamp() + record.seconds
            found[record.key] = done, not record.verdict.stops
    return found


def _first_run(home: Home, dropped: float) -> tuple[float, float]:
    """When the first run after a drop was created and when it started, Unix time."""
    from imgflow.defs.launch import instance

    with instance(home) as dagster:
        runs = dagster.get_run_records(ascending=True)
        first = next(run for run in runs if run.create_timestamp.timestamp() > dropped)
        return first.create_timestamp.timestamp(), first.start_time or float("nan")


def as_json(drops: Sequence[Drop]) -> dict[str, Any]:
    """The line of JSON that the command prints last."""
    cold, warm = drops
    return {
        "images": cold.images,
        "cold_s": round(cold.all_done, 1),
        "warm_s": round(warm.all_done, 1),
        "cold_published": cold.published,
        "warm_published": warm.published,
    }
