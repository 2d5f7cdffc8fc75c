"""The resource `gpu`: what it leaves out is as the environment says; its shelf is the line's."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from samples import at_once, encoded, photo
from tiny_models import folder_of, on_shelf, torchscript

from imgflow import batch
from imgflow.batch import Order, run_batch
from imgflow.defs.resources import GpuResource
from imgflow.engines.compute import Compute
from imgflow.errors import ImgflowError
from imgflow.home import Home
from imgflow.lineage.record import Verdict, Version
from imgflow.store.keys import ImageKey


def test_what_is_left_out_is_as_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMGFLOW_DEVICE", "cpu")
    monkeypatch.setenv("IMGFLOW_MODEL_MB", "100")
    assert GpuResource().compute() == Compute("cpu", "auto", 100)
    asked = GpuResource(device="cuda:1", precision="float32", memory_mb=7, cpu_when_full=False)
    assert asked.compute() == Compute("cuda:1", "float32", 7, cpu_when_full=False)
    with pytest.raises(ImgflowError):
        GpuResource(precision="half").compute()


def test_the_shelf_is_the_homes_unless_named(home: Home, tmp_path: Path) -> None:
    assert GpuResource().models(home) == home.models
    assert GpuResource(weights=str(tmp_path)).models(home) == tmp_path


def test_a_model_of_the_shelf_works_in_a_batch_and_is_recorded(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf_root = tmp_path / "shelf"
    torchscript(folder_of(shelf_root, "mean") / "mean.pt")
    shelf = on_shelf(shelf_root, "mean", task="filler", loader="torchscript")
    gates = {
        "psnr": 0, "ssim": -1, "haarpsi": 0, "edge_continuity": 1000, "unprobed_area": 1,
        "gain": None,
    }  # fmt: skip
    policy = {
        "detext": {"text": "none"},
        "inpaint": {"fill": "mine", "text_first": None, "gates": gates},
        "upscale": {"max_scale": 1, "sharpen_below": 0.0},
        "engines": {"mine": {"use": "model", "model": "mean"}},
    }
    home.policy_file.write_text(yaml.safe_dump(policy))
    region = '{"x": 8, "y": 8, "width": 12, "height": 10}'
    (home.uploads.root / "a.png").write_bytes(encoded(photo("coffee", 64)))
    (home.uploads.root / "a.png.json").write_text(
        f'{{"steps": [{{"op": "inpaint", "region": {region}}}]}}'
    )
    monkeypatch.setattr(batch, "supervise", at_once)
    resource = GpuResource(device="cpu", weights=str(shelf_root))
    order = Order(home, "run-1", compute=resource.compute(), models=resource.models(home))
    (passage,) = run_batch([ImageKey("a.png")], order)
    record = next(s.record for s in passage.steps if s.record.version is Version.INPAINTED)
    assert record.verdict is Verdict.REPAIRED
    (operation,) = record.operations
    assert operation.engine is not None
    assert operation.engine.name == "mine"
    assert operation.engine.model_id == "mean-torchscript"
    assert operation.engine.weights_sha256 == shelf.weights("mean").sha256
    assert (operation.device, operation.dtype) == ("cpu", "float32")
