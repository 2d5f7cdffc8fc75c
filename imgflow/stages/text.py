"""Which text in a photo is to go: found by OCR, judged, asked for by policy or manifest."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.engines import origin, unread
from imgflow.engines.origin import judge
from imgflow.engines.spec import EngineSpec, Eraser, TextDetector, TextMap
from imgflow.imaging.lines import place_beside
from imgflow.imaging.masks import Box, polygon_box
from imgflow.imaging.repeats import missed_copies, reads_as_part, same_mark
from imgflow.lineage.record import TextRegion
from imgflow.policy.manifest import RemoveText
from imgflow.policy.policy import DetextSettings
from imgflow.stages.reading import placed, read_around, stretch_contrast, traces
from imgflow.stages.rights import claims_rights, names_own_mark
from imgflow.stages.stage import Job, Picture
from imgflow.stages.unread import (
    DRAWN,
    UNSEEN,
    chance,
    drawn_logits,
    lines_read_alone,
    logit,
    plausible,
    unread_overlays,
)

# Raised whenever what is found in a photo may be another, with the same engines.
_VERSION = "9"

# A detector reads single letters into any texture; a stamp has at least two.
_MIN_CHARACTERS = 2
# How sure it is where it reads and does not guess.
_READ = 0.6
# No overlay covers more of a photo than this; a box that does is a misread texture.
_MAX_AREA = 0.6
# Text is found best when the photo's short side has about this many pixels.
_CLOSE_LOOK_SIDE = 480

# Copies of a mark from which it counts as repeated without more being found.
_TILED = 3
# Letters that tell a copy of a repeated mark from a chance likeness.
_LEGIBLE = 4
# Degrees between two copies of one mark, and how many times as high the one is as the other.
_TURNED, _ALIKE = 6.0, (0.7, 1.4)
# Lines of one text, in heights: how far it reaches from the middle of the other, and how far it
# is from it, in its line and below or above it.
_IN_LINE, _NEAR, _BELOW = 0.8, 2.0, 1.1
# Heights from the photo's edge within which that cuts a line off.
_NEAR_EDGE = 0.5
# Score from which on text that seems to be the product's may be the rest of an overlay beside it.
_MAYBE = 0.3
_COPY = "looks like the other copies"
# The sum of both judges' logits, of lines and of letters, below which what the former says is
# believed less. Pixels of height in the map of letters, from which on it shows drawn lines, and
# heights from the photo's edge.
_BORNE_OUT, _SMALLEST, _BAR = -1.0, 8.0, 1.5
_NOT_DRAWN = "does not look drawn from near"

# Most pixels of a photo that are surveyed for drawn letters: larger photos have larger ones.
_SURVEYED = 1_300_000

_WORDING = {
    "date-stamp": re.compile(r"\d[\d\s.,:/'’年月日-]{3,}\d"),
    "url": re.compile(r"https?:|www\.|[\w-]+\.(com|net|org|shop|io|de|cn|uk)\b", re.IGNORECASE),
}


@dataclass(frozen=True, slots=True)
class Unwanted:
    """A region to remove, and on whose word."""

    region: TextRegion
    requested_by: str


@dataclass(frozen=True, slots=True)
class Selection:
    """What is to go, and what only a person can decide.

    unwanted: regions to remove.
    unanswered: the manifest's steps that found no text.
    uncertain: regions of which nobody can tell whether they are overlays; not among the unwanted.
    claimed: those of the unwanted that claim rights, where no person and no list of own marks
    speaks for them.
    """

    unwanted: tuple[Unwanted, ...]
    unanswered: tuple[RemoveText, ...]
    uncertain: tuple[TextRegion, ...] = ()
    claimed: tuple[TextRegion, ...] = ()


def detect_text(picture: Picture, job: Job, detector: TextDetector) -> list[TextRegion]:
    """All text in a picture, judged. Kept by input and engines: looked for only once."""
    settings = job.policy.detext
    eraser = job.engines.eraser(settings.eraser)
    # A person's word counts more than the eraser's.
    always = settings.text == "all" or any(isinstance(x, RemoveText) for x in job.manifest.steps)
    versions = [each.code_version for each in readers(detector, eraser)]
    identity = "|".join([_VERSION, picture.ref.sha256, *versions, *(["always"] if always else [])])
    digest = hashlib.sha256(identity.encode()).hexdigest()
    cached = job.store.get_cached("text", digest)
    if cached is not None:
        return [TextRegion.model_validate(each) for each in json.loads(cached)]
    regions = find_text(picture.view, detector, eraser, always=always)
    data = json.dumps([region.model_dump() for region in regions]).encode()
    job.store.put_cached("text", digest, data)
    return regions


def readers(detector: TextDetector, eraser: Eraser) -> list[EngineSpec]:
    """All engines that text is found and judged with."""
    return [detector.spec, origin.spec(), unread.spec(), eraser.spec]


def find_text(
    view: NDArray[np.uint8], detector: TextDetector, eraser: Eraser, *, always: bool = False
) -> list[TextRegion]:
    """All text in a photo (H, W, 3), judged: what OCR reads, the copies of repeated marks, and
    overlays that OCR alone does not see.

    OCR reads where the eraser sees print or what may be letters, or all of the photo if `always`:
    it takes several times as long.
    """
    letters = survey(view, eraser)
    scale = letters.overlay.shape[1] / view.shape[1]
    if always:
        read = detector.detect(view)
    else:
        drawn = plausible(view, letters)
        places = [_box_at(each, 1 / scale, view) for each in traces(letters, drawn)]
        if not places and not drawn:
            return []
        read = read_around(view, places, detector)
    # What hides the letters below it helps nobody.
    read = [region for region in read if not _is_misread(region, view.shape[:2])]
    judged = _borne_out(view, judge(view, read, letters), letters)
    legible = [region for region in judged if _is_legible(region)]
    if not any(region.kind == "overlay" for region in legible):
        more = lines_read_alone(view, letters, _outlines(legible, scale), detector)
        if more:
            judged = _judged(view, judged, more, letters)
            legible = [region for region in judged if _is_legible(region)]
    # What was guessed says no more of the letters that the eraser sees there than that they are.
    known = _outlines(legible, scale)
    marks = _outlines([region for region in legible if region.kind == "overlay"], scale)
    others = unread_overlays(view, letters, known, detector, eraser, marks=marks, read=judged)
    return with_copies(view, [*judged, *(_scaled(each, 1 / scale) for each in others)])


def _is_legible(region: TextRegion) -> bool:
    return region.confidence >= _READ and _characters(region) >= _MIN_CHARACTERS


def _characters(region: TextRegion) -> int:
    return sum(character.isalnum() for character in region.text)


def _outlines(regions: Sequence[TextRegion], scale: float) -> list[NDArray[np.float32]]:
    return [np.array(region.polygon, np.float32) * np.float32(scale) for region in regions]


def _borne_out(
    view: NDArray[np.uint8], regions: Sequence[TextRegion], letters: TextMap
) -> list[TextRegion]:
    """The regions; where the map of letters shows nothing like it, what the judge of lines takes
    for an overlay is in doubt, and what it is in doubt about is none, unless another one is."""
    lines = _outlines(regions, letters.overlay.shape[1] / view.shape[1])
    seen = [
        number
        for number, region in enumerate(regions)
        if region.kind != "product" and _would_show(lines[number], letters.overlay.shape)
    ]
    told = drawn_logits(view, letters, [lines[number] for number in seen])
    unlike = {
        number
        for number, drawn in zip(seen, told, strict=True)
        if logit(regions[number].score) + drawn < _BORNE_OUT
    }
    sure = any(
        region.kind == "overlay" for number, region in enumerate(regions) if number not in unlike
    )
    found = list(regions)
    for number in unlike:
        region = regions[number]
        if region.kind == "overlay" or not sure:
            kind = None if region.kind == "overlay" else "product"
            reasons = [*region.reasons, _NOT_DRAWN]
            found[number] = region.model_copy(update={"kind": kind, "reasons": reasons})
    return found


def _would_show(line: NDArray[np.float32], shape: tuple[int, ...]) -> bool:
    """Whether the map, of (height, width), shows a line if it is drawn: not if it is small, nor for
    sure in a bar at the photo's edge, which brings its ground along."""
    high = min(cv2.minAreaRect(line)[1])
    from_edge = min(float(line.min()), *(shape[::-1] - line.max(axis=0)))
    return high >= _SMALLEST and from_edge >= _BAR * high


