"""Where text in a photo comes from: put over it afterwards, or part of what it shows.

Boosted trees weigh what the letters and their surroundings look like (imaging/lettering.py)
and how the lines lie in the photo. What a line says can only shift that verdict by a bounded
amount: wording alone decides nothing. Weights and their card: weights/origin.*
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.engines.spec import EngineSpec, TextMap
from imgflow.engines.trees import Trees, judge_spec, read_weights, unfit
from imgflow.imaging import lettergroups
from imgflow.imaging.lettergroups import measure_groups, within
from imgflow.imaging.lettering import MEASURES, Lettering, measure, told
from imgflow.imaging.masks import polygon_box, polygon_mask
from imgflow.lineage.record import TextRegion

Values = NDArray[Any]

WEIGHTS = Path(__file__).parent / "weights" / "origin.safetensors"

# Raised whenever the measures here or in imaging/lettering.py may come out differently.
_MEASURES_VERSION = 3

_LAYOUT = (
    "height", "width", "letters", "edge_x", "edge_y", "corner", "off_centre", "off_middle",
    "edge_in_lines", "turned", "diagonal", "confidence", "lines", "block", "block_sizes",
    "block_aligned", "block_colour", "repeats", "near_any", "share_of_text",
)  # fmt: skip
_LETTERS = ("drawn", "drawn_most", "printed_most")
# How its letters stand in the eraser's map (imaging/lettergroups.py), among those pixels that have
# at least that probability, of 255.
_IN_MAP = (
    "density", "sure", "surest", "least_sure", "around", "around_most", "beside", "beyond",
    "uneven", "unbroken", "band", "letters", "busy", "share", "parallel", "parallel_clear",
)  # fmt: skip
_LEVEL = 77
LOOKS = (*MEASURES, *_LAYOUT, *_LETTERS, *(f"map_{name}" for name in _IN_MAP))
"""Names of the features that the trees see."""

_WORDING = {
    "date": r"\d{1,4}\s?[-/.年]\s?\d{1,2}\s?[-/.月]\s?\d{1,4}|'\s?\d\d\s+\d{1,2}\s+\d{1,2}|"
    r"\d{1,2}\s+\d{1,2}\s+'\d\d",
    "time": r"\b\d{1,2}:\d\d\b",
    "address": r"https?:|www\.|[\w-]{3,}\.(com|net|org|shop|io|de|cn|uk|ru|fr|co)\b|(^|\s)@\w{3,}",
    "claim": r"[©®]|\(c\)|copyright|photogra|fotogra|\bstudio\b|\bfoto\b|stock|\bimages\b",
    "mark": r"\b(sample|preview|proof|draft|watermark|demo|confidential|specimen|evaluation|"
    r"do not copy|test only|not for sale|muster)\b|样品|样张|образец",
    "offer": r"\d\s?%|\b(sale|free|offer|order|shipping|delivery|discount|new arrival|best seller|"
    r"in stock|buy|deal|collection|warranty|save|view|colou?rs?)\b|[$€£¥]\s?\d|\d\s?[$€£¥]|"
    r"скидк|бесплатн|包邮|优惠|仅供参考",
    "screen": r"^\d{1,3}\s?%$|^(lte|5g|4g|wi-?fi|edit|share|back|done|cancel|reply|search|"
    r"messages|photos|gallery|send|close|next|follow|like|download|options|carrier)$",
    "goods": r"\b\d+\s?(ml|g|kg|oz|fl|l|mg|cl|v|hz|w|mah|tablets|capsules)\b|\bnet\s?wt\b|"
    r"ingredients|nutrition|\bwash\b|store in|keep out|shake|distributed|produced|best before|"
    r"\bexp\b|\blot\b|\bbatch\b|organic|vitamin|\bcotton\b",
}
WORDING = tuple(_WORDING)
"""Names of what a line's words may be like."""

_PATTERNS = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in _WORDING.items()}

