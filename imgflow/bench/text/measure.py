"""One case in a worker: through the line, the one-shot command and their rivals."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.bench.text.bad import BAD, register_bad
from imgflow.bench.text.cases import (
    OverlayCase,
    Pixels,
    Sources,
    Upload,
    Where,
    inside,
    overlay_case,
    plain_case,
)
from imgflow.bench.text.clock import Seconds, measure_seconds
from imgflow.bench.text.results import CLASSICAL, Attempt, Nearness, OverlayResult, PlainResult
from imgflow.chain import Line, rescue
from imgflow.engines.registry import Engines
from imgflow.errors import ImgflowError
from imgflow.home import Home
from imgflow.imaging.decode import decode
from imgflow.imaging.encode import decode_mask, encode_lossless
from imgflow.imaging.masks import Mask, dilate, mask_box, polygon_mask
from imgflow.imaging.metrics import haarpsi, ssim
from imgflow.lineage.record import Record, TextRegion, Version
from imgflow.oneshot import Errand, Task, repair_files
from imgflow.policy.manifest import Manifest
from imgflow.policy.policy import Policy
from imgflow.stages.fill import Fill, fill_holes
from imgflow.stages.stage import Picture
from imgflow.store.keys import ImageKey
from imgflow.synthesis.phrases import HELD_OUT

_VERSIONS = (Version.RAW, Version.DETEXTED)
# What OCR is believed: the policy's default, as the line itself has it.
_LEAST_CONFIDENCE = 0.6
_LEAST_CHARACTERS = 2
# Share of a detection that must lie on the overlay's lines (or on the photo's own text) to be it.
_SAME_PLACE = 0.3
# Pixels around an overlay that a repair may have changed without harm to anything else.
_NEAR = 16
_TELEA_RADIUS = 3


@dataclass(frozen=True, slots=True)
class CaseId:
    """One case, or the clock's loop. It is made where it is measured."""

    role: Literal["overlay", "plain", "clock"]
    number: int = 0


def policy(*, own_marks: Sequence[str] = (*HELD_OUT.marks, *HELD_OUT.sites)) -> Policy:
    """The default policy of a shop whose own marks are those that the cases are drawn with."""
    return Policy.model_validate({"detext": {"own_marks": list(own_marks)}})


@dataclass(frozen=True, slots=True)
class _Bench:
    """What a worker holds."""

    sources: Sources
    engines: Engines
    pictures: Path | None

    def read(self, pixels: Pixels) -> list[NDArray[np.float32]]:
        """Polygons of the text that OCR is believed to read."""
        found = self.engines.text_detector("rapidocr").detect(pixels)
        return [np.array(each.polygon, np.float32) for each in found if _is_text(each)]


_bench: _Bench


def start(sources: Sources, scratch: Path, pictures: Path | None) -> None:
    """Make this process a worker. scratch: for temporary files; who made it takes it away, also
    when a worker is killed."""
    global _bench
    tempfile.tempdir = str(scratch)
    # Read when torch is first imported.
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
    cv2.setNumThreads(1)
    engines = Engines(threads=1)
    register_bad(engines)
    _bench = _Bench(sources, engines, pictures)


def measure(case: CaseId) -> OverlayResult | PlainResult | Seconds:
    match case.role:
        case "overlay":
            return _measure_overlay(case.number)
        case "plain":
            return _measure_plain(case.number)
        case "clock":
            return measure_seconds(_bench.sources, _bench.engines, policy())


def _measure_overlay(number: int) -> OverlayResult:
    case = overlay_case(_bench.sources, number)
    texts = _bench.read(case.upload.pixels)
    with tempfile.TemporaryDirectory(prefix="imgflow-bench-") as folder:
        home = Home(Path(folder))
        record = _rescue(case.upload, home)
        mask, made = _mask(record, home), _made(record, home)
        line = _attempt(case, record, made)
        bad = {}
        for name, engines in BAD.items():
            damaged = _rescue(case.upload, home, **engines)
            bad[name] = _attempt(case, damaged, _made(damaged, home))
    once = _attempt(case, *_detext_once(case.upload))
    _keep("overlay", number, case.upload.pixels if made is None else made)
    boxes = cv2.inpaint(
        case.upload.pixels,
        polygon_mask(texts, *case.region.shape),
        _TELEA_RADIUS,
        cv2.INPAINT_TELEA,
    )
    return OverlayResult(
        number=number,
        kind=case.kind,
        opaque=case.opaque,
        invisible=case.invisible,
        legible=any(_lies_on(text, case.outlines) for text in texts),
        before=_nearness(case, case.upload.pixels),
        line=line,
        once=once,
        fills={} if mask is None else _classical(case, mask),
        boxes=_nearness(case, np.asarray(boxes, np.uint8)),
        bad=bad,
    )


def _measure_plain(number: int) -> PlainResult:
    case = plain_case(_bench.sources, number)
    changed = 0
    with tempfile.TemporaryDirectory(prefix="imgflow-bench-") as folder:
        home = Home(Path(folder))
        record = _rescue(case.upload, home)
        made = _made(record, home)
    if made is not None and not record.verdict.stops:
        changed = int(np.count_nonzero((made != case.upload.pixels).any(axis=2)))
        _keep("plain", number, made)
    return PlainResult(
        number=number,
        what=case.what,
        legible=bool(_bench.read(case.upload.pixels)),
        stopped=record.verdict.stops,
        changed=changed,
        why=_why(record),
    )


