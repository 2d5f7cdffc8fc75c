"""Which groups of letters in the eraser's map lie over the photo, where OCR reads nothing.

Leaves, windows and fur look like letters here and there. Boosted trees weigh how a group
stands in the map (imaging/lettergroups.py) and what its strokes look like in the photo
(imaging/lettering.py). Weights and their card: weights/unread.*
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.engines.spec import EngineSpec, TextMap
from imgflow.engines.trees import Trees, judge_spec, read_weights, unfit
from imgflow.imaging import lettergroups, lettering
from imgflow.imaging.lettergroups import LetterGroup, grouped, measure_groups

Values = NDArray[Any]

WEIGHTS = Path(__file__).parent / "weights" / "unread.safetensors"

# Raised whenever the measures may come out differently.
_MEASURES_VERSION = 1

LOOKS = (*lettergroups.MEASURES, *lettering.MEASURES)
"""Names of the measures that the trees see."""

# From which probabilities on, of 255, pixels count as letters, one after the other: what a low
# one joins to the leaves behind it, a high one tells from them. Pixels that a group has at least,
# its least height, and the share of its box that its strokes fill.
LEVELS, FEWEST, _LOWEST = (128, 77), 40, 5.0
_DENSITY = (0.02, 0.9)


def spec() -> EngineSpec:
    """The judge's identity."""
    return judge_spec("unread", _MEASURES_VERSION, load_weights().sha256)


def candidates(drawn: NDArray[np.uint8]) -> list[LetterGroup]:
    """All that may be letters in a map (H, W; 255 = certain); the same ones at several levels."""
    found = []
    for level in LEVELS:
        for group in grouped(drawn, level, FEWEST):
            across, along = group.sides
            if across >= _LOWEST and _DENSITY[0] <= group.ink / (across * along) <= _DENSITY[1]:
                found.append(group)
    return found


def look(
    pixels: NDArray[np.uint8],
    letters: TextMap,
    groups: Sequence[LetterGroup],
    marks: Sequence[NDArray[np.float32]],
) -> Values:
    """(N, len(LOOKS)) float32 of N groups. marks: (4, 2) polygons of known overlays.

    pixels: the photo, (H, W, 3) uint8, of any size. All else is in the map's pixels.
    """
    return beside(look_at_strokes(pixels, letters, groups), letters, groups, marks)


def beside(
    strokes: Values,
    letters: TextMap,
    groups: Sequence[LetterGroup],
    marks: Sequence[NDArray[np.float32]],
) -> Values:
    """The same, of groups whose strokes were looked at before: other marks change nothing there."""
    in_map = measure_groups(letters.overlay, letters.product, groups, marks)
    return np.hstack([in_map, strokes])


def look_at_strokes(
    pixels: NDArray[np.uint8], letters: TextMap, groups: Sequence[LetterGroup]
) -> Values:
    """(N, len(lettering.MEASURES)) of what groups look like in the photo."""
    height, width = letters.overlay.shape
    if pixels.shape[:2] != (height, width):
        small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        pixels = np.asarray(small, np.uint8)
    boxes = [group.box for group in groups]
    measured = [each.looks() for each in lettering.measure(pixels, boxes)]
    return np.array(measured, np.float32).reshape(len(groups), len(lettering.MEASURES))


@dataclass(frozen=True, slots=True)
class Weights:
    """alone, beside: logits from which on a group may be an overlay in a photo without known
    ones, and is one in a photo with such."""

    trees: Trees
    alone: float
    beside: float
    sha256: str = ""


@lru_cache(maxsize=2)
def load_weights(path: Path = WEIGHTS) -> Weights:
    """The shipped weights. Raises EngineUnavailable."""
    held = read_weights(path)
    if json.loads(held.about.get("looks", "[]")) != list(LOOKS):
        raise unfit(path, "they were made for other measures")
    about = held.about
    return Weights(held.trees(), float(about["alone"]), float(about["beside"]), held.sha256)
