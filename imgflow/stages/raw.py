"""raw: the upload as upright sRGB pixels."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from numpy.typing import NDArray

from imgflow.imaging import blind
from imgflow.imaging.colour import flatten
from imgflow.imaging.decode import DecodeLimits, decode
from imgflow.lineage.record import GateResult, Verdict
from imgflow.policy.policy import RawSettings
from imgflow.stages.stage import Job, Outcome, Picture, Stage


def limits(settings: RawSettings) -> DecodeLimits:
    """What an upload may be."""
    return DecodeLimits(max_bytes=settings.max_bytes, max_pixels=settings.max_pixels)


def raw(picture: Picture, job: Job) -> Outcome:
    """Decode an upload; where its original needs no conversion, that is the raw version.

    Raises BadPhoto.
    """
    settings = job.policy.raw
    photo = decode(job.data, limits(settings), keep_16_bit=settings.keep_16_bit)
    height, width, channels = photo.pixels.shape
    shape = {
        "width": width,
        "height": height,
        "channels": channels,
        "bit_depth": photo.pixels.dtype.itemsize * 8,
    }
    return Outcome(
        Verdict.PASSED_THROUGH if photo.is_plain else Verdict.REPAIRED,
        pixels=photo.pixels,
        object=picture.ref.model_copy(update=shape) if photo.is_plain else None,
        gates=(GateResult(name="readable", metric="readable", value=1.0, passed=True),),
        measures=measures_of(photo.pixels, all_of_them=settings.measure),
        generation=photo.generation,
        notes=photo.notes,
        rights=photo.rights,
    )


def measures_of(pixels: NDArray[Any], *, all_of_them: bool) -> dict[str, float]:
    """What is measured of (H, W, 3|4) raw pixels: their size, and all that routes may ask for."""
    height, width, channels = pixels.shape
    measures = {"width": float(width), "height": float(height)}
    if all_of_them:
        seen = pixels if channels == 3 else flatten(pixels, (255, 255, 255))
        found = blind.measure(seen)
        measures |= {name: round(value, 4) for name, value in asdict(found).items()}
    return measures


STAGE = Stage(
    code_version="1",
    run=raw,
    settings=lambda policy: policy.raw.as_dict(),
    engines=lambda policy, engines: {},
    # The raw record names the archived manifest and masks: it must follow them.
    asked=lambda job, unneeded: [job.attachments],
)
