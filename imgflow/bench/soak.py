"""The line in service for some time, with trouble of all kinds at random; then all must be right.

Trouble is what users, operators and machines make: uploads of every sort, backfills from the UI,
ingests beside the sensor, policy edits, refreshes, and SIGKILL of any process.
"""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus

from imgflow.bench.photos import write_photos
from imgflow.bench.reconcile import Finding, reconcile
from imgflow.bench.service import Service, environment, imgflow_command
from imgflow.defs.launch import instance
from imgflow.defs.queue import NOT_ENDED
from imgflow.errors import ImgflowError
from imgflow.home import CATALOG, Home
from imgflow.lineage.record import Record, Version
from imgflow.refresh import plan_refresh
from imgflow.store.store import sha256_hex
from imgflow.watch import STABLE_S

_SIZE = (320, 240)
_POOL = 200
_FOLDERS = ("spring", "shelf 2/left", "früh", "")
# Photos that may wait at a time: a shop does not send more than its line can take.
_BACKLOG = 48
_DRAIN_S = 1800.0
_POLICY = """
upscale: {{max_scale: 2, min_long_side: 480}}
detext: {{context: {context}}}
renditions:
  - {{name: web, long_side: {web}}}
  - {{name: thumb, long_side: 96, format: webp}}
run: {{batch_size: {batch}}}
retries: {{budget: 1, backoff_s: 0.1}}
"""
# How often each thing happens, seconds on average.
_EVERY_S = {
    "new photos": 12,
    "changed photo": 15,
    "same bytes again": 20,
    "half-written file": 30,
    "stalled upload": 60,
    "broken file": 60,
    "manifest": 60,
    "catalog row": 80,
    "ingest": 60,
    "backfill": 75,
    "refresh": 120,
    "policy edit": 200,
    "worker killed": 40,
    "run killed": 100,
    "daemon killed": 240,
    "everything killed": 240,
    "services stopped and started": 600,
}


@dataclass(slots=True)
class Soak:
    """What was done, and what was found. left: what had not come to rest at the end."""

    seconds: float = 0.0
    drain_seconds: float = 0.0
    injected: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    left: str = ""

    @property
    def mismatches(self) -> int:
        return sum(len(each.wrong) for each in self.findings) + bool(self.left)


def bench_soak(minutes: float, seed: int, folder: Path | None, told: Callable[[str], None]) -> Soak:
    """folder: an empty one to work in and to keep; None: one that is deleted."""
    with tempfile.TemporaryDirectory(prefix="imgflow-soak-") as temporary:
        trouble = _Trouble(folder or Path(temporary), random.Random(seed), told)
        result = Soak(injected=trouble.injected)
        try:
            trouble.begin()
            clock = time.monotonic()
            trouble.go_on(minutes * 60)
            result.seconds = time.monotonic() - clock
            trouble.end()
            clock = time.monotonic()
            result.left = trouble.drain()
            result.drain_seconds = time.monotonic() - clock
        finally:
            trouble.service.stop()
        told("reconciling")
        result.findings = list(reconcile(trouble.home, trouble.uploaded, trouble.folder))
        died = trouble.worker_died
        killed = trouble.injected["worker killed"]
        loss = Finding("photos that a killed worker cost, run again by a person", died)
        if died > killed:
            loss.wrong.append(f"{died} photos for {killed} killed workers")
        result.findings.append(loss)
        result.outcomes = _outcomes(trouble.home)
        return result


