"""One photo in a worker: reduced, squeezed, enlarged in all ways, and compared."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.bench.upscale.cases import (
    LEAST_SIDE,
    QUALITIES,
    SCALES,
    SQUEEZED_SCALES,
    Pixels,
    Source,
    load,
    squeeze,
)
from imgflow.bench.upscale.enlarge import enlarge
from imgflow.bench.upscale.results import BICUBIC, DECIDED, PhotoResult, Score
from imgflow.engines.registry import Engines
from imgflow.engines.spec import Character
from imgflow.imaging import blind
from imgflow.imaging.metrics import psnr, ssim
from imgflow.imaging.resample import bicubic, bicubic_down
from imgflow.policy.policy import UpscaleSettings
from imgflow.stages.enlargement import Size, decide

# ITU-R BT.601 for a studio range of 16..235, as MATLAB's rgb2ycbcr has it, of pixels 0..255.
_STUDIO_LUMA = np.array([65.481, 128.553, 24.966], np.float64) / 255
_BLACK = 16.0
CHARACTERS: tuple[Character, ...] = ("clean", "photo")
_MOST_PSNR = 100.0  # JSON has no infinity


@dataclass(frozen=True, slots=True)
class _Bench:
    """What a worker holds."""

    engines: Engines
    names: tuple[str, ...]
    looks: int | None


_bench: _Bench


def start(names: tuple[str, ...], looks: int | None) -> None:
    """Make this process a worker. names: of the engines, as the registry knows them."""
    # Read when torch is first imported.
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
    cv2.setNumThreads(1)
    begin(Engines(threads=1), names, looks)


def begin(engines: Engines, names: tuple[str, ...], looks: int | None = None) -> None:
    """Measure these engines from now on, with so many looks at each photo, or the policy's."""
    global _bench
    _bench = _Bench(engines, names, looks)


def measure(source: Source) -> PhotoResult:
    """All scores of a photo. Raises BadPhoto, EngineUnavailable."""
    pixels = load(source)
    if min(pixels.shape[:2]) < LEAST_SIDE:
        return PhotoResult(source.name, ())
    return PhotoResult(source.name, (*_clean(pixels), *_squeezed(pixels)))


def studio_luma(pixels: Pixels) -> NDArray[np.float32]:
    """(H, W, 3) to its luma (H, W), 16..235, not rounded."""
    return (pixels @ _STUDIO_LUMA + _BLACK).astype(np.float32)


def compare(truth: Pixels, made: Pixels, border: int) -> tuple[float, float]:
    """PSNR (dB) and SSIM of two photos' luma, `border` pixels cut off on all sides."""
    inside = np.s_[border:-border, border:-border]
    first, second = studio_luma(truth)[inside], studio_luma(made)[inside]
    decibels = min(psnr(first, second, data_range=255), _MOST_PSNR)
    return decibels, ssim(first, second, data_range=255)


def _clean(pixels: Pixels) -> Iterator[Score]:
    for scale in SCALES:
        truth, small = bicubic_down(pixels, scale)
        yield from _scores(truth, small, scale, None, "clean")


def _squeezed(pixels: Pixels) -> Iterator[Score]:
    for scale in SQUEEZED_SCALES:
        truth, small = bicubic_down(pixels, scale)
        for quality in QUALITIES:
            yield from _scores(truth, squeeze(small, quality), scale, quality, "photo")


def decided_character(small: Pixels, scale: int) -> Character:
    """What the `upscaled` version would ask its engine for, with the default policy."""
    size = Size(*small.shape[:2])
    measured = blind.measure(small)
    return decide(measured, size, UpscaleSettings(), wanted=1, asked=scale).character


def _scores(
    truth: Pixels, small: Pixels, scale: int, quality: int | None, character: Character
) -> Iterator[Score]:
    """character: what an engine is asked for. Where it has others, too: with what is decided."""
    made = bicubic(small, *truth.shape[:2])
    yield Score(BICUBIC, scale, quality, *compare(truth, made, scale))
    decided = decided_character(small, scale)
    for name in _bench.names:
        engine = _bench.engines.upscaler(name, scale, character)
        looks = _bench.looks or UpscaleSettings().looks_for(name, small.shape[0] * small.shape[1])
        found = compare(truth, enlarge(small, engine, looks), scale)
        yield Score(name, scale, quality, *found)
        if not _has_characters(name, scale):
            continue
        if decided != character:
            engine = _bench.engines.upscaler(name, scale, decided)
            found = compare(truth, enlarge(small, engine, looks), scale)
        yield Score(f"{name} {DECIDED}", scale, quality, *found)


def _has_characters(name: str, scale: int) -> bool:
    clean, photo = (_bench.engines.upscaler(name, scale, each) for each in CHARACTERS)
    return clean.spec.model_id != photo.spec.model_id
