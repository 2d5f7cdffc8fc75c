"""What Dagster sees of the line."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.workspace.load_target import WorkspaceFileTarget

from imgflow.definitions import defs, line_definitions
from imgflow.defs.checks import CHECKS, check_result
from imgflow.lineage.environment import environment
from imgflow.lineage.record import GateResult, Reason, Record, Verdict, Version


def make_record(**fields: Any) -> Record:
    values: dict[str, Any] = {
        "catalog": "main",
        "key": "a.jpg",
        "version": Version.DETEXTED,
        "verdict": Verdict.REPAIRED,
        "fingerprint": "f",
        "policy_sha256": "p",
        "imgflow_version": "0",
        "code_version": "c",
        "run_id": "r",
        "started_at": datetime(2026, 1, 1, tzinfo=UTC),
        "seconds": 0.1,
        "environment": environment(1),
    }
    return Record(**{**values, **fields})


VERSIONS = [str(version) for version in Version]


def test_importing_the_location_loads_no_heavy_library() -> None:
    heavy = [
        "torch", "torchvision", "onnxruntime", "rapidocr", "pandas", "pyarrow", "skimage",
        "diffusers", "c2pa",
    ]  # fmt: skip
    code = f"import sys, imgflow.definitions; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    assert "Warning" not in found.stderr


def test_five_partitioned_versions_each_depending_on_all_earlier_ones() -> None:
    graph = defs.resolve_asset_graph()
    for position, version in enumerate(VERSIONS):
        node = graph.get(dg.AssetKey(version))
        assert {key.to_user_string() for key in node.parent_keys} == set(VERSIONS[:position])
        assert node.partitions_def is not None
        assert node.partitions_def.name == "photos"
        assert node.description
        assert node.group_name == "photos"
        assert node.owners


def test_one_op_makes_all_versions_and_any_subset_of_them() -> None:
    (assets,) = [
        each
        for each in defs.assets or []
        if isinstance(each, dg.AssetsDefinition) and each.op.name == "rescue"
    ]
    assert assets.can_subset
    assert assets.backfill_policy == dg.BackfillPolicy.multi_run(max_partitions_per_run=64)


def test_checks_of_each_version() -> None:
    graph = defs.resolve_asset_graph()
    found = {(key.asset_key.to_user_string(), key.name) for key in graph.asset_check_keys}
    assert found == {(str(version), name) for version, names in CHECKS.items() for name in names}
    names = {name for _, name in found}
    assert names >= {"readable", "psnr", "ssim", "haarpsi", "no_residual_text", "deliverable"}


def test_a_code_version_names_the_stage_and_its_engines() -> None:
    graph = defs.resolve_asset_graph()
    code = graph.get(dg.AssetKey("detexted")).code_version
    assert code is not None
    assert "rapidocr" in code
    assert "imgflow-eraser" in code


def test_two_assets_of_the_whole_catalog() -> None:
    graph = defs.resolve_asset_graph()
    table, report = graph.get(dg.AssetKey("catalog")), graph.get(dg.AssetKey("quality_report"))
    assert {key.to_user_string() for key in table.parent_keys} == set(VERSIONS)
    assert report.parent_keys == {dg.AssetKey("catalog")}
    for node in (table, report):
        assert node.partitions_def is None
        assert node.group_name == "reports"
        assert node.description


@pytest.mark.parametrize("job", ["rescue_photos", "reports"])
def test_jobs_resolve(job: str) -> None:
    assert line_definitions().resolve_job_def(job)


def test_the_location_loads_through_the_workspace_file() -> None:
    project = Path(__file__).parents[2]
    (origin,) = WorkspaceFileTarget([str(project / "workspace.yaml")]).create_origins()
    assert origin.location_name == "imgflow"


def test_check_results_say_what_the_record_says() -> None:
    passed = GateResult(name="psnr", metric="psnr", value=30.0, threshold=16.0, passed=True)
    failed = GateResult(name="psnr", metric="psnr", value=9.0, threshold=16.0, passed=False)
    blind = GateResult(name="psnr", metric="psnr", threshold=16.0, note="no clean ground")

    good = check_result(make_record(gates=[passed]), "psnr")
    assert good is not None
    assert good.passed
    assert good.value == 30.0

    worst = check_result(make_record(gates=[passed, failed]), "psnr")
    assert worst is not None
    assert not worst.passed
    assert worst.value == 9.0

    unknown = check_result(make_record(gates=[blind]), "psnr")
    assert unknown is not None
    assert not unknown.passed
    assert unknown.warning
    assert "not evaluated" in unknown.description

    untouched = check_result(make_record(verdict=Verdict.PASSED_THROUGH), "psnr")
    assert untouched is not None
    assert untouched.passed

    reason = Reason(code="mask_stale", message="the mask is for another image")
    waiting = make_record(
        version=Version.DETEXTED, verdict=Verdict.QUARANTINED, reason=reason, gates=[]
    )
    stopped = check_result(waiting, "no_residual_text")
    assert stopped is not None
    assert not stopped.passed
    assert stopped.description == reason.message
    assert check_result(waiting, "psnr") is None  # one reason is one failed check

    refused = waiting.model_copy(update={"gates": [failed]})
    assert [name for name in CHECKS[Version.DETEXTED] if check_result(refused, name)] == ["psnr"]
