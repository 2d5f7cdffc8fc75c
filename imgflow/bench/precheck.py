"""The quick look calibrated on some photos and checked on others: are its milliseconds true?"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imgflow.calibration import Calibration
from imgflow.chain import Line, rescue
from imgflow.engines.registry import Engines
from imgflow.errors import ImgflowError
from imgflow.home import CATALOG
from imgflow.lineage.record import Version
from imgflow.policy.policy import Policy
from imgflow.precheck import Features, estimate, fit, precheck
from imgflow.store.keys import PHOTO_SUFFIXES, ImageKey, Uploads
from imgflow.store.local import LocalStore

# The aim: errors of the total, as shares, on photos that were not calibrated with.
MEDIAN_AIM, TAIL_AIM = 0.30, 0.80


@dataclass(frozen=True, slots=True)
class Row:
    """A photo. milliseconds: that each stage took. took: what the quick look took."""

    name: str
    features: Features
    milliseconds: dict[str, float]
    took: float


@dataclass(frozen=True, slots=True)
class Checked:
    """stages: coefficients. errors: of the total on each photo that was kept aside, as shares."""

    stages: dict[str, list[float]]
    calibrated: int
    errors: list[float]
    took_ms: float

    @property
    def median(self) -> float:
        return float(np.median(self.errors))

    @property
    def tail(self) -> float:
        return float(np.percentile(self.errors, 90))

    @property
    def is_good(self) -> bool:
        return self.median <= MEDIAN_AIM and self.tail <= TAIL_AIM


def bench_precheck(
    photos: Sequence[Path], policy: Policy, engines: Engines, advance: Callable[[], None]
) -> Checked:
    """Take photos through the line, calibrate on every other one, and check on the rest.

    Time is of the processor, of this process: other work on the machine does not count. Raises
    ImgflowError (code too_few_photos) for fewer than four photos.
    """
    if len(photos) < 4:
        raise ImgflowError(
            "too_few_photos",
            f"it takes at least 4 photos, and there are {len(photos)}",
            hint="Half of them calibrate, half check; 40 are better",
        )
    # One engine for all photos: which one is kept with what it took.
    policy = _plain(policy)
    rows = []
    for number, photo in enumerate(photos):
        row = _measured(photo, policy, engines)
        if number == 0:
            # Engines load with the first photo: that is not its time.
            row = _measured(photo, policy, engines)
        rows.append(row)
        advance()
    return checked(rows)


def checked(rows: Sequence[Row]) -> Checked:
    """Coefficients from every other row, and their errors on the rest."""
    known, aside = rows[0::2], rows[1::2]
    stages = fit([(row.features, row.milliseconds) for row in known])
    errors = []
    for row in aside:
        true = sum(row.milliseconds.values())
        guess = sum(estimate(row.features, stages).values())
        errors.append(abs(guess - true) / true)
    return Checked(stages, len(known), errors, float(np.median([row.took for row in rows])))


def _plain(policy: Policy) -> Policy:
    """Without routes, and with each stage's own engine."""
    inpaint, upscale = (
        each.model_copy(update={"better": []}) for each in (policy.inpaint, policy.upscale)
    )
    return policy.model_copy(update={"routes": [], "inpaint": inpaint, "upscale": upscale})


def find_photos(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES)


def _measured(photo: Path, policy: Policy, engines: Engines) -> Row:
    """One photo through the line, stage by stage, and the quick look at it."""
    started = time.process_time()
    quick = precheck(photo.read_bytes(), policy, engines, Calibration())
    took = 1000 * (time.process_time() - started)
    with tempfile.TemporaryDirectory(prefix="imgflow-bench-") as folder:
        line = Line(
            catalog=CATALOG,
            store=LocalStore(Path(folder)),
            engines=engines,
            policy=policy,
            uploads=Uploads(photo.parent),
            run_id="bench",
        )
        milliseconds = _stages(ImageKey.from_path(photo.name), line)
    return Row(photo.name, quick.features, milliseconds, took)


def _stages(key: ImageKey, line: Line) -> dict[str, float]:
    found: dict[str, float] = {}
    for version in Version:
        started = time.process_time()
        passage = rescue(key, line, (version,))
        if passage.missing or passage.held or passage.last is None:
            break
        found[str(version)] = 1000 * (time.process_time() - started)
        if passage.stopped:
            break
    return found
