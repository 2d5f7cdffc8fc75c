"""One engine in a process of its own: what it makes of damaged photos whose truth is known."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.engines import lpips
from imgflow.engines.account import accounting
from imgflow.engines.registry import Engines
from imgflow.equipment import equip
from imgflow.errors import EngineUnavailable
from imgflow.home import Home
from imgflow.imaging.colour import flatten
from imgflow.imaging.decode import decode, read_photo_bytes
from imgflow.imaging.masks import Mask, mask_box
from imgflow.imaging.metrics import haarpsi, psnr, ssim
from imgflow.imaging.tiling import run_tiled
from imgflow.policy.engines import RemoteEngine
from imgflow.policy.policy import Policy
from imgflow.pool import cores, peak_mb
from imgflow.stages.fill import Fill, fill_holes
from imgflow.stages.upscale import tile_plan

Task = Literal["filler", "upscaler"]
TASKS: tuple[Task, ...] = ("filler", "upscaler")
SCALE = 2
# Photos are reduced to this: slow engines are to be measured in minutes, not in hours.
_SIDE = 512
_CONTEXT, _FEATHER = 64, 4
# Pixels around a hole that are compared as well.
_AROUND = 16


@dataclass(frozen=True, slots=True)
class Candidate:
    """An engine that is to be measured. homes: where engines are found."""

    task: Task
    name: str
    home: Home
    photos: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """Means over the photos. seconds: per megapixel of what it was given. peak_mb: of its process,
    beyond what that had before. lpips: None without its weights. problem: why there is nothing."""

    task: Task
    name: str
    model_id: str = ""
    psnr: float = 0.0
    ssim: float = 0.0
    haarpsi: float = 0.0
    lpips: float | None = None
    seconds: float = 0.0
    peak_mb: float = 0.0
    cost: float = 0.0
    problem: str = ""


def candidates(
    home: Home, policy: Policy, photos: Sequence[Path], only: Sequence[str] = ()
) -> Iterator[Candidate]:
    """The engines that can work here; services only where they are asked for by name."""
    engines = equip(home, policy)
    for task in TASKS:
        for name in engines.names(task):
            if only and name not in only:
                continue
            if not only and isinstance(policy.engines.get(name), RemoteEngine):
                continue
            try:
                _engine(engines, task, name)
            except EngineUnavailable:
                if only:
                    raise
                continue
            yield Candidate(task, name, home, tuple(photos))


def measure(candidate: Candidate) -> Reading:
    """In a process of its own: an engine on all photos, once unclocked and then with the clock."""
    policy = candidate.home.policy()
    engines = equip(candidate.home, policy, threads=cores())
    before = peak_mb()
    try:
        engine = _engine(engines, candidate.task, candidate.name)
        work = _fill if candidate.task == "filler" else _enlarge
        found = _on_photos(work, engine, candidate.photos)
    except (EngineUnavailable, ValueError, MemoryError) as error:
        return Reading(candidate.task, candidate.name, problem=str(error))
    rows, seconds, megapixels, cost = found
    means = [float(np.mean([row[at] for row in rows])) for at in range(3)]
    perceived = [row[3] for row in rows]
    known = [each for each in perceived if each is not None]
    return Reading(
        task=candidate.task,
        name=candidate.name,
        model_id=engine.spec.model_id,
        psnr=means[0],
        ssim=means[1],
        haarpsi=means[2],
        lpips=float(np.mean(known)) if len(known) == len(perceived) else None,
        seconds=seconds / megapixels,
        peak_mb=max(peak_mb() - before, 0.0),
        cost=cost,
    )


_Scores = tuple[float, float, float, float | None]
_Work = Callable[[Any, NDArray[np.uint8]], tuple[NDArray[np.uint8], NDArray[np.uint8], Mask, float]]


def _on_photos(
    work: _Work, engine: Any, photos: Sequence[Path]
) -> tuple[list[_Scores], float, float, float]:
    """Scores by photo, seconds of all, megapixels of all, and what all cost."""
    rows: list[_Scores] = []
    seconds = megapixels = 0.0
    with accounting() as told:
        for number, path in enumerate(photos):
            truth = _photo(path)
            if number == 0:
                work(engine, truth)  # what is loaded or chosen at first is not its time
            started = time.perf_counter()
            made, reference, mask, size = work(engine, truth)
            seconds += time.perf_counter() - started
            megapixels += size
            rows.append(_scores(reference, made, mask))
    return rows, seconds, megapixels, told.cost or 0.0


def _fill(
    engine: Any, truth: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Mask, float]:
    mask = _hole(*truth.shape[:2])
    damaged = truth.copy()
    damaged[mask > 0] = 255
    fill = Fill(engine, _CONTEXT, _FEATHER, seed=0, colour_transfer=True)
    made = fill_holes(damaged, mask, fill)
    box = mask_box(mask)
    assert box is not None
    window = box.padded(_CONTEXT, *mask.shape)
    return made, truth, mask, window.height * window.width / 1e6


def _enlarge(
    engine: Any, truth: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Mask, float]:
    height, width = (side // SCALE * SCALE for side in truth.shape[:2])
    reference = np.ascontiguousarray(truth[:height, :width])
    size = (width // SCALE, height // SCALE)
    small = np.asarray(cv2.resize(reference, size, interpolation=cv2.INTER_AREA), np.uint8)
    plan = tile_plan(size[1], size[0], engine.spec, 256)
    made, _ = run_tiled(small, engine.enlarge, plan)
    everything = np.full((height, width), 255, np.uint8)
    return made, reference, everything, size[0] * size[1] / 1e6


def _scores(truth: NDArray[np.uint8], made: NDArray[np.uint8], mask: Mask) -> _Scores:
    box = mask_box(mask)
    assert box is not None
    around = box.padded(_AROUND, *mask.shape).slices
    reference, test = (np.ascontiguousarray(each[around]) for each in (truth, made))
    decibels = psnr(truth, made, data_range=255, mask=mask)
    try:
        perceived = lpips.installed(lpips.weights_folder()).score(reference, test)
    except lpips.WeightsMissing:
        perceived = None
    return (
        min(decibels, 100.0),
        ssim(reference, test, data_range=255),
        haarpsi(reference, test, data_range=255),
        perceived,
    )


def _hole(height: int, width: int) -> Mask:
    """An ellipse a little off the middle, a twentieth of the photo."""
    mask = np.zeros((height, width), np.uint8)
    centre = (round(width * 0.45), round(height * 0.55))
    cv2.ellipse(mask, centre, (round(width * 0.15), round(height * 0.11)), 20, 0, 360, 255, -1)
    return mask


def _photo(path: Path) -> NDArray[np.uint8]:
    pixels = flatten(decode(read_photo_bytes(path)).pixels, (255, 255, 255))
    scale = min(_SIDE / max(pixels.shape[:2]), 1.0)
    size = (max(round(pixels.shape[1] * scale), 1), max(round(pixels.shape[0] * scale), 1))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def _engine(engines: Engines, task: Task, name: str) -> Any:
    return engines.filler(name) if task == "filler" else engines.upscaler(name, SCALE)
