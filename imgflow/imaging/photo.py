"""A decoded photo and what is known of the file it came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Rights:
    """Who owns the photo, as its EXIF, IPTC or XMP say. Empty where they say nothing.

    source_type: how it came to be, as a term of IPTC's DigitalSourceType.
    """

    copyright: str = ""
    creator: str = ""
    credit: str = ""
    source_type: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """The file as it was stored, before anything was applied to it."""

    format: str
    """Pillow's name of the format: JPEG, MPO, PNG, WEBP, TIFF, GIF, BMP, AVIF."""
    mode: str
    """Pillow's mode of the stored pixels: L, RGB, CMYK, P, I;16 ..."""
    width: int
    """Stored width, before the EXIF orientation is applied."""
    height: int
    bit_depth: int
    """Bits a channel."""
    frames: int
    orientation: int
    """EXIF orientation 1..8; 1 where the file has none or a senseless one."""
    icc_description: str
    """What the ICC profile calls itself; empty without a profile."""


@dataclass(frozen=True, slots=True)
class Generation:
    """What made a picture. parameters: of the engine, JSON values. Empty where nobody says."""

    engine: str = ""
    model_id: str = ""
    weights_sha256: str = ""
    licence: str = ""
    prompt: str = ""
    negative_prompt: str = ""
    seed: int | None = None
    variant: int = 0
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Photo:
    """Upright sRGB pixels with what must be remembered of their source.

    pixels: (H, W, 3) or (H, W, 4), uint8 or uint16, sRGB, straight alpha last. Read-only.
    icc_profile: the original's profile, also where its pixels were converted.
    notes: plain sentences about what was changed, reduced or ignored.
    is_plain: the original's bytes, shown by a browser, already are exactly these pixels.
    """

    pixels: NDArray[Any]
    source: Source
    rights: Rights
    icc_profile: bytes | None
    notes: tuple[str, ...]
    is_plain: bool
    generation: Generation | None = None
    """What made it, where the file says that no camera has."""
