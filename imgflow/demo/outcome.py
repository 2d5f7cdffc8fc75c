"""What the line made of a demo photo, held against the truth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.demo.catalog import DemoPhoto
from imgflow.errors import BadPhoto
from imgflow.gallery import passage_of
from imgflow.imaging.colour import flatten
from imgflow.imaging.decode import decode
from imgflow.imaging.encode import decode_mask
from imgflow.imaging.metrics import psnr, ssim
from imgflow.imaging.photo import Photo
from imgflow.lineage.record import Operation, Record, Verdict, Version
from imgflow.stages.stage import Picture
from imgflow.store.keys import ImageKey
from imgflow.store.store import Store

_WHITE = (255, 255, 255)
# Levels of a channel from which a pixel counts as damaged; JPEG alone mostly changes less.
_VISIBLE = 24


@dataclass(frozen=True, slots=True)
class Outcome:
    """One photo of the demo: what was found and done, and whether it came nearer to the truth.

    PSNR is in dB, infinite for equal pictures. The `damage` figures are those of the damaged
    pixels alone. All are None where there is no truth, 'after' also where the photo stopped,
    'damage' also where upload and truth differ in size or nowhere visibly.
    """

    title: str
    key: ImageKey
    found: str
    done: str
    psnr_before: float | None
    psnr_after: float | None
    ssim_before: float | None
    ssim_after: float | None
    psnr_damage_before: float | None
    psnr_damage_after: float | None
    seconds: float
    verdict: Verdict
    reason: str

    def figures(self) -> list[tuple[str, str]]:
        """Name and 'before -> after' of what was measured, as text."""
        rows = (
            ("PSNR", self.psnr_before, self.psnr_after, "dB"),
            ("PSNR of the damage", self.psnr_damage_before, self.psnr_damage_after, "dB"),
            ("SSIM", self.ssim_before, self.ssim_after, ""),
        )
        return [
            (name, f"{shown(before, unit)} \N{RIGHTWARDS ARROW} {shown(after, unit)}")
            for name, before, after, unit in rows
            if before is not None
        ]


def shown(value: float | None, unit: str = "") -> str:
    """A figure for people: a dash for None, 'equal' for infinite PSNR."""
    if value is None:
        return "\N{EN DASH}"
    if math.isinf(value):
        return "equal"
    return f"{value:.1f} {unit}" if unit else f"{value:.3f}"


def compare(photo: DemoPhoto, store: Store, records: Mapping[Version, Record]) -> Outcome:
    """The outcome of a photo whose records are given (at least of raw).

    Pictures are compared as (H, W, 3) uint8 at the truth's size, transparency on white: a
    larger one is reduced by averaging areas, a smaller one enlarged bicubically.
    Raises StoreError.
    """
    passage = passage_of(records)
    last = passage[-1]
    upload = _upload(last, store)
    before = after = damage = None
    if photo.truth is not None:
        truth = flatten(decode(photo.truth.read_bytes()).pixels, _WHITE)
        if upload is not None:
            before = _brought_to(truth, upload.pixels)
            if upload.pixels.shape[:2] == truth.shape[:2]:
                damage = _differing(truth, before)
        result = _result(passage, store)
        if result is not None:
            after = _brought_to(truth, result)
    return Outcome(
        title=photo.title,
        key=photo.key,
        found=_found(passage, upload, store),
        done=", ".join(_done(operation) for operation in _operations(passage)) or "nothing",
        psnr_before=None if before is None else psnr(truth, before, data_range=255),
        psnr_after=None if after is None else psnr(truth, after, data_range=255),
        ssim_before=None if before is None else ssim(truth, before, data_range=255),
        ssim_after=None if after is None else ssim(truth, after, data_range=255),
        psnr_damage_before=_within(truth, before, damage) if damage is not None else None,
        psnr_damage_after=_within(truth, after, damage) if damage is not None else None,
        seconds=sum(record.seconds for record in passage),
        verdict=last.verdict,
        reason=last.reason.message if last.reason else "",
    )


# ---- pictures --------------------------------------------------------------------------


def _upload(record: Record, store: Store) -> Photo | None:
    """The photo as it was uploaded; None where it does not open."""
    if record.original_sha256 is None:
        return None
    try:
        return decode(store.read_original(record.original_sha256))
    except BadPhoto:
        return None


def _result(passage: Sequence[Record], store: Store) -> NDArray[Any] | None:
    """The best version, before it is reduced to renditions; None where the photo stopped."""
    if passage[-1].verdict.stops:
        return None
    outputs = [record.output for record in passage if record.version is not Version.PUBLISHED]
    return Picture(store, outputs[-1]).pixels if outputs and outputs[-1] else None


def _brought_to(truth: NDArray[np.uint8], pixels: NDArray[Any]) -> NDArray[np.uint8]:
    picture = flatten(pixels, _WHITE)
    if picture.shape == truth.shape:
        return picture
    height, width = truth.shape[:2]
    larger = picture.shape[0] > height
    method = cv2.INTER_AREA if larger else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (width, height), interpolation=method), np.uint8)


def _differing(truth: NDArray[np.uint8], upload: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """(H, W), 255 where the upload visibly differs from the truth; None if it nowhere does."""
    mask = np.where(cv2.absdiff(truth, upload).max(axis=2) >= _VISIBLE, 255, 0).astype(np.uint8)
    return mask if mask.any() else None


def _within(
    truth: NDArray[np.uint8], picture: NDArray[np.uint8] | None, damage: NDArray[np.uint8]
) -> float | None:
    return None if picture is None else psnr(truth, picture, data_range=255, mask=damage)


# ---- words -----------------------------------------------------------------------------


def _found(passage: Sequence[Record], upload: Photo | None, store: Store) -> str:
    if upload is None:
        return passage[-1].reason.message if passage[-1].reason else "no picture"
    found = []
    if upload.source.orientation != 1:
        found.append("stored turned or mirrored")
    for record in passage:
        found += [_cause(operation, record, store) for operation in record.operations]
    if not any(record.operations for record in passage) and passage[-1].reason:
        found.append(passage[-1].reason.message)
    return "; ".join(found) or "nothing to repair"


def _cause(operation: Operation, record: Record, store: Store) -> str:
    """What an operation was done for."""
    if operation.regions:
        return "text: " + ", ".join(f"'{region.text}'" for region in operation.regions)
    if operation.mask is not None:
        marked = int(np.count_nonzero(decode_mask(store.read(operation.mask))))
        return f"{marked:,} pixels marked"
    if operation.name == "enlarge" and operation.requested_by == "policy" and record.input:
        wanted = record.settings["wanted_long_side"]
        return f"{record.input.width} x {record.input.height}, {wanted} wanted"
    return "; ".join(record.notes)


def _operations(passage: Sequence[Record]) -> list[Operation]:
    return [operation for record in passage for operation in record.operations]


def _done(operation: Operation) -> str:
    engine = operation.engine.name if operation.engine else "imgflow"
    scale = operation.parameters.get("scale", 1)
    name = operation.name.replace("_", " ")
    return f"{name} x{scale} ({engine})" if scale > 1 else f"{name} ({engine})"
