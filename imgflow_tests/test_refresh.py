"""The comparison of the whole catalog: what is new, changed, stale, unfinished and retired."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from samples import encoded

from imgflow.chain import Line, rescue, unmade
from imgflow.home import CATALOG, Home
from imgflow.lineage.overview import overview
from imgflow.lineage.record import Verdict, Version
from imgflow.policy.policy import Traits
from imgflow.refresh import plan_refresh, retire
from imgflow.store.keys import ImageKey
from imgflow.watch import Arrivals, Index, index_file, look

POLICY = "upscale: {max_scale: 1}\ndetext: {text: none}\n"


@pytest.fixture
def made(home: Home, drop: Callable[..., ImageKey], line: Callable[[], Line]) -> list[ImageKey]:
    """Four photos that have been through the line."""
    keys = [drop(f"{n}.png", photo(n)) for n in range(4)]
    for key in keys:
        rescue(key, line())
    return keys


@pytest.fixture
def line(home: Home) -> Callable[[], Line]:
    """The line as an order has it, under the policy and catalog in force."""
    from imgflow.batch import Order

    home.policy_file.write_text(POLICY)
    return lambda: Order(home, run_id="run-1").line()


@pytest.fixture(autouse=True)
def whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as whole at once, but where a test says otherwise."""
    monkeypatch.setattr("imgflow.watch.STABLE_S", 0.0)
    monkeypatch.setattr("imgflow.refresh.STABLE_S", 0.0)


def photo(shade: int) -> bytes:
    ramp = np.linspace(30 + 10 * shade, 200, 48 * 48, dtype=np.uint8).reshape(48, 48)
    return encoded(np.stack([ramp, ramp.T, ramp], axis=2))


def test_a_photo_without_a_record_is_new(
    home: Home, made: list[ImageKey], drop: Callable[..., ImageKey]
) -> None:
    key = drop("late.png", photo(9))
    plan = plan_refresh(home)
    assert plan.requests == {"new": [key]}
    assert plan.current == 4
    assert plan.after == ""
    # It was only a comparison: nothing was archived.
    assert len(list((home.store_folder / "originals").glob("*/*"))) == 4


def test_other_bytes_a_manifest_or_a_mask_make_a_photo_changed(
    home: Home, made: list[ImageKey], drop: Callable[..., ImageKey]
) -> None:
    drop("0.png", photo(8))
    drop("1.png", photo(1), manifest={"criticality": "high"})
    drop("2.png", photo(2))  # the same bytes
    assert plan_refresh(home).requests == {"changed": made[:2]}


def test_a_changed_policy_makes_stale_what_it_touches(
    home: Home, made: list[ImageKey], line: Callable[[], Line], drop: Callable[..., ImageKey]
) -> None:
    drop("3.png", photo(3), manifest={"category": "knit"})
    rescue(made[3], line())
    home.policy_file.write_text(
        POLICY + "routes: [{name: k, when: {category: knit}, set: {upscale: {min_long_side: 2}}}]\n"
    )
    plan = plan_refresh(home)
    assert plan.requests == {"stale": [made[3]]}
    found = unmade(made[3], line())
    assert found is not None
    assert found.version is Version.UPSCALED


def test_what_stopped_is_not_asked_for_again_until_something_changes(
    home: Home, drop: Callable[..., ImageKey], line: Callable[[], Line]
) -> None:
    bad = drop("bad.png", b"<html>404</html>")
    worse = drop("worse.png", b"")
    other = drop("other.png", photo(1), manifest=b"{")
    for key in (bad, worse, other):
        assert rescue(key, line()).stopped
    plan = plan_refresh(home)
    assert plan.requests == {}
    assert plan.stopped == 3

    drop("bad.png", photo(1))
    drop("other.png", photo(1), manifest={})
    assert plan_refresh(home).requests == {"changed": [bad, other]}


def test_an_interrupted_photo_is_unfinished(home: Home, made: list[ImageKey]) -> None:
    record = home.store.get_record(CATALOG, made[1], Version.PUBLISHED)
    assert record is not None
    home.store.withdraw(CATALOG, record.renditions[0].path)
    assert plan_refresh(home).requests == {"unfinished": [made[1]]}


