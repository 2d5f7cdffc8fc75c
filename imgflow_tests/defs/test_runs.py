"""Runs of the line on a real, persistent Dagster instance, with real worker processes."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest
from PIL import Image

from imgflow.definitions import line_definitions
from imgflow.defs.launch import instance, launch
from imgflow.defs.resources import Progress
from imgflow.home import CATALOG, Home
from imgflow.lineage.record import Verdict, Version
from imgflow.store.keys import ImageKey

MANY = 8
BAD = ImageKey("photo_3.png")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An installation with eight small photos, the fourth of which is a web page."""
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    found = Home(tmp_path / "data")
    found.uploads.root.mkdir(parents=True)
    # Enlargement is not the point here, and costs time.
    found.policy_file.write_text("upscale: {max_scale: 1}\nrun: {workers: 2}\n")
    for number in range(MANY):
        ramp = np.linspace(40 + 10 * number, 200, 64 * 64, dtype=np.uint8).reshape(64, 64)
        photo = np.stack([ramp, ramp.T, ramp], axis=2)
        Image.fromarray(photo).save(found.uploads.root / f"photo_{number}.png")
    (found.uploads.root / str(BAD)).write_text("<html>404</html>")
    return found


@pytest.fixture
def dagster(home: Home) -> Iterator[dg.DagsterInstance]:
    with instance(home) as found:
        yield found


def keys(home: Home) -> list[ImageKey]:
    return [key for key, _ in home.uploads.scan().photos]


def materialized(dagster: dg.DagsterInstance, version: str) -> set[str]:
    return set(dagster.get_materialized_partitions(dg.AssetKey(version)))


def checks(dagster: dg.DagsterInstance) -> dict[tuple[str, str, str], dg.AssetCheckEvaluation]:
    """The latest evaluation of each check by version, check and image."""
    found = {}
    for run in reversed(dagster.get_runs()):
        kind = dg.DagsterEventType.ASSET_CHECK_EVALUATION
        for entry in dagster.all_logs(run.run_id, of_type=kind):
            assert entry.dagster_event is not None
            data = entry.dagster_event.asset_check_evaluation_data
            found[data.asset_key.to_user_string(), data.check_name, data.partition or ""] = data
    return found


def test_one_bad_image_among_many_stops_alone(home: Home, dagster: dg.DagsterInstance) -> None:
    (run,) = launch(keys(home), home, Progress())
    assert run.error == ""
    assert dagster.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.SUCCESS

    good = {str(key) for key in keys(home) if key != BAD}
    for version in Version:
        assert materialized(dagster, version) == good

    found = checks(dagster)
    for key in good:
        assert found["raw", "readable", key].passed
        assert found["published", "deliverable", key].passed
    bad = found["raw", "readable", str(BAD)]
    assert not bad.passed
    assert "HTML" in (bad.description or "")

    record = home.store.get_record(CATALOG, BAD, Version.RAW)
    assert record.verdict is Verdict.QUARANTINED
    assert home.store.read_original(record.original_sha256) == b"<html>404</html>"

    # What the UI shows of the later checks: all passed, none skipped for the bad one.
    for version, name in (("detexted", "psnr"), ("published", "deliverable")):
        states = dagster.event_log_storage.get_asset_check_partition_info(
            [dg.AssetCheckKey(dg.AssetKey(version), name)]
        )
        assert {each.partition_key for each in states} == good
        assert {each.latest_execution_status.value for each in states} == {"SUCCEEDED"}


def test_checks_point_at_the_materialization_that_they_judge(
    home: Home, dagster: dg.DagsterInstance
) -> None:
    launch(keys(home)[:1], home, Progress())
    evaluation = checks(dagster)["published", "deliverable", "photo_0.png"]
    target = evaluation.target_materialization_data
    (stored,) = dagster.fetch_materializations(dg.AssetKey("published"), limit=1).records
    assert target.storage_id == stored.storage_id


def test_materializations_carry_versions_and_what_a_person_wants_to_see(
    home: Home, dagster: dg.DagsterInstance
) -> None:
    launch(keys(home)[:1], home, Progress())
    (stored,) = dagster.fetch_materializations(dg.AssetKey("detexted"), limit=1).records
    event = stored.asset_materialization
    raw = home.store.get_record(CATALOG, ImageKey("photo_0.png"), Version.RAW)
    assert event.tags["dagster/data_version"] == raw.output.sha256
    assert event.tags["dagster/input_data_version/raw"] == raw.data_version
    assert "rapidocr" in event.tags["dagster/code_version"]
    assert event.metadata["verdict"].value == "passed_through"
    assert Path(event.metadata["picture"].value).is_file()