def _judged(
    view: NDArray[np.uint8],
    read: Sequence[TextRegion],
    alone: Sequence[TextRegion],
    letters: TextMap,
) -> list[TextRegion]:
    """What OCR read in a photo, and lines that it read by themselves, which come with the score of
    the judge of letters. Where nothing is printed, they are what both judges together make of them:
    the judge of lines learned from those that OCR reads in photos."""
    judged = judge(view, [*read, *alone], letters)
    printed = any(region.kind == "product" for region in read)
    for number, line in enumerate(alone, start=len(read)):
        region = judged[number]
        both = chance(logit(region.score) + logit(line.score))
        found: dict[str, Any] = {"reasons": [*region.reasons, UNSEEN]}
        if both > (region.score or 0) and not printed:
            kind = origin.load_weights().kind(both)
            found = {"kind": kind, "score": round(both, 4), "reasons": [DRAWN, UNSEEN]}
        judged[number] = region.model_copy(update=found)
    return judged


def _box_at(box: Box, scale: float, view: NDArray[np.uint8]) -> Box:
    """A box of a smaller picture of the photo, in the photo's pixels."""
    top, left, bottom, right = (
        round(each * scale) for each in (box.top, box.left, box.bottom, box.right)
    )
    return Box(top, left, min(bottom, view.shape[0]), min(right, view.shape[1]))