# Most that wording moves the score, in units of the logit.
MOST_WORDING = 1.5
# Levels between the colours of two lines of one ink.
_SAME_INK = 30.0
# How alike two readings of one text are at least.
_ALIKE = 0.75


def spec() -> EngineSpec:
    """The judge's identity."""
    return judge_spec("origin", _MEASURES_VERSION, load_weights().sha256)


def judge(
    pixels: NDArray[np.uint8], regions: Sequence[TextRegion], letters: TextMap
) -> list[TextRegion]:
    """The regions with kind, score and reasons.

    pixels: (H, W, 3) uint8 sRGB. letters: what the eraser sees in them, of any size. score:
    probability of an overlay, 0..1. kind is None where the score is between the thresholds that
    the weights bring along: nobody should act on it.
    """
    if not regions:
        return []
    weights = load_weights()
    seen = look(pixels, regions, letters)
    scores = weights.scores(seen)
    judged = []
    for number, (region, score) in enumerate(zip(regions, scores, strict=True)):
        found = {
            "kind": weights.kind(float(score)),
            "score": round(float(score), 4),
            "reasons": _reasons(weights, seen, number),
        }
        judged.append(region.model_copy(update=found))
    return judged


@dataclass(frozen=True, slots=True)
class Seen:
    """What the trees see of N regions of a photo.

    looks: (N, len(LOOKS)). words: (N, len(WORDING)), 0 or 1. groups: (N,) the same number for
    lines that are of one make: copies of one mark, or lines of one block in one colour and size.
    """

    looks: Values
    words: Values
    groups: NDArray[np.intp]


def wording(text: str) -> Values:
    """(len(WORDING),) 0 or 1."""
    return _array([bool(pattern.search(text)) for pattern in _PATTERNS.values()])


def look(pixels: NDArray[np.uint8], regions: Sequence[TextRegion], letters: TextMap) -> Seen:
    """Measures the regions of one photo, (H, W, 3) uint8. letters: as in `judge`."""
    polygons = [np.array(region.polygon, np.float32) for region in regions]
    lettering = measure(pixels, polygons)
    lines = [_line(polygon, region.text) for polygon, region in zip(polygons, regions, strict=True)]
    layout = _layout(pixels.shape[:2], regions, polygons, lines, lettering)
    height, width = pixels.shape[:2]
    scale = _array([letters.overlay.shape[1] / width, letters.overlay.shape[0] / height])
    placed = [np.asarray(polygon * scale, np.float32) for polygon in polygons]
    looks = [
        [*line.looks(), *(place[name] for name in _LAYOUT), *_letters(letters, polygon), *in_map]
        for line, place, polygon, in_map in zip(
            lettering, layout, placed, _in_map(letters, placed), strict=True
        )
    ]
    return Seen(
        np.asarray(looks, np.float32),
        np.stack([wording(region.text) for region in regions]),
        _groups(lines, lettering),
    )


def _letters(letters: TextMap, polygon: Values) -> tuple[float, float, float]:
    """Which share of a line's letters was drawn over the photo, how sure the surest tenth of
    its place is of that, and how sure of print; each 0..1. polygon: in the map's pixels."""
    box = polygon_box(polygon, *letters.overlay.shape)
    if not (box.height and box.width):  # beyond the photo
        return 0.5, 0.0, 0.0
    inside = polygon_mask([polygon - (box.left, box.top)], box.height, box.width) > 0
    drawn, printed = (each[box.slices][inside] / 255 for each in (letters.overlay, letters.product))
    if not drawn.size:
        return 0.5, 0.0, 0.0
    # A trace of either says little.
    share = (drawn.sum() + 0.01 * drawn.size) / ((drawn + printed).sum() + 0.02 * drawn.size)
    return float(share), float(np.quantile(drawn, 0.9)), float(np.quantile(printed, 0.9))


def _in_map(letters: TextMap, polygons: Sequence[NDArray[np.float32]]) -> Values:
    """(N, len(_IN_MAP)) of lines in the map's pixels."""
    groups = [within(letters.overlay, polygon, _LEVEL) for polygon in polygons]
    rows = measure_groups(letters.overlay, letters.product, groups, [])
    return rows[:, [lettergroups.MEASURES.index(name) for name in _IN_MAP]]


