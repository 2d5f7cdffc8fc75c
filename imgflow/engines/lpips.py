"""LPIPS: how different two photos look, by the features of a network (the lower the nearer).

Zhang, Isola, Efros, Shechtman, Wang 2018, "The Unreasonable Effectiveness of Deep Features as a
Perceptual Metric", CVPR; version 0.1 with the AlexNet backbone. Its weights are not shipped.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgflow.errors import EngineUnavailable
from imgflow.imaging.colour import data_range

if TYPE_CHECKING:
    from torch import Tensor

Pixels = NDArray[Any]

BACKBONE, LINEAR = "alexnet", "lpips-alex"
"""Names of the two files, without .safetensors or .pth."""

# Convolutions of torchvision's AlexNet: number, inputs, outputs, kernel, stride, padding.
_CONVOLUTIONS = (
    (0, 3, 64, 11, 4, 2),
    (3, 64, 192, 5, 1, 2),
    (6, 192, 384, 3, 1, 1),
    (8, 384, 256, 3, 1, 1),
    (10, 256, 256, 3, 1, 1),
)
_POOLED_BEFORE = (3, 6)
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
_TINY = 1e-10
_LEAST_SIDE = 64
_TILE = 1024


class WeightsMissing(EngineUnavailable):
    """The weights are not installed: not an error where LPIPS is one gate among others."""


class Lpips:
    """LPIPS v0.1, AlexNet, with weights from files.

    folder: holds alexnet.safetensors (torchvision's state_dict; its classifier may be left out) and
    lpips-alex.safetensors (lin0.model.1.weight to lin4.model.1.weight, as published), or the same
    as .pth. threads: of torch, for the whole process.

    Raises WeightsMissing, an EngineUnavailable, without the files. Files that cannot be read, or
    hold something else, are an EngineUnavailable when first used.
    """

    def __init__(self, folder: Path, *, threads: int = 1) -> None:
        self._backbone, self._linear = _file(folder, BACKBONE), _file(folder, LINEAR)
        self._threads = threads

    def score(self, reference: Pixels, test: Pixels) -> float:
        """Distance, 0 for equal photos; about 0.05 is hardly seen, 0.5 is another picture.

        reference, test: (H, W, 3) sRGB, uint8 or uint16. ValueError if they differ in kind.
        Photos of more than 1024 pixels a side are scored in even tiles, whose mean, weighted by
        their pixels, counts; those of less than 64 are continued by mirroring.
        """
        if reference.shape != test.shape or reference.dtype != test.dtype:
            raise ValueError(
                f"cannot compare {reference.shape} {reference.dtype} with {test.shape} {test.dtype}"
            )
        if reference.ndim != 3 or reference.shape[2] != 3:
            raise ValueError(f"expected (H, W, 3) without alpha, not {reference.shape}")
        total = 0.0
        for part in _tiles(*reference.shape[:2]):
            pixels = reference[part].size
            total += pixels * self._distance(_input(reference[part]), _input(test[part]))
        return total / reference.size

    def _distance(self, reference: NDArray[np.float32], test: NDArray[np.float32]) -> float:
        """Of two inputs (3, H, W)."""
        import torch

        with torch.inference_mode():
            layers = self._features(torch.from_numpy(np.stack([reference, test])))
            distances = [
                ((each[0] - each[1]).square() * weight).sum(dim=0).mean()
                for each, weight in zip(layers, self._layer_weights, strict=True)
            ]
        return float(sum(float(each) for each in distances))

    def _features(self, batch: Tensor) -> Iterator[Tensor]:
        """Features after each convolution, of unit length at each place: (2, C, h, w)."""
        from torch.nn import functional

        for number, _, _, _, stride, padding in _CONVOLUTIONS:
            if number in _POOLED_BEFORE:
                batch = functional.max_pool2d(batch, 3, 2)
            weight, bias = self._convolutions[number]
            batch = functional.conv2d(batch, weight, bias, stride, padding).relu()
            yield batch / (batch.square().sum(dim=1, keepdim=True).sqrt() + _TINY)

    def load(self) -> None:
        """Read the weights now. Raises EngineUnavailable."""
        _ = self._convolutions, self._layer_weights

    @cached_property
    def _convolutions(self) -> dict[int, tuple[Tensor, Tensor]]:
        import torch

        torch.set_num_threads(self._threads)
        shapes: dict[str, tuple[int, ...]] = {}
        for number, inputs, outputs, kernel, *_ in _CONVOLUTIONS:
            shapes[f"features.{number}.weight"] = (outputs, inputs, kernel, kernel)
            shapes[f"features.{number}.bias"] = (outputs,)
        found = _load(self._backbone, shapes)
        return {
            number: (found[f"features.{number}.weight"], found[f"features.{number}.bias"])
            for number, *_ in _CONVOLUTIONS
        }

    @cached_property
    def _layer_weights(self) -> list[Tensor]:
        """(C, 1, 1) of each convolution."""
        names = [f"lin{layer}.model.1.weight" for layer in range(len(_CONVOLUTIONS))]
        shapes = {
            name: (1, outputs, 1, 1)
            for name, (_, _, outputs, *_) in zip(names, _CONVOLUTIONS, strict=True)
        }
        found = _load(self._linear, shapes)
        return [found[name][0] for name in names]


def weights_folder() -> Path:
    """`lpips` in the folder that IMGFLOW_MODELS names, or else in `models` of the home."""
    models = os.environ.get("IMGFLOW_MODELS")
    home = os.environ.get("IMGFLOW_HOME") or "data"
    return (Path(models) if models else Path(home) / "models").absolute() / "lpips"


@cache
def installed(folder: Path) -> Lpips:
    """The one of a folder, loaded once per process. Raises as Lpips does."""
    return Lpips(folder)


def _tiles(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    for rows in _evenly(height):
        for columns in _evenly(width):
            yield rows, columns


def _evenly(length: int) -> list[slice]:
    parts = -(-length // _TILE)
    stops = [length * part // parts for part in range(parts + 1)]
    return [slice(*each) for each in pairwise(stops)]


def _input(pixels: Pixels) -> NDArray[np.float32]:
    """(H, W, 3) to (3, H, W) as the network takes it."""
    missing = [(0, max(_LEAST_SIDE - side, 0)) for side in pixels.shape[:2]]
    if any(after for _, after in missing):
        pixels = np.pad(pixels, [*missing, (0, 0)], mode="symmetric")
    values = pixels.astype(np.float32) * np.float32(2 / data_range(pixels.dtype)) - np.float32(1)
    normal = (values - np.array(_SHIFT, np.float32)) / np.array(_SCALE, np.float32)
    return np.ascontiguousarray(normal.transpose(2, 0, 1), np.float32)


def _file(folder: Path, name: str) -> Path:
    for ending in (".safetensors", ".pth"):
        if (folder / f"{name}{ending}").is_file():
            return folder / f"{name}{ending}"
    raise WeightsMissing(
        "weights_missing",
        f"LPIPS weights are not installed: {name}.safetensors is not in {folder}",
        hint=f"Put {BACKBONE}.safetensors (torchvision's AlexNet) and {LINEAR}.safetensors (alex "
        "of LPIPS v0.1), or the same as .pth, into that folder",
    )


def _load(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The named weights of a file, float32 and of these shapes. Raises EngineUnavailable."""
    import torch

    found = _read(path)
    made: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        weight = found.get(name)
        if not isinstance(weight, torch.Tensor):
            raise _unfit(path, f"it has no weights named {name}")
        if tuple(weight.shape) != shape:
            raise _unfit(path, f"{name} has the shape {tuple(weight.shape)}, not {shape}")
        made[name] = weight.to(torch.float32)
        if not bool(made[name].isfinite().all()):
            raise _unfit(path, f"{name} has values that are no finite numbers")
    return made


def _read(path: Path) -> dict[str, Any]:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(str(path))
        # The published file was saved on a GPU.
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (
        OSError,
        EOFError,
        RuntimeError,
        ValueError,
        KeyError,
        pickle.UnpicklingError,
        SafetensorError,
    ) as error:
        first_line = next(iter(str(error).splitlines()), type(error).__name__)
        raise _unfit(path, f"it cannot be read ({first_line[:200]})") from error
    if not isinstance(found, dict):
        raise _unfit(path, "it holds no weights by name")
    return found


def _unfit(path: Path, why: str) -> EngineUnavailable:
    return EngineUnavailable(
        "weights_unfit",
        f"the LPIPS weights {path} cannot be used: {why}",
        hint="Replace the file by the published one",
    )
