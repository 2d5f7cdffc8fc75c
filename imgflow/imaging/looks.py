"""Looking at a picture several times: mirrored, turned, and the mean of it all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Planes = NDArray[np.float32]

_MIRRORS = (np.s_[:], np.s_[:, ::-1], np.s_[::-1], np.s_[::-1, ::-1])
MOST_LOOKS = 2 * len(_MIRRORS)


def mean_of_looks(
    network: Callable[[Planes], Planes],
    seen: Planes,
    looks: int,
    *,
    enough: Callable[[Planes], bool] = lambda first: False,
) -> Planes:
    """Mean of what a network makes of the first 1 to 8 of a picture's mirrored and turned copies.

    It is nearer to the truth than any of them (self-ensemble; Timofte, Rothe and Van Gool 2016).
    seen: (H, W, C). network: to (s H, s W, D), for any scale s. enough: whether the first look
    says all: then there are no others. ValueError for other numbers.
    """
    if not 1 <= looks <= MOST_LOOKS:
        raise ValueError(f"there are 1 to {MOST_LOOKS} ways to look at a picture, not {looks}")
    total = network(seen)
    if looks == 1 or enough(total):
        return total
    for look in range(1, looks):
        turned, mirror = look >= len(_MIRRORS), _MIRRORS[look % len(_MIRRORS)]
        copy = seen.transpose(1, 0, 2) if turned else seen
        made = network(np.ascontiguousarray(copy[mirror]))[mirror]
        total = total + (made.transpose(1, 0, 2) if turned else made)
    return np.asarray(total / np.float32(looks), np.float32)