def survey(view: NDArray[np.uint8], eraser: Eraser) -> TextMap:
    """The letters of a photo (H, W, 3), in a map that may be smaller."""
    height, width = view.shape[:2]
    scale = min(math.sqrt(_SURVEYED / (height * width)), 1.0)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    if scale < 1:
        view = np.asarray(cv2.resize(view, size, interpolation=cv2.INTER_AREA), np.uint8)
    return eraser.survey(view)


def _scaled(region: TextRegion, scale: float) -> TextRegion:
    polygon = [[round(x * scale, 1), round(y * scale, 1)] for x, y in region.polygon]
    return region.model_copy(update={"polygon": polygon})


def with_copies(view: NDArray[np.uint8], regions: Sequence[TextRegion]) -> list[TextRegion]:
    """The regions, and the copies of repeated overlays that the detector missed.

    All readings of one mark are believed as much as the clearest of them, garbled ones too.
    """
    found = list(regions)
    left = [number for number, region in enumerate(regions) if region.kind == "overlay"]
    while left:
        first = max(left, key=lambda number: regions[number].confidence)
        group = [number for number in left if _one_mark(regions[first], regions[number])]
        left = [number for number in left if number not in group]
        if len(group) < 2:
            continue
        # The clearest copy is the pattern that the others are looked for with.
        group = [first, *(number for number in group if number != first)]
        known = [np.array(regions[number].polygon, np.float32) for number in group]
        missed = missed_copies(view, known)
        if not missed and len(group) < _TILED:
            continue
        best = regions[first]
        reason = f"repeated {len(group) + len(missed)} times"
        reasons = [reason, *(each for each in best.reasons if not _says_repeated(each))]
        for number in group:
            found[number] = regions[number].model_copy(
                update={"confidence": best.confidence, "reasons": reasons}
            )
        found += [
            best.model_copy(
                update={"polygon": polygon.round(1).tolist(), "reasons": [reason, _COPY]}
            )
            for polygon in missed
        ]
    return found


def _one_mark(one: TextRegion, other: TextRegion) -> bool:
    """Whether two regions may be copies of one mark: as large, as turned, and read alike."""
    if one is other:
        return True
    return same_mark(one.text, other.text) and _as_turned(one, other)


def select_unwanted(
    regions: Sequence[TextRegion], view: NDArray[np.uint8], job: Job, detector: TextDetector
) -> Selection:
    """What the policy and the manifest want gone.

    Where a manifest asks for text to be removed, its steps alone decide: a date stamp goes, the
    maker's name stays. Where the first look found nothing in a place that a step names, the place
    is looked at again, alone and enlarged.
    """
    settings = job.policy.detext
    unwanted: dict[int, Unwanted] = {}
    unanswered = []
    steps = [step for step in job.manifest.steps if isinstance(step, RemoveText)]
    for step in steps:
        named = [region for region in regions if _matches(region, step, settings, view)]
        named = named or _look_closely(view, step, detector)
        for region in named:
            unwanted[id(region)] = Unwanted(region, job.requester)
        if not named:
            unanswered.append(step)
    if steps or settings.text == "none":
        return Selection(tuple(unwanted.values()), tuple(unanswered))
    free = [
        region
        for region in regions
        if is_text(region, view.shape[:2], settings) and not _is_kept(region, view, settings)
    ]
    uncertain: list[TextRegion] = []
    going = free
    if settings.text == "overlays":
        going, uncertain = _overlays(free, settings.own_marks)
    claimed = () if job.person else _claiming(going, settings.own_marks, view.shape[:2])
    return Selection(
        tuple(Unwanted(region, "policy") for region in going), (), tuple(uncertain), claimed
    )


