"""How long an audit takes and what memory it needs, over catalogs made of a few real photos.

The photos go through the line once. Their records, objects and events are then copied under new
keys, each with bytes of its own, so that a catalog of any size is there in a minute.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from imgflow.bench.photos import write_photos
from imgflow.defs.launch import launch
from imgflow.defs.resources import Progress
from imgflow.errors import ImgflowError
from imgflow.home import CATALOG, Home
from imgflow.lineage.events import RECORD_DIGITS
from imgflow.lineage.record import Version
from imgflow.lineage.seal import sealed, unsealed
from imgflow.store.keys import ImageKey
from imgflow.store.local import LocalStore
from imgflow.store.store import sha256_hex

_MODELS = 2  # photos that are really made, one of them with text
_TIMES = 5  # that a single image is asked for
# The command itself; as its last line its processor seconds, and what memory its process had
# needed at most, in kB.
_COMMAND = """
import atexit, sys, time
def told():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            print(time.process_time(), line.split()[1], file=sys.stderr)
atexit.register(told)
from imgflow.cli import main
main()
"""


@dataclass(frozen=True, slots=True)
class AuditRun:
    """One audit, as a command in a process of its own: its start is counted."""

    what: str
    images: int
    records: int
    files: int
    gigabytes: float
    events: int
    problems: int
    seconds: float
    cpu_seconds: float
    peak_mb: float


def bench_audit(images: int, many: int, tell: Callable[[str], None]) -> list[AuditRun]:
    """Audits of a catalog of `images`, of one of them, and of 1,000 and of `many` records.

    The last two have files of a few bytes: what grows there is the number of things alone.
    """
    with tempfile.TemporaryDirectory(prefix="imgflow-bench-") as folder:
        tell(f"{_MODELS} photos go through the line")
        models = _models(Home(Path(folder) / "models"))
        tell(f"a catalog of {images} photos is made of them")
        full = _made(Home(Path(folder) / "full"), models, images, whole=True)
        tell("audit")
        runs = [_audit("whole catalog", full)]
        runs.append(_single(full))
        shutil.rmtree(full.root)
        for records in (1000, many):
            tell(f"a catalog of {records} records is made")
            small = _made(Home(Path(folder) / str(records)), models, records // 5, whole=False)
            tell("audit")
            runs.append(_audit(f"{records} records", small))
            shutil.rmtree(small.root)
        return runs


@dataclass(frozen=True, slots=True)
class _Models:
    """A home whose photos were really made, and the keys of those that were published."""

    home: Home
    keys: list[ImageKey]


def _models(home: Home) -> _Models:
    write_photos(home.uploads.root, _MODELS, size=(640, 480))
    keys = [key for key, _ in home.uploads.scan().photos]
    launch(keys, home, Progress())
    published = [key for key in keys if home.store.get_record(CATALOG, key, Version.PUBLISHED)]
    if not published:
        raise ImgflowError("bench_nothing_published", "none of the photos was published")
    return _Models(home, published)


def _made(home: Home, models: _Models, images: int, *, whole: bool) -> Home:
    """A catalog of copies. whole: with the models' files, else with a few bytes in their place."""
    shutil.copytree(models.home.dagster, home.dagster, symlinks=True)
    source, target = LocalStore(models.home.store_folder), LocalStore(home.store_folder)
    with closing(sqlite3.connect(home.dagster / "history/runs/index.db")) as index:
        told = {key: _events(index, key) for key in models.keys}
        index.execute("DELETE FROM event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION'")
        originals = {key: _Original(source, key) for key in models.keys}
        for number in range(images):
            model = models.keys[number % len(models.keys)]
            new = originals[model].copied(target, number, whole=whole)
            for row in told[model]:
                event, partition = (_replaced(text, new) for text in (row[2], row[7]))
                index.execute(
                    "INSERT INTO event_logs (run_id, event, dagster_event_type, timestamp, "
                    "step_key, asset_key, partition) VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (row[1], event, *row[3:7], partition),
                )
        index.commit()
    return home


