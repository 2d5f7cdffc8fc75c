"""Once a day the whole catalog is compared with what policy and engines ask for now."""

# No postponed annotations here: Dagster reads the schedule's signature.
import json
import os
from datetime import UTC
from pathlib import Path

import dagster as dg

from imgflow.defs.jobs import rescue_job
from imgflow.defs.partitions import add_keys, known_keys
from imgflow.defs.queue import keys_in_flight, run_request
from imgflow.defs.requests import batches
from imgflow.defs.resources import HomeResource

REFRESH_CRON = os.environ.get("IMGFLOW_REFRESH_CRON") or "*/5 3-4 * * *"
"""When the catalog is compared. Its first tick of a day begins, the later ones go on where that
stopped, until all of it is done."""
MAX_KEYS = 5_000
"""Most photos that a tick requests."""
BUDGET_S = 40.0
"""How long a tick compares: Dagster ends ticks that take longer than a minute."""


@dg.schedule(
    name="catalog_refresh",
    job=rescue_job,
    cron_schedule=REFRESH_CRON,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Compares uploads, records, policy and engines, and requests what is new, "
    "changed, stale or unfinished. `imgflow refresh --dry-run` shows the same at any time.",
)
def catalog_refresh(
    context: dg.ScheduleEvaluationContext, home: HomeResource
) -> list[dg.RunRequest] | dg.SkipReason:
    from imgflow.files import sweep
    from imgflow.refresh import plan_refresh, retire

    found_home = home.home()
    now = context.scheduled_execution_time.astimezone(UTC)
    day, state = now.date().isoformat(), found_home.watch / "refresh.json"
    after = _continued(state, day)
    if after is None:
        return dg.SkipReason(f"all was compared on {day} already")
    found_home.uploads.root.mkdir(parents=True, exist_ok=True)
    plan = plan_refresh(
        found_home,
        in_flight=keys_in_flight(context.instance, known_keys(context.instance)),
        after=after,
        max_keys=MAX_KEYS,
        budget_s=BUDGET_S,
    )
    for key in plan.retired:
        retire(key, found_home)
    if not after:
        for problem in plan.problems:
            context.log.warning(problem)
        swept = sweep(found_home.root)
        if found_home.storage is not None:  # a store in a folder lies below the home
            swept += found_home.store.sweep()
        if swept:
            context.log.info(f"{swept} half-written files of killed writers deleted")
    told = plan.summary() + (f"; goes on after {plan.after}" if plan.after else "")
    context.log.info(told)
    for keys in plan.requests.values():
        add_keys(context.instance, keys)
    known, size = known_keys(context.instance), found_home.policy().run.batch_size
    requests = [
        run_request(batch, f"refresh-{now.isoformat()}-{why}-{batch.keys[0]}", why)
        for why, keys in plan.requests.items()
        for batch in batches([str(key) for key in keys], known, size)
    ]
    _remember(state, day, plan.after)
    return requests or dg.SkipReason(told)


def _continued(state: Path, day: str) -> str | None:
    """The key after which to go on: empty at the start of a day, None when the day is done."""
    try:
        found = json.loads(state.read_bytes())
        if found["day"] != day:
            return ""
        return None if found["done"] else str(found["after"])
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return ""


def _remember(state: Path, day: str, after: str) -> None:
    from imgflow.files import replacing

    with replacing(state) as partial:
        partial.write_text(json.dumps({"day": day, "after": after, "done": not after}))