def _overlays(
    regions: Sequence[TextRegion], own_marks: Sequence[str]
) -> tuple[list[TextRegion], list[TextRegion]]:
    """Regions that lie over the photo, and those that may."""
    # In doubt, what reads like a mark that the shop puts on photos was put there.
    sure = [
        region
        for region in regions
        if region.kind == "overlay"
        or (region.kind is None and names_own_mark(region.text, own_marks))
    ]
    doubtful = [region for region in regions if region.kind is None and region not in sure]
    printed = [region for region in regions if region.kind == "product"]
    # A copy of a mark that is known for an overlay is no doubt one as well, and so is what goes on
    # with it.
    more = [
        each
        for each in doubtful
        if any(_is_copy(each, mark) or _goes_on(each, mark) or _in_row(each, mark) for mark in sure)
    ]
    # One that is repeated all over may lie on what it resembles, too.
    repeated = [each for each in sure if any(map(_says_repeated, each.reasons))]
    more += [each for each in printed if any(_is_of_tiling(each, mark) for mark in repeated)]
    going = [region for region in regions if region in sure or region in more]
    # Half a caption is worse than all of it.
    rest = [
        each
        for each in printed
        if each not in more
        and (each.score or 0) >= _MAYBE
        and any(_goes_on(each, mark) for mark in going)
    ]
    return going, [*(each for each in doubtful if each not in more), *rest]


def _is_of_tiling(region: TextRegion, mark: TextRegion) -> bool:
    """Whether what looks like print is a mark that is repeated all over the photo: it reads as that
    does, or it may be one, as turned and as high."""
    if len(region.text) >= _LEGIBLE and _is_copy(region, mark):
        return True
    return (region.score or 0) >= _MAYBE and _as_turned(region, mark)


def _says_repeated(reason: str) -> bool:
    return reason.startswith("repeated")


def _is_copy(region: TextRegion, sure: TextRegion) -> bool:
    """Whether two regions read alike, or one reads a part of the other."""
    one, other = (
        "".join(letter for letter in each.text.casefold() if letter.isalnum())
        for each in (region, sure)
    )
    return same_mark(region.text, sure.text) or (
        bool(one and other) and (one in other or other in one)
    )


def _goes_on(region: TextRegion, sure: TextRegion) -> bool:
    """Whether two regions are lines of one text, or marks of one tiling: as large, turned alike,
    and beside each other, or the one repeated all over the photo."""
    if any(map(_says_repeated, sure.reasons)) and _as_turned(region, sure):
        return True
    line, other = (np.array(each.polygon, np.float32) for each in (sure, region))
    place = place_beside(line, other)
    if not _ALIKE[0] <= place.size <= _ALIKE[1]:
        return False
    in_line = place.reach <= _IN_LINE and place.apart <= _NEAR
    return in_line or (place.below <= _BELOW and place.apart <= 0)


def _in_row(region: TextRegion, sure: TextRegion) -> bool:
    """Whether two regions stand in one row, as high: words of a bar do, far from each other."""
    place = place_beside(*(np.array(each.polygon, np.float32) for each in (sure, region)))
    return place.reach <= _IN_LINE and _ALIKE[0] <= place.size <= _ALIKE[1]


def _as_turned(one: TextRegion, other: TextRegion) -> bool:
    """Whether two regions are as turned, and as high."""
    (_, sides, angle), (_, others, turned) = (
        cv2.minAreaRect(np.array(each.polygon, np.float32)) for each in (one, other)
    )
    apart = abs(angle - turned) % 90
    ratio = min(sides) / max(min(others), 1)
    return min(apart, 90 - apart) < _TURNED and _ALIKE[0] < ratio < _ALIKE[1]


