"""What is on its way already: the images of runs that have not ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from imgflow.defs.naming import PLAIN, Part, parts
from imgflow.defs.partitions import Known
from imgflow.defs.requests import RANGE_END, RANGE_START, Batch
from imgflow.lineage.record import Version
from imgflow.policy.catalogs import MAIN_SPEC, CatalogSpec

NOT_ENDED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_PARTITION = "dagster/partition"
WHY = "imgflow/why"
CATALOG_TAG = "imgflow/catalog"
"""The tag of a run that names its catalog; the run queue's limits go by it."""


def keys_in_flight(
    instance: dg.DagsterInstance, spec: CatalogSpec = MAIN_SPEC, known: Known | None = None
) -> set[str]:
    """The images of a catalog in all runs that have not ended."""
    known = known or Known(instance)
    runs = instance.get_runs(filters=dg.RunsFilter(statuses=NOT_ENDED))
    return {key for run in runs for key in photos_of(run, spec, known)}


def photos_of(run: dg.DagsterRun, spec: CatalogSpec, known: Known) -> list[str]:
    """The images of a catalog that a run takes; none where it is another catalog's run."""
    found = []
    for part in _parts_of(run, spec):
        in_range = RANGE_START in run.tags
        position = known.position(part) if in_range else {}
        found += keys_of(run, known.keys(part) if in_range else (), position, part)
    return found


def is_of(run: dg.DagsterRun, spec: CatalogSpec) -> bool:
    """Whether a run is of a catalog."""
    if CATALOG_TAG in run.tags:
        return run.tags[CATALOG_TAG] == spec.name
    return any(_parts_of(run, spec))


def _parts_of(run: dg.DagsterRun, spec: CatalogSpec) -> Iterator[Part]:
    """The partition sets of a catalog that a run is on, by its config, job or assets."""
    config: Any = run.run_config
    ops = config.get("ops", {})
    selected = {tuple(key.path) for key in run.asset_selection or ()}
    # Of the job of all assets, where nobody has selected any.
    everything = run.job_name.startswith("__") and not selected and not ops
    for part in parts(spec):
        if (
            everything
            or run.job_name == part.job
            or part.op in ops
            or any(tuple(part.path(version)) in selected for version in Version)
        ):
            yield part


def keys_of(
    run: dg.DagsterRun, known: Sequence[str], position: Mapping[str, int], part: Part = PLAIN
) -> list[str]:
    """The images of a part's run: listed in its config, a partition, or a range of them.

    position: of each key in `known`.
    """
    config: Any = run.run_config
    listed = config.get("ops", {}).get(part.op, {}).get("config", {}).get("keys")
    if listed:
        return list(listed)
    if _PARTITION in run.tags:
        return [run.tags[_PARTITION]]
    first, last = (position.get(run.tags.get(tag, "")) for tag in (RANGE_START, RANGE_END))
    return [] if first is None or last is None else list(known[first : last + 1])


def run_request(
    batch: Batch, run_key: str, why: str, part: Part = PLAIN, *, by_job: bool = True
) -> dg.RunRequest:
    """The run that takes a batch through all versions. why: shown on the run as a tag.

    by_job: of several shards, the run is of the shard's job; otherwise, for a schedule, which has
    one job for all, of the shard's assets.
    """
    several = part.spec.shards > 1
    return dg.RunRequest(
        run_key=run_key,
        run_config=batch.run_config(part.op),
        tags={**batch.tags, WHY: why, CATALOG_TAG: part.catalog},
        job_name=part.job if several and by_job else None,
        asset_selection=[dg.AssetKey(part.path(each)) for each in Version]
        if several and not by_job
        else None,
    )


def with_new(known: Sequence[str], keys: Iterable[str]) -> list[str]:
    """Dagster's order of partition keys after `keys` are added."""
    return list(dict.fromkeys([*known, *keys]))
