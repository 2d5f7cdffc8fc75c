"""The command line: exit codes, messages for people, one line of JSON for programs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from samples import encoded, photo
from typer.testing import CliRunner, Result

from imgflow.cli import app
from imgflow.policy.policy import load_policy

# Neither text nor size is the point here, and both cost time.
QUICK = """
detext: {text: none}
upscale: {max_scale: 1, sharpen_below: 0}
renditions: [{name: web, long_side: 200}]
run: {workers: 1}
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMGFLOW_HOME", "data")
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    Path("data/uploads").mkdir(parents=True)
    Path("data/policy.yaml").write_text(QUICK)
    return tmp_path / "data"


def imgflow(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def told(result: Result) -> Any:
    """What a program reads: the one line on stdout."""
    [line] = result.stdout.splitlines()
    return json.loads(line)


def drop(name: str, data: bytes | None = None) -> Path:
    path = Path("data/uploads", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(photo("coffee", 120)) if data is None else data)
    return path


COMMANDS = (
    "demo", "dev", "ingest", "run", "status", "policy", "policy show", "policy check", "doctor",
    "rescue", "detext", "inpaint", "upscale", "bench", "bench memory", "bench import",
    "schema", "audit", "recall", "replay", "whoami", "report", "gc",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_short(command: str) -> None:
    result = imgflow(*command.split(), "--help")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) <= 40


def test_a_command_that_there_is_not_is_a_usage_error() -> None:
    assert imgflow("polish").exit_code == 2
    assert imgflow("inpaint", "a.png", "b.png").exit_code == 2  # no --mask


# -- ingest, run, status ---------------------------------------------------------------


def test_ingest_counts_and_names_failures() -> None:
    Path("shop").mkdir()
    Path("shop/ü a.png").write_bytes(encoded(photo("coffee", 60)))
    result = imgflow("ingest", "shop", "gone.png")
    assert result.exit_code == 1
    uploads = Path("data/uploads").absolute()
    told_of = f"1 new, 1 failed; 1 new in Dagster. Uploads: {uploads}. Next: imgflow run\n"
    assert result.stdout == told_of
    assert result.stderr == "failed gone.png: there is no such file or folder. Check the path\n"
    result = imgflow("ingest", "shop", "--json")
    assert result.exit_code == 0
    assert told(result) == {
        "new": 0,
        "changed": 0,
        "unchanged": 1,
        "incomplete": 0,
        "failed": 0,
        "new_keys": 0,
        "files": [
            {"source": "shop/ü a.png", "key": "shop/ü a.png", "status": "unchanged", "message": ""}
        ],
    }


def test_a_photo_with_a_bad_manifest_is_ingested_and_told() -> None:
    Path("a.png").write_bytes(encoded(photo("coffee", 60)))
    Path("a.png.json").write_text("{")
    result = imgflow("ingest", "a.png")
    assert result.exit_code == 1
    assert "incomplete a.png: the manifest a.png.json is not valid" in result.stderr
    assert Path("data/uploads/a.png").exists()


def test_a_run_from_drop_to_status() -> None:
    """The first run in a process of its own: Dagster and workers may write to stdout, too."""
    long = "long folder name with blanks/" + "x" * 100 + ".png"
    drop(long)
    drop("page.jpg", b"<html>404")
    Path("data/uploads/folder.png").mkdir()

    command = [sys.executable, "-m", "imgflow", "run", "--json"]
    first = subprocess.run(command, capture_output=True, text=True, check=False)
    assert first.returncode == 1
    [line] = first.stdout.splitlines()
    summary = json.loads(line)
    assert (summary["images"], summary["reused"]) == (2, 0)
    assert summary["verdicts"] == {"published": 1, "quarantined": 1}
    assert len(summary["runs"]) == 1
    assert {each.split(": ")[0] for each in summary["failures"]} == {
        "page.jpg at raw",
        f"{Path.cwd()}/data/uploads/folder.png",
    }

    status = imgflow("status")
    assert status.exit_code == 0
    assert "quarantined page.jpg at raw: this is not an image" in status.stdout

    # A key that is asked for by itself does not fail for the others' sake.
    again = imgflow("run", "--keys", long)
    assert again.exit_code == 0
    assert again.stdout == "1 photo: 1 published, 1 unchanged since the last run\n"


def test_keys_as_people_type_them() -> None:
    drop("b\u00fccher/\u00e9.png")
    drop("50%.png")
    typed = "bu\u0308cher/e\u0301.png, 50%.png"
    result = imgflow("run", "--keys", typed, "--keys", "50%25.png", "--json")
    assert result.exit_code == 0
    assert told(result)["verdicts"] == {"published": 2}


@pytest.mark.parametrize("keys", ["a.png,gone.png,lost/b.png", "", ",", "../a.png", "/a.png"])
def test_a_key_that_there_is_not_runs_nothing(home: Path, keys: str) -> None:
    drop("a.png")
    result = imgflow("run", "--keys", keys)
    assert result.exit_code == 1
    assert result.stderr.startswith("error ")
    if "gone" in keys:
        assert "gone.png, lost/b.png" in result.stderr
        assert "Nothing was run" in result.stderr
    assert not (home / "store").exists()


def test_an_empty_upload_folder_is_nothing_to_do() -> None:
    result = imgflow("run")
    assert result.exit_code == 0
    assert "0 photos: nothing to do. Bring some: imgflow ingest" in result.stdout


def test_a_missing_upload_folder_is_an_error() -> None:
    Path("data/uploads").rmdir()
    result = imgflow("run", "--json")
    assert result.exit_code == 1
    assert told(result)["code"] == "not_found"
    assert "data/uploads: there is no upload folder" in result.stderr


def test_status_before_the_first_run() -> None:
    result = imgflow("status")
    assert result.exit_code == 0
    assert "data yet (IMGFLOW_HOME names another folder). Next: imgflow ingest" in result.stdout
    assert told(imgflow("status", "--json")) == {"counts": [], "waiting": [], "damaged": []}


def test_status_says_where_everything_lies_that_a_person_needs(home: Path) -> None:
    drop("page.jpg", b"<html>404")
    drop("a.png")
    assert imgflow("run").exit_code == 1
    [damaged] = (
        path for path in home.glob("store/records/*/*/raw.json") if b"a.png" in path.read_bytes()
    )
    damaged.write_bytes(b"{")
    status = imgflow("status")
    assert status.exit_code == 0
    [place] = (line for line in status.stdout.splitlines() if line.startswith("  last good: "))
    name, _, path = place.removeprefix("  last good: ").partition(", ")
    assert name == "the original"
    assert Path(path).read_bytes() == b"<html>404"
    aside = damaged.parent / "history" / "damaged-raw.json"
    assert f"damaged a.png: the record of raw was damaged; it was put aside at {aside}" in (
        status.stderr
    )
    assert told(imgflow("status", "--json"))["damaged"] == [
        {"key": "a.png", "version": "raw", "location": str(aside)}
    ]


# -- policy and doctor -----------------------------------------------------------------


def test_the_policy_that_is_shown_is_one_that_is_accepted() -> None:
    shown = imgflow("policy", "show")
    assert shown.exit_code == 0
    Path("shown.yaml").write_text(shown.stdout)
    assert load_policy(Path("shown.yaml")) == load_policy(Path("data/policy.yaml"))
    checked = imgflow("policy", "check", "shown.yaml")
    assert checked.exit_code == 0
    assert checked.stdout.startswith("valid shown.yaml (sha256 ")


def test_without_a_path_the_policy_in_force_is_checked(home: Path) -> None:
    assert f"valid {home}/policy.yaml" in imgflow("policy", "check").stdout
    (home / "policy.yaml").unlink()
    assert "valid the defaults" in imgflow("policy", "check").stdout


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("raw:\n  max_pixles: 5\n", "p.yaml is not valid: raw.max_pixles (line 2)"),
        ("raw: [\n", "line 2"),
        ("detext: {fill: magic}\n", "p.yaml: there is no fill engine named 'magic'"),
        (
            "routes: [{name: ads, when: {category: [ad]}, set: {upscale: {engine: magic}}}]\n",
            "p.yaml, route 'ads': there is no upscaler engine named 'magic'",
        ),
        (None, "p.yaml cannot be read: No such file"),
    ],
)
def test_what_is_wrong_with_a_policy_is_named(text: str | None, what: str) -> None:
    if text is not None:
        Path("p.yaml").write_text(text)
    result = imgflow("policy", "check", "p.yaml")
    assert result.exit_code == 1
    assert what in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