def _claiming(
    regions: Sequence[TextRegion], own_marks: Sequence[str], shape: tuple[int, ...]
) -> tuple[TextRegion, ...]:
    """Regions whose words claim rights that are not the shop's own, in a photo of (height,
    width)."""
    own = [region for region in regions if names_own_mark(region.text, own_marks)]
    repeated = [each for each in own if any(map(_says_repeated, each.reasons))]
    return tuple(
        region
        for region in regions
        if claims_rights(region.text)
        and region not in own
        and not any(_is_cut_off(region, mark, shape) for mark in repeated)
    )


def _is_cut_off(region: TextRegion, mark: TextRegion, shape: tuple[int, ...]) -> bool:
    """Whether a region is what the edge of a photo of (height, width) leaves of a repeated mark."""
    outline = np.array(region.polygon, np.float32)
    near = _NEAR_EDGE * min(cv2.minAreaRect(outline)[1])
    from_edge = min(float(outline.min()), *(shape[::-1] - outline.max(axis=0)))
    return from_edge <= near and _as_turned(region, mark) and reads_as_part(region.text, mark.text)


def residual_text(
    view: NDArray[np.uint8],
    removed: Sequence[TextRegion],
    detector: TextDetector,
    settings: DetextSettings,
) -> list[TextRegion]:
    """Text that a second look still finds where text was removed.

    view: (H, W, 3) uint8 after the repair. Only the old regions and some ground around them are
    read again.
    """
    height, width = view.shape[:2]
    outlines = [np.array(region.polygon, np.float32) for region in removed]
    places = [polygon_box(outline, height, width) for outline in outlines]
    # What lies wholly beyond the photo's edge has no pixels to look at.
    places = [each for each in places if each.height > 0 and each.width > 0]
    residual = []
    for again in read_around(view, places, detector):
        x, y = np.array(again.polygon, np.float32).mean(axis=0)
        there = any(
            cv2.pointPolygonTest(outline, (float(x), float(y)), False) >= 0 for outline in outlines
        )
        if there and is_text(again, (height, width), settings):
            residual.append(again)
    return residual


def is_text(region: TextRegion, shape: tuple[int, ...], settings: DetextSettings) -> bool:
    """Whether a detection in a photo of (height, width) is believed."""
    if _is_misread(region, shape):
        return False
    if not region.text:  # not by its wording, but by its letters' look
        return region.kind != "product"
    return region.confidence >= settings.min_confidence and _characters(region) >= _MIN_CHARACTERS


def _is_misread(region: TextRegion, shape: tuple[int, ...]) -> bool:
    """Whether a detection is so large that it is a texture."""
    area = cv2.contourArea(np.array(region.polygon, np.float32))
    return area > _MAX_AREA * shape[0] * shape[1]


def _matches(region: TextRegion, step: RemoveText, settings: DetextSettings, view: Any) -> bool:
    if step.region is not None:  # a person named the place: that outweighs a low confidence
        x, y = np.array(region.polygon, np.float32).mean(axis=0)
        outline = step.region.polygon_points().astype(np.float32)
        return bool(cv2.pointPolygonTest(outline, (float(x), float(y)), False) >= 0)
    if not is_text(region, view.shape, settings):
        return False
    wording = _WORDING.get(step.hint or "")
    return bool(wording.search(region.text)) if wording else True


def _is_kept(region: TextRegion, view: NDArray[np.uint8], settings: DetextSettings) -> bool:
    height, width = view.shape[:2]
    x, y = np.array(region.polygon).mean(axis=0) / (width, height)
    return any(
        area.x <= x <= area.x + area.width and area.y <= y <= area.y + area.height
        for area in settings.keep
    )


def _look_closely(
    view: NDArray[np.uint8], step: RemoveText, detector: TextDetector
) -> list[TextRegion]:
    if step.region is None:
        return []
    box = polygon_box(step.region.polygon_points(), *view.shape[:2])
    box = box.padded(max(8, box.height // 4), *view.shape[:2])
    if not box.height or not box.width:
        return []
    crop = view[box.slices]
    zoom = float(np.clip(_CLOSE_LOOK_SIDE / min(crop.shape[:2]), 1, 4))
    large = cv2.resize(
        stretch_contrast(crop), None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC
    )
    return [placed(region, box, zoom) for region in detector.detect(np.asarray(large, np.uint8))]
