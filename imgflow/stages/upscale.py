"""upscaled: enlarged or sharpened, where the measured quality or the wanted size asks for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgflow.engines.spec import Upscaler
from imgflow.imaging import blind
from imgflow.imaging.colour import bands, data_range
from imgflow.imaging.metrics import downscale_area, haarpsi, halo_score, psnr, ssim
from imgflow.imaging.tiling import TilePlan, run_tiled
from imgflow.lineage.record import GateResult, Operation, Reason, Verdict
from imgflow.policy.manifest import Upscale
from imgflow.policy.policy import UpscaleSettings
from imgflow.stages.gates import gate, judge
from imgflow.stages.stage import Job, Outcome, Picture, Stage, passed_through

_SCALES = (2, 3, 4)


def upscale(picture: Picture, job: Job) -> Outcome:
    """Enlarge a photo that is too small, sharpen one that is soft and clean, pass on the rest.

    Raises EngineUnavailable.
    """
    settings = job.policy.upscale
    height, width = picture.pixels.shape[:2]
    measured = blind.measure(picture.view)
    measures = {name: round(value, 4) for name, value in asdict(measured).items()}
    asked = next(iter(_asked(job)), None)
    scale = asked or wanted_scale(height, width, settings)
    if scale > 1:
        name, requested_by = settings.engine, job.requester if asked else "policy"
        wanted = f"x{scale}" if asked else f"{settings.min_long_side} pixels"
        why = f"the long side has {max(height, width)} pixels, {wanted} asked for"
    elif measured.sharpness < settings.sharpen_below and measured.noise < settings.noise_limit:
        name, requested_by = settings.sharpener, "policy"
        why = f"soft (sharpness {measured.sharpness:.2f}) and clean (noise {measured.noise:.1f})"
    else:
        return passed_through("large and sharp enough", **measures)
    if height * width * scale**2 > settings.max_output_pixels and asked:
        return _too_large(width, height, scale, settings, measures)
    if height * width * scale**2 > settings.max_output_pixels:
        return passed_through(
            f"x{scale} would exceed the policy's {settings.max_output_pixels} pixels", **measures
        )

    started = time.perf_counter()
    engine = job.engines.upscaler(name, scale)
    plan = TilePlan.for_engine(
        height, width, receptive=engine.spec.receptive, scale=scale, core=settings.tile
    )
    result, used = run_tiled(picture.pixels, with_alpha(engine), plan)
    operation = Operation(
        name="enlarge" if scale > 1 else "sharpen",
        engine=engine.spec.stamp(),
        requested_by=requested_by,
        parameters={"scale": scale},
        tile_plan=used.as_dict(),
        dtype="float32",
        seconds=round(time.perf_counter() - started, 4),
    )
    notes = [why]
    if used != plan:
        notes.append(f"memory ran out: tiles of {used.core} pixels instead of {plan.core}")
    outcome = Outcome(
        Verdict.REPAIRED,
        pixels=result,
        operations=(operation,),
        measures=measures,
        notes=tuple(notes),
    )
    gates = _gates(picture.pixels, result, scale, settings)
    return judge(outcome, gates, accept_artifacts=settings.gates.accept_artifacts)


def _too_large(
    width: int, height: int, scale: int, settings: UpscaleSettings, measures: dict[str, float]
) -> Outcome:
    reason = Reason(
        code="too_large",
        message=f"x{scale} of {width} x {height} pixels is asked for, which is more than the "
        f"{settings.max_output_pixels:,} pixels that the policy allows",
        hint="Ask for less, or raise upscale.max_output_pixels in the policy",
    )
    return Outcome(Verdict.NEEDS_REVIEW, reason=reason, measures=measures)


def wanted_scale(height: int, width: int, settings: UpscaleSettings) -> int:
    """The smallest scale that reaches the wanted long side, the largest if none does, else 1."""
    long_side = max(height, width)
    if long_side >= settings.min_long_side:
        return 1
    allowed = [scale for scale in _SCALES if scale <= settings.max_scale]
    reaching = [scale for scale in allowed if long_side * scale >= settings.min_long_side]
    return min(reaching, default=max(allowed, default=1))


def with_alpha(
    engine: Upscaler,
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """The engine for tiles with or without alpha.

    Colours are weighted by alpha on the way in and freed of it on the way out, so that what lies
    under transparent pixels never leaks into the result.
    """

    def enlarge(tile: NDArray[np.float32]) -> NDArray[np.float32]:
        if tile.shape[2] == 3:
            return engine.enlarge(tile)
        alpha = tile[:, :, 3:]
        colour = engine.enlarge(np.ascontiguousarray(tile[:, :, :3] * alpha))
        # Engines enlarge three channels: alpha goes through as a grey picture.
        coverage = engine.enlarge(np.repeat(alpha, 3, axis=2)).mean(axis=2, keepdims=True)
        coverage = np.clip(coverage, 0, 1)
        free = np.divide(colour, coverage, out=np.zeros_like(colour), where=coverage > 1e-3)
        return np.concatenate([np.clip(free, 0, 1), coverage], axis=2, dtype=np.float32)

    return enlarge


def _gates(
    source: NDArray[Any], result: NDArray[Any], scale: int, settings: UpscaleSettings
) -> list[GateResult]:
    """The result, made small again, against its source; and how far it overshoots."""
    thresholds = settings.gates
    reference = _opaque(source)
    enlarged = _opaque(result)
    small = downscale_area(enlarged, scale) if scale > 1 else enlarged
    span = data_range(source.dtype)
    return [
        gate("psnr", "psnr", psnr(reference, small, data_range=span), thresholds.psnr),
        gate("ssim", "ssim", ssim(reference, small, data_range=span), thresholds.ssim),
        gate("haarpsi", "haarpsi", haarpsi(reference, small, data_range=span), thresholds.haarpsi),
        gate("halo", "halo", halo_score(enlarged, reference, scale), thresholds.halo),
    ]


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


STAGE = Stage(
    code_version="1",
    run=upscale,
    settings=lambda policy: policy.upscale.as_dict(),
    engines=lambda policy, engines: [
        engines.upscaler(policy.upscale.engine, 2).spec,
        engines.upscaler(policy.upscale.sharpener, 1).spec,
    ],
    asked=_asked,
)
