"""A catalog of many keys in a bucket: what a tick, a run and an audit of one photo cost there."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from imgflow.bench.photos import write_photos
from imgflow.bench.s3.server import serve
from imgflow.bench.sensor import queue_of
from imgflow.errors import ImgflowError
from imgflow.home import CATALOG, Home
from imgflow.lineage.record import Version
from imgflow.store.bucket import Bucket
from imgflow.store.keys import ImageKey
from imgflow.store.place import Place

_TICKS_MOST = 200


@dataclass(frozen=True, slots=True)
class Scale:
    """Times in seconds. tick: of the upload sensor, the slowest and the last, which finds nothing
    new. add: of partitions, all together. run: a batch of `batch` photos through Dagster, with
    `images_s` of their own. audit: one photo by its key.

    Of one photo: events that Dagster kept, bytes that they take, bytes and requests of the store
    (publishing and records included), objects.
    """

    keys: int
    ticks: int
    slowest_tick_s: float
    last_tick_s: float
    slowest_add_s: float
    add_s: float
    cursor_bytes: int
    batch: int
    run_s: float
    audit_s: float
    events: float
    event_bytes: float
    objects: float
    store_bytes: float

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
            "listings of a round through the uploads": -(-photos // 1000),
        }


def bench_scale(keys: int, batch: int, told: Callable[[str], None]) -> Scale:
    """Uploads of `keys` photos, found by the sensor tick by tick; then `batch` real ones made."""
    with tempfile.TemporaryDirectory(prefix="imgflow-bench-") as folder:
        told(f"filling a bucket with {keys:,} objects")
        with serve("shop", fill=f"shop/in/{keys}") as server:
            before = dict(os.environ)
            os.environ.update(server.settings)
            try:
                return _measured(Path(folder), keys, batch, told)
            finally:
                os.environ.clear()
                os.environ.update(before)


def _measured(folder: Path, keys: int, batch: int, told: Callable[[str], None]) -> Scale:
    home = Home(folder / "data", Place.parse("s3://shop/store"), Place.parse("s3://shop/in"))
    with queue_of(home) as queue:
        found = 0
        ticks: list[float] = []
        adds: list[float] = []
        # The last round finds nothing: all is in a run, or being waited for.
        while found < keys:
            told(f"tick {len(ticks) + 1}: {found:,} keys found")
            queue.submit(queue.tick())
            ticks.append(queue.tick_s)
            adds.append(queue.add_s)
            found = len(queue.instance.get_dynamic_partitions("photos"))
            if len(ticks) > _TICKS_MOST:
                raise ImgflowError("bench_failed", f"only {found} of {keys} keys were found")
        told("one more tick")
        queue.tick()
        cursor = len(queue.cursor or "")
        for run in queue.instance.get_runs():
            queue.instance.delete_run(run.run_id)
        last = queue.tick_s
    told(f"a run of {batch} photos")
    chosen = _photos(home, batch, folder / "photos")
    before = _kept(home)
    run_s = _run(home, chosen)
    after = _kept(home)
    told("an audit by key")
    audit_s = _audit(home, chosen[0])
    rate = [(after[name] - before[name]) / batch for name in after]
    return Scale(
        keys=keys,
        ticks=len(ticks),
        slowest_tick_s=max(ticks),
        last_tick_s=last,
        slowest_add_s=max(adds),
        add_s=sum(adds),
        cursor_bytes=cursor,
        batch=batch,
        run_s=run_s,
        audit_s=audit_s,
        events=rate[0],
        event_bytes=rate[1],
        objects=rate[2],
        store_bytes=rate[3],
    )


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


def _run(home: Home, keys: list[ImageKey]) -> float:
    from imgflow.defs.launch import launch
    from imgflow.defs.resources import Progress

    began = time.perf_counter()
    for launched in launch(keys, home, Progress()):
        if launched.error:
            raise ImgflowError("bench_failed", launched.error)
    return time.perf_counter() - began


def _audit(home: Home, key: ImageKey) -> float:
    from imgflow.defs.eventlog import event_source
    from imgflow.lineage.audit import audit

    began = time.perf_counter()
    with event_source(home) as events:
        (image,) = audit(home.store, CATALOG, events, [key])
    if image.problems or Version.RAW not in image.records:
        raise ImgflowError("bench_failed", f"{key}: {image.problems}")
    return time.perf_counter() - began


def _kept(home: Home) -> dict[str, float]:
    """Events, their bytes on disk, the store's objects and their bytes."""
    from imgflow.defs.launch import instance

    assert home.storage is not None
    with instance(home) as found:
        events = sum(len(found.all_logs(run.run_id)) for run in found.get_runs())
    files = [path for path in home.dagster.rglob("*") if path.is_file()]
    objects = [each.size for page in Bucket(home.storage).pages() for each in page]
    return {
        "events": events,
        "event_bytes": sum(path.stat().st_size for path in files),
        "objects": len(objects),
        "store_bytes": sum(objects),
    }
