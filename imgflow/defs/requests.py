"""How a set of images becomes runs.

Dagster's partition ranges follow the order in which keys were added. Keys that stand next to each
other there go as a range, which shows planned and failed partitions in the UI; scattered ones go
as a list in the run's config.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

# Tags of a run over a range of partitions.
RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"


@dataclass(frozen=True, slots=True)
class Batch:
    """Images of one run."""

    keys: tuple[str, ...]
    contiguous: bool

    @property
    def tags(self) -> dict[str, str]:
        if not self.contiguous:
            return {}
        return {RANGE_START: self.keys[0], RANGE_END: self.keys[-1]}

    def run_config(self, op: str = "rescue", *, force: bool = False) -> dict[str, Any]:
        config: dict[str, Any] = {"force": force}
        if not self.contiguous:
            config["keys"] = list(self.keys)
        return {"ops": {op: {"config": config}}}


def batches(keys: Sequence[str], known: Sequence[str], size: int) -> Iterator[Batch]:
    """The runs for `keys`, each of at most `size` images.

    known: all partition keys in Dagster's order. Stretches of it that are wanted whole go as
    ranges while they fill a run or hold all that is wanted; the rest is gathered into lists.
    """
    position = {key: index for index, key in enumerate(known)}
    ordered = sorted(keys, key=position.__getitem__)
    scattered: list[str] = []
    for stretch in _stretches(ordered, position):
        if len(stretch) == len(ordered) or len(stretch) >= size:
            for part in _batched(stretch, size):
                yield Batch(part, contiguous=True)
        else:
            scattered += stretch
    for part in _batched(scattered, size):
        yield Batch(part, contiguous=False)


def _stretches(ordered: Sequence[str], position: dict[str, int]) -> Iterator[list[str]]:
    stretch: list[str] = []
    for key in ordered:
        if stretch and position[key] != position[stretch[-1]] + 1:
            yield stretch
            stretch = []
        stretch.append(key)
    if stretch:
        yield stretch


def _batched(keys: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    for start in range(0, len(keys), size):
        yield tuple(keys[start : start + size])
