"""Engines that do not come with imgflow: what the policy declares, and models on the shelf.

A name of the policy is looked up among the engines that it declares, then on the shelf.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.engines.compute import Compute
from imgflow.engines.held import Bench
from imgflow.engines.shelf.cards import Task
from imgflow.engines.shelf.shelf import Shelf
from imgflow.errors import BadPhoto, EngineUnavailable
from imgflow.policy.engines import (
    EngineSettings,
    ExemplarEngine,
    JoinedEngine,
    LogoEngine,
    ModelEngine,
    RemoteEngine,
)

if TYPE_CHECKING:
    from imgflow.engines.registry import Engines

_MOST_PICTURE = 64 << 20
_PICTURES = (".jpg", ".jpeg", ".png", ".webp")
_MOST_LIBRARY = 200
_LIBRARY_SIDE = 2000


@dataclass
class Outside:
    """What engines can be made of. root: the home, which paths of the policy are relative to.

    models: the shelf's folder.
    """

    root: Path
    models: Path
    declared: Mapping[str, EngineSettings] = field(default_factory=dict)
    compute: Compute = field(default_factory=Compute)
    threads: int = 1

    @cached_property
    def shelf(self) -> Shelf:
        return Shelf(self.models)

    @cached_property
    def bench(self) -> Bench:
        return Bench(self.compute, self.threads)

    def names(self, task: Task) -> list[str]:
        """The engines for a task: declared ones, and all models that are known."""
        declared = [name for name in self.declared if self._task_of(name) == task]
        models = [name for name, card in self.shelf.cards.items() if card.task == task]
        return sorted({*declared, *models})

    def make(self, task: Task, name: str, engines: Engines, scale: int = 1) -> Any | None:
        """The engine of that name for the task; None if there is none of the name.

        Raises EngineUnavailable for one of another task, or whose weights or files are missing.
        """
        settings = self.declared.get(name)
        if settings is None:
            if name not in self.shelf.cards:
                return None
            settings = ModelEngine(use="model", model=name)
        found = self._task_of(name)
        if found != task:
            raise EngineUnavailable(
                "engine_of_other_kind",
                f"the engine '{name}' is {_a(found)}, and {_a(task)} is needed",
                hint=f"Engines for that: {', '.join(engines.names(task)) or 'none'}",
            )
        match settings:
            case ModelEngine():
                return self._model(task, name, settings, scale)
            case RemoteEngine():
                return _remote(name, settings, scale)
            case JoinedEngine():
                from imgflow.engines.joined import JoinedDetector

                if name in settings.detectors:
                    raise EngineUnavailable("engine_of_itself", f"'{name}' is joined of itself")
                parts = [engines.text_detector(each) for each in settings.detectors]
                return JoinedDetector(name, parts)
            case LogoEngine():
                return self._logo(name, settings)
            case ExemplarEngine():
                return self._exemplars(name, settings)

    def cost_of(self, name: str) -> float:
        """What a call of an engine costs, by the policy; 0 for what is not remote."""
        settings = self.declared.get(name)
        return settings.cost if isinstance(settings, RemoteEngine) else 0.0

    def _task_of(self, name: str) -> Task:
        settings = self.declared.get(name)
        match settings:
            case RemoteEngine():
                return settings.task
            case JoinedEngine():
                return "text_detector"
            case LogoEngine():
                return "object_detector"
            case ExemplarEngine():
                return "filler"
            case ModelEngine():
                return self.shelf.card(settings.model).task
            case None:
                return self.shelf.card(name).task

    def _model(self, task: Task, name: str, settings: ModelEngine, scale: int) -> Any:
        weights = self.shelf.weights(settings.model)
        match weights.card.loader, task:
            case "spandrel", "upscaler":
                from imgflow.engines.spandrel_models import SpandrelUpscaler

                return SpandrelUpscaler(name, weights, scale, self.bench, seed=settings.seed)
            case "spandrel", "filler":
                from imgflow.engines.spandrel_models import spandrel_fill

                return spandrel_fill(name, weights, self.bench, seed=settings.seed)
            case "torchscript", "filler":
                from imgflow.engines.torchscript import torchscript_fill

                return torchscript_fill(name, weights, self.bench, seed=settings.seed)
            case "diffusers", "filler":
                from imgflow.engines.pipelines import DiffusersFill

                return DiffusersFill(name, weights, settings, self.bench)
            case "diffusers", "upscaler":
                from imgflow.engines.pipelines import DiffusersUpscaler

                return DiffusersUpscaler(name, weights, settings, scale, self.bench)
            case "diffusers", "generator":
                from imgflow.engines.pipelines import DiffusersGenerator

                return DiffusersGenerator(name, weights, settings, self.bench)
            case "easyocr", "text_detector":
                from imgflow.engines.easyocr import EasyOcrDetector

                return EasyOcrDetector(name, weights, self.bench)
            case "mask_rcnn", "object_detector":
                from imgflow.engines.detection import TorchvisionDetector

                return TorchvisionDetector(name, weights, settings, self.bench)
        raise EngineUnavailable(
            "engine_of_other_kind", f"the model '{settings.model}' is not {_a(task)}"
        )

    def _logo(self, name: str, settings: LogoEngine) -> Any:
        from imgflow.engines.logo import LogoFinder

        pictures = [self._read(name, each) for each in settings.pictures]
        try:
            return LogoFinder(
                name, pictures, label=settings.label, min_matches=settings.min_matches
            )
        except (BadPhoto, ValueError) as error:
            raise EngineUnavailable(
                "logo_unusable", f"the logo finder '{name}' cannot be made: {error}"
            ) from error

    def _exemplars(self, name: str, settings: ExemplarEngine) -> Any:
        from imgflow.engines.exemplar import ExemplarFill
        from imgflow.imaging.colour import flatten
        from imgflow.imaging.decode import DecodeLimits, decode

        library = []
        for path in self._library(name, settings):
            limits = DecodeLimits(max_bytes=_MOST_PICTURE, max_pixels=100_000_000)
            try:
                pixels = decode(path.read_bytes(), limits).pixels
            except (BadPhoto, OSError) as error:
                raise EngineUnavailable(
                    "library_unusable", f"the library of '{name}' has a bad photo {path}: {error}"
                ) from error
            library.append(_reduced(flatten(pixels, (255, 255, 255))))
        return ExemplarFill(name, library, seed=settings.seed, choices=settings.choices)

    def _library(self, name: str, settings: ExemplarEngine) -> list[Path]:
        if settings.library is None:
            return []
        folder = self._inside(name, settings.library)
        if not folder.is_dir():
            raise EngineUnavailable(
                "library_missing",
                f"the library of the engine '{name}', {folder}, is no folder",
                hint="Put photos of textures there, or set library to null",
            )
        found = sorted(each for each in folder.iterdir() if each.suffix.lower() in _PICTURES)
        return found[:_MOST_LIBRARY]

    def _read(self, name: str, relative: str) -> bytes:
        path = self._inside(name, relative)
        try:
            with path.open("rb") as file:
                return file.read(_MOST_PICTURE)
        except OSError as error:
            raise EngineUnavailable(
                "picture_missing",
                f"the engine '{name}' needs {path}: {error.strerror}",
                hint="Paths are relative to the home's folder, data by default",
            ) from error

    def _inside(self, name: str, relative: str) -> Path:
        path = (self.root / relative).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise EngineUnavailable(
                "path_outside", f"the engine '{name}' names {relative}, outside of {self.root}"
            )
        return path


def _reduced(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    scale = _LIBRARY_SIDE / max(photo.shape[:2])
    if scale >= 1:
        return photo
    size = (max(round(photo.shape[1] * scale), 1), max(round(photo.shape[0] * scale), 1))
    return np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.uint8)


def _remote(name: str, settings: RemoteEngine, scale: int) -> Any:
    from imgflow.engines import remote

    match settings.task:
        case "filler":
            return remote.RemoteFill(name, settings)
        case "upscaler":
            return remote.RemoteUpscaler(name, settings, scale)
        case "text_detector":
            return remote.RemoteTextDetector(name, settings)
        case "object_detector":
            return remote.RemoteObjectDetector(name, settings)
        case "generator":
            return remote.RemoteGenerator(name, settings)


def _a(task: str) -> str:
    article = "an" if task[0] in "ou" else "a"
    return f"{article} {task.replace('_', ' ')}"
