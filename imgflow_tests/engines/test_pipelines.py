"""Diffusion pipelines from local folders: seeded, prompted, offline, and never anybody's code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import photo
from tiny_models import bench, on_shelf, pipeline

from imgflow.engines.account import accounting
from imgflow.engines.pipelines import (
    INDEX,
    DiffusersFill,
    DiffusersGenerator,
    DiffusersUpscaler,
    inspect_pipeline,
)
from imgflow.engines.shelf.shelf import Shelf
from imgflow.errors import EngineUnavailable
from imgflow.policy.engines import ModelEngine

STEPS = 2


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    root = tmp_path_factory.mktemp("models")
    for kind, task in (("inpaint", "filler"), ("upscale", "upscaler"), ("generate", "generator")):
        pipeline(root / kind, kind)
        _, architecture = inspect_pipeline(root / kind)
        scale = 4 if kind == "upscale" else 1
        found = on_shelf(
            root, kind, task=task, loader="diffusers", architecture=architecture, scale=scale
        )
    return found


def settings(model: str, **fields: Any) -> ModelEngine:
    return ModelEngine(use="model", model=model, steps=STEPS, side=64, **fields)


def fill_of(shelf: Shelf, **fields: Any) -> DiffusersFill:
    return DiffusersFill("sd", shelf.weights("inpaint"), settings("inpaint", **fields), bench())


def hole(height: int, width: int) -> Any:
    mask = np.zeros((height, width), np.uint8)
    mask[10:25, 12:30] = 255
    return mask


def test_the_same_seed_gives_the_same_bytes_and_another_other_bytes(shelf: Shelf) -> None:
    pixels = photo("coffee", 60)
    mask = hole(*pixels.shape[:2])
    first = fill_of(shelf).fill(pixels, mask, prompt="a cup", seed=1)
    again = fill_of(shelf).fill(pixels, mask, prompt="a cup", seed=1)
    other = fill_of(shelf).fill(pixels, mask, prompt="a cup", seed=2)
    assert first.shape == pixels.shape
    assert first.dtype == pixels.dtype
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_prompt_changes_the_fill(shelf: Shelf) -> None:
    pixels = photo("coffee", 60)
    mask = hole(*pixels.shape[:2])
    one, other = (fill_of(shelf).fill(pixels, mask, prompt=each, seed=1) for each in ("a", "z z z"))
    assert (one != other).any()


def test_what_was_done_is_told(shelf: Shelf) -> None:
    pixels = photo("coffee", 60)
    with accounting() as told:
        fill_of(shelf, prompt="wood", seed=7).fill(pixels, hole(*pixels.shape[:2]))
    assert (told.seed, told.prompt, told.device, told.dtype) == (7, "wood", "cpu", "float32")


def test_sixteen_bits_stay_sixteen(shelf: Shelf) -> None:
    pixels = photo("coffee", 60).astype(np.uint16) * 257
    assert fill_of(shelf).fill(pixels, hole(*pixels.shape[:2])).dtype == np.uint16


def test_the_spec_names_weights_and_parameters_and_changes_with_them(shelf: Shelf) -> None:
    spec = fill_of(shelf, strength=0.5).spec
    assert spec.seeded
    assert spec.prompted
    assert spec.weights_sha256 == shelf.weights("inpaint").sha256
    assert dict(spec.parameters)["strength"] == 0.5
    assert spec.code_version != fill_of(shelf, strength=0.6).spec.code_version


def test_pictures_from_a_prompt(shelf: Shelf) -> None:
    engine = DiffusersGenerator("t2i", shelf.weights("generate"), settings("generate"), bench())
    first, again, other = (
        engine.generate("a red shoe", seed=seed, width=60, height=44) for seed in (3, 3, 4)
    )
    assert first.shape == (44, 60, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("scale", [2, 4])
def test_enlarged(shelf: Shelf, scale: int) -> None:
    engine = DiffusersUpscaler("x4", shelf.weights("upscale"), settings("upscale"), scale, bench())
    tile = photo("coffee", 20).astype(np.float32) / 255
    large = engine.enlarge(tile)
    assert large.shape == (tile.shape[0] * scale, tile.shape[1] * scale, 3)
    np.testing.assert_array_equal(large, engine.enlarge(tile))


def test_a_pipeline_for_something_else_is_refused(shelf: Shelf) -> None:
    engine = DiffusersFill("sd", shelf.weights("generate"), settings("generate"), bench())
    pixels = photo("coffee", 60)
    with pytest.raises(EngineUnavailable) as error:
        engine.fill(pixels, hole(*pixels.shape[:2]))
    assert error.value.code == "weights_unfit"


@pytest.mark.parametrize(
    ("index", "why"),
    [
        ({"_class_name": "MyPipeline"}, "not known"),
        ({"_class_name": ["mine", "MyPipeline"]}, "not known"),
        (
            {"_class_name": "StableDiffusionPipeline", "unet": ["evil_module", "Unet"]},
            "asks for code of 'evil_module'",
        ),
        ([1], "not known"),
    ],
)
def test_programs_that_come_with_weights_are_refused(tmp_path: Path, index: Any, why: str) -> None:
    (tmp_path / INDEX).write_text(json.dumps(index))
    with pytest.raises(EngineUnavailable, match=why):
        inspect_pipeline(tmp_path)


def test_pickled_parts_are_refused(tmp_path: Path, shelf: Shelf) -> None:
    import shutil

    import torch

    root = tmp_path / "models"
    shutil.copytree(shelf.root / "generate", root / "generate")
    weights = root / "generate" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.unlink()
    torch.save({}, weights.with_suffix(".bin"))
    here = on_shelf(root, "generate", task="generator", loader="diffusers")
    engine = DiffusersGenerator("t2i", here.weights("generate"), settings("generate"), bench())
    with pytest.raises(EngineUnavailable) as error:
        engine.generate("x")
    assert error.value.code == "weights_unfit"