def _events(index: sqlite3.Connection, key: str) -> list[tuple[Any, ...]]:
    query = (
        "SELECT * FROM event_logs "
        "WHERE dagster_event_type = 'ASSET_MATERIALIZATION' AND partition = ? ORDER BY id"
    )
    return index.execute(query, (key,)).fetchall()


class _Original:
    """One photo that was really made, with all of its files."""

    def __init__(self, store: LocalStore, key: ImageKey) -> None:
        self._key = str(key)
        self._records = {
            version: unsealed(text)[0].decode()
            for files in store.image_files(CATALOG, key.digest)
            for version, text in files.current.items()
        }
        self._digests = {
            version: store.record_sha256(CATALOG, key, version)[:RECORD_DIGITS]
            for version in self._records
        }
        self._files = {
            path.name.partition(".")[0]: (path.relative_to(store.root), path.read_bytes())
            for area in ("originals", "objects")
            for path in (store.root / area).rglob("*")
            if path.is_file()
            and any(path.name.partition(".")[0] in text for text in self._records.values())
        }
        self._published = [
            (path.relative_to(store.root), sha256_hex(path.read_bytes()))
            for path in (store.root / "published" / CATALOG / self._key).iterdir()
        ]

    def copied(self, store: LocalStore, number: int, *, whole: bool) -> dict[str, str]:
        """A copy under a new key; what stands for what in it."""
        new = {self._key: f"made/{number:06}.jpg"}
        bytes_of = {}
        for sha256, (path, data) in self._files.items():
            # PNG, JPEG and WebP may all be followed by further bytes.
            copy = (data if whole else sha256[:8].encode()) + number.to_bytes(8)
            new[sha256] = sha256_hex(copy)
            bytes_of[sha256] = copy
            _write(store.root / path.parts[0] / new[sha256][:2] / _renamed(path, new), copy)
        for path, sha256 in self._published:
            _write(store.root / _replaced(str(path), new), bytes_of[sha256])
        digest = ImageKey(new[self._key]).digest
        for version, text in self._records.items():
            record = sealed(_replaced(text, new).encode())
            new[self._digests[version]] = sha256_hex(record)[:RECORD_DIGITS]
            _write(store.root / "records" / CATALOG / digest / f"{version}.json", record)
        return new


def _renamed(path: Path, new: dict[str, str]) -> str:
    sha256, dot, suffix = path.name.partition(".")
    return f"{new[sha256]}{dot}{suffix}"


def _replaced(text: str, new: dict[str, str]) -> str:
    for old, put in new.items():
        text = text.replace(old, put)
    return text


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _audit(what: str, home: Home, *keys: str) -> AuditRun:
    environment = {**os.environ, "IMGFLOW_HOME": str(home.root)}
    environment.pop("DAGSTER_HOME", None)
    started = time.perf_counter()
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", _COMMAND, "audit", "--json", *keys],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    seconds = time.perf_counter() - started
    found = json.loads(done.stdout)
    cpu_seconds, peak_kb = done.stderr.split()[-2:]
    return AuditRun(
        what=what,
        images=found["images"],
        records=found["versions"],
        files=found["files"],
        gigabytes=found["bytes"] / 1e9,
        events=found["events"],
        problems=len(found["problems"]),
        seconds=seconds,
        cpu_seconds=float(cpu_seconds),
        peak_mb=int(peak_kb) / 1024,
    )


def _single(home: Home) -> AuditRun:
    """The median of a few."""
    runs = [_audit("a single image", home, key) for key in _some(home)]
    median = statistics.median_low(run.seconds for run in runs)
    return next(run for run in runs if run.seconds == median)


def _some(home: Home) -> Iterator[str]:
    keys = iter(home.store.image_keys(CATALOG))
    for _ in range(_TIMES):
        yield str(next(keys))


def as_json(runs: list[AuditRun]) -> dict[str, Any]:
    """The line of JSON that the command prints last."""
    return {"audits": [asdict(run) for run in runs]}
