"""A quick look: what a photo will need, and how long that takes, told from a small copy of it.

For a service that plans work, or asks a user before it starts: nothing is recorded or repaired.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.calibration import Calibration
from imgflow.chain import raw_measures
from imgflow.engines.registry import Engines
from imgflow.imaging import blind
from imgflow.imaging.colour import flatten, plain_background
from imgflow.imaging.decode import decode
from imgflow.imaging.subject import find_subject
from imgflow.lineage.record import TextRegion, Version
from imgflow.policy.choice import Choice, Prices, seconds_of, settle
from imgflow.policy.manifest import Inpaint, Manifest, RemoveText, Upscale
from imgflow.policy.policy import Policy
from imgflow.routing import engines_used
from imgflow.stages import raw
from imgflow.stages.enlargement import Size, decide
from imgflow.stages.erase import strokes_of, text_area
from imgflow.stages.templates import wish
from imgflow.stages.text import find_text, is_text

# Long side of the copy that is looked at: letters of 12 pixels in 1600 are 5 high, and still seen.
PROXY_SIDE = 720
# Standard deviation of the luma around text, from which on a fill made small would be seen.
_ROUGH = 6.0


@dataclass(frozen=True, slots=True)
class Features:
    """What a photo's time depends on. megapixels: of it; text: megapixels of what is to be
    erased; fills: megapixels that a manifest wants filled; result: megapixels after enlarging, 0
    where it is not enlarged."""

    megapixels: float
    text: float
    fills: float
    result: float

    def of(self, stage: str) -> list[float]:
        """The terms that a stage's milliseconds are a sum of."""
        last = self.result or self.megapixels
        terms = {
            Version.RAW: [self.megapixels],
            Version.DETEXTED: [self.megapixels, float(self.text > 0), self.text],
            Version.INPAINTED: [self.fills, float(self.fills > 0)],
            Version.UPSCALED: [self.megapixels, self.result],
            Version.PUBLISHED: [last],
        }[Version(stage)]
        return [1.0, *terms]


@dataclass(frozen=True, slots=True)
class Quick:
    """The answer. regions: (x, y, width, height) in the photo's pixels. mask_confidence: how clear
    the strokes are, 0..1; None: there are none. milliseconds: by stage; empty: not calibrated.

    uncertain: texts of which a person would decide. full_resolution: whether what is under the
    text is too rough to be filled in a small copy. routes, choices, engines: as `imgflow route`
    has them. unmeasured: engines that the photo needs and whose time nobody has measured here.
    """

    width: int
    height: int
    needs_text_removal: bool
    uncertain: int
    regions: tuple[tuple[int, int, int, int], ...]
    mask_confidence: float | None
    full_resolution: bool
    enlarged: str
    features: Features
    milliseconds: dict[str, float]
    took_ms: float
    routes: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = ()
    engines: tuple[tuple[str, str, str], ...] = ()
    unmeasured: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        engines = [
            {"for": what, "engine": name, "problem": problem}
            for what, name, problem in self.engines
        ]
        total = round(sum(self.milliseconds.values()), 1)
        return {**asdict(self), "engines": engines, "total_ms": total}


def precheck(
    data: bytes,
    policy: Policy,
    engines: Engines,
    calibration: Calibration,
    manifest: Manifest | None = None,
    prices: Prices | None = None,
) -> Quick:
    """Look at a photo's bytes. policy: with its routes and budget, which are kept to as by the
    line. manifest: completed by the catalog. prices: what engines take; None: not known.

    Raises BadPhoto, EngineUnavailable.
    """
    started = time.perf_counter()
    manifest, prices = manifest or Manifest(), prices or Prices()
    traits = manifest.traits()
    first = policy.for_image(traits).policy
    pixels = decode(data, raw.limits(first.raw), keep_16_bit=first.raw.keep_16_bit).pixels
    # Of the photo itself: a small copy measures otherwise, and another route would be its.
    measures = raw_measures(raw.measures_of(pixels, all_of_them=first.raw.measure))
    settled = settle(policy, traits, measures, prices)
    policy = settled.policy
    height, width = pixels.shape[:2]
    behind = plain_background(pixels) if pixels.shape[2] == 4 else (255, 255, 255)
    view = flatten(pixels, behind)
    scale = min(PROXY_SIDE / max(height, width), 1.0)
    small = view
    if scale < 1:
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        small = np.asarray(cv2.resize(view, size, interpolation=cv2.INTER_AREA), np.uint8)
    wanted, uncertain = _text(small, policy, engines, manifest)
    area = text_area(wanted, *small.shape[:2])
    confidence = None
    if wanted:
        eraser = engines.eraser(policy.detext.eraser)
        confidence = round(strokes_of(small, area, eraser).confidence, 4)
    megapixels = height * width / 1e6
    decision = _enlargement(view, policy, manifest)
    features = Features(
        megapixels=megapixels,
        text=float(np.count_nonzero(area)) / area.size * megapixels,
        fills=_fills(manifest, height, width),
        result=decision[1],
    )
    milliseconds, unmeasured = _milliseconds(features, policy, calibration, prices)
    return Quick(
        width=width,
        height=height,
        needs_text_removal=bool(wanted),
        uncertain=uncertain,
        regions=tuple(_box(region, scale, width, height) for region in wanted),
        mask_confidence=confidence,
        full_resolution=bool(wanted) and scale < 1 and _is_rough(small, area),
        enlarged=decision[0],
        features=features,
        milliseconds=milliseconds,
        took_ms=round(1000 * (time.perf_counter() - started), 1),
        routes=settled.routes,
        choices=tuple(settled.choices),
        engines=tuple(engines_used(policy, engines)),
        unmeasured=unmeasured,
    )


