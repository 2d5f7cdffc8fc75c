"""kill -9 at any moment, then the same command again: nothing lost, nothing twice, nothing half."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pool_work
import psutil
import pytest
from samples import encoded, photo

from imgflow.defs.launch import instance
from imgflow.home import CATALOG, Home
from imgflow.lineage.record import ObjectRef, Record, Verdict, Version
from imgflow.pool import supervise
from imgflow.store.keys import ImageKey
from imgflow.store.store import sha256_hex

IMAGES = 9
POLICY = """
upscale: {max_scale: 1, sharpen_below: 0}
detext: {text: none}
renditions: [{name: web, long_side: 48}]
run: {workers: 2}
retries: {budget: 1, backoff_s: 0.01}
"""
# A worker that is gone after this long ended with its parent; a photo is done in no time.
PATIENCE_S = 10


@pytest.fixture
def shop(tmp_path: Path) -> Home:
    """An installation with a few photos, no two alike."""
    home = Home(tmp_path / "data")
    home.uploads.root.mkdir(parents=True)
    home.policy_file.write_text(POLICY)
    pixels = photo("coffee", 64).copy()
    for number in range(IMAGES):
        pixels[:8, :8] = 20 * number
        (home.uploads.root / f"{number:02}.png").write_bytes(encoded(pixels))
    return home


@pytest.fixture
def command(shop: Home, tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts `imgflow run` as a process group of its own; whatever is left of it ends here."""
    started: list[subprocess.Popen[str]] = []
    environment = {**os.environ, "IMGFLOW_HOME": str(shop.root)}
    environment.pop("DAGSTER_HOME", None)

    def start() -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen(
                [Path(sys.executable).with_name("imgflow"), "run", "--json"],
                cwd=tmp_path,
                env=environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def finished(process: subprocess.Popen[str]) -> dict[str, int]:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return json.loads(output.strip().splitlines()[-1])


def until(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.005)


def published(home: Home) -> int:
    return len(list((home.root / "store").glob(f"records/{CATALOG}/*/published.json")))


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    children = psutil.Process(process.pid).children(recursive=True)
    return [each for each in children if "spawn_main" in " ".join(each.cmdline())]


def gone(processes: list[psutil.Process]) -> bool:
    return not any(
        each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in processes
    )


def check_store(home: Home) -> list[Record]:
    """All records, after a look at every byte in the store."""
    store = home.store
    for area in ("originals", "objects"):
        for path in (home.root / "store" / area).rglob("*"):
            if path.is_file() and not path.name.startswith(".writing-"):
                assert sha256_hex(path.read_bytes()) == path.name.split(".")[0], path
    records = list(store.records(CATALOG))  # raises for one that does not parse
    for record in records:
        refs = [record.input, record.output, record.rejected]
        refs += [rendition.object for rendition in record.renditions]
        for ref in filter(None, refs):
            assert isinstance(ref, ObjectRef)
            assert len(store.read(ref)) == ref.size  # raises for other bytes
        assert record.original_sha256 is not None
        upload = home.uploads.path_of(ImageKey(record.key)).read_bytes()
        assert store.read_original(record.original_sha256) == upload
    return records


def check_all_is_published(home: Home) -> None:
    records = check_store(home)
    places = Counter((record.key, record.version) for record in records)
    names = [path.name for path in sorted(home.uploads.root.iterdir())]
    assert places == Counter((name, version) for name in names for version in Version)
    files = []
    for record in records:
        assert not record.verdict.stops, record.reason
        for rendition in record.renditions:
            path = Path(home.store.published_location(CATALOG, rendition.path))
            assert sha256_hex(path.read_bytes()) == rendition.object.sha256
            files.append(path)
    assert len(files) == len(names)
    shown = [path for path in (home.root / "store/published").rglob("*") if path.is_file()]
    assert sorted(path for path in shown if not path.name.startswith(".")) == sorted(files)


def check_dagster_knows(home: Home) -> None:
    names = {path.name for path in home.uploads.root.iterdir()}
    with instance(home) as dagster:
        for version in Version:
            assert set(dagster.get_materialized_partitions(dg.AssetKey(str(version)))) == names


def test_a_run_killed_again_and_again_is_taken_up_where_it_stopped(
    shop: Home, command: Callable[[], subprocess.Popen[str]]
) -> None:
    """The whole process group: soon after its start, in the midst, and near the end."""
    chance = random.Random(7)
    kept: dict[tuple[str, Version], Record] = {}
    kills = 0
    for third in range(3):
        moment = chance.randrange(IMAGES * third // 3, IMAGES * (third + 1) // 3)
        run = command()
        until(lambda: published(shop) >= moment or run.poll() is not None)  # noqa: B023
        time.sleep(chance.random() * 0.05)
        kills += run.poll() is None
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        found = {(each.key, each.version): each for each in check_store(shop)}
        assert found.items() >= kept.items(), "nothing is made twice"
        kept = found
    assert kills == 3

    assert finished(command())["images"] == IMAGES
    check_all_is_published(shop)
    check_dagster_knows(shop)
    after = {(each.key, each.version): each for each in shop.store.records(CATALOG)}
    assert after.items() >= kept.items(), "nothing is made twice"
    assert list((shop.root / "store/records").rglob("history/*")) == [], "none was replaced"
    with instance(shop) as dagster:
        statuses = Counter(run.status for run in dagster.get_runs())
    assert statuses[dg.DagsterRunStatus.SUCCESS] == 1
    assert statuses[dg.DagsterRunStatus.STARTED] == 0, "killed runs do not hold up the queue"


def test_workers_end_with_a_killed_run(
    shop: Home, command: Callable[[], subprocess.Popen[str]]
) -> None:
    run = command()
    until(lambda: published(shop) > 0)
    processes = workers(run)
    assert len(processes) == 2
    os.kill(run.pid, signal.SIGKILL)  # its parent alone
    run.wait()
    until(lambda: gone(processes), PATIENCE_S)
    check_store(shop)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_killed_before_it_has_an_item_costs_none(tmp_path: Path, workers: int) -> None:
    done = supervise(
        pool_work.work,
        list(range(12)),
        workers=workers,
        timeout_s=30,
        initializer=pool_work.die_at_first,
        initargs=(tmp_path / "mark",),
    )
    assert Counter(each.result for each in done) == Counter(2 * number for number in range(12))
    assert (tmp_path / "mark").exists()


def test_a_worker_killed_as_it_takes_or_hands_in_an_item_costs_no_other() -> None:
    """Nothing that workers share, like a lock, may go down with it."""
    deadly = [pool_work.Deadly(number, os.getpid()) for number in (1, 2)]
    done = supervise(
        pool_work.same,
        [*range(4), *deadly, *range(4, 8)],
        workers=2,
        timeout_s=30,
        initializer=pool_work.start,
    )
    began = time.monotonic()
    results = {each.item: each for each in done}
    assert time.monotonic() - began < 30
    assert [results[number].result for number in range(8)] == list(range(8))
    for each in deadly:
        loss = results[each].loss
        assert loss is not None
        assert loss.code == "worker_died"


def test_workers_killed_at_any_moment_cost_no_other_item() -> None:
    done = supervise(
        pool_work.die_between,
        list(range(16)),
        workers=2,
        timeout_s=30,
        initializer=pool_work.start,
    )
    found = {each.item: each for each in done}
    assert set(found) == set(range(16))
    assert all(each.loss or each.result == 2 * each.item for each in found.values())


def test_a_killed_worker_costs_no_more_than_its_image(
    shop: Home, command: Callable[[], subprocess.Popen[str]]
) -> None:
    run = command()
    until(lambda: published(shop) > 1)
    os.kill(workers(run)[0].pid, signal.SIGKILL)
    output, errors = run.communicate(timeout=120)
    told = json.loads(output.strip().splitlines()[-1])
    assert told["images"] == IMAGES, errors
    stopped = [record for record in check_store(shop) if record.verdict.stops]
    assert len(stopped) <= 1, "none, where it was killed between two images"
    for record in stopped:
        assert record.verdict is Verdict.QUARANTINED
        assert record.reason is not None
        assert record.reason.code == "worker_died"
        assert run.returncode != 0
    assert published(shop) >= IMAGES - 1
    assert finished(command())["images"] == IMAGES
    check_all_is_published(shop)
    check_dagster_knows(shop)
