"""How long an enlargement x4 takes from file to file, and how much memory: in fresh processes."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

import cv2
import numpy as np

from imgflow.bench.upscale.cases import Pixels, Source, jpeg, load
from imgflow.bench.upscale.enlarge import enlarge
from imgflow.bench.upscale.gpu import read_gpu
from imgflow.bench.upscale.results import BICUBIC, GpuReading, Precision, Reading, Timing
from imgflow.bench.upscale.rivals import RIVALS
from imgflow.engines.registry import Engines
from imgflow.engines.spec import Upscaler
from imgflow.errors import ImgflowError
from imgflow.imaging.decode import decode, read_photo_bytes
from imgflow.imaging.encode import encode_lossless
from imgflow.imaging.resample import bicubic
from imgflow.pool import peak_mb

if TYPE_CHECKING:
    from imgflow.engines.upscaler import NeuralUpscaler

SCALE = 4
NEURAL = "sr"
_SMALL = (640, 480)
# x4 of it has 50 megapixels.
_LARGE = (2048, 1536)
_QUALITY = 90
_FLOAT = "float32"

Enlarge = Callable[[Pixels], Pixels]
Result = TypeVar("Result")


def timings(names: Sequence[str], rounds: int) -> list[Timing]:
    """What is timed: all engines at 640 x 480, imgflow's own in float32 and at 50 megapixels too,
    and its rivals in both precisions."""
    asked = [Timing(name, "auto", *_SMALL, rounds) for name in (BICUBIC, *names)]
    if NEURAL in names:
        both: tuple[Precision, ...] = ("auto", "float32")
        asked.append(Timing(NEURAL, "float32", *_SMALL, rounds))
        asked += [Timing(name, each, *_SMALL, rounds) for each in both for name in RIVALS]
        asked.append(Timing(NEURAL, "auto", *_LARGE, 1))
    return asked


def read_clock(
    source: Source, asked: Sequence[Timing], threads: int, told: Callable[[], None]
) -> Iterator[Reading]:
    """Time each on the same photo, one after the other. told: called after each.

    Raises BadPhoto, EngineUnavailable, and ImgflowError where a process dies.
    """
    with TemporaryDirectory(prefix="imgflow-bench-") as folder:
        for each in asked:
            path = Path(folder) / f"{each.width}x{each.height}.jpg"
            if not path.exists():
                _fresh(_write_photo, source, each, path)
            yield _fresh(read_one, each, path, threads)
            told()


def read_one(timing: Timing, path: Path, threads: int) -> Reading:
    """Time one, in this process. path: of the JPEG. Raises BadPhoto, EngineUnavailable."""
    # Read when torch is first imported.
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
    cv2.setNumThreads(threads)
    start_mb = peak_mb()
    started = time.perf_counter()
    work, computed = _way(timing, threads)
    _passage(path, work)
    first = time.perf_counter() - started
    passages = [_passage(path, work) for _ in range(timing.rounds)]
    decoding, enlarging, encoding = (
        statistics.median(parts) for parts in zip(*passages, strict=True)
    )
    return Reading(
        timing=timing,
        computed=computed,
        decode_s=decoding,
        enlarge_s=enlarging,
        encode_s=encoding,
        total_s=statistics.median(map(sum, passages)),
        first_s=first,
        start_mb=start_mb,
        peak_mb=peak_mb(),
    )


def _passage(path: Path, work: Enlarge) -> tuple[float, float, float]:
    """Seconds of decoding, enlarging and encoding."""
    marks = [time.perf_counter()]
    pixels = np.asarray(decode(read_photo_bytes(path)).pixels, np.uint8)
    marks.append(time.perf_counter())
    large = work(pixels)
    marks.append(time.perf_counter())
    encode_lossless(large)
    marks.append(time.perf_counter())
    decoding, enlarging, encoding = np.diff(marks)
    return float(decoding), float(enlarging), float(encoding)


def _way(timing: Timing, threads: int) -> tuple[Enlarge, str]:
    """How to enlarge, and in what type of number that is computed."""
    if timing.way == BICUBIC:
        return _bicubic, _FLOAT
    engine, computed = _engine(timing, threads)
    return lambda pixels: enlarge(pixels, engine), computed


def _bicubic(pixels: Pixels) -> Pixels:
    return bicubic(pixels, SCALE * pixels.shape[0], SCALE * pixels.shape[1])


def _engine(timing: Timing, threads: int) -> tuple[Upscaler, str]:
    if timing.way != NEURAL and timing.way not in RIVALS:
        return Engines(threads=threads).upscaler(timing.way, SCALE), _FLOAT
    from imgflow.engines.upscaler import NeuralUpscaler

    own = NeuralUpscaler(SCALE, threads=threads, precision=timing.precision)
    if timing.way == NEURAL:
        return own, own.computed_in
    return _rival(timing.way, own, threads), own.computed_in


def _rival(name: str, own: NeuralUpscaler, threads: int) -> Upscaler:
    """A rival, computed as imgflow's own is."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    return RIVALS[name](SCALE, getattr(torch, own.computed_in))


def _write_photo(source: Source, timing: Timing, path: Path) -> None:
    """The photo as a JPEG of the timing's size: how sharp it is does not matter here."""
    pixels = load(source)
    path.write_bytes(jpeg(bicubic(pixels, timing.height, timing.width), _QUALITY))


def _fresh(work: Callable[..., Result], *arguments: object) -> Result:
    """Done in a process of its own, so that nothing else counts into its memory."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(work, *arguments).result()
        except BrokenProcessPool as error:
            raise ImgflowError(
                "worker_died",
                f"the process that measures ({work.__name__}) died, probably for want of memory",
                hint="Free memory, and try again",
            ) from error


def read_gpu_fresh() -> list[GpuReading]:
    """`read_gpu` in a process of its own: this one stays without torch."""
    return _fresh(read_gpu)
