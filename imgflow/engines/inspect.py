"""What a weights file is, found out by loading it: for cards of models that a user adds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgflow.engines.shelf.cards import TASKS_OF, CardError, Loader, Task

# The farthest that is looked: what a pixel takes from beyond is too little to be seen.
_FAR = 64
_HALF = 4
# Share of the strongest influence below which it counts as none.
_NONE = 1e-3


@dataclass(frozen=True, slots=True)
class Facts:
    """As in a card."""

    task: Task
    architecture: str
    scale: int = 1
    receptive: int = 32


def inspect_model(path: Path, loader: Loader, task: Task | None) -> Facts:
    """Look at weights. task: what the user says; None: what the file says.

    Raises EngineUnavailable for weights that do not load, CardError where the task is not clear.
    """
    if loader == "spandrel":
        return _spandrel(path)
    if loader == "diffusers":
        from imgflow.engines.pipelines import inspect_pipeline

        found, architecture = inspect_pipeline(path)
        return Facts(found, architecture, scale=4 if found == "upscaler" else 1)
    if loader == "mask_rcnn":
        from imgflow.engines.detection import inspect_detector

        return Facts("object_detector", inspect_detector(path))
    if loader == "easyocr":
        from imgflow.engines.easyocr import inspect_folder

        return Facts("text_detector", inspect_folder(path))
    if loader == "lpips":
        from imgflow.engines.lpips import Lpips

        Lpips(path).load()
    if loader == "torchscript":
        from imgflow.engines.torchscript import load_script

        load_script(path, "cpu")
    tasks = TASKS_OF[loader]
    chosen = task or tasks[0]
    if chosen not in tasks:
        raise CardError("model_not_added", f"the loader {loader} is not for {chosen}")
    return Facts(chosen, loader)


def _spandrel(path: Path) -> Facts:
    from imgflow.engines.spandrel_models import load_network

    network = load_network(path)
    architecture = str(network.architecture.id)
    if network.purpose == "Inpainting":
        return Facts("filler", architecture)
    return Facts("upscaler", architecture, network.scale, _receptive(network))


def _receptive(network: Any) -> int:
    """How many pixels beyond its own a pixel of the result depends on, noticeably.

    Measured: the gradient of a pixel in the middle, back to the photo.
    """
    import torch

    side = 2 * (_FAR + _HALF)
    random = torch.Generator().manual_seed(0)
    photo = torch.rand(1, network.input_channels, side, side, generator=random)
    photo.requires_grad_()
    # Not the descriptor itself, which works without gradients.
    made = network._call_fn(network.model, photo)
    middle = made.shape[-1] // 2
    made[..., middle, middle].sum().backward()
    assert photo.grad is not None
    influence = photo.grad.abs().amax(dim=(0, 1))
    strong = (influence > _NONE * influence.max()).nonzero()
    centre = middle // network.scale
    distance = int((strong - centre).abs().max()) if len(strong) else 0
    return min(distance + 1, _FAR)