def stage_engines(policy: Policy) -> dict[str, str]:
    """The engine that a stage's time hangs on, where a policy may name another."""
    looks = policy.upscale.looks
    return {
        str(Version.INPAINTED): policy.inpaint.fill,
        str(Version.UPSCALED): policy.upscale.engine
        + ("" if looks == "auto" else f", looks {looks}"),
    }


def _milliseconds(
    features: Features, policy: Policy, calibration: Calibration, prices: Prices
) -> tuple[dict[str, float], tuple[str, ...]]:
    """By stage; where a photo needs another engine than was calibrated with, by what that takes.
    And the engines of which that is not known: their stages are left out."""
    found = estimate(features, calibration.stages)
    unmeasured = []
    for stage, part, engine, needed in (
        (Version.INPAINTED, "inpaint", policy.inpaint.fill, features.fills),
        (Version.UPSCALED, "upscale", policy.upscale.engine, features.result),
    ):
        used = stage_engines(policy)[stage]
        if not needed or stage not in found or calibration.by_stage.get(stage, used) == used:
            continue
        seconds = seconds_of(policy, part, engine, features.megapixels, prices)
        without = estimate(replace(features, fills=0.0, result=0.0), calibration.stages)[stage]
        if seconds is None:
            del found[stage]
            unmeasured.append(engine)
        else:
            found[stage] = round(without + 1000 * seconds, 1)
    return found, tuple(unmeasured)


def estimate(features: Features, stages: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Milliseconds by stage; stages that are not calibrated are left out."""
    found: dict[str, float] = {}
    for version in Version:
        terms, known = features.of(version), stages.get(str(version))
        if known is not None and len(known) == len(terms):
            value = sum(a * b for a, b in zip(terms, known, strict=True))
            found[str(version)] = round(value, 1)
    return found


def fit(rows: Sequence[tuple[Features, Mapping[str, float]]]) -> dict[str, list[float]]:
    """Coefficients of each stage from photos whose milliseconds are known.

    Least squares of the relative error, with no negative coefficient: more work never takes less.
    """
    from scipy.optimize import nnls  # type: ignore[import-untyped]

    fitted: dict[str, list[float]] = {}
    for version in Version:
        known = [(f.of(version), ms[version]) for f, ms in rows if ms.get(version, 0.0) > 0]
        if not known:
            continue
        terms = np.array([each for each, _ in known], np.float64)
        times = np.array([each for _, each in known], np.float64)
        coefficients, _ = nnls(terms / times[:, None], np.ones(len(times)))
        fitted[str(version)] = [round(float(each), 6) for each in coefficients]
    return fitted


def _text(
    small: NDArray[np.uint8], policy: Policy, engines: Engines, manifest: Manifest
) -> tuple[list[TextRegion], int]:
    """The text that would go, and how many regions a person would decide on."""
    settings = policy.detext
    asked = any(isinstance(step, RemoveText) for step in manifest.steps)
    if settings.text == "none" and not asked:
        return [], 0
    detector = engines.text_detector(settings.detector)
    always = asked or settings.text == "all"
    found = find_text(small, detector, engines.eraser(settings.eraser), always=always)
    texts = [each for each in found if is_text(each, small.shape[:2], settings)]
    if settings.text == "all":
        return texts, 0
    unsure = sum(each.kind is None for each in texts)
    return [each for each in texts if each.kind == "overlay"], unsure


def _enlargement(view: NDArray[np.uint8], policy: Policy, manifest: Manifest) -> tuple[str, float]:
    """What would be done, in words, and megapixels of the result; 0 where it is not enlarged."""
    asked = next((step.scale for step in manifest.steps if isinstance(step, Upscale)), None)
    size = Size(*view.shape[:2])
    wanted = wish(
        size.height, size.width, policy.upscale, policy.renditions, partial(find_subject, view)
    )
    decision = decide(
        blind.measure(view),
        size,
        policy.upscale,
        wanted=wanted.long_side,
        why_wanted=wanted.why,
        category=manifest.traits().category,
        asked=asked,
    )
    if decision.action == "none":
        return decision.why, 0.0
    return decision.why, decision.result.pixels / 1e6


def _fills(manifest: Manifest, height: int, width: int) -> float:
    """Megapixels that the manifest's regions mark; what masks mark is not looked at."""
    total = 0.0
    for step in manifest.steps:
        if isinstance(step, Inpaint) and step.region is not None:
            corners = step.region.polygon_points()
            total += float(cv2.contourArea(corners.astype(np.float32))) / 1e6
        elif isinstance(step, Inpaint):
            total += 0.05 * height * width / 1e6
    return total


def _is_rough(small: NDArray[np.uint8], area: NDArray[np.uint8]) -> bool:
    around = (cv2.dilate(area, np.ones((9, 9), np.uint8)) > 0) & (area == 0)
    if not around.any():
        return True
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    fine = grey - cv2.GaussianBlur(grey, (0, 0), 2.0)
    return bool(fine[around].std() > _ROUGH)


def _box(region: TextRegion, scale: float, width: int, height: int) -> tuple[int, int, int, int]:
    points = np.array(region.polygon, np.float64) / scale
    left, top = np.floor(points.min(axis=0)).astype(int)
    right, bottom = np.ceil(points.max(axis=0)).astype(int)
    left, top = max(int(left), 0), max(int(top), 0)
    return left, top, min(int(right), width) - left, min(int(bottom), height) - top
