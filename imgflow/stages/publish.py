"""published: the renditions that a shop fetches, checked as a customer would get them."""

from __future__ import annotations

import os
from dataclasses import asdict, astuple, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgflow import __version__
from imgflow.errors import BadPhoto, EngineUnavailable
from imgflow.imaging.colour import to_uint8
from imgflow.imaging.credentials import Signing, media_types, sign
from imgflow.imaging.decode import decode
from imgflow.imaging.encode import encode_rendition
from imgflow.imaging.framing import Framed, frame, has_aspect, resized
from imgflow.imaging.subject import Subject, find_subject
from imgflow.imaging.xmp import Provenance, xmp_packet
from imgflow.lineage.provenance import provenance_of
from imgflow.lineage.record import GateResult, ObjectRef, Rendition, Verdict
from imgflow.policy.policy import Policy, RenditionSettings
from imgflow.stages.gates import judge
from imgflow.stages.stage import Job, Outcome, Picture, Stage
from imgflow.stages.templates import template_of
from imgflow.store.keys import ImageKey
from imgflow.store.store import sha256_hex

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
    framer = _Framer(picture)
    renditions = []
    problems = []
    notes = []
    for settings in job.policy.renditions:
        pixels, framing = framer.framed(settings)
        if framing is not None and "short_of" in framing:
            notes.append(
                f"{settings.name}: {max(pixels.shape[:2])} pixels of {settings.long_side}, "
                "the photo holds no more"
            )
        data = encode_rendition(
            pixels,
            format=settings.format,
            quality=settings.quality,
            dpi=settings.dpi,
            background=settings.background,
            rights=job.rights,
            progressive=settings.progressive,
            lossless=settings.lossless,
            xmp=xmp_packet(job.rights, _provenance(job, settings.name)),
        )
        media_type = MEDIA_TYPES[settings.format]
        unsigned = None
        if job.policy.provenance.certificate:
            unsigned = sha256_hex(data)
            data = _signed(data, media_type, settings.name, job)
        shaped = framing is not None and not framing["keeps_shape"]
        problem, size = _deliverable(data, settings, shaped=shaped)
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
                framing=framing,
                unsigned_sha256=unsigned,
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
    outcome = Outcome(Verdict.PUBLISHED, renditions=tuple(renditions), notes=tuple(notes))
    return judge(outcome, (deliverable,), accept_artifacts=False)


def _provenance(job: Job, rendition: str = "") -> Provenance:
    """What a rendition says of itself; its record says more."""
    found = provenance_of(job.earlier, job.rights.source_type)
    if not job.policy.provenance.details:
        return Provenance(found.source_type)
    catalog = job.earlier[-1].catalog if job.earlier else ""
    return replace(found, catalog=catalog, key=str(job.key), rendition=rendition)


def _signed(data: bytes, media_type: str, rendition: str, job: Job) -> bytes:
    """A rendition with content credentials. Raises EngineUnavailable."""
    settings = job.policy.provenance
    assert settings.certificate is not None
    key = os.environ.get(settings.key_env)
    if not key:
        raise EngineUnavailable(
            "credentials_unavailable",
            f"there is no key to sign with: the environment variable {settings.key_env} is not set",
            hint="Set it to the path of the private key (PEM), or take provenance.certificate out "
            "of the policy",
        )
    signing = Signing(
        certificate=Path(settings.certificate),
        key=Path(key),
        algorithm=settings.algorithm,
        timestamp_url=settings.timestamp_url or "",
    )
    provenance = _provenance(job, rendition)
    return sign(data, media_type, signing, provenance, _ingredient(job), __version__)


def _ingredient(job: Job) -> tuple[bytes, str]:
    """The original, or where C2PA does not know its format, the same as it was decoded."""
    if job.original is not None and job.original.media_type in media_types():
        return job.data, job.original.media_type
    raw = job.earlier[0].output if job.earlier else None
    if raw is None:
        raise EngineUnavailable(
            "credentials_unavailable", "there is no original that the credentials could name"
        )
    return job.store.read(raw), raw.media_type


class _Framer:
    """A photo for all templates. Its subject is looked for once, and only if one asks for it."""

    def __init__(self, picture: Picture) -> None:
        self._pixels = picture.pixels

    @cached_property
    def _subject(self) -> Subject | None:
        return find_subject(self._pixels)

    def framed(
        self, settings: RenditionSettings
    ) -> tuple[NDArray[np.uint8], dict[str, Any] | None]:
        """(H, W, 3|4) pixels for a rendition, and what the record says of their framing."""
        if not settings.frames:
            return fit(self._pixels, settings.long_side), None
        framed = frame(self._pixels, self._subject, template_of(settings))
        return framed.pixels, _account(framed, self._subject, settings)


def _account(
    framed: Framed, subject: Subject | None, settings: RenditionSettings
) -> dict[str, Any]:
    """Record of a framing, as JSON. Boxes are top, left, bottom, right in the photo's pixels.

    how: trimmed, padded, cropped or kept. window: what the canvas shows; it may reach beyond the
    photo. subject: its box, null in a scene. ground: transparent, or the RGB of a plain one.
    touches: the sides that cut the subject off. keeps_shape: true where no aspect was to be met.
    short_of: the long side that was asked for, where the photo holds less.
    """
    account: dict[str, Any] = {
        "how": framed.how,
        "window": list(astuple(framed.window)),
        "subject": None,
        "keeps_shape": settings.aspect is None or (subject is None and settings.scene == "keep"),
    }
    if subject is not None:
        account["subject"] = list(astuple(subject.box))
        account["touches"] = sorted(subject.touches)
        account["ground"] = list(subject.ground.colour) if subject.ground else "transparent"
    if max(framed.pixels.shape[:2]) < settings.long_side:
        account["short_of"] = settings.long_side
    return account


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
    return resized(pixels, size[1], size[0])


def _deliverable(
    data: bytes, settings: RenditionSettings, *, shaped: bool
) -> tuple[str, tuple[int, int]]:
    """What is wrong with a rendition ("" if nothing), and its (width, height) as decoded.

    shaped: it must have the template's aspect.
    """
    try:
        photo = decode(data)
    except BadPhoto as error:
        return f"does not open: {error.what}", (0, 0)
    height, width = photo.pixels.shape[:2]
    if max(height, width) > settings.long_side:
        return f"{width} x {height} pixels are more than {settings.long_side}", (width, height)
    if shaped and settings.aspect and not has_aspect(height, width, settings.aspect):
        across, down = settings.aspect
        return f"{width} x {height} pixels are not {across}:{down}", (width, height)
    if photo.source.format != settings.format.upper():
        return f"is {photo.source.format}, not {settings.format}", (width, height)
    if settings.max_bytes is not None and len(data) > settings.max_bytes:
        return f"{len(data)} bytes are more than {settings.max_bytes}", (width, height)
    return "", (width, height)


def _settings(policy: Policy) -> dict[str, Any]:
    return {
        "renditions": [each.as_dict() for each in policy.renditions],
        "provenance": policy.provenance.as_dict(),
    }


STAGE = Stage(
    code_version="3",
    run=publish,
    settings=_settings,
    engines=lambda policy, engines: {},
    # What the files say of the versions before may change though their pixels do not.
    asked=lambda job, unneeded: [str(job.key), asdict(job.rights), asdict(_provenance(job))],
)
