"""Gates of an enlargement: sharp truth passes, and LPIPS is measured only where it can be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from samples import FakeUpscaler, Pixels, photo

from imgflow.engines.registry import Engines
from imgflow.errors import EngineUnavailable
from imgflow.imaging.metrics import downscale_area, halo_score
from imgflow.lineage.record import GateResult, Verdict
from imgflow.stages.stage import Job, Outcome, Picture
from imgflow.stages.upscale import upscale

MakeJob = Callable[..., Job]
MakePicture = Callable[..., Picture]

TRUTH = np.array(photo("coffee", 400)[:256])
SMALL = downscale_area(TRUTH, 2)


def made(make_job: MakeJob, picture: MakePicture, **gates: object) -> Outcome:
    policy = {"upscale": {"min_long_side": 400, "gates": gates}}
    return upscale(picture(SMALL), make_job(policy))


def lpips_gate(outcome: Outcome) -> GateResult:
    (found,) = [each for each in outcome.gates if each.name == "lpips"]
    return found


def test_an_engine_that_is_as_sharp_as_the_truth_passes(
    engines: Engines, make_job: MakeJob, picture: MakePicture
) -> None:
    def perfect(tile: Pixels, scale: int) -> Pixels:
        # Tiles come with reflected surroundings: the truth has to be found in them.
        whole = cv2.copyMakeBorder(TRUTH, 400, 400, 400, 400, cv2.BORDER_REFLECT)
        small = downscale_area(whole, scale).astype(np.float32) / 255
        match = cv2.matchTemplate(small, tile, cv2.TM_SQDIFF)
        left, top = cv2.minMaxLoc(match)[2]
        rows, columns = (
            slice(at * scale, (at + side) * scale)
            for at, side in ((top, tile.shape[0]), (left, tile.shape[1]))
        )
        return whole[rows, columns].astype(np.float32) / 255

    engines.register_upscaler("perfect", lambda scale, _: FakeUpscaler("perfect", scale, perfect))
    policy = {"upscale": {"min_long_side": 400, "engine": "perfect"}}
    outcome = upscale(picture(SMALL), make_job(policy))
    assert outcome.pixels is not None
    assert np.abs(outcome.pixels.astype(int) - TRUTH).max() <= 1
    assert outcome.verdict is Verdict.REPAIRED, outcome.reason
    assert halo_score(TRUTH, SMALL, 2) > 0.03, "true detail goes beyond its reduced copy"


def test_lpips_is_not_asked_by_default(make_job: MakeJob, picture: MakePicture) -> None:
    assert "lpips" not in {each.name for each in made(make_job, picture).gates}


def test_without_weights_lpips_is_neither_passed_nor_failed(
    make_job: MakeJob, picture: MakePicture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMGFLOW_MODELS", str(tmp_path))
    outcome = made(make_job, picture, lpips=0.3)
    found = lpips_gate(outcome)
    assert (found.value, found.passed, found.note) == (None, None, "weights not installed")
    assert found.threshold == 0.3
    assert outcome.verdict is Verdict.REPAIRED


@pytest.mark.parametrize(("most", "passed"), [(1e9, True), (0.0, False)])
def test_with_weights_lpips_decides(
    most: float,
    passed: bool,
    make_job: MakeJob,
    picture: MakePicture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("IMGFLOW_MODELS", str(tmp_path))
    install(tmp_path / "lpips")
    outcome = made(make_job, picture, lpips=most)
    found = lpips_gate(outcome)
    assert found.passed is passed
    assert found.value is not None and found.value > 0
    assert (outcome.verdict is Verdict.REPAIRED) is passed


def test_damaged_weights_are_an_error(
    make_job: MakeJob, picture: MakePicture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMGFLOW_MODELS", str(tmp_path))
    install(tmp_path / "lpips")
    (tmp_path / "lpips/alexnet.safetensors").write_bytes(b"cut")
    with pytest.raises(EngineUnavailable, match="cannot be read"):
        made(make_job, picture, lpips=0.3)


def install(folder: Path) -> None:
    folder.mkdir()
    draw = torch.Generator().manual_seed(0)
    shapes = {
        0: (64, 3, 11),
        3: (192, 64, 5),
        6: (384, 192, 3),
        8: (256, 384, 3),
        10: (256, 256, 3),
    }
    backbone, linear = {}, {}
    for layer, (number, (outputs, inputs, side)) in enumerate(shapes.items()):
        weight = torch.randn(outputs, inputs, side, side, generator=draw)
        backbone[f"features.{number}.weight"] = weight * (2 / (inputs * side * side)) ** 0.5
        backbone[f"features.{number}.bias"] = torch.zeros(outputs)
        linear[f"lin{layer}.model.1.weight"] = torch.ones(1, outputs, 1, 1)
    save_file(backbone, folder / "alexnet.safetensors")
    save_file(linear, folder / "lpips-alex.safetensors")
