"""How long text removal takes, on photos of 1024 x 768 pixels, with one thread."""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from random import Random

from imgflow.bench.text.cases import Pixels, Sources, large_photo
from imgflow.chain import Line, rescue
from imgflow.engines.registry import Engines
from imgflow.home import Home
from imgflow.imaging.encode import encode_lossless
from imgflow.lineage.record import Version
from imgflow.policy.policy import Policy
from imgflow.store.keys import ImageKey
from imgflow.synthesis.overlays import KINDS, draw_overlay
from imgflow.synthesis.phrases import HELD_OUT

_ROUNDS = 2  # over all kinds


@dataclass(frozen=True, slots=True)
class Seconds:
    """Medians of the detexted version alone, of photos without and with an overlay; and by kind.

    repaired: photos of those with an overlay that were repaired.
    """

    without: float
    with_text: float
    by_kind: dict[str, float]
    photos: int
    repaired: int


def measure_seconds(sources: Sources, engines: Engines, policy: Policy) -> Seconds:
    """Take photos through the automatic line, one after the other, on warm engines."""
    chance = Random(f"clock {sources.seed}")
    without: list[float] = []
    by_kind: dict[str, list[float]] = {kind: [] for kind in KINDS}
    repaired = 0
    for number in range(_ROUNDS * len(KINDS)):
        photo = large_photo(sources, number)
        kind = KINDS[number % len(KINDS)]
        height, width = photo.shape[:2]
        laid = draw_overlay(kind, height, width, HELD_OUT, sources.fonts, chance).over(photo)
        if number == 0:
            for warming in (photo, laid):
                _seconds(warming, engines, policy)
        without.append(_seconds(photo, engines, policy)[0])
        elapsed, changed = _seconds(laid, engines, policy)
        by_kind[kind].append(elapsed)
        repaired += changed
    return Seconds(
        without=statistics.median(without),
        with_text=statistics.median(chain.from_iterable(by_kind.values())),
        by_kind={kind: statistics.median(times) for kind, times in by_kind.items()},
        photos=len(without),
        repaired=repaired,
    )


def _seconds(photo: Pixels, engines: Engines, policy: Policy) -> tuple[float, bool]:
    """Wall seconds from a photo in the store to its detexted version, and whether one was made."""
    with tempfile.TemporaryDirectory(prefix="imgflow-bench-") as folder:
        home = Home(Path(folder))
        home.uploads.root.mkdir()
        (home.uploads.root / "photo.png").write_bytes(encode_lossless(photo))
        line = Line("clock", home.store, engines, policy, home.uploads, run_id="bench")
        key = ImageKey("photo.png")
        rescue(key, line, (Version.RAW,))
        started = time.perf_counter()
        passage = rescue(key, line, (Version.DETEXTED,))
        elapsed = time.perf_counter() - started
    return elapsed, passage.last is not None and bool(passage.last.operations)
