"""The line runs by itself: what comes into the upload folder is requested."""

# No postponed annotations here: Dagster reads the sensor's signature.
import hashlib
import json
from typing import Any

import dagster as dg

from imgflow.defs.jobs import rescue_job
from imgflow.defs.orphans import fail_orphans
from imgflow.defs.partitions import PHOTOS, known_keys
from imgflow.defs.queue import keys_in_flight, run_request, with_new
from imgflow.defs.requests import batches
from imgflow.defs.resources import HomeResource

INTERVAL_S = 30
MAX_KEYS = 5_000
"""Most photos that a tick requests. (Dagster adds at most 25,000 partitions a tick.)"""
BUDGET_S = 10.0
"""How long a tick compares photos with their records."""


@dg.sensor(
    name="upload_sensor",
    job=rescue_job,
    minimum_interval_seconds=INTERVAL_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Requests photos that are new in the upload folder, or changed: the photo, its "
    "manifest, its masks, its row in catalog.csv. Files that are still being written wait. "
    "Resetting the cursor has everything compared with its record again.",
)
def upload_sensor(
    context: dg.SensorEvaluationContext, home: HomeResource
) -> dg.SensorResult | dg.SkipReason:
    from imgflow.batch import Order
    from imgflow.watch import STABLE_S, Index, digest, index_file, look

    for run_id in fail_orphans(context.instance):
        context.log.warning(f"run {run_id} was killed: marked as failed, its photos come again")
    found_home = home.home()
    found_home.uploads.root.mkdir(parents=True, exist_ok=True)
    if found_home.catalog_changed_within(STABLE_S):
        return dg.SkipReason(f"{found_home.catalog_file} is still being written")
    order = Order(found_home, run_id="")
    before = _cursor(context.cursor)
    tick = before.get("tick", 0) + 1
    path = index_file(found_home)
    # A cursor that was reset: everything is compared anew.
    index = Index.load(path) if before else Index()
    entries = dict(index.entries)
    known = known_keys(context.instance)
    arrivals = look(
        found_home,
        order.line(),
        index,
        tick=tick,
        in_flight=keys_in_flight(context.instance, known),
        max_keys=MAX_KEYS,
        budget_s=BUDGET_S,
    )
    if index.entries != entries or not before:
        index.save(path)
    notices = hashlib.sha256("\n".join(arrivals.notices).encode()).hexdigest()[:16]
    if notices != before.get("notices"):
        for notice in arrivals.notices:
            context.log.warning(notice)
    for key in arrivals.given_up:
        context.log.warning(
            f"{key}: requested several times, and no run has made it. The daily catalog_refresh "
            "or `imgflow run --keys` asks for it again"
        )
    added = [str(key) for key in arrivals.new]
    after = with_new(known, added)
    requests = [
        run_request(batch, f"upload-{digest(arrivals.tokens, batch.keys)}", why)
        for why, keys in (("new", arrivals.new), ("changed", arrivals.changed))
        for batch in batches([str(key) for key in keys], after, _batch_size(order))
    ]
    told = (
        f"{arrivals.photos} photos: {len(arrivals.new)} new, {len(arrivals.changed)} changed, "
        f"{arrivals.unstable} still being written, {arrivals.busy} in a run, "
        f"{arrivals.left} left for the next tick"
    )
    context.log.info(told)
    cursor = json.dumps({"tick": tick, "photos": arrivals.photos, "notices": notices})
    if not requests:
        return dg.SensorResult(skip_reason=told, cursor=cursor)
    missing = after[len(known) :]
    return dg.SensorResult(
        run_requests=requests,
        dynamic_partitions_requests=[PHOTOS.build_add_request(missing)] if missing else [],
        cursor=cursor,
    )


def _cursor(text: str | None) -> dict[str, Any]:
    """The last tick's cursor; empty at first, or where someone has written another."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("tick"), int) else {}


def _batch_size(order: Any) -> int:
    size: int = order.home.policy().run.batch_size
    return size
