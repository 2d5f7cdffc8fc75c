"""What is measured."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

BICUBIC = "bicubic"
"""The way that all others are held against; its name among theirs."""

DECIDED = "as decided"
"""Behind an engine's name: in the character that the line would choose."""

Precision = Literal["auto", "float32"]
"""Of imgflow's engine: as it ships, or float32 whatever the processor can do."""


@dataclass(frozen=True, slots=True)
class Score:
    """How near one way came to one photo.

    quality: of the JPEG that the reduced photo was squeezed to; None: it was not. psnr: dB, of
    the luma, at most 100. ssim: of the luma.
    """

    way: str
    scale: int
    quality: int | None
    psnr: float
    ssim: float


@dataclass(frozen=True, slots=True)
class PhotoResult:
    """All scores of a photo; none where it is too small to be reduced."""

    name: str
    scores: tuple[Score, ...]


@dataclass(frozen=True, slots=True)
class Timing:
    """What is to be timed: `rounds` times from a JPEG file to lossless bytes at x4.

    way: an engine of the registry, BICUBIC, or a rival's name. width, height: of the JPEG.
    """

    way: str
    precision: Precision
    width: int
    height: int
    rounds: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What a fresh process took for a timing: medians in seconds, and MB of 2**20.

    computed: the type of number that was computed in. first_s: the first photo, model loading
    included. start_mb, peak_mb: the most resident memory before the first photo, and in all.
    """

    timing: Timing
    computed: str
    decode_s: float
    enlarge_s: float
    encode_s: float
    total_s: float
    first_s: float
    start_mb: float
    peak_mb: float


@dataclass(frozen=True, slots=True)
class GpuReading:
    """The network alone on a graphics card, with `batch` photos at once.

    flops_per_image: of its convolutions, a multiplication and an addition counting as two.
    """

    device: str
    batch: int
    images_per_s: float
    flops_per_image: int

    @property
    def tflops(self) -> float:
        """10**12 floating point operations a second."""
        return self.images_per_s * self.flops_per_image / 1e12


@dataclass(slots=True)
class UpscaleBench:
    """All that was measured. lost: photos whose worker died or took too long."""

    photos: list[PhotoResult] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    gpu: list[GpuReading] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)