def _groups(lines: Sequence[_Line], lettering: Sequence[Lettering]) -> NDArray[np.intp]:
    groups = np.arange(len(lines))
    for one in range(len(lines)):
        for other in range(one):
            if _same_text(lines[one], lines[other]) or (
                _in_block(lines[one], lines[other])
                and 0.7 < lines[one].height / lines[other].height < 1.45
                and _unlike(lettering[one], lettering[other]) < _SAME_INK
            ):
                groups[groups == groups[one]] = groups[other]
    return groups


def _unlike(one: Lettering, other: Lettering) -> float:
    """Levels between the colours of two lines' ink."""
    return float(np.abs(np.subtract(one.colour, other.colour)).max())


@dataclass(frozen=True, slots=True)
class _Line:
    x: float
    y: float
    height: float
    width: float
    angle: float  # degrees, -90..90
    text: str


def _line(polygon: Values, text: str) -> _Line:
    (x, y), (side, other), angle = cv2.minAreaRect(polygon)
    if side < other:
        side, other, angle = other, side, angle + 90
    angle = (angle + 90) % 180 - 90
    letters = "".join(each for each in text.casefold() if each.isalnum())
    return _Line(x, y, max(other, 3.0), max(side, 3.0), angle, letters)


def _layout(
    shape: tuple[int, ...],
    regions: Sequence[TextRegion],
    polygons: Sequence[Values],
    lines: Sequence[_Line],
    lettering: Sequence[Lettering],
) -> list[dict[str, float]]:
    """How each line lies in the photo and among the others."""
    height, width = shape[:2]
    text_area = sum(line.height * line.width for line in lines)
    found = []
    for number, (line, polygon) in enumerate(zip(lines, polygons, strict=True)):
        others = [other for each, other in enumerate(lines) if each != number]
        block = [each for each, other in enumerate(lines) if each != number and
            _in_block(line, other)]  # fmt: skip
        left, top = polygon.min(axis=0)
        right, bottom = polygon.max(axis=0)
        edge_x = float(np.clip(min(left, width - right) / width, -0.02, 0.5))
        edge_y = float(np.clip(min(top, height - bottom) / height, -0.02, 0.5))
        near = [other for other in others if _distance(line, other) < 4 * line.height]
        turned = abs(line.angle)
        found.append({
            "height": float(np.log(line.height / height)),
            "width": float(np.log(line.width / width)),
            "letters": float(np.log1p(len(line.text))),
            "edge_x": edge_x,
            "edge_y": edge_y,
            "corner": float(np.hypot(edge_x, edge_y)),
            "off_centre": abs(line.x / width - 0.5),
            "off_middle": abs(line.y / height - 0.5),
            "edge_in_lines": float(
                np.log(0.1 + max(min(top, height - bottom, left, width - right), 0) / line.height)
            ),
            "turned": min(turned, abs(90 - turned)) / 45,
            "diagonal": float(15 < turned < 75),
            "confidence": regions[number].confidence,
            "lines": float(np.log1p(len(lines))),
            "block": float(np.log1p(len(block))),
            "block_sizes": float(np.std([np.log(lines[each].height) for each in
                [number, *block]])),
            "block_aligned": min((_misaligned(line, lines[each]) for each in block), default=1.0),
            "block_colour": min((_unlike(lettering[each], lettering[number]) / 255
                for each in block), default=0.5),
            "repeats": float(np.log1p(sum(_same_text(line, other) for other in others))),
            "near_any": float(np.log1p(len(near))),
            "share_of_text": line.height * line.width / max(text_area, 1.0),
        })  # fmt: skip
    return found


def _distance(one: _Line, other: _Line) -> float:
    """Pixels between two lines, as boxes on the axes."""
    across = abs(one.x - other.x) - (one.width + other.width) / 2
    down = abs(one.y - other.y) - (one.height + other.height) / 2
    return float(np.hypot(max(across, 0), max(down, 0)))


