"""Engines by the names that a policy uses.

Making an engine is cheap: it states its spec. Its model is loaded when it first works.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from imgflow.engines.loading import loading
from imgflow.engines.shelf.cards import Task
from imgflow.engines.spec import (
    Character,
    Eraser,
    Filler,
    Generator,
    ObjectDetector,
    TextDetector,
    Upscaler,
)
from imgflow.errors import EngineUnavailable

if TYPE_CHECKING:
    from imgflow.engines.outside import Outside


class Engines:
    """The engines of one process: each is made when first asked for, and then kept.

    threads: how many threads an engine may use (one per worker where workers fill the cores).
    Further engines are added with `register_*`; a name that is taken is replaced.
    outside: where names are looked up that none of these has; None: nowhere.
    """

    def __init__(self, *, threads: int = 1, outside: Outside | None = None) -> None:
        self.outside = outside
        self._text_detectors: dict[str, Callable[[], TextDetector]] = {
            "rapidocr": lambda: _rapidocr(threads)
        }
        self._erasers: dict[str, Callable[[], Eraser]] = {"eraser": lambda: _eraser(threads)}
        self._fillers: dict[str, Callable[[], Filler]] = {
            "telea": lambda: _opencv_fill("telea"),
            "navier-stokes": lambda: _opencv_fill("navier-stokes"),
            "biharmonic": _biharmonic,
        }
        self._upscalers: dict[str, Callable[[int, Character], Upscaler]] = {
            "sr": lambda scale, character: _neural_upscaler(scale, character, threads),
            "lanczos": lambda scale, _: _lanczos(scale),
            "unsharp": lambda scale, _: _unsharp(scale),
        }
        self._denoisers: dict[str, Callable[[int], Upscaler]] = {"nlmeans": _nlmeans}
        self._object_detectors: dict[str, Callable[[], ObjectDetector]] = {}
        self._generators: dict[str, Callable[[], Generator]] = {}
        self._made: dict[tuple[str, ...], Any] = {}

    def register_eraser(self, name: str, make: Callable[[], Eraser]) -> None:
        self._erasers[name] = make
        self._forget("eraser", name)

    def register_filler(self, name: str, make: Callable[[], Filler]) -> None:
        self._fillers[name] = make
        self._forget("filler", name)

    def register_text_detector(self, name: str, make: Callable[[], TextDetector]) -> None:
        self._text_detectors[name] = make
        self._forget("text_detector", name)

    def register_upscaler(self, name: str, make: Callable[[int, Character], Upscaler]) -> None:
        self._upscalers[name] = make
        self._forget("upscaler", name)

    def register_denoiser(self, name: str, make: Callable[[int], Upscaler]) -> None:
        self._denoisers[name] = make
        self._forget("denoiser", name)

    def register_object_detector(self, name: str, make: Callable[[], ObjectDetector]) -> None:
        self._object_detectors[name] = make
        self._forget("object_detector", name)

    def register_generator(self, name: str, make: Callable[[], Generator]) -> None:
        self._generators[name] = make
        self._forget("generator", name)

    def text_detector(self, name: str) -> TextDetector:
        """Raises EngineUnavailable for a name that is not registered."""
        make = self._find(self._text_detectors, name, "text_detector")
        return self._make(("text_detector", name), make)

    def object_detector(self, name: str) -> ObjectDetector:
        """Raises EngineUnavailable for a name that there is not."""
        make = self._find(self._object_detectors, name, "object_detector")
        return self._make(("object_detector", name), make)

    def generator(self, name: str) -> Generator:
        """Raises EngineUnavailable for a name that there is not."""
        make = self._find(self._generators, name, "generator")
        return self._make(("generator", name), make)

    def eraser(self, name: str) -> Eraser:
        """Raises EngineUnavailable for a name that is not registered."""
        if name not in self._erasers:
            raise _unknown(name, "eraser", sorted(self._erasers))
        return self._make(("eraser", name), self._erasers[name])

    def filler(self, name: str) -> Filler:
        """Raises EngineUnavailable for a name that is not registered."""
        return self._make(("filler", name), self._find(self._fillers, name, "filler"))

    def upscaler(self, name: str, scale: int, character: Character = "clean") -> Upscaler:
        """character: of the photos that it is for; most engines know but one.

        Raises EngineUnavailable for a name that is not registered, or a scale it has not.
        """
        key = ("upscaler", name, str(scale), character)
        if name not in self._upscalers:
            make_outside = self._find({}, name, "upscaler", sorted(self._upscalers), scale)
            # Those know no characters.
            return self._make((*key[:3], ""), make_outside)
        make = self._upscalers[name]
        return self._make(key, lambda: make(scale, character))

    def denoiser(self, name: str, strength: int) -> Upscaler:
        """strength: standard deviation of the noise to take out, in whole levels of 255.

        Raises EngineUnavailable for a name that is not registered.
        """
        if name not in self._denoisers:
            make_outside = self._find({}, name, "upscaler", sorted(self._denoisers))
            return self._make(("denoiser", name), make_outside)
        make = self._denoisers[name]
        return self._make(("denoiser", name, str(strength)), lambda: make(strength))

    def names(self, task: Task) -> list[str]:
        """All engines for a task: those here, those declared, and all known models."""
        tables: dict[Task, Any] = {
            "text_detector": self._text_detectors,
            "object_detector": self._object_detectors,
            "filler": self._fillers,
            "upscaler": self._upscalers,
            "generator": self._generators,
        }
        outside = self.outside.names(task) if self.outside else []
        return sorted({*tables.get(task, ()), *outside})

    def _find(
        self,
        table: dict[str, Any],
        name: str,
        task: Task,
        known: list[str] | None = None,
        scale: int = 1,
    ) -> Any:
        """How the engine of a name is made, which raises EngineUnavailable where it cannot be."""
        if name in table:
            return table[name]
        outside = self.outside

        def make() -> Any:
            made = outside.make(task, name, self, scale) if outside else None
            if made is None:
                raise _unknown(name, _WORDS[task], sorted(table) if known is None else known)
            return made

        return make

    def _forget(self, kind: str, name: str) -> None:
        self._made = {key: each for key, each in self._made.items() if key[:2] != (kind, name)}

    def _make(self, key: tuple[str, ...], make: Callable[[], Any]) -> Any:
        if key not in self._made:
            # Weights are hashed before they are first used, pictures and libraries read.
            with loading(f"the engine '{key[1]}'"):
                self._made[key] = make()
        return self._made[key]


# How errors call the engines for a task.
_WORDS: dict[Task, str] = {
    "text_detector": "text detector",
    "object_detector": "object detector",
    "filler": "fill",
    "upscaler": "upscaler",
    "generator": "generator",
}


def _unknown(name: str, kind: str, known: list[str]) -> EngineUnavailable:
    return EngineUnavailable(
        "engine_unknown",
        f"there is no {kind} engine named '{name}'",
        hint=f"The policy may name: {', '.join(known)}; engines that it declares; and models "
        "of the shelf (imgflow models list)",
    )


def _rapidocr(threads: int) -> TextDetector:
    from imgflow.engines.rapidocr import RapidOcrDetector

    return RapidOcrDetector(threads=threads)


def _eraser(threads: int) -> Eraser:
    from imgflow.engines.eraser import NeuralEraser

    return NeuralEraser(threads=threads)


def _neural_upscaler(scale: int, character: Character, threads: int) -> Upscaler:
    from imgflow.engines.upscaler import NeuralUpscaler

    return NeuralUpscaler(scale, character, threads=threads)


def _opencv_fill(name: str) -> Filler:
    import cv2

    from imgflow.engines.classical import OpenCvFill

    methods = {
        "telea": ("telea-2004-opencv", cv2.INPAINT_TELEA),
        "navier-stokes": ("navier-stokes-2001-opencv", cv2.INPAINT_NS),
    }
    model_id, method = methods[name]
    return OpenCvFill(name, model_id, method)


def _biharmonic() -> Filler:
    from imgflow.engines.classical import BiharmonicFill

    return BiharmonicFill()


def _lanczos(scale: int) -> Upscaler:
    from imgflow.engines.classical import Lanczos

    return Lanczos(scale)


def _unsharp(scale: int) -> Upscaler:
    from imgflow.engines.classical import UnsharpMask

    if scale != 1:
        raise EngineUnavailable(
            "engine_scale", f"the engine 'unsharp' sharpens at scale 1, not {scale}"
        )
    return UnsharpMask()


def _nlmeans(strength: int) -> Upscaler:
    from imgflow.engines.classical import NonLocalMeans

    return NonLocalMeans(strength)