def _keep(role: str, number: int, pixels: Pixels) -> None:
    if _bench.pictures is not None:
        (_bench.pictures / f"{role}-{number}.png").write_bytes(encode_lossless(pixels))


def _rescue(upload: Upload, home: Home, **engines: str) -> Record:
    """The record of the upload's detexted version in the automatic line.

    engines: others than the policy's; their records lie in a catalog of their own, and what was
    detected before is found in the store.
    """
    settings = policy()
    detext = settings.detext.model_copy(update=engines)
    settings = settings.model_copy(update={"detext": detext})
    home.uploads.root.mkdir(parents=True, exist_ok=True)
    (home.uploads.root / upload.name).write_bytes(upload.data)
    line = Line(
        catalog="-".join(["line", *engines.values()]),
        store=home.store,
        engines=_bench.engines,
        policy=settings,
        uploads=home.uploads,
        run_id="bench",
    )
    last = rescue(ImageKey(upload.name), line, _VERSIONS).last
    assert last is not None
    return last


def _detext_once(upload: Upload) -> tuple[Record, Pixels | None]:
    """What `imgflow detext PHOTO TARGET` does, and the picture that it wrote over with a repair."""
    settings = policy(own_marks=())
    with tempfile.TemporaryDirectory(prefix="imgflow-bench-") as folder:
        home = Home(Path(folder))
        home.uploads.root.mkdir()
        source, target = home.uploads.root / upload.name, Path(folder) / "result.png"
        source.write_bytes(upload.data)
        errand = Errand(home.uploads, ImageKey(upload.name), source, target)
        task = Task(_VERSIONS, settings, Manifest())
        (result,) = repair_files([errand], task, _bench.engines)
        if not result.records:
            raise ImgflowError("bench_failed", f"the one-shot command broke: {result.error}")
        made = result.status == "repaired"
        return result.records[-1], decode(target.read_bytes()).pixels if made else None


def _attempt(case: OverlayCase, record: Record, made: Pixels | None) -> Attempt:
    """made: the repaired picture; None where there is none."""
    seen = case.upload.pixels if made is None else made
    far = dilate(np.where(case.region, np.uint8(255), np.uint8(0)), _NEAR) == 0
    return Attempt(
        made=made is not None,
        stopped=record.verdict.stops,
        why=_why(record),
        nearness=_nearness(case, seen),
        reads=_still_read(case, seen),
        elsewhere=bool((seen != case.upload.pixels).any(axis=2)[far].any()),
    )


def _made(record: Record, home: Home) -> Pixels | None:
    """The picture that a repair made, published or rejected; None where nothing was repaired."""
    ref = record.rejected or (record.output if record.operations else None)
    return None if ref is None else Picture(home.store, ref).view


def _mask(record: Record, home: Home) -> Mask | None:
    """All that the line's repair masked."""
    masks = [
        decode_mask(home.store.read(operation.mask))
        for operation in record.operations
        if operation.mask is not None
    ]
    return np.bitwise_or.reduce(masks) if masks else None


def _classical(case: OverlayCase, mask: Mask) -> dict[str, Nearness]:
    settings = policy().detext
    found = {}
    for name in CLASSICAL:
        fill = Fill(_bench.engines.filler(name), settings.context, settings.feather)
        found[name] = _nearness(case, fill_holes(case.upload.pixels, mask, fill))
    return found


def _nearness(case: OverlayCase, pixels: Pixels) -> Nearness:
    box = mask_box(np.where(case.region, np.uint8(255), np.uint8(0)))
    assert box is not None
    pair = [np.ascontiguousarray(each[box.slices]) for each in (case.truth, pixels)]
    return Nearness(
        psnr=inside(case.region, case.truth, pixels),
        lines_psnr=inside(case.lines, case.truth, pixels),
        ssim=ssim(*pair, data_range=255),
        haarpsi=haarpsi(*pair, data_range=255),
    )


def _still_read(case: OverlayCase, pixels: Pixels) -> bool:
    """Whether OCR reads text in the overlay's place that it does not read in the truth."""
    texts = [text for text in _bench.read(pixels) if _lies_on(text, case.outlines)]
    if not texts:
        return False
    own = polygon_mask(_bench.read(case.truth), *case.region.shape)
    return any(not _lies_on(text, own) for text in texts)


def _lies_on(text: NDArray[np.float32], places: Mask) -> bool:
    own: Where = polygon_mask([text], *places.shape) > 0
    return bool(own.any() and (places[own] > 0).mean() >= _SAME_PLACE)


def _is_text(region: TextRegion) -> bool:
    letters = sum(character.isalnum() for character in region.text)
    return region.confidence >= _LEAST_CONFIDENCE and letters >= _LEAST_CHARACTERS


def _why(record: Record) -> str:
    """Why a picture stopped, in short: the reason's code, and the gates that failed."""
    if record.reason is None:
        return ""
    gates = ", ".join(gate.name for gate in record.gates if gate.passed is False)
    return f"{record.reason.code}: {gates}" if gates else record.reason.code
