"""What an engine says of itself, and what it can be asked to do."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from imgflow.imaging.folding import Move
from imgflow.lineage.record import EngineStamp, TextRegion

Character = Literal["clean", "photo"]
"""Of a photo that is to be enlarged: sharp and clean; or squeezed by JPEG, soft or noisy."""


_OVERRULED = ("seed", "prompt", "negative_prompt")

Kind = Literal[
    "text_detector",
    "text_judge",
    "object_detector",
    "eraser",
    "filler",
    "upscaler",
    "generator",
]


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """An engine's identity and needs, as data: callers ask it, and never test for a name."""

    name: str
    """What the policy calls it."""
    kind: Kind
    model_id: str
    """The method or model, with its version."""
    licence: str
    weights_sha256: str | None = None
    """Hash over all weights files; None for a method without weights."""
    scale: int = 1
    """Output size over input size."""
    receptive: int = 0
    """Input pixels beyond its own that an output pixel can depend on (tiled engines)."""
    tiling: Literal["tiles", "crop", "whole"] = "whole"
    """tiles: any window gives the same result; crop: needs the hole's surroundings;
    whole: needs the whole photo."""
    dtypes: tuple[str, ...] = ("uint8",)
    deterministic: bool = True
    seeded: bool = False
    """Whether a seed changes the result."""
    prompted: bool = False
    """Whether a prompt changes the result."""
    parameters: tuple[tuple[str, Any], ...] = ()
    """Settings of the engine's own that change its result, by name."""

    def stamp(self) -> EngineStamp:
        """The engine as a record names it."""
        return EngineStamp(
            name=self.name,
            model_id=self.model_id,
            weights_sha256=self.weights_sha256,
            licence=self.licence,
        )

    def own_parameters(self) -> dict[str, Any]:
        """Its parameters, for a record: without those that a photo may overrule, which are
        recorded as they were in the end."""
        return {name: value for name, value in self.parameters if name not in _OVERRULED}

    @property
    def code_version(self) -> str:
        """Short text that changes whenever the engine's output may change."""
        weights = f"@{self.weights_sha256[:12]}" if self.weights_sha256 else ""
        settings = ""
        if self.parameters:
            settings = "#" + hashlib.sha256(repr(self.parameters).encode()).hexdigest()[:8]
        return f"{self.name}:{self.model_id}{weights}{settings}"


class TextDetector(Protocol):
    """Finds text."""

    @property
    def spec(self) -> EngineSpec: ...

    def detect(self, pixels: NDArray[np.uint8]) -> list[TextRegion]:
        """Regions of text in (H, W, 3) uint8 sRGB, in reading order."""

    def read(self, line: NDArray[np.uint8]) -> tuple[str, float]:
        """What a level line of text says that fills (H, W, 3) uint8 sRGB, empty where it says
        nothing, and how sure that is, 0..1."""


@dataclass(frozen=True, slots=True)
class Found:
    """Strokes of drawn text.

    mask: (H, W) uint8, 255 on text, fringe and shadow included. confidence: 0..1.
    """

    mask: NDArray[np.uint8]
    confidence: float


@dataclass(frozen=True, slots=True)
class TextMap:
    """How likely each pixel of a photo is text that was drawn over it (`overlay`), or text of
    what it shows (`product`). Both (H, W) uint8, 255 = certain.
    """

    overlay: NDArray[np.uint8]
    product: NDArray[np.uint8]


class Eraser(Protocol):
    """Finds the strokes of drawn text, and recovers what is under them.

    pixels: (H, W, 3) uint8 or uint16 sRGB. region: (H, W) uint8, 255 where text may be.
    """

    @property
    def spec(self) -> EngineSpec: ...

    def survey(self, pixels: NDArray[np.generic]) -> TextMap:
        """All text of a photo."""

    def find(self, pixels: NDArray[np.generic], region: NDArray[np.uint8]) -> Found:
        """The strokes within `region`."""

    def restore(
        self,
        pixels: NDArray[np.generic],
        mask: NDArray[np.uint8],
        *,
        opaque: bool = False,
        copies: Sequence[Move] | None = None,
    ) -> NDArray[np.generic]:
        """(H, W, 3) of the photo's dtype, clean under `mask` (H, W; 255 = strokes), and of no
        meaning elsewhere. opaque: nothing that shows there is believed to be the photo's. copies:
        moves that bring the copies of a repeated mark onto each other, and none for another, where
        that is known, as it is to a probe: then one look at what is there is enough."""


class Filler(Protocol):
    """Fills holes."""

    @property
    def spec(self) -> EngineSpec: ...

    def fill(
        self,
        pixels: NDArray[np.generic],
        mask: NDArray[np.uint8],
        *,
        prompt: str | None = None,
        negative_prompt: str | None = None,
        seed: int | None = None,
    ) -> NDArray[np.generic]:
        """(H, W, 3) uint8 or uint16 with the pixels under `mask` (H, W; 255 = fill) made up.

        May repaint other pixels too: the caller joins, and keeps those bit-exact.
        """


class Upscaler(Protocol):
    """Enlarges (or, at scale 1, sharpens)."""

    @property
    def spec(self) -> EngineSpec: ...

    def enlarge(self, tile: NDArray[np.float32]) -> NDArray[np.float32]:
        """(h, w, C) float32 0..1 to (h * scale, w * scale, C) float32."""


@runtime_checkable
class Computing(Protocol):
    """An engine that does not compute in the type of number that it is given and returns."""

    @property
    def computed_in(self) -> str:
        """Such as bfloat16."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A thing that was found in a photo. mask: (H, W) uint8, 255 on it. confidence: 0..1."""

    label: str
    confidence: float
    mask: NDArray[np.uint8]


class ObjectDetector(Protocol):
    """Finds things."""

    @property
    def spec(self) -> EngineSpec: ...

    def propose(self, pixels: NDArray[np.uint8]) -> list[Proposal]:
        """What was found in (H, W, 3) uint8 sRGB."""


class Generator(Protocol):
    """Makes pictures out of words."""

    @property
    def spec(self) -> EngineSpec: ...

    def generate(
        self,
        prompt: str,
        *,
        negative_prompt: str | None = None,
        seed: int = 0,
        width: int = 512,
        height: int = 512,
    ) -> NDArray[np.uint8]:
        """(height, width, 3) uint8 sRGB."""