def test_all_engines_that_there_are_not_are_named_at_once_and_each_once() -> None:
    ads = "{name: ads, when: {category: [ad]}, set: {upscale: {engine: charm}}}"
    Path("p.yaml").write_text(f"inpaint: {{fill: magic}}\nroutes: [{ads}]\n")
    result = imgflow("policy", "check", "p.yaml")
    assert result.exit_code == 1
    assert [name for name in ("magic", "charm") if result.stderr.count(f"'{name}'") == 1] == [
        "magic", "charm",
    ]  # fmt: skip
    assert len(result.stderr.splitlines()) == 2


def test_a_broken_policy_stops_every_command_that_needs_it() -> None:
    Path("data/policy.yaml").write_text("rawr: {}\n")
    path = str(drop("a.png"))
    for command in (["run"], ["rescue", path, "out"], ["detext", path, "out"]):
        result = imgflow(*command)
        assert result.exit_code == 1
        assert "rawr" in result.stderr
    assert not Path("out").exists()


def test_the_doctor_fails_for_a_broken_policy() -> None:
    assert imgflow("doctor").exit_code == 0
    Path("data/policy.yaml").write_text("rawr: {}\n")
    assert imgflow("doctor").exit_code == 1
    findings = told(imgflow("doctor", "--json"))
    assert [each["what"] for each in findings if each["status"] == "failed"] == ["policy"]


