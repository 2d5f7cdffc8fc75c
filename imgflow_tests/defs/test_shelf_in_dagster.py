"""Models of the shelf in a run of Dagster and by one-shot commands: routed to, and recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
import yaml
from samples import at_once, encoded, photo
from tiny_models import compact, folder_of, on_shelf, pipeline
from typer.testing import CliRunner

from imgflow import batch
from imgflow.cli import app
from imgflow.defs.launch import instance, launch
from imgflow.defs.resources import Progress
from imgflow.engines.shelf.shelf import Shelf
from imgflow.home import CATALOG, Home
from imgflow.imaging.encode import encode_mask
from imgflow.imaging.masks import polygon_mask
from imgflow.lineage.record import Operation, Verdict, Version
from imgflow.store.keys import ImageKey

HERO = ImageKey("hero.png")
REGION = {"x": 8, "y": 8, "width": 12, "height": 10}
ANY = {"psnr": 0, "ssim": -1, "haarpsi": 0}
POLICY: dict[str, Any] = {
    "detext": {"text": "none"},
    "inpaint": {
        "text_first": None,
        "gates": {**ANY, "edge_continuity": 1000, "unprobed_area": 1, "gain": None},
    },
    "upscale": {
        "min_long_side": 80,
        "gates": {**ANY, "halo": 1, "edge_fidelity": 0, "artifact_rate": 1},
    },
    "engines": {
        "sleeve": {
            "use": "model", "model": "inpaint", "steps": 2, "strength": 0.9, "seed": 7, "side": 64
        }
    },
    "routes": [
        {
            "name": "heroes",
            "when": {"asset_type": "hero"},
            "set": {"inpaint": {"fill": "sleeve"}, "upscale": {"engine": "net"}},
        }
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    root = tmp_path_factory.mktemp("models")
    pipeline(root / "inpaint", "inpaint")
    on_shelf(root, "inpaint", task="filler", loader="diffusers", architecture="SD")
    compact(folder_of(root, "net") / "net.safetensors", 2)
    fields = {"architecture": "Compact", "scale": 2, "receptive": 6}
    return on_shelf(root, "net", task="upscaler", loader="spandrel", **fields)


@pytest.fixture
def home(home: Home, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An installation with that shelf and policy, and a photo with a hole to fill."""
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setenv("IMGFLOW_HOME", str(home.root))
    monkeypatch.setenv("IMGFLOW_MODELS", str(shelf.root))
    monkeypatch.setenv("IMGFLOW_DEVICE", "cpu")
    home.policy_file.write_text(yaml.safe_dump(POLICY))
    (home.uploads.root / str(HERO)).write_bytes(encoded(photo("coffee", 64)))
    step = {"op": "inpaint", "region": REGION, "prompt": "wool", "seed": 11}
    manifest = {"asset_type": "hero", "steps": [step]}
    (home.uploads.root / f"{HERO}.json").write_text(json.dumps(manifest))
    return home


@pytest.fixture
def dagster(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    # What loads slowly is loaded already in this process.
    monkeypatch.setattr(batch, "supervise", at_once)
    with instance(home) as found:
        yield found


def operation_of(home: Home, version: Version) -> Operation:
    record = home.store.get_record(CATALOG, HERO, version)
    assert record is not None
    assert record.verdict is Verdict.REPAIRED
    (operation,) = record.operations
    return operation


def test_a_run_routes_to_models_of_the_shelf_and_records_them(
    home: Home, dagster: dg.DagsterInstance, shelf: Shelf
) -> None:
    (run,) = launch([HERO], home, Progress())
    assert run.error == ""
    filled = operation_of(home, Version.INPAINTED)
    assert filled.engine is not None
    assert (filled.engine.name, filled.engine.model_id) == ("sleeve", "inpaint-SD")
    assert filled.engine.weights_sha256 == shelf.weights("inpaint").sha256
    assert (filled.seed, filled.prompt) == (11, "wool")
    own = {name: filled.parameters.get(name) for name in ("steps", "strength", "side", "seed")}
    assert own == {"steps": 2, "strength": 0.9, "side": 64, "seed": None}
    enlarged = operation_of(home, Version.UPSCALED)
    assert enlarged.engine is not None
    assert (enlarged.engine.name, enlarged.engine.model_id) == ("net", "net-Compact-x2")
    assert enlarged.engine.weights_sha256 == shelf.weights("net").sha256
    (entry,) = dagster.fetch_materializations(dg.AssetKey("inpainted"), limit=1).records
    assert entry.asset_materialization is not None
    tags = entry.asset_materialization.tags or {}
    assert "sleeve:inpaint-SD@" in tags["dagster/code_version"]


def test_the_same_seed_fills_alike_from_the_command_line_and_another_does_not(
    home: Home, tmp_path: Path
) -> None:
    pixels = photo("coffee", 64)
    corners = np.array([(8, 8), (20, 8), (20, 18), (8, 18)], float)
    mask = tmp_path / "mask.png"
    mask.write_bytes(encode_mask(polygon_mask([corners], *pixels.shape[:2])))
    made = []
    for number, seed in enumerate((5, 5, 6)):
        target = tmp_path / f"{number}.png"
        words = ["inpaint", home.uploads.root / str(HERO), target, "--mask", mask]
        words += ["--seed", seed, "--engine", "sleeve"]
        result = CliRunner().invoke(app, [str(word) for word in words])
        assert result.exit_code == 0, result.output
        made.append(target.read_bytes())
    assert made[0] == made[1]
    assert made[0] != made[2]
