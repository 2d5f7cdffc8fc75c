"""The line runs by itself: what comes into the upload folder is requested."""

# No postponed annotations here: Dagster reads the sensor's signature.
import hashlib
import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from imgflow.defs.jobs import Job
from imgflow.defs.naming import named, parts
from imgflow.defs.orphans import fail_orphans
from imgflow.defs.partitions import Known, by_part, keep_shards, partitions_of, with_a_place
from imgflow.defs.queue import keys_in_flight, photos_of, run_request, with_new
from imgflow.defs.reported import unreported
from imgflow.defs.requests import batches
from imgflow.defs.resources import HomeResource
from imgflow.home import Home
from imgflow.policy.catalogs import MAIN_SPEC, CatalogSpec

INTERVAL_S = 30
MAX_KEYS = 5_000
"""Most photos that a tick requests. (Dagster adds at most 25,000 partitions a tick.)"""
_MAX_ENDED = 50
"""Most runs that a tick looks at, of those that ended before their time."""
BUDGET_S = 10.0
"""How long a tick compares photos with their records."""


def upload_sensor_of(jobs: Sequence[Job], spec: CatalogSpec = MAIN_SPEC) -> dg.SensorDefinition:
    """What looks into a catalog's upload folder. jobs: of its partition sets."""

    @dg.sensor(
        name=named(spec, "upload_sensor"),
        jobs=jobs,
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=("" if spec == MAIN_SPEC else f"Catalog {spec.label}. ")
        + "Requests photos that are new in the upload folder, or changed: the photo, its "
        "manifest, its masks, its row in catalog.csv. Files that are still being written wait. "
        "Resetting the cursor has everything compared with its record again.",
    )
    def upload_sensor(
        context: dg.SensorEvaluationContext, home: HomeResource
    ) -> dg.SensorResult | dg.SkipReason:
        return _tick(context, home.home(spec.name))

    return upload_sensor


def _tick(context: dg.SensorEvaluationContext, found_home: Home) -> dg.SensorResult | dg.SkipReason:
    from imgflow.batch import Order
    from imgflow.watch import STABLE_S, Index, digest, index_file, look

    for run_id in fail_orphans(context.instance):
        context.log.warning(f"run {run_id} was killed: marked as failed, its photos come again")
    keep_shards(context.instance, found_home.spec)
    if found_home.inbox is None:
        found_home.uploads.root.mkdir(parents=True, exist_ok=True)
    if found_home.catalog_changed_within(STABLE_S):
        return dg.SkipReason(f"{found_home.catalog_file} is still being written")
    order = Order(found_home, run_id="")
    before, began = _cursor(context.cursor), time.time()
    tick = before.get("tick", 0) + 1
    path = index_file(found_home)
    # A cursor that was reset: everything is compared anew.
    index = Index.load(path) if before else Index()
    entries = dict(index.entries)
    known = Known(context.instance)
    in_flight = keys_in_flight(context.instance, found_home.spec, known)
    limits: dict[str, Any] = {"tick": tick, "max_keys": MAX_KEYS, "budget_s": BUDGET_S}
    if found_home.inbox is None:
        turn = None
        arrivals = look(found_home, order.line(), index, in_flight=in_flight, **limits)
    else:
        from imgflow.bucketwatch import Round, look_at_bucket
        from imgflow.notifications import Notifications

        arrivals, turn = look_at_bucket(
            found_home,
            order.line(),
            index,
            Round.of(before),
            in_flight=in_flight,
            known={key for part in parts(found_home.spec) for key in known.keys(part)},
            notifications=Notifications.of(found_home.inbox, found_home.spec.queue),
            **limits,
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
    new, over = with_a_place(arrivals.new, found_home.spec, known)
    for each in over:
        context.log.warning(str(each))
    after = {part: with_new(known.keys(part), keys) for part, keys in new.items()}
    size = _batch_size(order)
    requests = [
        run_request(batch, f"upload-{digest(arrivals.tokens, batch.keys)}", why, part)
        for why, keys in (("new", new), ("changed", by_part(arrivals.changed, found_home.spec)))
        for part, wanted in keys.items()
        for batch in batches(wanted, after.get(part) or known.keys(part), size)
    ]
    unshown = _unshown(context.instance, found_home, before, known, in_flight)
    again = [key for key in unshown.keys if key not in arrivals.tokens]
    requests += [
        run_request(batch, f"report-{began:.0f}-{batch.keys[0]}", "not shown", part)
        for part, keys in by_part(again, found_home.spec).items()
        for batch in batches(keys, after.get(part) or known.keys(part), size)
    ]
    told = (
        f"{arrivals.photos} photos: {len(arrivals.new)} new, {len(arrivals.changed)} changed, "
        f"{arrivals.unstable} still being written, {arrivals.busy} in a run, "
        f"{arrivals.left} left for the next tick"
    )
    if again:
        told += f", {len(again)} made by a run that ended before it could say so"
    context.log.info(told)
    cursor = json.dumps(
        {
            "tick": tick,
            "photos": arrivals.photos,
            "notices": notices,
            "began": began,
            "ended": unshown.runs,
            **({"bucket": turn.as_list()} if turn else {}),
        }
    )
    if not requests:
        return dg.SensorResult(skip_reason=told, cursor=cursor)
    missing = {part: keys[len(known.keys(part)) :] for part, keys in after.items()}
    return dg.SensorResult(
        run_requests=requests,
        dynamic_partitions_requests=[
            partitions_of(part).build_add_request(keys) for part, keys in missing.items() if keys
        ],
        cursor=cursor,
    )


@dataclass(frozen=True, slots=True)
class _Unshown:
    """Photos that are made and that Dagster does not show. runs: those to look at again, as some
    of their photos are in another run just now."""

    keys: list[str]
    runs: list[str]


def _unshown(
    instance: dg.DagsterInstance,
    home: Home,
    before: Mapping[str, Any],
    known: Known,
    in_flight: Collection[str],
) -> _Unshown:
    """What runs that ended before their time since the last tick have made and not reported."""
    since = datetime.fromtimestamp(before.get("began", 0.0), UTC)
    statuses = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
    runs = [
        *instance.get_runs(dg.RunsFilter(statuses=statuses, updated_after=since), limit=_MAX_ENDED),
        *filter(None, map(instance.get_run_by_id, before.get("ended", []))),
    ]
    missing: dict[str, list[str]] = {
        run.run_id: unreported(instance, home, photos_of(run, home.spec, known)) for run in runs
    }
    wanted = dict.fromkeys(key for keys in missing.values() for key in keys)
    return _Unshown(
        keys=[key for key in wanted if key not in in_flight],
        runs=[run for run, keys in missing.items() if any(key in in_flight for key in keys)],
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