class _Trouble:
    """Everything that happens to one installation, by one random generator."""

    def __init__(self, folder: Path, chance: random.Random, told: Callable[[str], None]) -> None:
        self.folder = folder
        self.home = Home(folder / "data")
        self.chance = chance
        self.told = told
        self.service = Service(self.home, folder, {"IMGFLOW_REFRESH_CRON": "* * * * *"})
        self.injected: Counter[str] = Counter()
        self.uploaded: dict[str, set[str]] = defaultdict(set)
        self.current: dict[str, str] = {}
        self.worker_died = 0
        self._photos = self._endless()
        self._unfinished: list[tuple[float, Path, bytes]] = []
        self._ingests: list[tuple[subprocess.Popen[bytes], dict[str, str]]] = []
        self._numbers = itertools.count()

    # -- the whole of it ---------------------------------------------------------------

    def begin(self) -> None:
        """Start the services on an empty installation."""
        for name in ("dagster.yaml", "workspace.yaml"):
            (self.folder / name).write_bytes(Path(name).read_bytes())
        self.home.uploads.root.mkdir(parents=True)
        self._edit_policy()
        self.service.start()
        self.service.wait_until_up()

    def go_on(self, seconds: float) -> None:
        """Do at random what `_EVERY_S` says, for so long."""
        end = time.monotonic() + seconds
        due = {what: self._later(what) for what in _EVERY_S}
        while time.monotonic() < end:
            what = min(due, key=lambda each: due[each])
            while time.monotonic() < min(due[what], end):
                self._keep_up()
                time.sleep(0.2)
            due[what] = self._later(what)
            if self._do(what):
                self.injected[what] += 1
                self.told(what)

    def _later(self, what: str) -> float:
        return time.monotonic() + self.chance.expovariate(1 / _EVERY_S[what])

    def _keep_up(self) -> None:
        """What goes on beside: uploads are finished, and a supervisor starts what has ended."""
        now = time.monotonic()
        for each in [each for each in self._unfinished if each[0] <= now]:
            self._unfinished.remove(each)
            _, path, rest = each
            with path.open("ab") as file:
                file.write(rest)
            self._is_uploaded(self._key(path), path.read_bytes())
        for process, keys in [each for each in self._ingests if each[0].poll() is not None]:
            self._ingests.remove((process, keys))
            if process.returncode != 0:
                raise ImgflowError("ingest_failed", f"imgflow ingest ended {process.returncode}")
            for key, sha256 in keys.items():
                self.current[key] = sha256
        if not self.service.is_running:
            time.sleep(self.chance.uniform(0, 5))
            self.told("services started again")
            self.service.start()

    def end(self) -> None:
        """Finish what has begun; nothing is uploaded or killed from now on."""
        while self._ingests or self._unfinished or not self.service.is_running:
            self._keep_up()
            time.sleep(0.2)
        self.service.wait_until_up()

    def drain(self) -> str:
        """Let everything come to rest; returns what has not."""
        calm, state = 0, ""
        end = time.monotonic() + _DRAIN_S
        while calm < 3:
            if time.monotonic() > end:
                return state
            self._keep_up()
            time.sleep(15)
            self._refresh()
            self._ask_again_for_the_unlucky()
            state = self._unrest()
            calm = 0 if state else calm + 1
            self.told(state or "at rest")
        return ""

    def _unrest(self) -> str:
        """What is still going on; empty if nothing is."""
        with instance(self.home) as dagster:
            runs = len(dagster.get_runs(dg.RunsFilter(statuses=list(NOT_ENDED))))
            waiting = [BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING]
            backfills = len(dagster.get_backfills(BulkActionsFilter(statuses=waiting)))
        plan = plan_refresh(self.home)
        busy = {"runs": runs, "backfills": backfills, "photos": plan.wanted + plan.busy}
        return ", ".join(f"{count} {what}" for what, count in busy.items() if count)

    def _ask_again_for_the_unlucky(self) -> None:
        """What a person does about photos whose worker was killed: have them run again."""
        died = {record.key for record in self._records() if _worker_died(record)}
        with instance(self.home) as dagster:
            if not died or dagster.get_runs(dg.RunsFilter(statuses=list(NOT_ENDED)), limit=1):
                return
        self.worker_died += len(died)
        self.service.backfill(list(Version), sorted(died))

    # -- what happens ------------------------------------------------------------------

    def _do(self, what: str) -> bool:
        """Do one thing; false where there was nothing to do it to."""
        actions: dict[str, Callable[[], bool]] = {
            "new photos": self._new_photos,
            "changed photo": self._changed_photo,
            "same bytes again": self._same_bytes_again,
            "half-written file": lambda: self._written_in_pieces(0.5 * STABLE_S),
            "stalled upload": lambda: self._written_in_pieces(5 * STABLE_S),
            "broken file": self._broken_file,
            "manifest": self._manifest,
            "catalog row": self._catalog_row,
            "ingest": self._ingest,
            "backfill": self._backfill,
            "refresh": self._refresh,
            "policy edit": self._edit_policy,
            "worker killed": lambda: self._kill_one("worker"),
            "run killed": lambda: self._kill_one("run"),
            "daemon killed": lambda: self._kill_one("daemon"),
            "everything killed": lambda: self.service.kill(self.service.processes()) > 0,
            "services stopped and started": self._stop,
        }
        return actions[what]()

    def _new_photos(self) -> bool:
        if self._backlog() >= _BACKLOG:
            return False
        for _ in range(self.chance.randint(1, 10)):
            self._put(self._new_path(), next(self._photos))
        return True

    def _changed_photo(self) -> bool:
        path = self._known_path()
        if path is None:
            return False
        self._put(path, next(self._photos))
        return True

    def _same_bytes_again(self) -> bool:
        path = self._known_path()
        if path is None:
            return False
        path.write_bytes(path.read_bytes())
        return True

    def _written_in_pieces(self, pause_s: float) -> bool:
        """An upload of which the second half comes later."""
        data, path = next(self._photos), self._new_path()
        half = self.chance.randint(1, len(data) - 1)
        path.write_bytes(data[:half])
        self._unfinished.append((time.monotonic() + pause_s, path, data[half:]))
        return True

    def _broken_file(self) -> bool:
        photo = next(self._photos)
        data = self.chance.choice([b"<html>404</html>", photo[: len(photo) // 3]])
        path = self._known_path() if self.chance.random() < 0.3 else self._new_path()
        if path is None:
            return False
        self._put(path, data)
        return True

    def _manifest(self) -> bool:
        path = self._known_path()
        if path is None:
            return False
        steps = self.chance.choice([[{"op": "upscale", "scale": 2}], [{"op": "remove_text"}]])
        text = json.dumps({"asset_type": self.chance.choice(["web", "social"]), "steps": steps})
        path.with_name(f"{path.name}.json").write_text(text)
        return True

    def _catalog_row(self) -> bool:
        keys = sorted(self.current)
        if not keys:
            return False
        chosen = self.chance.sample(keys, min(5, len(keys)))
        lines = [f'"{key}",{self.chance.choice(["low", "normal", "high"])}' for key in chosen]
        self._replace(self.home.catalog_file, "\n".join(["key,criticality", *lines, ""]).encode())
        return True

    def _ingest(self) -> bool:
        """New photos and changed ones by the command, while the sensor does its work."""
        if self._ingests or self._backlog() >= _BACKLOG:
            return False
        number = sum(self.injected.values())
        source = self.folder / "sources" / str(number) / "by hand"
        source.mkdir(parents=True)
        keys = {}
        names = [f"ingested {number} {each}.jpg" for each in range(self.chance.randint(1, 5))]
        names += [key.rpartition("/")[2] for key in self.current if key.startswith("by hand/")][:1]
        for name in names:
            data = next(self._photos)
            (source / name).write_bytes(data)
            keys[f"by hand/{name}"] = sha256_hex(data)
            self.uploaded[f"by hand/{name}"].add(sha256_hex(data))
            self.current.pop(f"by hand/{name}", None)
        process = subprocess.Popen(  # noqa: S603
            [imgflow_command(), "ingest", str(source)],
            env=environment(self.home),
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
        )
        self._ingests.append((process, keys))
        return True

    def _backfill(self) -> bool:
        """Any versions of a few partitions: adjacent, gapped, scattered, single."""
        with instance(self.home) as dagster:
            keys = dagster.get_dynamic_partitions("photos")
            waiting = dagster.get_runs_count(dg.RunsFilter(statuses=list(NOT_ENDED)))
        if len(keys) < 6 or waiting > 5:
            return False
        versions = self.chance.choice(
            [list(Version), self.chance.sample(list(Version), self.chance.randint(1, 4))]
        )
        first = self.chance.randrange(len(keys) - 5)
        photos = self.chance.choice(
            [
                keys[first : first + 5],
                [*keys[first : first + 2], *keys[first + 3 : first + 5]],
                self.chance.sample(list(keys), 3),
                [keys[first]],
            ]
        )
        return self._asked(lambda: self.service.backfill(versions, photos))

    def _asked(self, ask: Callable[[], Any]) -> bool:
        """Whether the webserver was there to be asked."""
        try:
            ask()
        except OSError:
            return False
        return True

    def _refresh(self) -> bool:
        """Have the schedule begin a new comparison at its next tick, a minute away at most."""
        (self.home.watch / "refresh.json").unlink(missing_ok=True)
        return True

    def _edit_policy(self) -> bool:
        text = _POLICY.format(
            context=self.chance.choice([24, 32]),
            web=self.chance.choice([200, 240, 280]),
            batch=self.chance.choice([24, 64]),
        )
        self._replace(self.home.policy_file, text.encode())
        return True

    def _kill_one(self, role: Any) -> bool:
        found = self.service.processes(role)
        return bool(found) and self.service.kill([self.chance.choice(found)]) > 0

    def _stop(self) -> bool:
        self.service.stop()
        return True

    # -- files -------------------------------------------------------------------------

    def _put(self, path: Path, data: bytes) -> None:
        """Upload in one step, as most tools do."""
        self._replace(path, data)
        self._is_uploaded(self._key(path), data)

    def _replace(self, path: Path, data: bytes) -> None:
        partial = path.with_name(f".{path.name}.part")
        partial.write_bytes(data)
        partial.replace(path)

    def _is_uploaded(self, key: str, data: bytes) -> None:
        self.current[key] = sha256_hex(data)
        self.uploaded[key].add(sha256_hex(data))

    def _key(self, path: Path) -> str:
        return path.relative_to(self.home.uploads.root).as_posix()

    def _new_path(self) -> Path:
        folder = self.home.uploads.root / self.chance.choice(_FOLDERS)
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"photo {next(self._numbers):04}.jpg"

    def _known_path(self) -> Path | None:
        """A photo whose bytes have been taken in: what is replaced before is lost, as anywhere."""
        originals = self.home.root / "store/originals"
        known = [
            key
            for key, sha256 in sorted(self.current.items())
            if (originals / sha256[:2] / sha256).is_file()
        ]
        return self.home.uploads.root / self.chance.choice(known) if known else None

    def _backlog(self) -> int:
        originals = self.home.root / "store/originals"
        return sum(not (originals / each[:2] / each).is_file() for each in self.current.values())

    def _records(self) -> list[Record]:
        return list(self.home.store.records(CATALOG))

    def _endless(self) -> Any:
        """Photos as bytes, no two alike."""
        for seed in range(1_000_000):
            folder = self.folder / "photos"
            write_photos(folder, _POOL, size=_SIZE, seed=seed)
            for path in sorted(folder.iterdir()):
                yield path.read_bytes()


def _worker_died(record: Record) -> bool:
    return record.reason is not None and record.reason.code == "worker_died"


def _outcomes(home: Home) -> Counter[str]:
    """Photos by what became of them."""
    outcomes: dict[str, str] = {}
    for record in home.store.records(CATALOG):
        if record.verdict.stops and not outcomes.get(record.key, "").startswith("stopped"):
            code = record.reason.code if record.reason else str(record.verdict)
            outcomes[record.key] = f"stopped at {record.version}: {code}"
        elif record.key not in outcomes:
            outcomes[record.key] = "published"
    return Counter(outcomes.values())


def as_json(soak: Soak) -> dict[str, Any]:
    """The line of JSON that the command prints last."""
    return {
        "minutes": round(soak.seconds / 60, 1),
        "drain_s": round(soak.drain_seconds),
        "injected": dict(soak.injected),
        "found": {each.what: each.count for each in soak.findings},
        "outcomes": dict(soak.outcomes),
        "mismatches": soak.mismatches,
    }
