"""audit, recall and the like on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from samples import encoded, photo
from typer.testing import CliRunner, Result

from imgflow.cli import app
from imgflow.home import CATALOG, Home
from imgflow.imaging.xmp import Provenance, ProvenanceStep
from imgflow.lineage.record import Version
from imgflow.lineage_commands import _stated
from imgflow.store.keys import ImageKey

QUICK = """
detext: {text: none}
upscale: {max_scale: 1, sharpen_below: 0}
renditions: [{name: web, long_side: 200}]
run: {workers: 1}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two photos made by `imgflow run`, one of them with a region filled."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("IMGFLOW_HOME", "data")
        patch.delenv("DAGSTER_HOME", raising=False)
        uploads = Path("data/uploads")
        uploads.mkdir(parents=True)
        Path("data/policy.yaml").write_text(QUICK)
        for name in ("a.png", "b b.png"):
            (uploads / name).write_bytes(encoded(photo("coffee", 120)))
        region = {"x": 10, "y": 10, "width": 6, "height": 6}
        step = {"op": "inpaint", "region": region, "seed": 5}
        (uploads / "a.png.json").write_text(json.dumps({"steps": [step]}))
        assert imgflow("run").exit_code == 0
        yield Home(folder / "data")


def imgflow(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def told(result: Result) -> Any:
    [line] = result.stdout.splitlines()
    return json.loads(line)


def test_an_audit_of_all(home: Home) -> None:
    result = imgflow("audit")
    assert result.exit_code == 0
    assert "2 photos, 10 versions" in result.stdout
    assert "10 events: all as recorded" in result.stdout
    found = told(imgflow("audit", "--json"))
    assert found["problems"] == found["outdated"] == []
    assert (found["images"], found["versions"], found["events"]) == (2, 10, 10)


def test_an_audit_of_one_tells_its_story(home: Home) -> None:
    result = imgflow("audit", "a.png")
    assert result.exit_code == 0
    record = home.store.get_record(CATALOG, ImageKey("a.png"), Version.PUBLISHED)
    assert record is not None
    assert record.original_sha256
    for text in ("a.png: intact", record.original_sha256, "telea", "seed 5", "a.png/web.jpg"):
        assert text in result.stdout
    assert imgflow("audit", "none.png").exit_code == 1


@pytest.mark.parametrize(
    ("options", "matched"),
    [
        (["--seed", "5"], {"a.png": ["inpainted"]}),
        (["--model", "telea"], {"a.png": ["inpainted"]}),
        (["--model", "lama"], {}),
        (["--model", "telea", "b b.png"], {}),
        (["--since", "2100-01-01"], {}),
    ],
)
def test_finding(home: Home, options: list[str], matched: dict[str, Any]) -> None:
    assert told(imgflow("audit", "--json", *options))["matched"] == matched


@pytest.mark.parametrize("options", [["--since", "soon"], ["--weights", "x"]])
def test_senseless_questions_are_refused(home: Home, options: list[str]) -> None:
    result = imgflow("audit", *options)
    assert result.exit_code == 1
    assert "error" in result.stderr


def test_what_a_file_from_elsewhere_states_is_told_in_lines() -> None:
    step = ProvenanceStep("enlarge", model="sr-x2", weights="ab" * 32, seed=3)
    assert list(_stated(Provenance("composite", original_sha256="cd" * 32, steps=(step,)))) == [
        "It says of itself:",
        "  source type: composite",
        f"  original sha256: {'cd' * 32}",
        "  enlarge: sr-x2, weights abababababab, seed 3",
    ]


def test_a_changed_file_is_named_and_the_exit_code_is_1(home: Home) -> None:
    path = home.root / "store/published" / CATALOG / "a.png/web.jpg"
    good = path.read_bytes()
    path.write_bytes(b"?" + good[1:])
    result = imgflow("audit", "--json")
    path.write_bytes(good)
    assert result.exit_code == 1
    (problem,) = told(result)["problems"]
    assert problem["code"] == "published_changed"
    assert problem["where"].endswith("a.png/web.jpg")


def test_replay_of_a_catalog_and_of_one(home: Home) -> None:
    found = told(imgflow("replay", "--all", "--json"))
    assert {name: found[name] for name in ("versions", "same", "different", "unavailable")} == {
        "versions": 10, "same": 10, "different": 0, "unavailable": 0,
    }  # fmt: skip
    assert found["details"] == []
    result = imgflow("replay", "a.png", "--version", "published", "--to", "elsewhere")
    assert result.exit_code == 0
    assert "a.png published: same bytes" in result.stdout
    published = home.root / "store/published" / CATALOG / "a.png/web.jpg"
    made = Path("elsewhere/published") / CATALOG / "a.png/web.jpg"
    assert made.read_bytes() == published.read_bytes()


@pytest.mark.parametrize(
    "options",
    [[], ["a.png", "--all"], ["a.png", "--version", "x"], ["--all", "--to", "data/store"]],
)
def test_senseless_replays_are_refused(home: Home, options: list[str]) -> None:
    assert imgflow("replay", *options).exit_code == 1


def test_recall_finds_what_a_policy_would_make_otherwise(home: Home) -> None:
    assert imgflow("recall").exit_code == 1  # of everything
    assert told(imgflow("recall", "--stale", "--dry-run", "--json")) == {"recalled": []}
    assert imgflow("recall", "--stale").stdout == "no photo matches\n"
    unknown = "no photo matches: no record names an engine or model 'nope'\n"
    assert imgflow("recall", "--model", "nope").stdout == unknown
    assert imgflow("audit", "--model", "nope").stdout == unknown
    home.policy_file.write_text(QUICK + "inpaint: {fill: navier-stokes}\n")
    # Only one of the two had anything filled by the model that the policy does not use any more.
    assert imgflow("recall", "--model", "telea", "--stale", "--dry-run").stdout == (
        "a.png\n1 photo would be made again\n"
    )
    found = told(imgflow("audit", "--model", "telea", "--stale", "--json"))
    assert found["matched"] == {"a.png": ["inpainted"]}
    result = told(imgflow("recall", "--model", "telea", "--stale", "--json"))
    assert (result["images"], result["failures"]) == (1, [])
    record = home.store.get_record(CATALOG, ImageKey("a.png"), Version.INPAINTED)
    assert record is not None
    assert record.operations[0].engine is not None
    assert record.operations[0].engine.name == "navier-stokes"
    assert told(imgflow("audit", "--model", "telea", "--json"))["matched"] == {}
    assert imgflow("audit").exit_code == 0


def test_recall_without_stale_makes_anew_though_nothing_has_changed(home: Home) -> None:
    result = told(imgflow("recall", "b b.png", "--json"))
    assert (result["images"], result["reused"]) == (1, 0)
    assert imgflow("audit").exit_code == 0