# -- output ----------------------------------------------------------------------------


def test_names_are_printed_as_they_are() -> None:
    """Brackets are no markup, lines are not wrapped, odd bytes do not break the output."""
    odd = os.fsdecode(b"[bold]" + b"x" * 100 + b"\xff.png")
    Path("shop").mkdir()
    Path("shop", odd).write_bytes(b"")
    for command in (["rescue", "shop", "out"], ["ingest", f"shop/{odd}", "gone"]):
        for json_too in ([], ["--json"]):
            result = imgflow(*command, *json_too)
            assert result.exit_code == 1
            assert all(": " in line for line in result.stderr.splitlines())
            if json_too:
                told(result)
    assert f"shop/[bold]{'x' * 100}\\xff.png" in imgflow("rescue", "shop", "out").stderr


def test_errors_are_json_too() -> None:
    result = imgflow("upscale", "gone.png", "out.png", "--scale", "2", "--json")
    assert result.exit_code == 1
    assert told(result) == {
        "error": "gone.png: there is no such file or folder",
        "code": "not_found",
    }


def test_a_home_that_cannot_be_made_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("file").write_text("")
    Path("a.png").write_bytes(b"")
    monkeypatch.setenv("IMGFLOW_HOME", "file/home")
    result = imgflow("ingest", "a.png")
    assert result.exit_code == 1
    assert "file/home/uploads: Not a directory" in result.stderr


def test_dev_needs_the_projects_folder() -> None:
    result = imgflow("dev")
    assert result.exit_code == 1
    assert "there is no workspace.yaml here. Run this in the project's folder" in result.stderr


def test_dev_says_at_once_that_its_port_is_taken() -> None:
    Path("workspace.yaml").touch()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = imgflow("dev", "--port", str(port))
    assert result.exit_code == 1
    assert f"the UI cannot listen on 127.0.0.1:{port}: Address already in use" in result.stderr
    assert result.stdout == ""
    assert imgflow("dev", "--port", "70000").exit_code == 2
