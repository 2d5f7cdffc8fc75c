"""Ticks of the upload sensor over many photos: how long they take, and what they find."""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from imgflow.bench.timing import Seconds, timed
from imgflow.home import Home

_PER_FOLDER = 1000


@dataclass(frozen=True, slots=True)
class Tick:
    """One tick. doubled: keys that an earlier tick or this one had requested already."""

    what: str
    seconds: float
    requests: int
    keys: int
    doubled: int


def bench_sensor(files: int, told: Callable[[str], None]) -> list[Tick]:
    """Ticks until all `files` are requested, with their runs queued and none begun, and one more.

    Nothing is made: the time of a tick does not depend on what is in the photos.
    """
    with tempfile.TemporaryDirectory(prefix="imgflow-bench-") as folder, _queue(folder) as queue:
        told(f"writing {files} files")
        _write_files(queue.home.uploads.root, files)
        time.sleep(3.5)  # until they count as whole
        seen: Counter[str] = Counter()
        ticks: list[Tick] = []
        while not ticks or ticks[-1].keys:
            what = "all known, all queued" if sum(seen.values()) >= files else "new photos"
            told(f"tick {len(ticks) + 1}")
            started = time.perf_counter()
            result = queue.tick()
            seconds = time.perf_counter() - started
            before = len(seen)
            keys = queue.submit(result)
            seen.update(keys)
            ticks.append(
                Tick(
                    what,
                    seconds,
                    len(result.run_requests or []),
                    len(keys),
                    len(keys) - (len(seen) - before),
                )
            )
        return ticks


@dataclass(slots=True)
class Queue:
    """The sensor on an instance of its own, whose daemon's part is played here.

    tick_time, add_time: of the last tick: the sensor itself, and the adding of its partitions.
    """

    home: Home
    instance: dg.DagsterInstance
    definitions: dg.Definitions
    cursor: str | None = None
    tick_time: Seconds = field(default_factory=Seconds)
    add_time: Seconds = field(default_factory=Seconds)

    def tick(self) -> dg.SensorResult:
        """What a tick of the sensor asks for; its new partitions are added."""
        from imgflow.defs.resources import HomeResource

        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, definitions=self.definitions
        )
        store, uploads = self.home.places
        resource = HomeResource(root=str(self.home.root), store=store, uploads=uploads)
        sensor = self.definitions.resolve_sensor_def("upload_sensor")
        results: list[Any] = []
        self.tick_time = timed(lambda: results.append(sensor(context, home=resource)))
        (result,) = results
        assert isinstance(result, dg.SensorResult)
        self.add_time = timed(lambda: self._add(result))
        self.cursor = result.cursor
        return result

    def _add(self, result: dg.SensorResult) -> None:
        for added in result.dynamic_partitions_requests or []:
            self.instance.add_dynamic_partitions("photos", list(added.partition_keys))

    def submit(self, result: dg.SensorResult) -> list[str]:
        """Queue the runs that were asked for; returns their images' keys."""
        from imgflow.defs.orphans import process_tag
        from imgflow.defs.queue import keys_of

        known = list(self.instance.get_dynamic_partitions("photos"))
        position = {key: at for at, key in enumerate(known)}
        keys: list[str] = []
        for request in result.run_requests or []:
            # Without the snapshots that a real run has: they take a second each.
            run = self.instance.add_run(
                dg.DagsterRun(
                    "rescue_photos",
                    run_config=request.run_config,
                    # This process has them: else they would be given up after a few minutes.
                    tags={**request.tags, **process_tag()},
                )
            )
            keys += keys_of(run, known, position)
        return keys


@contextmanager
def _queue(folder: str) -> Iterator[Queue]:
    with queue_of(Home(Path(folder) / "data")) as found:
        yield found


@contextmanager
def queue_of(home: Home) -> Iterator[Queue]:
    """The sensor of an installation, on Dagster's instance of that."""
    from imgflow.definitions import line_definitions
    from imgflow.defs.launch import instance

    before = os.environ.pop("DAGSTER_HOME", None)
    try:
        with instance(home) as found:
            yield Queue(home, found, line_definitions(str(home.root)))
    finally:
        if before is not None:
            os.environ["DAGSTER_HOME"] = before


def _write_files(root: Path, files: int) -> None:
    for number in range(files):
        folder = root / f"shelf_{number // _PER_FOLDER:03}"
        if number % _PER_FOLDER == 0:
            folder.mkdir(parents=True)
        (folder / f"photo_{number:06}.jpg").write_bytes(b"photo %d" % number)


def as_json(ticks: Sequence[Tick]) -> dict[str, Any]:
    """The line of JSON that the command prints last."""
    return {
        "ticks": len(ticks),
        "slowest_tick_s": round(max(tick.seconds for tick in ticks), 2),
        "keys": sum(tick.keys for tick in ticks),
        "doubled": sum(tick.doubled for tick in ticks),
    }
