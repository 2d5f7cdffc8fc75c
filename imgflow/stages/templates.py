"""What the policy's renditions show of a photo, and how large it must be for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from imgflow.imaging.framing import Template, window
from imgflow.imaging.subject import Subject
from imgflow.policy.policy import RenditionSettings, UpscaleSettings
from imgflow.stages.enlargement import wanted_long_side

_TIGHTER = 0.99
"""A subject's box may come out that much tighter once its photo is enlarged."""


def template_of(settings: RenditionSettings) -> Template:
    return Template(
        long_side=settings.long_side,
        aspect=settings.aspect,
        margin=settings.margin,
        trim=settings.trim,
        scene=settings.scene,
        background=settings.background,
        padding=settings.padding,
    )


@dataclass(frozen=True, slots=True)
class Wish:
    """long_side: that the photo should have, in pixels. why: for the record, with its numbers."""

    long_side: int
    why: str


def wish(
    height: int,
    width: int,
    settings: UpscaleSettings,
    renditions: Sequence[RenditionSettings],
    find_subject: Callable[[], Subject | None],
) -> Wish:
    """The largest wish of the stage itself and of the renditions, for a photo of that size.

    A rendition that trims or crops shows less of the photo than all of it: what it wants, it wants
    of that part. find_subject: asked at most once, and only if such a rendition wants a size.
    """
    long_side = max(height, width)
    wanted = wanted_long_side(settings, renditions)
    largest = Wish(wanted, f"the long side has {long_side} pixels, {wanted} pixels asked for")
    framing = [each for each in renditions if each.frames and each.min_long_side]
    subject = find_subject() if framing else None
    for each in framing:
        assert each.min_long_side is not None
        part = window(height, width, subject, template_of(each))
        shown = min(max(part.height, part.width), long_side)
        sure = shown * _TIGHTER if each.trim and subject is not None else shown
        wanted = math.ceil(long_side * each.min_long_side / sure)
        if wanted > largest.long_side:
            largest = Wish(
                wanted,
                f"{each.name} shows {shown} of {long_side} pixels, "
                f"{each.min_long_side} pixels asked for",
            )
    return largest