def test_the_catalogs_traits_decide_the_route_and_what_is_stale(
    home: Home, made: list[ImageKey], line: Callable[[], Line]
) -> None:
    home.policy_file.write_text(
        POLICY + "routes: [{name: k, when: {category: knit}, set: {raw: {keep_16_bit: true}}}]\n"
    )
    home.catalog_file.write_text("key,category\n0.png,knit\n1.png,cotton\nunknown.png,knit\n")
    assert plan_refresh(home).requests == {"changed": [made[0]]}
    rescue(made[0], line())
    record = home.store.get_record(CATALOG, made[0], Version.RAW)
    assert record is not None
    assert record.routes == ["k"]
    assert record.traits == Traits(category="knit").as_dict()
    assert plan_refresh(home).requests == {}


def test_a_catalogs_prompt_makes_just_the_filled_version_anew(
    home: Home, line: Callable[[], Line], drop: Callable[..., ImageKey]
) -> None:
    region = {"x": 8, "y": 8, "width": 6, "height": 6}
    filled = drop("f.png", photo(1), manifest={"steps": [{"op": "inpaint", "region": region}]})
    plain = drop("p.png", photo(2))
    for key in (filled, plain):
        rescue(key, line())
    home.catalog_file.write_text("key,prompt\nf.png,grass\np.png,grass\n")
    found = unmade(filled, line())
    assert found is not None
    assert found.version is Version.INPAINTED
    assert unmade(plain, line()) is None
    rescue(filled, line())
    record = home.store.get_record(CATALOG, filled, Version.INPAINTED)
    assert record is not None
    assert record.operations[0].prompt == "grass"


def test_a_photo_in_a_run_is_left_alone(
    home: Home, made: list[ImageKey], drop: Callable[..., ImageKey]
) -> None:
    drop("0.png", photo(8))
    plan = plan_refresh(home, in_flight={made[0]})
    assert plan.requests == {}
    assert plan.busy == 1


def test_a_comparison_in_parts_misses_nothing(
    home: Home, made: list[ImageKey], drop: Callable[..., ImageKey]
) -> None:
    for key in made:
        drop(key, photo(9))
    found, after = [], ""
    for _ in range(9):
        plan = plan_refresh(home, after=after, max_keys=1)
        found += plan.changed
        after = plan.after
        if not after:
            break
    assert found == made


def test_an_upload_that_is_gone_is_served_from_the_archive(
    home: Home, made: list[ImageKey]
) -> None:
    home.uploads.path_of(made[0]).unlink()
    plan = plan_refresh(home)
    assert plan.requests == {}
    assert plan.retired == []
    assert plan.current == 4


def test_retiring_withdraws_and_keeps_lineage_and_comes_back(
    home: Home, made: list[ImageKey], line: Callable[[], Line], drop: Callable[..., ImageKey]
) -> None:
    home.policy_file.write_text(POLICY + "refresh: {retire_missing: true}\n")
    before = home.store.get_record(CATALOG, made[0], Version.PUBLISHED)
    assert before is not None
    published = Path(home.store.published_location(CATALOG, before.renditions[0].path))
    assert published.is_file()
    home.uploads.path_of(made[0]).unlink()
    plan = plan_refresh(home)
    assert plan.retired == [made[0]]
    assert plan.requests == {}

    retired = retire(made[0], home)
    assert retired is not None
    assert retired.verdict is Verdict.RETIRED
    assert retired.output == before.output
    assert not published.exists()
    assert plan_refresh(home).retired == []
    assert retire(made[0], home) is None
    assert overview(home.store.records(CATALOG), home.store.location).waiting == []

    drop("0.png", photo(0))
    assert plan_refresh(home).requests == {"changed": [made[0]]}
    assert not rescue(made[0], line()).stopped
    assert published.is_file()


def test_a_folder_that_is_not_mounted_retires_nothing(home: Home, made: list[ImageKey]) -> None:
    home.policy_file.write_text(POLICY + "refresh: {retire_missing: true}\n")
    for key in made[:3]:
        home.uploads.path_of(key).unlink()
    plan = plan_refresh(home)
    assert plan.retired == []
    assert "nothing is retired" in plan.summary()


# -- a look at the upload folder -------------------------------------------------------


class Looks:
    """Looks one after the other, as the sensor's ticks take them."""

    def __init__(self, home: Home, line: Callable[[], Line]) -> None:
        self.home, self.line, self.tick = home, line, 0

    def __call__(self, **options: object) -> Arrivals:
        given = {"in_flight": set(), "max_keys": 1000, "budget_s": 60.0, **options}
        index = Index.load(index_file(self.home))
        self.tick += 1
        arrivals = look(self.home, self.line(), index, tick=self.tick, **given)  # type: ignore[arg-type]
        index.save(index_file(self.home))
        return arrivals


