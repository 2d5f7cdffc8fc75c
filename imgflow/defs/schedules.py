"""Once a day each catalog is compared as a whole with what policy and engines ask for now."""

# No postponed annotations here: Dagster reads the schedule's signature.
import json
import os
from collections.abc import Iterator, Sequence
from datetime import UTC

import dagster as dg

from imgflow.defs.jobs import Job
from imgflow.defs.memory import recall, remember
from imgflow.defs.naming import named
from imgflow.defs.partitions import Known, add_keys, by_part, with_a_place
from imgflow.defs.queue import keys_in_flight, run_request
from imgflow.defs.refreshed import Pass, report
from imgflow.defs.requests import batches
from imgflow.defs.resources import HomeResource
from imgflow.errors import StoreError
from imgflow.home import Home
from imgflow.policy.catalogs import MAIN_SPEC, CatalogSpec
from imgflow.refresh import RefreshPlan
from imgflow.store.keys import ImageKey

REFRESH_CRON = os.environ.get("IMGFLOW_REFRESH_CRON") or "*/5 3-4 * * *"
"""When the catalog is compared. Its first tick of a day begins, the later ones go on where that
stopped, until all of it is done."""
MAX_KEYS = 5_000
"""Most photos that a tick requests."""
BUDGET_S = 40.0
"""How long a tick compares: Dagster ends ticks that take longer than a minute."""


ALL_ASSETS = "__ASSET_JOB"
"""Dagster's own job of all assets: shards have different partition sets, and so no job in common,
and a schedule names one."""


def catalog_refresh_of(jobs: Sequence[Job], spec: CatalogSpec = MAIN_SPEC) -> dg.ScheduleDefinition:
    """What compares a catalog as a whole. jobs: of its partition sets."""

    @dg.schedule(
        name=named(spec, "catalog_refresh"),
        cron_schedule=spec.refresh or REFRESH_CRON,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=("" if spec == MAIN_SPEC else f"Catalog {spec.label}. ")
        + "Compares uploads, records, policy and engines, requests what is new, changed, stale or "
        "unfinished, and tells what it did in the asset `refresh`. `imgflow refresh --dry-run` "
        "shows the same at any time.",
        **({"job": jobs[0]} if len(jobs) == 1 else {"job_name": ALL_ASSETS}),
    )
    def catalog_refresh(
        context: dg.ScheduleEvaluationContext, home: HomeResource
    ) -> list[dg.RunRequest] | dg.SkipReason:
        return _tick(context, home.home(spec.name))

    return catalog_refresh


def _tick(context: dg.ScheduleEvaluationContext, home: Home) -> list[dg.RunRequest] | dg.SkipReason:
    from imgflow.files import sweep
    from imgflow.refresh import plan_refresh, retire

    now = context.scheduled_execution_time.astimezone(UTC)
    day, name = now.date().isoformat(), f"refresh/{home.name}"
    before = _continued(recall(context.instance, name), day)
    if before is None:
        return dg.SkipReason(f"all was compared on {day} already")
    if home.inbox is None:
        home.uploads.root.mkdir(parents=True, exist_ok=True)
    plan = plan_refresh(
        home,
        in_flight=keys_in_flight(context.instance, home.spec),
        after=before.after,
        max_keys=MAX_KEYS,
        budget_s=BUDGET_S,
    )
    withdrawn = [record for key in plan.retired if (record := retire(key, home)) is not None]
    if not before.after:
        for problem in plan.problems:
            context.log.warning(problem)
        swept = sweep(home.root)
        if home.storage is not None:  # a store in a folder lies below the home
            swept += _sweep_bucket(context, home)
        if swept:
            context.log.info(f"{swept} half-written files of killed writers deleted")
    for keys in plan.requests.values():
        _give_places(context, keys, plan, home)
    told = plan.summary() + (f"; goes on after {plan.after}" if plan.after else "")
    context.log.info(told)
    requests = list(_requests(plan, home, Known(context.instance), f"refresh-{now.isoformat()}"))
    done = before.with_(plan, retired=len(withdrawn), runs=len(requests))
    report(context.instance, home, plan, done)
    remember(context.instance, name, json.dumps({"day": day, **done.as_dict()}))
    return requests or dg.SkipReason(told)


def _give_places(
    context: dg.ScheduleEvaluationContext, keys: list[ImageKey], plan: RefreshPlan, home: Home
) -> None:
    """Add the partitions of keys. Those that a full set does not take are no longer requested."""
    found, over = with_a_place(keys, home.spec, Known(context.instance))
    for each in map(str, over):
        context.log.warning(each)
        plan.problems.append(each)
    taken = {key for part in found.values() for key in part}
    keys[:] = [key for key in keys if key in taken]
    add_keys(context.instance, keys, home.spec)


def _sweep_bucket(context: dg.ScheduleEvaluationContext, home: Home) -> int:
    """Deletes half-written objects. It needs rights of its own, and the refresh does not."""
    try:
        return home.store.sweep()
    except StoreError as error:
        context.log.warning(f"uploads in parts that were never ended may stay: {error}")
        return 0


def _requests(plan: RefreshPlan, home: Home, known: Known, name: str) -> Iterator[dg.RunRequest]:
    size = home.policy().run.batch_size
    for why, keys in plan.requests.items():
        for part, wanted in by_part(keys, home.spec).items():
            for batch in batches(wanted, known.keys(part), size):
                run_key = f"{name}-{why}-{batch.keys[0]}"
                yield run_request(batch, run_key, why, part, by_job=False)


def _continued(text: str, day: str) -> Pass | None:
    """The pass to go on with: an empty one at the start of a day, None when the day is done."""
    try:
        found = json.loads(text or "{}")
        if found.pop("day", "") != day:
            return Pass()
        known = Pass(**found)
        return known if known.after else None
    except (ValueError, TypeError, AttributeError):
        return Pass()
