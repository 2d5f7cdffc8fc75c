"""Several text detectors as one: what any of them finds counts, once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from imgflow.engines.spec import EngineSpec, TextDetector
from imgflow.lineage.record import TextRegion

# Share of the smaller of two regions that lies in the other, from which on they are the same text.
_SAME = 0.5


class JoinedDetector:
    """The findings of all detectors. Where two found the same text, the surer reading stays."""

    def __init__(self, name: str, detectors: Sequence[TextDetector]) -> None:
        specs = [detector.spec for detector in detectors]
        hashes = "".join(spec.weights_sha256 or "" for spec in specs)
        self._detectors = tuple(detectors)
        self.spec = EngineSpec(
            name=name,
            kind="text_detector",
            model_id="+".join(spec.model_id for spec in specs),
            licence=", ".join(dict.fromkeys(spec.licence for spec in specs)),
            weights_sha256=hashlib.sha256(hashes.encode()).hexdigest() if hashes else None,
            deterministic=all(spec.deterministic for spec in specs),
        )

    def detect(self, pixels: NDArray[np.uint8]) -> list[TextRegion]:
        found = [region for each in self._detectors for region in each.detect(pixels)]
        kept: list[TextRegion] = []
        for region in sorted(found, key=lambda each: -each.confidence):
            if not any(_same(region, other) for other in kept):
                kept.append(region)
        # In reading order, as near as rows of text tell.
        return sorted(kept, key=lambda each: (_box(each)[1], _box(each)[0]))

    def read(self, line: NDArray[np.uint8]) -> tuple[str, float]:
        return max((each.read(line) for each in self._detectors), key=lambda told: told[1])


def _same(one: TextRegion, other: TextRegion) -> bool:
    (left, top, right, bottom), (left2, top2, right2, bottom2) = _box(one), _box(other)
    wide = min(right, right2) - max(left, left2)
    high = min(bottom, bottom2) - max(top, top2)
    if wide <= 0 or high <= 0:
        return False
    smaller = min((right - left) * (bottom - top), (right2 - left2) * (bottom2 - top2))
    return wide * high > _SAME * smaller


def _box(region: TextRegion) -> tuple[float, float, float, float]:
    across, down = zip(*region.polygon, strict=True)
    return min(across), min(down), max(across), max(down)
