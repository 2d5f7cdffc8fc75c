"""published: the renditions that a shop fetches, checked as a customer would get them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.errors import BadPhoto
from imgflow.imaging.colour import data_range, to_uint8
from imgflow.imaging.decode import decode
from imgflow.imaging.encode import encode_rendition
from imgflow.lineage.record import GateResult, ObjectRef, Rendition, Verdict
from imgflow.policy.policy import RenditionSettings
from imgflow.stages.gates import judge
from imgflow.stages.stage import Job, Outcome, Picture, Stage
from imgflow.store.keys import ImageKey

MEDIA_TYPES = {
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "png": "image/png",
    "avif": "image/avif",
}
_SUFFIXES = {"jpeg": ".jpg", "webp": ".webp", "png": ".png", "avif": ".avif"}


# Bytes of a file name, on all common file systems.
_LONGEST_NAME = 255


def publish(picture: Picture, job: Job) -> Outcome:
    """Render all of the policy's renditions.

    They are kept as objects; the chain puts them in place once every gate has passed.
    """
    renditions = []
    problems = []
    for settings in job.policy.renditions:
        data = encode_rendition(
            fit(picture.pixels, settings.long_side),
            format=settings.format,
            quality=settings.quality,
            dpi=settings.dpi,
            background=settings.background,
            rights=job.rights,
        )
        media_type = MEDIA_TYPES[settings.format]
        problem, size = _deliverable(data, settings)
        if problem:
            problems.append(f"{settings.name}: {problem}")
        renditions.append(
            Rendition(
                name=settings.name,
                path=f"{_folder(job.key)}/{settings.name}{_SUFFIXES[settings.format]}",
                object=ObjectRef(
                    sha256=job.store.put_object(data, media_type),
                    media_type=media_type,
                    size=len(data),
                    width=size[0],
                    height=size[1],
                    bit_depth=8,
                ),
            )
        )
    deliverable = GateResult(
        name="deliverable",
        metric="deliverable",
        value=float(len(problems)),
        threshold=0.0,
        passed=not problems,
        note="; ".join(problems),
    )
    outcome = Outcome(Verdict.PUBLISHED, renditions=tuple(renditions))
    return judge(outcome, (deliverable,), accept_artifacts=False)


def _folder(key: ImageKey) -> str:
    """A folder of the photo's own. The key and not its path: two names that differ only in bytes
    that are no text must not share a folder."""
    fits = all(len(part.encode()) <= _LONGEST_NAME for part in key.split("/"))
    return str(key) if fits else key.digest


def fit(pixels: NDArray[Any], long_side: int) -> NDArray[np.uint8]:
    """(H, W, 3|4) uint8 with the long side reduced to `long_side` pixels; never enlarged.

    Averages areas; colours are weighted by alpha, so that none leaks from transparent pixels.
    """
    height, width = pixels.shape[:2]
    ratio = long_side / max(height, width)
    if ratio >= 1:
        return to_uint8(pixels)
    size = (max(round(width * ratio), 1), max(round(height * ratio), 1))
    if pixels.shape[2] == 3:
        return to_uint8(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
    span = np.float32(data_range(pixels.dtype))
    alpha = pixels[:, :, 3:] / span
    colour = cv2.resize(pixels[:, :, :3] * alpha, size, interpolation=cv2.INTER_AREA)
    coverage = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)[:, :, None]
    free = np.divide(colour, coverage, out=np.zeros_like(colour), where=coverage > 1e-3)
    both = np.concatenate([free / span, coverage], axis=2)
    return np.rint(np.clip(both, 0, 1) * 255).astype(np.uint8)


def _deliverable(data: bytes, settings: RenditionSettings) -> tuple[str, tuple[int, int]]:
    """What is wrong with a rendition ("" if nothing), and its (width, height) as decoded."""
    try:
        photo = decode(data)
    except BadPhoto as error:
        return f"does not open: {error.what}", (0, 0)
    height, width = photo.pixels.shape[:2]
    if max(height, width) > settings.long_side:
        return f"{width} x {height} pixels are more than {settings.long_side}", (width, height)
    if photo.source.format != settings.format.upper():
        return f"is {photo.source.format}, not {settings.format}", (width, height)
    if settings.max_bytes is not None and len(data) > settings.max_bytes:
        return f"{len(data)} bytes are more than {settings.max_bytes}", (width, height)
    return "", (width, height)


STAGE = Stage(
    code_version="1",
    run=publish,
    settings=lambda policy: {"renditions": [each.as_dict() for each in policy.renditions]},
    engines=lambda policy, engines: [],
    asked=lambda job: [str(job.key), asdict(job.rights)],
)
