"""How images become runs: contiguous keys as ranges, scattered ones as lists, none lost."""

from hypothesis import given, settings
from hypothesis import strategies as st

from imgflow.defs.requests import batches

KNOWN = [f"{number:03}.jpg" for number in range(60)]


@given(st.sets(st.sampled_from(KNOWN)), st.integers(1, 20))
@settings(max_examples=200, deadline=None)
def test_every_key_is_in_exactly_one_batch(keys: set[str], size: int) -> None:
    found = [key for batch in batches(sorted(keys), KNOWN, size) for key in batch.keys]
    assert sorted(found) == sorted(keys)


@given(st.sets(st.sampled_from(KNOWN)), st.integers(1, 20))
@settings(max_examples=200, deadline=None)
def test_a_range_covers_its_keys_and_no_other(keys: set[str], size: int) -> None:
    for batch in batches(sorted(keys), KNOWN, size):
        assert len(batch.keys) <= size
        if batch.contiguous:
            first, last = KNOWN.index(batch.keys[0]), KNOWN.index(batch.keys[-1])
            assert KNOWN[first : last + 1] == list(batch.keys)


def test_new_keys_of_one_tick_go_as_ranges() -> None:
    found = list(batches(KNOWN[10:30], KNOWN, size=8))
    assert [len(batch.keys) for batch in found] == [8, 8, 4]
    assert all(batch.contiguous for batch in found)
    assert found[0].tags == {
        "dagster/asset_partition_range_start": "010.jpg",
        "dagster/asset_partition_range_end": "017.jpg",
    }
    assert "keys" not in found[0].run_config()["ops"]["rescue"]["config"]


def test_scattered_keys_share_runs_as_lists() -> None:
    scattered = KNOWN[0:40:3]
    found = list(batches(scattered, KNOWN, size=64))
    assert len(found) == 1
    assert found[0].tags == {}
    assert found[0].run_config()["ops"]["rescue"]["config"]["keys"] == scattered


def test_a_single_key_is_a_range_of_its_own() -> None:
    (batch,) = batches(["007.jpg"], KNOWN, size=64)
    assert batch.contiguous
    assert batch.tags["dagster/asset_partition_range_start"] == "007.jpg"
