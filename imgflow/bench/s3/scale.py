"""A catalog of many keys in a bucket: what a tick, a run and an audit of one photo cost there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from imgflow.bench.photos import write_photos
from imgflow.bench.s3.server import Server, serve
from imgflow.bench.sensor import Queue, queue_of
from imgflow.bench.timing import Seconds, timed
from imgflow.errors import ImgflowError
from imgflow.home import CATALOG, Home
from imgflow.lineage.record import Version
from imgflow.store.bucket import Bucket
from imgflow.store.keys import ImageKey
from imgflow.store.place import Place
from imgflow.watch import index_file

_TICKS_MOST = 400

Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Scale:
    """Times in seconds; `_cpu`: what of that processors worked, which says more on a busy machine.
    The server's work is not in it.

    tick: of the upload sensor, the slowest and the last, which finds nothing new. add: of a tick's
    partitions, and of all together. run: a batch of `batch` photos through Dagster, its workers
    included. audit: one photo by its key.

    Of one photo: events that Dagster kept, bytes that they take, objects and bytes of the store
    (publishing and records included), requests to it that write, read and list.
    """

    keys: int
    ticks: int
    slowest_tick_s: float
    slowest_tick_cpu_s: float
    last_tick_s: float
    last_tick_cpu_s: float
    slowest_add_s: float
    add_s: float
    add_cpu_s: float
    cursor_bytes: int
    index_bytes: int
    batch: int
    run_s: float
    run_cpu_s: float
    audit_s: float
    audit_cpu_s: float
    events: float
    event_bytes: float
    objects: float
    store_bytes: float
    writes: float
    reads: float
    lists: float

    def as_dict(self) -> dict[str, Any]:
        return {name: round(value, 3) for name, value in asdict(self).items()}

    def extrapolated(self, photos: int) -> dict[str, float]:
        """What so many photos come to, each gone through the line once."""
        return {
            "photos": photos,
            "partition sets of 100,000": -(-photos // 100_000),
            "runs of 64": -(-photos // 64),
            "events": self.events * photos,
            "event log, GB": self.event_bytes * photos / 1e9,
            "objects": self.objects * photos,
            "store, TB": self.store_bytes * photos / 1e12,
            "store's requests that write": self.writes * photos,
            "store's requests that read": self.reads * photos,
            "store's requests that list": self.lists * photos,
            "listings of a round through the uploads": -(-photos // 1000),
            "processor hours of runs": self.run_cpu_s / self.batch * photos / 3600,
        }


@dataclass(frozen=True, slots=True)
class _Found:
    """Times of a tick that has found something."""

    tick: Seconds
    add: Seconds


def bench_scale(keys: int, batch: int, told: Told) -> Scale:
    """Uploads of `keys` photos, found by the sensor tick by tick; then `batch` real ones made."""
    with tempfile.TemporaryDirectory(prefix="imgflow-bench-") as folder:
        told(f"filling a bucket with {keys:,} objects")
        with serve("shop", fill=f"shop/in/{keys}") as server:
            before = dict(os.environ)
            os.environ.update(server.settings)
            try:
                return _measured(Path(folder), keys, batch, server, told)
            finally:
                os.environ.clear()
                os.environ.update(before)


def _measured(folder: Path, keys: int, batch: int, server: Server, told: Told) -> Scale:
    home = Home(folder / "data", Place.parse("s3://shop/store"), Place.parse("s3://shop/in"))
    with queue_of(home) as queue:
        ticks, last = _find_all(queue, keys, told)
        cursor = len(queue.cursor or "")
        for queued in queue.instance.get_runs():
            # Nothing was logged for them: to look for that takes a second each.
            queue.instance.run_storage.delete_run(queued.run_id)
    told(f"a run of {batch} photos")
    chosen = _photos(home, batch, folder / "photos")
    before = _kept(home, server)
    run = timed(lambda: _run(home, chosen))
    after = _kept(home, server)
    told("an audit by key")
    audit = timed(lambda: _audit(home, chosen[0]))
    made = {name: (after[name] - before[name]) / batch for name in after}
    return Scale(
        keys=keys,
        ticks=len(ticks),
        slowest_tick_s=max(each.tick.wall for each in ticks),
        slowest_tick_cpu_s=max(each.tick.cpu for each in ticks),
        last_tick_s=last.wall,
        last_tick_cpu_s=last.cpu,
        slowest_add_s=max(each.add.wall for each in ticks),
        add_s=sum(each.add.wall for each in ticks),
        add_cpu_s=sum(each.add.cpu for each in ticks),
        cursor_bytes=cursor,
        index_bytes=index_file(home).stat().st_size,
        batch=batch,
        run_s=run.wall,
        run_cpu_s=run.cpu,
        audit_s=audit.wall,
        audit_cpu_s=audit.cpu,
        **made,
    )


def _find_all(queue: Queue, keys: int, told: Told) -> tuple[list[_Found], Seconds]:
    """Ticks until all keys have their partitions and runs, and one more."""
    found = 0
    ticks: list[_Found] = []
    while found < keys:
        if len(ticks) == _TICKS_MOST:
            raise ImgflowError("bench_failed", f"only {found} of {keys} keys were found")
        told(f"tick {len(ticks) + 1}: {found:,} keys found")
        queue.submit(queue.tick())
        ticks.append(_Found(queue.tick_time, queue.add_time))
        found = len(queue.instance.get_dynamic_partitions("photos"))
    told("one more tick")
    queue.tick()
    return ticks, queue.tick_time


def _photos(home: Home, count: int, folder: Path) -> list[ImageKey]:
    """Real photos in the place of some of the objects, spread over all of them."""
    assert home.inbox is not None
    bucket = Bucket(home.inbox)
    scan = home.uploads.scan()
    chosen = [key for key, _ in scan.photos[:: max(len(scan.photos) // count, 1)]][:count]
    write_photos(folder, count, size=(640, 480))
    for key, path in zip(chosen, sorted(folder.iterdir()), strict=True):
        bucket.put(str(key), path.read_bytes())
    return chosen


def _run(home: Home, keys: list[ImageKey]) -> None:
    from imgflow.defs.launch import launch
    from imgflow.defs.resources import Progress

    for launched in launch(keys, home, Progress()):
        if launched.error:
            raise ImgflowError("bench_failed", launched.error)


def _audit(home: Home, key: ImageKey) -> None:
    from imgflow.defs.eventlog import event_source
    from imgflow.lineage.audit import audit

    with event_source(home) as events:
        (image,) = audit(home.store, CATALOG, events, [key])
    if image.problems or Version.RAW not in image.records:
        raise ImgflowError("bench_failed", f"{key}: {image.problems}")


def _kept(home: Home, server: Server) -> dict[str, float]:
    """Events, their bytes on disk, the store's objects and their bytes, requests so far."""
    from imgflow.defs.launch import instance

    assert home.storage is not None
    asked = server.requests()
    with instance(home) as found:
        events = sum(len(found.all_logs(run.run_id)) for run in found.get_runs())
    files = [path for path in home.dagster.rglob("*") if path.is_file()]
    objects = [each.size for page in Bucket(home.storage).pages() for each in page]
    return {
        "events": events,
        "event_bytes": sum(path.stat().st_size for path in files),
        "objects": len(objects),
        "store_bytes": sum(objects),
        "writes": sum(asked.get(method, 0) for method in ("PUT", "POST")),
        "reads": sum(asked.get(method, 0) for method in ("GET", "HEAD")),
        "lists": asked.get("LIST", 0),
    }
