"""What goes wrong in a worker costs the item that it worked on, and nothing else."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pool_work
import pytest

from imgflow.pool import Done, Loss, cores, supervise


def run(
    items: list[Any], timeout_s: float = 30, workers: int = 2, load_timeout_s: float = 30
) -> dict[Any, Done[Any, Any]]:
    done = supervise(
        pool_work.work,
        items,
        workers=workers,
        timeout_s=timeout_s,
        load_timeout_s=load_timeout_s,
        initializer=pool_work.start,
    )
    return {each.item: each for each in done}


def test_every_item_comes_back_once() -> None:
    done = run(list(range(12)))
    assert {item: each.result for item, each in done.items()} == {n: 2 * n for n in range(12)}
    assert all(each.loss is None for each in done.values())


def test_a_dead_or_hanging_worker_costs_its_item_only() -> None:
    done = run([1, "segfault", 2, "hang", 3, "exit", 4, 5], timeout_s=1.5)
    assert {item: each.result for item, each in done.items() if each.loss is None} == {
        n: 2 * n for n in range(1, 6)
    }
    losses = {item: each.loss.code for item, each in done.items() if each.loss is not None}
    assert losses == {"segfault": "worker_died", "hang": "timed_out", "exit": "worker_died"}
    hanging = done["hang"].loss
    assert isinstance(hanging, Loss)
    assert "1.5 seconds" in hanging.message


def test_a_lost_item_has_a_log_that_says_where_it_was_lost() -> None:
    done = run([1, "complain and die", "hang", "hang in C", 2], timeout_s=1.5)
    logs = {item: each.loss.log for item, each in done.items() if each.loss is not None}
    assert "the decoder gave up" in logs["complain and die"]
    assert "Segmentation fault" in logs["complain and die"]
    assert "in read_what_is_not_there" in logs["complain and die"]
    assert "in work" in logs["hang"]
    assert "in wait_in_c" in logs["hang in C"]
    assert "gave up" not in logs["hang"] + logs["hang in C"], "each item has a log of its own"
    dead = done["complain and die"].loss
    assert dead is not None
    assert "Segmentation fault" in dead.message


def test_loading_is_not_charged_to_the_item_and_has_a_limit_of_its_own() -> None:
    done = run(["load slowly", 1], timeout_s=1)
    assert {item: each.result for item, each in done.items()} == {"load slowly": 1, 1: 2}
    items = ["load for ever", 1, "load and hang", "load for ever, and again"]
    done = run(items, timeout_s=1, workers=1, load_timeout_s=2)
    loss = done["load for ever"].loss
    assert loss is not None
    assert loss.code == "load_timed_out"
    assert loss.message == "loading the model 'huge' took longer than 2 seconds"
    assert "in wait_in_c" in loss.log
    other = done["load and hang"].loss
    assert other is not None
    assert (other.code, "1 seconds" in other.message) == ("timed_out", True)
    assert done[1].result == 2
    # Nobody waits for the same again.
    assert done["load for ever, and again"].result == -1


def test_what_a_healthy_worker_writes_to_stderr_comes_through(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert run([1, "complain", 2])["complain"].result == 0
    assert capfd.readouterr().err == "a warning of a C library\n"
    assert list(tmp_path.iterdir()) == [], "no log is left behind"


def test_a_worker_that_is_still_starting_when_the_pool_ends_says_nothing_of_it(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    slow = pool_work.SlowStart(tmp_path)
    done = supervise(
        pool_work.work,
        [1],
        workers=2,
        timeout_s=30,
        initializer=pool_work.start_with,
        initargs=(slow,),
    )
    assert next(done).result == 2
    slow.wait_for_another()
    slow.ending.touch()
    assert list(done) == []
    assert capfd.readouterr().err == ""


def test_an_exception_of_the_work_is_raised_and_ends_the_pool() -> None:
    with pytest.raises(ValueError, match="cannot be done"):
        run(["raise", 1, 2])


def test_items_are_taken_as_they_are_needed() -> None:
    """A catalog is never queued as a whole."""
    taken = []

    def endless() -> Iterator[int]:
        for number in range(10_000):
            taken.append(number)
            yield number

    done = supervise(
        pool_work.work, endless(), workers=1, timeout_s=30, initializer=pool_work.start
    )
    next(done)
    done.close()  # type: ignore[attr-defined]
    assert len(taken) < 10


def test_temporary_files_of_workers_go_with_the_pool() -> None:
    left = [
        Path(str(done.result))
        for done in supervise(
            pool_work.leave_a_folder,
            range(4),
            workers=2,
            timeout_s=30,
            initializer=pool_work.start,
        )
        if done.result and Path(str(done.result)).is_dir()
    ]
    assert len(left) == 4
    assert not any(folder.exists() for folder in left)


def test_nothing_to_do_is_done_at_once() -> None:
    assert run([]) == {}


def test_a_worker_that_cannot_start_is_an_error_and_not_a_wait() -> None:
    done = supervise(
        pool_work.work, [1], workers=1, timeout_s=30, initializer=pool_work.refuse_to_start
    )
    with pytest.raises(RuntimeError):
        list(done)


def test_there_is_at_least_one_core() -> None:
    assert cores() >= 1
