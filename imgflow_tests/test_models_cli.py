"""`imgflow models`, `imgflow route` and `imgflow generate` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from samples import encoded, photo
from tiny_models import torchscript
from typer.testing import CliRunner, Result

from imgflow.cli import app
from imgflow.engines.inspect import Facts
from imgflow.home import Home


@pytest.fixture(autouse=True)
def _here(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMGFLOW_HOME", str(home.root))
    monkeypatch.delenv("IMGFLOW_MODELS", raising=False)


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_all_models_are_listed_with_licence_and_state(home: Home) -> None:
    (home.models / "lama").mkdir(parents=True)
    (home.models / "lama" / "big-lama.pt").write_bytes(b"x")
    rows = {
        row["name"]: row for row in json.loads(run("models", "list", "--json").stdout)["models"]
    }
    assert rows["lama"]["state"] == "here"
    assert rows["span-x4"]["state"] == "-"
    assert rows["lama"]["licence"] == "Apache-2.0"
    shown = run("models", "list")
    assert shown.exit_code == 0
    assert str(home.models) in shown.stdout.replace("\n", "")
    # A person reads it in one line of a terminal.
    assert "LaMa, large mask inpainting with Fourier convolutions" in shown.stdout
    assert "filler, here, " in shown.stdout


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(
        "imgflow.engines.inspect.inspect_model",
        lambda *_: Facts("upscaler", "Compact", scale=2, receptive=5),
    )
    path = tmp_path / "net.pth"
    path.write_bytes(b"weights")
    result = run("models", "add", "net", path, "--licence", "MIT")
    assert result.exit_code == 0, result.output
    return path


def test_what_is_added_is_listed_verified_and_removed(home: Home, added: Path) -> None:
    listed = json.loads(run("models", "list", "--json").stdout)["models"]
    (row,) = [each for each in listed if each["name"] == "net"]
    assert (row["for"], row["licence"], row["pinned"]) == ("upscaler", "MIT", 1)
    verified = run("models", "verify")
    assert verified.exit_code == 0
    assert "ok       net/net.pth" in verified.stdout
    assert added.exists()
    assert run("models", "rm", "net").exit_code == 0
    assert not (home.models / "net").exists()


def test_a_changed_file_fails_until_it_is_pinned(home: Home, added: Path) -> None:
    card = home.models / "net" / "card.json"
    facts = json.loads(card.read_text())
    for file in facts["files"]:
        del file["sha256"]
    card.write_text(json.dumps(facts))
    (home.models / "net" / "net.pth").write_bytes(b"others")
    assert run("models", "verify").exit_code == 1
    assert run("models", "verify", "net", "--pin").exit_code == 0
    assert run("models", "verify").exit_code == 0


def test_weights_for_another_task_than_asked_are_not_added(home: Home, added: Path) -> None:
    result = run("models", "add", "other", added, "--task", "filler")
    assert result.exit_code == 1
    assert "for another task: upscaler" in result.stderr.replace("\n", " ")
    assert not (home.models / "other").exists()


def test_no_pin_stands_against_a_hash_that_is_said(home: Home, added: Path) -> None:
    file = home.models / "net" / "net.pth"
    file.write_bytes(b"others")
    assert run("models", "verify", "net", "--pin").exit_code == 1
    file.write_bytes(b"weights")
    assert run("models", "verify", "net").exit_code == 0


@pytest.mark.parametrize("loader", ["spandrel", "torchscript", "lpips", "easyocr", "diffusers"])
def test_what_is_something_else_is_not_added(home: Home, tmp_path: Path, loader: str) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(b"no weights at all")
    result = run("models", "add", "net", path, "--loader", loader)
    assert result.exit_code == 1, result.output
    assert "Nothing was added" in result.stderr.replace("\n", " ")
    # Nor torch's advice to load it without any care.
    assert "weights_only" not in result.stderr
    assert not (home.models / "net").exists()


def test_what_cannot_be_added_says_what_to_try(tmp_path: Path) -> None:
    path = torchscript(tmp_path / "net.pt")
    result = run("models", "add", "net", path)
    assert result.exit_code == 1
    told = result.stderr.replace("\n", " ")
    assert "the loader torchscript reads" in told
    assert "--loader" in told
    # That would be advice for what lies on the shelf.
    assert "models rm" not in told
    assert run("models", "add", "net", path, "--loader", "torchscript").exit_code == 0


def test_a_source_that_nobody_named_is_not_told(home: Home) -> None:
    home.models.mkdir(parents=True)
    (home.models / "catalog.yaml").write_text(
        "own: {title: Own, task: filler, loader: torchscript, licence: MIT, "
        "files: [{path: own.pt, url: 'http://127.0.0.1:9/own.pt'}]}"
    )
    (home.models / "own").mkdir()
    (home.models / "own" / "own.pt").write_bytes(b"x")
    assert "own: Own, MIT\n" in run("models", "pull", "own").stderr


def test_mistakes_are_told_in_one_line(tmp_path: Path) -> None:
    for words, told in (
        (("models", "pull", "nope"), "no model named 'nope'"),
        (("models", "rm", "lama"), "there is no model 'lama' on the shelf"),
        (("models", "add", "x", tmp_path / "nothing"), "there is no file or folder"),
    ):
        result = run(*words)
        assert result.exit_code == 1
        assert told in result.stderr.replace("\n", " ")


def test_a_route_is_explained(home: Home) -> None:
    path = home.uploads.root / "a.png"
    path.write_bytes(encoded(photo("coffee", 64)))
    path.with_name("a.png.json").write_text('{"asset_type": "social"}')
    told = run("route", path)
    assert told.exit_code == 0, told.output
    assert "asset type: social (by manifest)" in told.stdout
    assert "route 'social' sets detext.gates.accept_artifacts = True" in told.stdout
    as_json: dict[str, Any] = json.loads(run("route", path, "--json").stdout)
    assert as_json["measures"]["long_side"] == 64.0


def test_generating_without_an_engine_says_what_to_do(tmp_path: Path) -> None:
    result = run("generate", "a shoe", tmp_path / "a.png")
    assert result.exit_code == 1
    assert "generate.engine" in result.stderr.replace("\n", " ")
    assert run("generate").exit_code == 2
    assert run("generate", "a shoe").exit_code == 2