def _in_block(one: _Line, other: _Line) -> bool:
    """Whether two lines stand below each other, as those of one label or caption do."""
    return (
        abs(one.angle - other.angle) < 8
        and abs(one.x - other.x) < (one.width + other.width) / 2
        and abs(one.y - other.y) < 1.6 * (one.height + other.height)
    )


def _misaligned(one: _Line, other: _Line) -> float:
    """How far two lines are from sharing their left, middle or right, in heights, up to 1."""
    half = (one.width - other.width) / 2
    shift = one.x - other.x
    least = min(abs(shift), abs(shift + half), abs(shift - half))
    return min(least / one.height, 1.0)


def _same_text(one: _Line, other: _Line) -> bool:
    if min(len(one.text), len(other.text)) < 3 or abs(one.angle - other.angle) > 8:
        return False
    if not 0.6 < one.height / other.height < 1.7:
        return False
    return SequenceMatcher(None, one.text, other.text).ratio() >= _ALIKE


@dataclass(frozen=True, slots=True)
class Weights:
    """Trees for looks, and a bounded part for wording.

    words: (len(WORDING),). low, high: scores from which on a region is uncertain, and an overlay.
    """

    trees: Trees
    words: Values
    low: float
    high: float
    sha256: str = ""

    def scores(self, seen: Seen) -> Values:
        """(N,) probabilities of an overlay; lines of one make share theirs."""
        said = np.clip(seen.words @ self.words, -MOST_WORDING, MOST_WORDING)
        logits = self.trees.logits(seen.looks) + said
        same = seen.groups[:, None] == seen.groups[None]
        shared = same @ logits / same.sum(axis=1)
        return np.asarray(1 / (1 + np.exp(-shared)), np.float32)

    def kind(self, score: float) -> Literal["overlay", "product"] | None:
        if score >= self.high:
            return "overlay"
        return "product" if score < self.low else None


@lru_cache(maxsize=2)
def load_weights(path: Path = WEIGHTS) -> Weights:
    """The shipped weights. Raises EngineUnavailable."""
    held = read_weights(path)
    words = held.planes.get("words", np.zeros(0, np.float32))
    if json.loads(held.about.get("looks", "[]")) != list(LOOKS) or len(words) != len(WORDING):
        raise unfit(path, "they were made for other measures")
    about = held.about
    return Weights(held.trees(), words, float(about["low"]), float(about["high"]), held.sha256)


# ---- reasons, for people -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Fact:
    """Something that can be said of a line. features: what is taken away to see its weight."""

    text: str
    overlay: bool  # what it speaks for
    features: tuple[str, ...]
    holds: Callable[[dict[str, float]], bool]


