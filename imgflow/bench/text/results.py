"""What is measured of one case."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from imgflow.bench.text.clock import Seconds

CLASSICAL = ("telea", "navier-stokes", "biharmonic")
LEAST_GAIN = 3.0
"""dB that a repair must win in the region to count as one."""


@dataclass(frozen=True, slots=True)
class Nearness:
    """How near a picture is to the truth: PSNR (dB) of the overlay's pixels and of those of its
    text lines alone, SSIM and HaarPSI of the region's box."""

    psnr: float
    lines_psnr: float
    ssim: float
    haarpsi: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one way made of an upload.

    made: a repair was made. stopped: nothing comes out, a person decides. why: why it stopped.
    nearness: of the picture that came out or was rejected; where none was made, of the upload.
    reads: OCR reads text in the overlay's place. elsewhere: pixels far from it were changed.
    """

    made: bool
    stopped: bool
    why: str
    nearness: Nearness
    reads: bool
    elsewhere: bool


@dataclass(frozen=True, slots=True)
class OverlayResult:
    """An overlay case, what the ways made of it, and how near the rivals came.

    legible: OCR reads the overlay in the upload. fills: each classical fill on the mask of the
    line's repair; empty where it made none. boxes: Telea on the boxes that OCR found. bad: the
    line with each of the bad engines.
    """

    number: int
    kind: str
    opaque: bool
    invisible: int
    legible: bool
    before: Nearness
    line: Attempt
    once: Attempt
    fills: dict[str, Nearness]
    boxes: Nearness
    bad: dict[str, Attempt]

    def gain(self, attempt: Attempt) -> float:
        """dB won in the region."""
        return attempt.nearness.psnr - self.before.psnr

    def good(self, attempt: Attempt, *, lines: bool = False) -> bool:
        """Whether a repair was made, and did what it should. lines: to the text lines alone."""
        gain = self.gain(attempt)
        if lines:
            gain = attempt.nearness.lines_psnr - self.before.lines_psnr
        return attempt.made and not attempt.reads and gain > LEAST_GAIN

    def fault(self, attempt: Attempt) -> str:
        """What is not good about an attempt."""
        if not attempt.made:
            return "left as it was"
        return "OCR still reads it" if attempt.reads else f"gain below {LEAST_GAIN:g} dB"


@dataclass(frozen=True, slots=True)
class PlainResult:
    """A case without overlay. legible: OCR reads text in it. changed: pixels altered. why: as in
    Attempt."""

    number: int
    what: str
    legible: bool
    stopped: bool
    changed: int
    why: str


@dataclass(slots=True)
class TextBench:
    """All that was measured. lost: cases whose worker died or took too long."""

    overlays: list[OverlayResult] = field(default_factory=list)
    plain: list[PlainResult] = field(default_factory=list)
    seconds: Seconds | None = None
    lost: Counter[str] = field(default_factory=Counter)
