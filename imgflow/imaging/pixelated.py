"""Photos that were made larger by merely repeating their pixels.

Their spectrum is no photo's (see `spectrum`), but they give themselves away: every k-th step
between neighbours is a step of the small photo, and those in between are none, or what JPEG made of
them.

Calibrated on 72 photos of true resolution, bare, softened, and with JPEG of quality 10 to 92: of
them steps in between are 0.81 and more of the others, and none is wrongly found. Pixels repeated
two, three and four times are all found, bare and after JPEG of quality 92; after 75, of 83, 97 and
97 % of the photos.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Luma = NDArray[np.float32]
Steps = NDArray[np.float64]

_TIMES = (4, 3, 2)  # the first counts where all are as good: four times is twice as well
_BLOCK = 8  # of JPEG
_SHORTEST = 3 * _BLOCK  # in less of a row all is chance
_BETWEEN = 0.6  # steps between repeated pixels, of those between the others
_LARGEST = 32.0  # a step is no more than this: one edge is not to speak for a photo
_LEAST = 0.5  # mean step that tells anything, of 255
_ENOUGH = 16  # lines with steps: a few that are at even places are there by chance


def repeated(samples: list[Luma]) -> int:
    """How many times each pixel was repeated along both sides, 2 to 4; 1 where they were not.

    samples: (h, w) float32, 0..255, parts of a photo at full size.
    """
    profiles = [
        [np.minimum(np.abs(np.diff(luma, axis=axis)), _LARGEST).mean(axis=1 - axis, dtype=float)
         for luma in samples]
        for axis in (0, 1)
    ]  # fmt: skip
    found = {times: max(_between(each, times) for each in profiles) for times in _TIMES}
    # Of pixels that were repeated twice every fourth step is as large as every second; of those
    # repeated four times, it is larger.
    times = min(found, key=lambda each: found[each])
    return times if found[times] < _BETWEEN else 1


def _between(profiles: list[Steps], times: int) -> float:
    """Mean step between repeated pixels over that between others, if each was repeated so many
    times; 1 where too little is seen."""
    inner, outer = [], []
    for profile in profiles:
        if len(profile) < _SHORTEST:
            continue
        place = np.arange(len(profile))
        # JPEG's blocks end somewhere, too: that is left out.
        blocks = np.bincount(place % _BLOCK, profile, _BLOCK)
        kept = place % _BLOCK != int(np.argmax(blocks))
        phase = place[kept] % times
        means = np.bincount(phase, profile[kept], times) / np.bincount(phase, minlength=times)
        at = place % times == int(np.argmax(means))
        inner.append(profile[kept & ~at])
        outer.append(profile[kept & at])
    if not inner:
        return 1.0
    between, steps = np.concatenate(inner), np.concatenate(outer)
    if steps.mean() < _LEAST:
        return 1.0
    lines = float(np.square(steps.sum()) / np.square(steps).sum())
    return float(between.mean() / steps.mean()) if lines >= _ENOUGH else 1.0
