"""What a refresh of a catalog has found and done, where people look: on the asset `refresh`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import timedelta

import dagster as dg

from imgflow.defs.naming import report_prefix
from imgflow.home import Home
from imgflow.policy.catalogs import MAIN_SPEC, CatalogSpec
from imgflow.refresh import RefreshPlan

_EXAMPLES = 20
_WHAT = {
    "new": "requested: no record yet",
    "changed": "requested: other files or catalog rows than the record is of",
    "stale": "requested: policy, engine or weights have changed",
    "unfinished": "requested: a version or a file is missing",
    "retired": "withdrawn: gone from the uploads; lineage and partition stay",
    "current": "up to date",
    "stopped": "wait for a person",
    "busy": "in a run, or being written",
    "problems": "cannot be taken",
}


@dataclass(frozen=True, slots=True)
class Pass:
    """A comparison of a whole catalog, over as many ticks as it takes.

    after: where to go on; empty: all was compared, or nothing yet. runs: requested. The others:
    photos, as in RefreshPlan.
    """

    after: str = ""
    new: int = 0
    changed: int = 0
    stale: int = 0
    unfinished: int = 0
    retired: int = 0
    current: int = 0
    stopped: int = 0
    busy: int = 0
    problems: int = 0
    runs: int = 0

    def with_(self, plan: RefreshPlan, *, retired: int, runs: int) -> Pass:
        """This pass after one more tick's plan. retired, runs: what the tick did."""
        asked = {why: getattr(self, why) + len(keys) for why, keys in plan.requests.items()}
        return replace(
            self,
            **asked,
            after=str(plan.after),
            retired=self.retired + retired,
            current=self.current + plan.current,
            stopped=self.stopped + plan.stopped,
            busy=self.busy + plan.busy,
            problems=len(plan.problems),
            runs=self.runs + runs,
        )

    def as_dict(self) -> dict[str, int | str]:
        return asdict(self)


def refresh_key(spec: CatalogSpec) -> dg.AssetKey:
    return dg.AssetKey([*report_prefix(spec), "refresh"])


def refresh_spec(spec: CatalogSpec = MAIN_SPEC, *, group: str = "reports") -> dg.AssetSpec:
    """The asset that a refresh reports on. It is materialized once all photos of the catalog have
    been compared, so that its freshness is the catalog's."""
    hours = spec.fresh_within_hours
    return dg.AssetSpec(
        key=refresh_key(spec),
        group_name=group,
        kinds={"report"},
        owners=["team:photo-desk"],
        description=f"The latest whole comparison of {spec.label}: what was new, changed, stale or "
        "unfinished and so requested, what was withdrawn, what waits. The schedule makes it; "
        f"overdue when it is older than {hours:g} hours.",
        freshness_policy=dg.FreshnessPolicy.time_window(
            fail_window=timedelta(hours=hours), warn_window=timedelta(hours=0.75 * hours)
        ),
    )


def last_refreshed(instance: dg.DagsterInstance, spec: CatalogSpec) -> float:
    """When a catalog was last compared as a whole, Unix time; 0: never."""
    event = instance.get_latest_materialization_event(refresh_key(spec))
    return event.timestamp if event else 0.0


def report(instance: dg.DagsterInstance, home: Home, plan: RefreshPlan, done: Pass) -> None:
    """Say on the asset what a tick has done: as an observation, or, where the pass is through,
    as its materialization."""
    event = dg.AssetObservation if done.after else dg.AssetMaterialization
    instance.report_runless_asset_event(
        event(
            asset_key=refresh_key(home.spec),
            description=plan.summary(),
            metadata=_metadata(plan, done),
        )
    )


def _metadata(plan: RefreshPlan, done: Pass) -> Mapping[str, dg.MetadataValue]:
    counts = done.as_dict()
    rows = [f"| {name} | {counts[name]} | {what} |" for name, what in _WHAT.items()]
    metadata: dict[str, dg.MetadataValue] = {
        "summary": dg.MetadataValue.md("\n".join(["| | photos | |", "|---|---:|---|", *rows])),
        "runs requested": dg.MetadataValue.int(done.runs),
        **{name: dg.MetadataValue.int(int(counts[name])) for name in _WHAT},
    }
    for name, keys in {**plan.requests, "retired": plan.retired}.items():
        if keys:
            more = [f"and {len(keys) - _EXAMPLES} more"] if len(keys) > _EXAMPLES else []
            shown = [*map(str, keys[:_EXAMPLES]), *more]
            metadata[f"{name} in this tick"] = dg.MetadataValue.text(", ".join(shown))
    if plan.problems:
        metadata["cannot be taken"] = dg.MetadataValue.text("; ".join(plan.problems[:_EXAMPLES]))
    if plan.refused:
        metadata["not withdrawn"] = dg.MetadataValue.text(plan.refused)
    if done.after:
        metadata["goes on after"] = dg.MetadataValue.text(done.after)
    return metadata