def test_a_run_of_scattered_keys_makes_just_those(home: Home, dagster: dg.DagsterInstance) -> None:
    wanted = [ImageKey("photo_0.png"), ImageKey("photo_2.png"), ImageKey("photo_6.png")]
    launch(keys(home)[7:], home, Progress())  # makes the last photo the first partition
    before = materialized(dagster, "published")
    from imgflow.defs.partitions import add_keys

    add_keys(dagster, keys(home))
    launch(wanted, home, Progress())
    assert materialized(dagster, "published") - before == {str(key) for key in wanted}


def test_one_version_alone_is_made_from_the_recorded_ones_before(
    home: Home, dagster: dg.DagsterInstance
) -> None:
    three = keys(home)[:3]
    launch(three, home, Progress())
    raw_before = home.store.get_record(CATALOG, three[0], Version.RAW)
    home.policy_file.write_text(
        "upscale: {max_scale: 1}\nrun: {workers: 2}\n"
        "renditions: [{name: tiny, long_side: 16, format: png}]\n"
    )
    job = line_definitions(str(home.root)).resolve_job_def("rescue_photos")
    result = job.execute_in_process(
        instance=dagster,
        asset_selection=[dg.AssetKey("published")],
        tags={
            "dagster/asset_partition_range_start": str(three[0]),
            "dagster/asset_partition_range_end": str(three[2]),
        },
    )
    assert result.success
    made = [
        (each.asset_key.to_user_string(), each.partition)
        for each in (event.materialization for event in result.get_asset_materialization_events())
    ]
    assert sorted(made) == [("published", str(key)) for key in three]
    record = home.store.get_record(CATALOG, three[0], Version.PUBLISHED)
    assert [rendition.name for rendition in record.renditions] == ["tiny"]
    assert home.store.get_record(CATALOG, three[0], Version.RAW) == raw_before


def test_a_damaged_record_is_told_in_the_log_of_the_run_that_makes_it_again(
    home: Home, dagster: dg.DagsterInstance
) -> None:
    key = keys(home)[0]
    launch([key], home, Progress())
    path = home.root / "store" / "records" / CATALOG / key.digest / "raw.json"
    path.write_bytes(b"{")
    (run,) = launch([key], home, Progress())
    told = [entry.user_message for entry in dagster.all_logs(run.run_id)]
    (warning,) = [each for each in told if "damaged" in each]
    assert str(key) in warning
    assert str(path.parent / "history" / "damaged-raw.json") in warning


def test_the_same_run_again_makes_nothing_anew(home: Home, dagster: dg.DagsterInstance) -> None:
    two = keys(home)[:2]
    launch(two, home, Progress())
    before = [home.store.get_record(CATALOG, two[0], version) for version in Version]
    launch(two, home, Progress())
    assert [home.store.get_record(CATALOG, two[0], version) for version in Version] == before


def test_an_image_that_crashes_fails_the_run_after_the_others_are_done(
    home: Home, dagster: dg.DagsterInstance
) -> None:
    # No photo of this size is done within the time allowed.
    home.policy_file.write_text(
        "upscale: {max_scale: 1}\nrun: {workers: 1, image_timeout_s: 0.001}\nretries: {budget: 0}\n"
    )
    (run,) = launch([ImageKey("photo_0.png")], home, Progress())
    assert "photo_0.png" in run.error
    assert "took longer" in run.error
    assert dagster.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.FAILURE
    (stopped,) = [each for each in home.store.records(CATALOG) if each.verdict.stops]
    assert stopped.reason.code == "timed_out"


def test_nothing_is_stale_after_a_run_and_only_later_versions_after_a_change(
    home: Home, dagster: dg.DagsterInstance
) -> None:
    key = keys(home)[0]

    def stale() -> dict[str, StaleStatus]:
        graph = line_definitions(str(home.root)).resolve_asset_graph()
        resolver = CachingStaleStatusResolver(dagster, graph, LoadingContextForTest(dagster))
        return {
            str(version): resolver.get_status(dg.AssetKey(str(version)), str(key))
            for version in Version
        }

    launch([key], home, Progress())
    assert set(stale().values()) == {StaleStatus.FRESH}

    home.uploads.path_of(key).write_bytes((home.uploads.root / "photo_7.png").read_bytes())
    job = line_definitions(str(home.root)).resolve_job_def("rescue_photos")
    job.execute_in_process(
        instance=dagster, asset_selection=[dg.AssetKey("raw")], partition_key=str(key)
    )
    found = stale()
    assert found.pop("raw") is StaleStatus.FRESH
    assert set(found.values()) == {StaleStatus.STALE}
