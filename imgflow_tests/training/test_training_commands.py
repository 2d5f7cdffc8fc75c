"""`python -m imgflow.training`: each command trains its own part of the eraser alone."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from samples import default_font, encoded, photo
from torch.utils.data import Dataset
from typer.testing import CliRunner

from imgflow.engines.networks.eraser import Eraser
from imgflow.engines.shipped import load_weights
from imgflow.training import filler, finder, restorer
from imgflow.training.__main__ import app
from imgflow.training.loop import Recipe, export

PARTS = ("finder", "filler", "restorer")


class Patches(Dataset[Any]):
    """Noise with text in it, in the planes that both parts of the eraser take."""

    photos: list[int] = []
    planes = (3, 1, 1)

    def __init__(self, photos: list[Any], *_: object, **__: object) -> None:
        type(self).photos.append(len(photos))

    def __getitem__(self, number: int) -> tuple[torch.Tensor, ...]:
        chance = torch.Generator().manual_seed(number)
        return tuple(torch.rand(1, each, 32, 32, generator=chance).round() for each in self.planes)


def written(path: Path, seed: int, **about: str) -> dict[str, torch.Tensor]:
    """Weights of an eraser of random numbers in a file."""
    torch.manual_seed(seed)
    network = Eraser()
    for value in network.parameters():
        torch.nn.init.normal_(value, std=0.05)
    export(network, path, Recipe(steps=seed, batch=1), {"network": "eraser", **about})
    return load_file(path)


@pytest.mark.parametrize(
    ("part", "lesson", "planes"),
    [
        ("finder", finder, (3, 1)),
        ("filler", filler, (3, 1, 3)),
        ("restorer", restorer, (3, 3, 3, 1, 1, 1, 3)),
    ],
)
def test_only_the_named_part_learns(
    part: str,
    lesson: ModuleType,
    planes: tuple[int, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Shown(Patches):
        photos: list[int] = []

    monkeypatch.setattr(Shown, "planes", planes)
    monkeypatch.setattr(lesson, "Scenes", Shown)
    monkeypatch.setattr(lesson, "judged", lambda *_: {"psnr": 1.0})
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.png").write_bytes(encoded(photo("coffee", 60)))
    (tmp_path / "fonts").mkdir()
    default_font(tmp_path / "fonts")
    before = written(tmp_path / "start.safetensors", 1)
    told = CliRunner().invoke(
        app,
        [
            part,
            str(tmp_path / "photos"),
            f"--work={tmp_path}",
            f"--fonts={tmp_path / 'fonts'}",
            f"--start={tmp_path / 'start.safetensors'}",
            "--steps=2",
            "--learning-rate=1",
            "--threads=1",
        ],
    )
    assert told.exit_code == 0, told.output
    assert "step 2" in told.output
    after = load_file(tmp_path / "eraser.safetensors")
    assert set(after) == set(before)
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed
    assert all(name.startswith(f"{part}.") for name in changed)
    # The curve is taken on photos that nothing is learned from. Seven are textures.
    learned, kept = Shown.photos
    assert (learned, kept) == (4 + 7, 1)


def test_an_eraser_is_joined_of_its_parts(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.safetensors" for name in (*PARTS, "eraser")]
    parts = {part: written(path, each) for each, (part, path) in _numbered(paths)}
    told = CliRunner().invoke(app, _join(paths))
    assert told.exit_code == 0, told.output
    joined = load_file(paths[-1])
    for name, weight in joined.items():
        assert torch.equal(weight, parts[name.split(".")[0]][name]), name
    Eraser().load_state_dict(joined)  # nothing is missing, nothing too many
    with safe_open(paths[-1], "pt") as file:
        about = file.metadata()
    for each, part in enumerate(PARTS, start=1):
        assert json.loads(about[f"{part}_recipe"])["steps"] == each


def test_a_joined_file_may_be_half_as_large(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.safetensors" for name in (*PARTS, "eraser")]
    parts = {part: written(path, each) for each, (part, path) in _numbered(paths)}
    told = CliRunner().invoke(app, [*_join(paths), "--small"])
    assert told.exit_code == 0, told.output
    assert paths[-1].stat().st_size < 0.55 * paths[0].stat().st_size
    weights = load_weights(paths[-1])
    Eraser().load_state_dict(weights)
    for name, weight in weights.items():
        exact = parts[name.split(".")[0]][name].float()
        scale = exact.abs().amax(dim=tuple(range(1, exact.ndim)), keepdim=True)
        assert ((weight - exact).abs() <= 0.51 / 127 * scale).all(), name


def test_a_file_without_a_recipe_is_not_joined(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.safetensors" for name in (*PARTS, "eraser")]
    for path in paths[:-1]:
        save_file({"finder.weight": torch.zeros(1)}, path, metadata={"network": "eraser"})
    assert CliRunner().invoke(app, _join(paths)).exit_code != 0
    assert not paths[-1].exists()


@pytest.mark.parametrize(
    ("part", "problem"), [("finder", "PART=FILE"), ("tail={}", "no part 'tail'")]
)
def test_a_part_that_is_not_there_is_named(part: str, problem: str, tmp_path: Path) -> None:
    written(tmp_path / "finder.safetensors", 1)
    given = part.format(tmp_path / "finder.safetensors")
    told = CliRunner().invoke(app, ["join", str(tmp_path / "new.safetensors"), given])
    assert told.exit_code != 0
    assert problem in told.output
    assert not (tmp_path / "new.safetensors").exists()


def _join(paths: list[Path]) -> list[str]:
    *files, eraser = paths
    return ["join", str(eraser), *map("{}={}".format, PARTS, files)]


def _numbered(paths: list[Path]) -> list[tuple[int, tuple[str, Path]]]:
    return list(enumerate(zip(PARTS, paths[:-1], strict=True), start=1))


@pytest.mark.parametrize("small", [False, True])
def test_trainings_of_one_network_are_averaged(small: bool, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.safetensors" for name in ("one", "other", "joined")]
    parts = [written(path, each) for each, path in enumerate(paths[:2], start=1)]
    if small:
        told = CliRunner().invoke(
            app, ["join", str(paths[2]), f"finder={paths[0]}", f"filler={paths[1]}", "--small"]
        )
        assert told.exit_code == 0, told.output
        paths[0] = paths[2]
    mean = tmp_path / "mean.safetensors"
    told = CliRunner().invoke(
        app, ["average", str(mean), "finder", *(str(each) for each in paths[:2])]
    )
    assert told.exit_code == 0, told.output
    found = load_file(mean)
    assert set(found) == {name for name in parts[0] if name.startswith("finder.")}
    for name, values in found.items():
        expected = (parts[0][name].float() + parts[1][name].float()) / 2
        near = 0.01 if small else 1e-3
        assert torch.allclose(values.float(), expected, atol=near * float(expected.abs().max()))
    with safe_open(mean, "pt") as file:
        recipes = json.loads(file.metadata()["recipe"])
    assert [each["steps"] for each in recipes] == [1, 2]


def test_what_is_not_in_all_files_is_not_averaged(tmp_path: Path) -> None:
    written(tmp_path / "one.safetensors", 1)
    export(torch.nn.Linear(1, 1), tmp_path / "other.safetensors", Recipe(1, 1), {}, prefix="tail.")
    files = [str(tmp_path / f"{name}.safetensors") for name in ("one", "other")]
    told = CliRunner().invoke(app, ["average", str(tmp_path / "mean.safetensors"), "tail", *files])
    assert told.exit_code != 0
    assert "no part 'tail'" in told.output