@pytest.fixture
def looks(home: Home, line: Callable[[], Line]) -> Looks:
    return Looks(home, line)


def test_a_half_written_file_waits(
    home: Home, looks: Looks, drop: Callable[..., ImageKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imgflow.watch.STABLE_S", 3.0)
    key = drop("a.png", photo(1)[:100])
    (home.uploads.root / "b.png.part").write_bytes(b"x")
    now = (home.uploads.root / "a.png").stat().st_ctime
    assert looks(now=now + 1).unstable == 1
    os.utime(home.uploads.root / "a.png", (1, 1))  # as `cp -p` does: the past is no proof
    assert looks(now=now + 2).unstable == 1
    drop("a.png", photo(1))
    assert looks(now=now + 2.5).unstable == 1
    assert looks(now=now + 9).new == [key]


def test_the_same_bytes_again_request_nothing(
    made: list[ImageKey], looks: Looks, drop: Callable[..., ImageKey]
) -> None:
    assert looks().found == 0
    drop("0.png", photo(0))
    assert looks().found == 0
    drop("0.png", photo(7))
    assert looks().changed == [made[0]]


def test_a_manifest_and_its_masks_belong_to_their_photo(
    made: list[ImageKey], looks: Looks, drop: Callable[..., ImageKey], line: Callable[[], Line]
) -> None:
    looks()
    mask = np.zeros((48, 48, 3), np.uint8)
    mask[4:9, 4:9] = 255
    manifest = {"steps": [{"op": "inpaint", "mask": "0.mask.png"}]}
    drop("0.png", photo(0), manifest=manifest, masks={"0.mask.png": encoded(mask)})
    assert looks().changed == [made[0]]
    rescue(made[0], line())
    assert looks().found == 0
    mask[4:12, 4:9] = 255
    drop("0.png", photo(0), masks={"0.mask.png": encoded(mask)})
    assert looks().changed == [made[0]]


def test_a_row_of_the_catalog_counts_where_it_changes_something(
    home: Home, made: list[ImageKey], looks: Looks
) -> None:
    home.policy_file.write_text(
        POLICY + "routes: [{name: k, when: {category: knit}, set: {raw: {keep_16_bit: true}}}]\n"
    )
    looks()
    home.catalog_file.write_text("key,category\n0.png,knit\n1.png,cotton\n2.png,\n")
    assert looks().changed == [made[0]]


def test_a_changed_policy_is_not_the_sensors_business(
    home: Home, made: list[ImageKey], looks: Looks
) -> None:
    home.policy_file.write_text(POLICY + "inpaint: {context: 65}\n")
    assert looks().found == 0


def test_what_a_run_left_undone_is_asked_for_again_but_not_for_ever(
    looks: Looks, drop: Callable[..., ImageKey]
) -> None:
    key = drop("a.png", photo(1))
    tokens = {looks().tokens[key]}
    assert looks(in_flight={key}).busy == 1
    tokens |= {looks().tokens[key], looks().tokens[key]}
    assert len(tokens) == 3  # each is a request of its own
    assert looks().given_up == [key]
    assert looks().found == 0


def test_requests_that_were_never_sent_are_made_again_as_they_were(
    looks: Looks, drop: Callable[..., ImageKey]
) -> None:
    key = drop("a.png", photo(1))
    first = looks().tokens[key]
    looks.tick = 0  # the tick was not recorded
    assert looks().tokens[key] == first


def test_a_limit_leaves_the_rest_for_the_next_look(
    looks: Looks, drop: Callable[..., ImageKey]
) -> None:
    keys = [drop(f"{n}.png", photo(1)) for n in range(5)]
    found: list[ImageKey] = []
    for left in (3, 1, 0):
        arrivals = looks(in_flight=set(found), max_keys=2)
        assert arrivals.left == left
        found += arrivals.new
    assert found == keys


def test_the_index_is_a_cache(home: Home, made: list[ImageKey], looks: Looks) -> None:
    looks()
    for damage in (b"", b"{", b"[1]", b'{"format": 1, "entries": {"a": 3}}'):
        index_file(home).write_bytes(damage)
        assert looks().found == 0
    index_file(home).unlink()
    assert looks().found == 0
