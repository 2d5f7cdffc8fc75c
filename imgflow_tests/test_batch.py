"""A batch of images: each gets its passage, whatever happens to its neighbours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pool_work
import pytest
import yaml
from samples import encoded, photo

from imgflow import batch
from imgflow.batch import Order, run_batch
from imgflow.chain import Passage
from imgflow.home import CATALOG, Home
from imgflow.lineage.record import Verdict, Version
from imgflow.pool import supervise
from imgflow.store.keys import ImageKey
from imgflow.store.store import sha256_hex

Drop = Callable[..., ImageKey]

PHOTO = encoded(photo("coffee", 160))


@pytest.fixture
def order(home: Home) -> Order:
    policy = {
        "detext": {"text": "none"},
        "upscale": {"min_long_side": 1, "sharpen_below": 0.0},
        "renditions": [{"name": "web", "long_side": 100}],
        "retries": {"budget": 2, "backoff_s": 0.01},
        "run": {"workers": 2, "image_timeout_s": 8},
    }
    home.policy_file.write_text(yaml.safe_dump(policy))
    return Order(home, "run-1")


def run(keys: list[ImageKey], order: Order) -> dict[str, Passage]:
    passages = list(run_batch(keys, order))
    assert sorted(each.key for each in passages) == sorted(keys), "each exactly once"
    return {str(each.key): each for each in passages}


def test_a_corrupt_file_costs_itself_only(order: Order, drop: Drop, home: Home) -> None:
    keys = [drop("a.png", PHOTO), drop("bad.jpg", b"\xff\xd8\xff no"), drop("c/d.png", PHOTO)]
    passages = run(keys, order)
    assert not passages["a.png"].stopped
    assert not passages["c/d.png"].stopped
    assert len(passages["a.png"].steps) == 5
    last = passages["bad.jpg"].last
    assert last is not None
    assert last.verdict is Verdict.QUARANTINED
    assert last.reason is not None
    assert last.version is Version.RAW
    assert passages["bad.jpg"].crash == ""
    assert len(list(home.store.records(CATALOG))) == 11


def test_dead_and_hanging_workers_and_strained_machines(
    order: Order, drop: Drop, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`flaky-2` works at its third try, as the budget allows; `flaky-9` never does."""
    tries = tmp_path / "tries"
    tries.mkdir()
    monkeypatch.setenv("IMGFLOW_TEST_TRIES", str(tries))
    monkeypatch.setattr(batch, "supervise", with_trouble(batch.supervise))
    order.home.policy_file.write_text(
        order.home.policy_file.read_text().replace("image_timeout_s: 8", "image_timeout_s: 4")
    )
    names = ["a.png", "segfault.png", "hang.png", "flaky-2.png", "flaky-9.png", "odd.png", "b.png"]
    passages = run([drop(name, PHOTO) for name in names], order)

    healthy = [passages[name].last for name in ("a.png", "b.png", "flaky-2.png")]
    assert [each.reason for each in healthy if each is not None] == [None] * 3
    codes = {}
    for name in ("segfault.png", "hang.png", "flaky-9.png", "odd.png"):
        last = passages[name].last
        assert last is not None
        assert last.verdict is Verdict.QUARANTINED
        assert last.reason is not None
        assert passages[name].crash
        assert last.version is Version.RAW
        assert last.original_sha256 == sha256_hex(PHOTO)
        assert home.store.get_record(CATALOG, ImageKey(name), Version.RAW) == last
        codes[name] = last.reason.code
        slow = last.reason.code == "timed_out"
        assert ("run.image_timeout_s" in last.reason.hint) is slow
        assert last.input is not None
        assert last.input.sha256 == sha256_hex(PHOTO), "the last good picture: the original"
        assert "in rescue_with_trouble" in last.reason.traceback or name[:3] in ("fla", "odd")
    assert codes == {
        "segfault.png": "worker_died",
        "hang.png": "timed_out",
        "flaky-9.png": "crashed",
        "odd.png": "crashed",
    }
    assert len(list(tries.glob("flaky-2*"))) == 3
    assert len(list(tries.glob("flaky-9*"))) == 3, "the budget is 2 further tries"


@pytest.mark.parametrize(("load_s", "allowed_s", "code"), [(2, 900, ""), (60, 3, "load_timed_out")])
def test_an_engine_that_loads_slowly_is_not_charged_to_the_photo(
    load_s: int,
    allowed_s: int,
    code: str,
    order: Order,
    drop: Drop,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A photo may take 4 seconds here, and the engine is made for three scales."""
    monkeypatch.setenv("IMGFLOW_TEST_LOAD_S", str(load_s))
    monkeypatch.setattr(
        batch,
        "supervise",
        lambda work, *a, **o: supervise(pool_work.rescue_with_slow_engine, *a, **o),
    )
    policy = yaml.safe_load(order.home.policy_file.read_text())
    gates = {"psnr": 0, "ssim": -1, "haarpsi": 0, "halo": 1, "edge_fidelity": 0, "artifact_rate": 1}
    policy["upscale"] |= {"engine": "slow", "min_long_side": 300, "gates": gates}
    policy["run"] |= {"workers": 1, "image_timeout_s": 4, "load_timeout_s": allowed_s}
    order.home.policy_file.write_text(yaml.safe_dump(policy))
    passages = run([drop("a.png", PHOTO), drop("b.png", PHOTO)], order)
    reasons = {
        name: each.last.reason.code if each.last and each.last.reason else ""
        for name, each in passages.items()
    }
    if not code:
        assert reasons == {"a.png": "", "b.png": ""}
        return
    # The second does not wait for it again.
    assert reasons == {"a.png": code, "b.png": "load_hung"}
    last = passages["a.png"].last
    assert last is not None
    assert last.version is Version.UPSCALED
    assert last.reason is not None
    assert "'slow'" in last.reason.message
    assert "load_timeout_s" in last.reason.hint
    assert "in slowly" in last.reason.traceback
    other = passages["b.png"].last
    assert other is not None
    assert other.verdict is Verdict.NEEDS_REVIEW


def with_trouble(supervise: Callable[..., object]) -> Callable[..., object]:
    def troubled(work: object, *arguments: object, **options: object) -> object:
        return supervise(pool_work.rescue_with_trouble, *arguments, **options)

    return troubled


def test_a_second_run_reuses_and_a_forced_one_does_not(order: Order, drop: Drop) -> None:
    keys = [drop("a.png", PHOTO)]
    run(keys, order)
    assert all(step.reused for step in run(keys, order)["a.png"].steps)
    forced = Order(order.home, "run-2", (Version.PUBLISHED,), force=True)
    (step,) = run(keys, forced)["a.png"].steps
    assert step.record.version is Version.PUBLISHED
    assert not step.reused
    assert step.record.run_id == "run-2"
