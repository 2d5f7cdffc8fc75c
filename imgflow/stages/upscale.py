"""upscaled: enlarged, denoised or sharpened, where quality or the wanted size asks for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.engines import lpips
from imgflow.engines.registry import Engines
from imgflow.engines.spec import Character, Computing, EngineSpec, Upscaler
from imgflow.imaging import blind
from imgflow.imaging.colour import bands, data_range
from imgflow.imaging.enlarged import artifact_rate, edge_fidelity
from imgflow.imaging.looks import mean_of_looks
from imgflow.imaging.metrics import downscale_area, haarpsi, halo_score, psnr, ssim
from imgflow.imaging.subject import find_subject
from imgflow.imaging.tiling import TilePlan, run_tiled
from imgflow.lineage.record import GateResult, Operation, Reason, Verdict
from imgflow.policy.manifest import Upscale
from imgflow.policy.policy import Policy, UpscaleSettings
from imgflow.stages.enlargement import SCALES, Decision, Size, decide, wanted_long_side
from imgflow.stages.gates import gate, judge
from imgflow.stages.stage import (
    Absent,
    Job,
    Outcome,
    Picture,
    Stage,
    in_role,
    passed_through,
    spec_of,
)
from imgflow.stages.templates import wish

# Photos of up to this many pixels are worked on at once: 640 x 480.
_AT_ONCE = 308_000


def upscale(picture: Picture, job: Job) -> Outcome:
    """Enlarge a photo that is too small; free a large one of noise, or sharpen it; or pass it on.

    Raises EngineUnavailable.
    """
    settings = job.policy.upscale
    size = Size(*picture.pixels.shape[:2])
    measured = blind.measure(picture.view)
    measures = {name: round(value, 4) for name, value in asdict(measured).items()}
    asked = next(iter(_asked(job)), None)
    wanted = wish(
        size.height,
        size.width,
        settings,
        job.policy.renditions,
        partial(find_subject, picture.pixels),
    )
    decision = decide(
        measured,
        size,
        settings,
        wanted=wanted.long_side,
        why_wanted=wanted.why,
        category=job.manifest.traits().category,
        asked=asked,
    )
    if decision.action == "none":
        return passed_through(decision.why, _WORKING, **measures)
    if decision.result.pixels > settings.max_output_pixels:
        unneeded = _WORKING - {"max_output_pixels"}
        if asked:
            return replace(_too_large(size, asked, settings, measures), unneeded=unneeded)
        return passed_through(
            f"{decision.result.width} x {decision.result.height} would exceed the policy's "
            f"{settings.max_output_pixels} pixels",
            unneeded,
            **measures,
        )

    with in_role(_ROLES.get(decision.action, "")):
        done = _worked(picture, job, decision, measured, measures)
    return replace(done, unneeded=_unneeded(decision, settings))


def _worked(
    picture: Picture,
    job: Job,
    decision: Decision,
    measured: blind.BlindMeasures,
    measures: dict[str, float],
) -> Outcome:
    """A decision carried out, and judged."""
    settings, size = job.policy.upscale, Size(*picture.pixels.shape[:2])
    requester = job.requester if _asked(job) else "policy"
    work = _work(decision, measured, job)
    operations: list[Operation] = []
    source = picture.pixels
    if decision.start != size:
        source, operation = _reduced(source, decision.start, requester)
        operations.append(operation)
    started = time.perf_counter()
    plan = tile_plan(source.shape[0], source.shape[1], work.engine.spec, settings.tile)
    result, used = run_tiled(source, work.run, plan)
    operations.append(
        Operation(
            name=decision.action,
            engine=work.engine.spec.stamp(),
            requested_by=requester,
            parameters=work.parameters,
            tile_plan=used.as_dict(),
            dtype=work.engine.computed_in if isinstance(work.engine, Computing) else "float32",
            seconds=round(time.perf_counter() - started, 4),
        )
    )
    notes = [decision.why]
    if used != plan:
        notes.append(f"memory ran out: tiles of {used.core} pixels instead of {plan.core}")
    outcome = Outcome(
        Verdict.REPAIRED,
        pixels=result,
        operations=tuple(operations),
        measures=measures,
        notes=tuple(notes),
    )
    if decision.action == "denoise":
        gates = _denoise_gates(source, result, settings)
    else:
        gates = _gates(source, result, decision.scale, settings)
        if source is not picture.pixels:
            gates.append(_original_gate(picture.pixels, result, settings))
    return judge(outcome, gates, accept_artifacts=settings.gates.accept_artifacts)


def tile_plan(height: int, width: int, engine: EngineSpec, tile: int) -> TilePlan:
    """How a photo of that size is cut for an engine. tile: pixels a side that one tile owns."""
    whole, tiles = (
        TilePlan.for_engine(
            height, width, receptive=engine.receptive, scale=engine.scale, core=core
        )
        for core in (max(height, width), tile)
    )
    # Tiles see their surroundings as well: what fits in memory is cheaper whole.
    return whole if height * width <= _AT_ONCE else tiles


# The settings that nothing hangs on but how a photo is enlarged, or that it is not; and that
# anything is done to it at all.
_ENLARGING = frozenset({"engine", "creative_engine", "mode", "always_conservative", "looks"})
_TELLING = frozenset({"photo_jpeg_step", "photo_blockiness", "photo_noise", "photo_sharpness"})
_AT_ITS_SIZE = frozenset({"sharpener", "denoiser", "denoise_above", "sharpen_below", "noise_limit"})
_WORKING = (
    _ENLARGING
    | _TELLING
    | {"character", "sharpener", "denoiser", "tile", "gates", "max_output_pixels"}
)


def _unneeded(decision: Decision, settings: UpscaleSettings) -> frozenset[str]:
    """The settings that had no part in how a decision was carried out."""
    if decision.action == "denoise":
        return _ENLARGING | _TELLING | {"character", "sharpener", "sharpen_below", "noise_limit"}
    if decision.action == "sharpen":
        return _ENLARGING | _TELLING | {"character", "denoiser"}
    other = {"engine" if decision.mode == "creative" else "creative_engine"}
    if settings.mode == "conservative":
        other.add("always_conservative")
    return _AT_ITS_SIZE | other | (_TELLING if settings.character != "auto" else set())


# Actions that are not the enlarging engine's, and whose they are.
_ROLES = {"denoise": "denoiser", "sharpen": "sharpener"}


@dataclass(frozen=True, slots=True)
class _Work:
    """The engine that carries out a decision, as tiles are given to it, and its parameters."""

    engine: Upscaler
    run: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    parameters: dict[str, Any]


def _work(decision: Decision, measured: blind.BlindMeasures, job: Job) -> _Work:
    settings = job.policy.upscale
    scale = decision.scale
    if decision.action == "denoise":
        strength = max(round(measured.noise), 1)
        engine = job.engines.denoiser(settings.denoiser, strength)
        parameters: dict[str, Any] = {"scale": scale, "strength": strength}
        return _Work(engine, beside_alpha(engine), parameters)
    if decision.action == "sharpen":
        engine = job.engines.upscaler(settings.sharpener, scale)
        return _Work(engine, with_alpha(engine), {"scale": scale})
    name = settings.engine
    if decision.mode == "creative":
        # The policy does not take the mode without its engine.
        assert settings.creative_engine is not None
        name = settings.creative_engine
    engine = job.engines.upscaler(name, scale, decision.character)
    looks = settings.looks_for(name, decision.start.pixels)
    parameters = {
        "scale": scale,
        "character": decision.character,
        "mode": decision.mode,
        "looks": looks,
        **engine.spec.own_parameters(),
    }
    once = with_alpha(engine)
    return _Work(engine, lambda tile: mean_of_looks(once, tile, looks), parameters)


def _too_large(
    size: Size, scale: int, settings: UpscaleSettings, measures: dict[str, float]
) -> Outcome:
    reason = Reason(
        code="too_large",
        message=f"x{scale} of {size.width} x {size.height} pixels is asked for, which is more "
        f"than the {settings.max_output_pixels:,} pixels that the policy allows",
        hint="Ask for less, or raise upscale.max_output_pixels in the policy",
    )
    return Outcome(Verdict.NEEDS_REVIEW, reason=reason, measures=measures)


def _reduced(pixels: NDArray[Any], size: Size, requester: str) -> tuple[NDArray[Any], Operation]:
    """(H, W, 3|4) pixels made smaller, colours weighted by alpha, and the operation."""
    started = time.perf_counter()
    small = _area(pixels, size)
    if pixels.shape[2] == 4:
        span = data_range(pixels.dtype)
        opacity = pixels[:, :, 3:].astype(np.float32) / span
        colour = _area(pixels[:, :, :3] * opacity, size)
        coverage = _area(opacity, size)
        free = np.divide(colour, coverage, out=np.zeros_like(colour), where=coverage > 1e-3)
        small[:, :, :3] = np.rint(np.clip(free, 0, span))
    operation = Operation(
        name="reduce",
        requested_by=requester,
        parameters={"height": size.height, "width": size.width},
        seconds=round(time.perf_counter() - started, 4),
    )
    return small, operation


def _area(pixels: NDArray[Any], size: Size) -> NDArray[Any]:
    small = cv2.resize(pixels, (size.width, size.height), interpolation=cv2.INTER_AREA)
    return small.reshape(size.height, size.width, pixels.shape[2])


def with_alpha(
    engine: Upscaler,
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """The engine for tiles with or without alpha.

    Colours are weighted by alpha on the way in and freed of it on the way out, so that what lies
    under transparent pixels never leaks into the result. What is opaque or transparent all around
    stays exactly that.
    """

    def enlarge(tile: NDArray[np.float32]) -> NDArray[np.float32]:
        if tile.shape[2] == 3:
            return engine.enlarge(tile)
        alpha = tile[:, :, 3:]
        colour = engine.enlarge(np.ascontiguousarray(tile[:, :, :3] * alpha))
        # Engines enlarge three channels: alpha goes through as a grey picture.
        coverage = engine.enlarge(np.repeat(alpha, 3, axis=2)).mean(axis=2)
        size = (coverage.shape[1], coverage.shape[0])
        around = np.ones((3, 3), np.uint8)
        least, most = (
            cv2.resize(each(alpha, around), size, interpolation=cv2.INTER_NEAREST)
            for each in (cv2.erode, cv2.dilate)
        )
        coverage = np.clip(coverage, least, most)[:, :, None]
        free = np.divide(colour, coverage, out=np.zeros_like(colour), where=coverage > 1e-3)
        return np.concatenate([np.clip(free, 0, 1), coverage], axis=2, dtype=np.float32)

    return enlarge


def beside_alpha(
    engine: Upscaler,
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """A denoiser for tiles with or without alpha, which has no noise and stays as it is."""

    def clean(tile: NDArray[np.float32]) -> NDArray[np.float32]:
        if tile.shape[2] == 3:
            return engine.enlarge(tile)
        alpha = tile[:, :, 3:]
        colour = engine.enlarge(np.ascontiguousarray(tile[:, :, :3] * alpha))
        free = np.divide(colour, alpha, out=np.zeros_like(colour), where=alpha > 1e-3)
        return np.concatenate([np.clip(free, 0, 1), alpha], axis=2, dtype=np.float32)

    return clean


def _denoise_gates(
    source: NDArray[Any], result: NDArray[Any], settings: UpscaleSettings
) -> list[GateResult]:
    """Both at a quarter of the size, where the noise has averaged out: the same picture?"""
    thresholds = settings.gates
    size = Size(*source.shape[:2]).times(0.25)
    before, after = (_area(_opaque(each), size) for each in (source, result))
    span = data_range(source.dtype)
    note = "at a quarter of the size"
    return [
        gate("psnr", "psnr", psnr(before, after, data_range=span), thresholds.psnr, note),
        gate("ssim", "ssim", ssim(before, after, data_range=span), thresholds.ssim, note),
        gate(
            "haarpsi", "haarpsi", haarpsi(before, after, data_range=span), thresholds.haarpsi, note
        ),
    ]


def _original_gate(
    original: NDArray[Any], result: NDArray[Any], settings: UpscaleSettings
) -> GateResult:
    """What was enlarged from a reduced copy must still hold all that the photo itself holds."""
    before = _opaque(original)
    after = _area(_opaque(result), Size(*original.shape[:2]))
    value = psnr(before, after, data_range=data_range(original.dtype))
    note = "against the photo before it was reduced"
    return gate("psnr_original", "psnr", value, settings.gates.psnr, note)


def _gates(
    source: NDArray[Any], result: NDArray[Any], scale: int, settings: UpscaleSettings
) -> list[GateResult]:
    """The result, and the result made small again, against its source."""
    thresholds = settings.gates
    reference = _opaque(source)
    enlarged = _opaque(result)
    small = downscale_area(enlarged, scale) if scale > 1 else enlarged
    span = data_range(source.dtype)
    return [
        gate("psnr", "psnr", psnr(reference, small, data_range=span), thresholds.psnr),
        gate("ssim", "ssim", ssim(reference, small, data_range=span), thresholds.ssim),
        gate("haarpsi", "haarpsi", haarpsi(reference, small, data_range=span), thresholds.haarpsi),
        # Made small: true detail between the source's pixels goes beyond them and is no halo.
        gate("halo", "halo", halo_score(small, reference, 1), thresholds.halo),
        gate(
            "edge_fidelity",
            "edge_fidelity",
            edge_fidelity(enlarged, reference, scale),
            thresholds.edge_fidelity,
        ),
        gate(
            "artifact_rate",
            "artifact_rate",
            artifact_rate(enlarged, reference, scale),
            thresholds.artifact_rate,
        ),
        *([] if thresholds.lpips is None else [_lpips_gate(reference, small, thresholds.lpips)]),
    ]


def _lpips_gate(reference: NDArray[Any], small: NDArray[Any], most: float) -> GateResult:
    try:
        engine = lpips.installed(lpips.weights_folder())
    except lpips.WeightsMissing:
        return gate("lpips", "lpips", None, most, "weights not installed")
    return gate("lpips", "lpips", engine.score(reference, small), most)


def _opaque(pixels: NDArray[Any]) -> NDArray[Any]:
    """Colour as it shows on black: what lies under transparent pixels is not compared."""
    if pixels.shape[2] == 3:
        return pixels
    span = data_range(pixels.dtype)
    shown = np.empty((*pixels.shape[:2], 3), pixels.dtype)
    for rows in bands(len(pixels)):
        opacity = pixels[rows, :, 3:] / np.float32(span)
        shown[rows] = np.rint(pixels[rows, :, :3] * opacity)
    return shown


def _asked(job: Job) -> list[int]:
    return [step.scale for step in job.manifest.steps if isinstance(step, Upscale)]


def _settings(policy: Policy) -> dict[str, Any]:
    """The stage's own, and what the renditions ask of it."""
    wanted = wanted_long_side(policy.upscale, policy.renditions)
    settings = {**policy.upscale.as_dict(), "wanted_long_side": wanted}
    framing = [
        each.model_dump(mode="json", include=_FRAMES_BY)
        for each in policy.renditions
        if each.frames and each.min_long_side
    ]
    return {**settings, "framing": framing} if framing else settings


