"""What is on its way already: the images of runs that have not ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg

from imgflow.defs.requests import RANGE_END, RANGE_START, Batch

NOT_ENDED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_PARTITION = "dagster/partition"
WHY = "imgflow/why"


def keys_in_flight(instance: dg.DagsterInstance, known: Sequence[str]) -> set[str]:
    """The images of all runs that have not ended. known: all partition keys in Dagster's order."""
    found: set[str] = set()
    position = {key: at for at, key in enumerate(known)}
    for run in instance.get_runs(filters=dg.RunsFilter(statuses=NOT_ENDED)):
        found.update(keys_of(run, known, position))
    return found


def keys_of(run: dg.DagsterRun, known: Sequence[str], position: Mapping[str, int]) -> list[str]:
    """The images of a run: listed in its config, a partition, or a range of them.

    position: of each key in `known`.
    """
    config: Any = run.run_config
    listed = config.get("ops", {}).get("rescue", {}).get("config", {}).get("keys")
    if listed:
        return list(listed)
    if _PARTITION in run.tags:
        return [run.tags[_PARTITION]]
    first, last = (position.get(run.tags.get(tag, "")) for tag in (RANGE_START, RANGE_END))
    return [] if first is None or last is None else list(known[first : last + 1])


def run_request(batch: Batch, run_key: str, why: str) -> dg.RunRequest:
    """The run that takes a batch through all versions. why: shown on the run as a tag."""
    return dg.RunRequest(
        run_key=run_key, run_config=batch.run_config(), tags={**batch.tags, WHY: why}
    )


def with_new(known: Sequence[str], keys: Iterable[str]) -> list[str]:
    """Dagster's order of partition keys after `keys` are added."""
    return list(dict.fromkeys([*known, *keys]))