# What the eraser makes of a line's letters.
_SEEN = LOOKS[len(MEASURES) + len(_LAYOUT) :]
_FACTS = (
    _Fact("letters drawn over the photo", True, _SEEN, lambda it: it["drawn"] > 0.6),
    _Fact("letters printed on what it shows", False, _SEEN, lambda it: it["drawn"] < 0.4),
    _Fact("sharper than the photo", True, ("sharpness", "crispness", "sharper"),
          lambda it: it["sharper"] > 0.05),
    _Fact("as sharp as the photo", False, ("sharpness", "crispness", "sharper"),
          lambda it: it["sharper"] < 0.05),
    _Fact("flat colour", True, ("ink_spread", "ink_drift"),
          lambda it: it["ink_spread"] < 12 and it["ink_drift"] < 8),
    _Fact("its colour changes with the light", False, ("ink_spread", "ink_drift"),
          lambda it: it["ink_drift"] > 8),
    _Fact("one opacity all along", True, ("opacity", "opacity_spread", "follow"),
          lambda it: it["opacity"] < 0.75 and it["opacity_spread"] < 0.2),
    _Fact("the photo goes on behind it", True,
          ("ground_unrest", "ground_slope", "around_unrest", "panel"),
          lambda it: it["ground_unrest"] > 15),
    _Fact("on a plain ground", False, ("ground_unrest", "ground_slope"),
          lambda it: it["ground_unrest"] < 12),
    _Fact("on a surface of its own", False, ("panel", "panel_border", "backdrop", "rim"),
          lambda it: it["panel"] > 0.02 and it["panel_border"] < 0.05),
    _Fact("off the object, on the backdrop", True, ("panel", "panel_border", "backdrop"),
          lambda it: it["backdrop"] > 0.4),
    _Fact("outlined or shadowed", True, ("outline",), lambda it: it["outline"] > 0.4),
    _Fact("at the edge of the photo", True,
          ("edge_x", "edge_y", "corner", "edge_in_lines", "off_centre", "off_middle"),
          lambda it: it["edge_y"] < 0.08 or it["edge_x"] < 0.03),
    _Fact("in the middle of the photo", False,
          ("edge_x", "edge_y", "corner", "edge_in_lines", "off_centre", "off_middle"),
          lambda it: it["edge_y"] > 0.1 and it["edge_x"] > 0.1),
    _Fact("across the photo", True, ("turned", "diagonal"), lambda it: it["diagonal"] > 0.5),
    _Fact("level baseline", True, ("turned", "diagonal", "slant", "taper", "bend"),
          lambda it: it["turned"] < 0.01 and it["slant"] < 0.08),
    _Fact("follows perspective or a curve", False, ("slant", "taper", "bend"),
          lambda it: it["taper"] > 0.25 or it["bend"] > 0.4),
    _Fact("among lines of other sizes", False, ("block", "block_sizes", "near_any", "lines"),
          lambda it: it["block_sizes"] > 0.25),
    _Fact("noise as around it", False, ("ink_noise", "ground_noise", "photo_noise"),
          lambda it: it["ink_noise"] > 0.8 * it["ground_noise"] > 0.3),
    _Fact("less noise than around it", True, ("ink_noise", "ground_noise", "photo_noise"),
          lambda it: it["ink_noise"] < 0.7 * it["ground_noise"]),
)  # fmt: skip
_SAID = {
    "date": "a date", "time": "a time", "address": "an address", "claim": "claims rights",
    "mark": "a word of watermarks", "offer": "a shop's offer", "screen": "a word of screens",
    "goods": "words of packaging",
}  # fmt: skip
_MOST_REASONS = 4


def _reasons(weights: Weights, seen: Seen, number: int) -> list[str]:
    """What speaks most for the verdict: facts that hold, by how much the score falls without them
    (occlusion; Zeiler and Fergus 2014)."""
    row, words = seen.looks[number], seen.words[number]
    it = {name: told(name, float(value)) for name, value in zip(LOOKS, row, strict=True)}
    # Lines that share a score share what it is for.
    overlay = float(weights.scores(seen)[number]) >= 0.5
    sign = 1 if overlay else -1
    facts = [fact for fact in _FACTS if fact.overlay == overlay and fact.holds(it)]
    without = np.repeat(row[None], len(facts) + 1, axis=0)
    for index, fact in enumerate(facts, start=1):
        for name in fact.features:
            at = LOOKS.index(name)
            without[index, at] = weights.trees.usual[at]
    logits = weights.trees.logits(without)
    weighed = [
        (sign * float(logits[0] - logits[index]), fact.text)
        for index, fact in enumerate(facts, start=1)
    ]
    weighed += [
        (sign * float(weights.words[index]), _SAID[name])
        for index, name in enumerate(WORDING)
        if words[index]
    ]
    copies = round(float(np.exp(it["repeats"])))
    found = [text for gain, text in sorted(weighed, reverse=True) if gain > 0]
    repeated = [f"repeated {copies} times"] if overlay and copies > 2 else []
    return [*repeated, *found][:_MOST_REASONS]


def _array(values: Any) -> NDArray[Any]:
    return np.asarray(values, np.float32)
