"""How coarsely JPEG has rounded a photo, from the comb that it leaves in the frequencies.

JPEG rounds each of the 64 frequencies of an 8 x 8 block to a multiple of a whole number, its step
(ITU-T T.81). In the pixels that come out of it they still lie near those multiples, in small photos
and at qualities where no block is seen. Fan and de Queiroz 2003, IEEE Trans. IP 12(2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Luma = NDArray[np.float32]

_SIDE = 8
_MOST_BLOCKS = 2048
# Low frequencies: higher ones are mostly rounded to nothing.
_PLACES = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1), (0, 3), (3, 0))
_STEPS = np.arange(2, 41)
# Mean cosine: 0 by chance, 1 where all are multiples, less where colours were clipped after.
_COMB = 0.3
_CERTAIN = 4.0  # of the mean times the root of the count, whose deviation is 0.7 by chance
_LEAST_PLACES = 3


def jpeg_step(samples: list[Luma]) -> float:
    """Mean step of the low frequencies, in levels of 255: about 13 at quality 50, 5 at 80, 3 at 90.

    samples: (h, w) float32, 0..255, that begin on the grid of blocks. 0 where no comb is seen:
    without JPEG, at qualities above about 92, or where pixels have been changed since.
    """
    blocks = _blocks(samples)
    if not len(blocks):
        return 0.0
    steps = [step for place in _PLACES if (step := _step(blocks[:, place[0], place[1]]))]
    return float(np.mean(steps)) if len(steps) >= _LEAST_PLACES else 0.0


def _step(values: NDArray[np.float32]) -> int:
    """The number that (n,) values are most clearly multiples of; 0 where there is none."""
    scaled = values / _STEPS[:, None]
    # Values that are nothing tell nothing. Among all others chance gives at most 0.
    telling = np.abs(scaled) > 0.5
    count = telling.sum(axis=1)
    comb = (np.cos(2 * np.pi * scaled) * telling).sum(axis=1) / np.maximum(count, 1)
    best = int(np.argmax(np.where(comb * np.sqrt(count) > _CERTAIN, comb, 0)))
    return int(_STEPS[best]) if comb[best] > _COMB else 0


def _blocks(samples: list[Luma]) -> NDArray[np.float32]:
    """(n, 8, 8) frequencies of at most 2,048 blocks, spread evenly."""
    found = []
    for luma in samples:
        down, across = (side // _SIDE for side in luma.shape)
        whole = luma[: down * _SIDE, : across * _SIDE].reshape(down, _SIDE, across, _SIDE)
        found.append(whole.swapaxes(1, 2).reshape(-1, _SIDE, _SIDE))
    blocks = np.concatenate(found)
    blocks = blocks[:: max(-(-len(blocks) // _MOST_BLOCKS), 1)]
    return np.asarray(_COSINES @ blocks @ _COSINES.T, np.float32)


def _cosines() -> NDArray[np.float32]:
    """(8, 8) matrix of the discrete cosine transform, its rows of length 1."""
    places = np.arange(_SIDE)
    rows = np.cos(np.pi * np.outer(places, 2 * places + 1) / (2 * _SIDE))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


_COSINES = _cosines()