# What decides how much of a photo a rendition shows.
_FRAMES_BY = {"min_long_side", "aspect", "trim", "margin", "scene"}


def _engines(policy: Policy, engines: Engines) -> dict[str, list[EngineSpec | Absent]]:
    """All that any photo may need: a manifest may ask for any scale."""
    settings = policy.upscale
    found = {"engine": _of_all_scales([settings.engine, *settings.better], settings, engines)}
    if settings.mode == "creative" and settings.creative_engine is not None:
        found["creative_engine"] = _of_all_scales([settings.creative_engine], settings, engines)
    found["sharpener"] = [spec_of(lambda: engines.upscaler(settings.sharpener, 1), "sharpener")]
    if settings.denoise_above is not None:
        found["denoiser"] = [spec_of(lambda: engines.denoiser(settings.denoiser, 1), "denoiser")]
    return found


def _of_all_scales(
    names: Sequence[str], settings: UpscaleSettings, engines: Engines
) -> list[EngineSpec | Absent]:
    characters: tuple[Character, ...] = ("clean", "photo")
    if settings.character != "auto":
        characters = (settings.character,)
    specs = [
        spec_of(partial(engines.upscaler, name, scale, character))
        for name, scale, character in product(names, SCALES, characters)
    ]
    # Most engines are the same for both characters.
    return list({spec.code_version: spec for spec in specs}.values())


def _decides(job: Job, unneeded: Collection[str] = ()) -> list[Any]:
    """What decides beside the settings: the manifest, and a category that allows no invention."""
    creative = job.policy.upscale.mode == "creative" and "mode" not in unneeded
    category = job.manifest.traits().category if creative else ""
    return [*_asked(job), *([category] if category else [])]


STAGE = Stage(code_version="6", run=upscale, settings=_settings, engines=_engines, asked=_decides)
