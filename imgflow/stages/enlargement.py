"""Whether a photo is enlarged, freed of noise, sharpened or left alone, and why.

Decided from numbers alone: what the photo measures, its size, the policy, and what is asked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from imgflow.engines.spec import Character
from imgflow.imaging.blind import BlindMeasures
from imgflow.policy.policy import RenditionSettings, UpscaleSettings

Action = Literal["none", "denoise", "sharpen", "enlarge"]
Mode = Literal["conservative", "creative"]

SCALES = (2, 3, 4)
"""What an engine may be asked to enlarge by."""


@dataclass(frozen=True, slots=True)
class Size:
    """Rows and columns of a photo, in pixels."""

    height: int
    width: int

    @property
    def long_side(self) -> int:
        return max(self.height, self.width)

    @property
    def pixels(self) -> int:
        return self.height * self.width

    def times(self, scale: float) -> Size:
        return Size(max(round(self.height * scale), 1), max(round(self.width * scale), 1))


@dataclass(frozen=True, slots=True)
class Decision:
    """What is done to a photo, and why.

    scale: of the enlargement, else 1. start: the size that it is enlarged from, which is smaller
    than the photo where that was blown up by interpolation. character, mode: for the engine.
    why: one sentence for the record.
    """

    action: Action
    why: str
    start: Size
    scale: int = 1
    character: Character = "clean"
    mode: Mode = "conservative"

    @property
    def result(self) -> Size:
        """The size of what comes out."""
        return self.start.times(self.scale)


def decide(
    measured: BlindMeasures,
    size: Size,
    settings: UpscaleSettings,
    *,
    wanted: int,
    why_wanted: str = "",
    category: str = "",
    asked: int | None = None,
) -> Decision:
    """The decision for a photo.

    wanted: long side that is wanted, in pixels, and why, if not just because (see
    `templates.wish`). category: of the catalog, empty where it is not said. asked: a scale that a
    person or a manifest asks for; it is carried out from the photo's own pixels.
    """
    blown_up = measured.resolution < settings.blown_up_below
    real = size.times(measured.resolution) if blown_up else size
    found = _blown_up(size, real) if blown_up else ""
    scale = asked or wanted_scale(size.long_side, wanted, settings.max_scale)
    if scale > 1:
        start, goal = size, f"x{asked}" if asked else f"{wanted} pixels"
        why = f"the long side has {size.long_side} pixels, {goal} asked for"
        if why_wanted and not asked:
            why = why_wanted
        further = wanted_scale(real.long_side, wanted, settings.max_scale)
        if blown_up and not asked and real.long_side * further >= wanted:
            # What interpolation made up would only be enlarged with the rest.
            start, scale, found = real, further, f"{found}, from which it is enlarged"
        return Decision(
            action="enlarge",
            why=_sentence(why, found),
            start=start,
            scale=scale,
            character=_character(measured, settings, blown_up),
            mode=mode_of(settings, category),
        )
    if settings.denoise_above is not None and measured.noise > settings.denoise_above:
        return Decision("denoise", _sentence(f"noisy ({measured.noise:.1f})", found), size)
    # A sharpness of 0 tells of a photo without edges, which is nothing to sharpen.
    soft = 0 < measured.sharpness < settings.sharpen_below
    if soft and measured.noise < settings.noise_limit:
        numbers = f"sharpness {measured.sharpness:.2f}) and clean (noise {measured.noise:.1f}"
        return Decision("sharpen", _sentence(f"soft ({numbers})", found), size)
    enough = "large and sharp enough" if not (soft or blown_up) else "large enough"
    return Decision("none", _sentence(enough, found), size)


def wanted_long_side(settings: UpscaleSettings, renditions: Sequence[RenditionSettings]) -> int:
    """The long side that the stage itself, or the rendition that needs most, asks for."""
    return max([settings.min_long_side, *(each.min_long_side or 0 for each in renditions)])


def wanted_scale(long_side: int, wanted: int, max_scale: int) -> int:
    """The smallest scale that reaches the wanted long side, the largest if none does, else 1."""
    if long_side >= wanted:
        return 1
    allowed = [scale for scale in SCALES if scale <= max_scale]
    reaching = [scale for scale in allowed if long_side * scale >= wanted]
    return min(reaching, default=max(allowed, default=1))


def _blown_up(size: Size, real: Size) -> str:
    return f"blown up by interpolation: {size.long_side} pixels hold the detail of {real.long_side}"


def _sentence(why: str, found: str) -> str:
    return f"{why}; {found}" if found else why


def _character(measured: BlindMeasures, settings: UpscaleSettings, blown_up: bool) -> Character:
    if settings.character != "auto":
        return settings.character
    worn = (
        blown_up
        or measured.jpeg_step > settings.photo_jpeg_step
        or measured.blockiness > settings.photo_blockiness
        or measured.noise > settings.photo_noise
        or 0 < measured.sharpness < settings.photo_sharpness
    )
    return "photo" if worn else "clean"


def mode_of(settings: UpscaleSettings, category: str) -> Mode:
    """Creative only for photos of a category that is not always to be taken as it is."""
    words = _words(category)
    listed = [_words(each) for each in settings.always_conservative]
    return "conservative" if any(each and each <= words for each in listed) else settings.mode


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.casefold()))
