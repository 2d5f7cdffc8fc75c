"""Who is told: of runs that failed, of many photos that need a person, of an overdue catalog.

A delivery that fails fails its tick, and the next tick sends it again: the cursor only moves on
once an alert has arrived. (Dagster's own run-failure sensor moves on all the same, and the alert
would be lost.)
"""

# No postponed annotations here: Dagster reads the sensors' signatures.
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from imgflow.alerts import Alert, Channel
from imgflow.defs.naming import named
from imgflow.defs.partitions import Known
from imgflow.defs.queue import CATALOG_TAG, is_of, photos_of
from imgflow.defs.refreshed import last_refreshed, refresh_key
from imgflow.defs.resources import HomeResource
from imgflow.home import Home
from imgflow.policy.catalogs import MAIN, MAIN_SPEC, CatalogSpec
from imgflow.policy.policy import AlertSettings

INTERVAL_S = 60
OVERDUE_INTERVAL_S = 600
REMIND_S = 24 * 3600
"""A rate that stays too high, or a catalog that stays overdue, is told again after so long."""
_MAX_FAILURES = 50  # of one alert
_MAX_NAMED = 5  # runs, and photos of a run, that an alert names
_PAGE, _MAX_RUNS = 50, 500  # that the rate is taken of, at most
_IMAGES, _STOPPED = "imgflow/images", "imgflow/stopped"


def outcome_tags(catalog: str, images: int, stopped: int) -> dict[str, str]:
    """The tags of a run that is done: its images, and how many of them need a person."""
    return {CATALOG_TAG: catalog, _IMAGES: str(images), _STOPPED: str(stopped)}


def run_failure_alert_of(
    spec: CatalogSpec = MAIN_SPEC, others: Sequence[CatalogSpec] | None = ()
) -> dg.SensorDefinition:
    """Who is told of a catalog's runs that failed.

    others: all runs but those of these catalogs are told, so that one that is of no catalog has
    its teller, too; None: only this catalog's.
    """

    @dg.sensor(
        name=named(spec, "run_failure_alert"),
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=_of(spec)
        + "Tells people of runs that failed: one alert for all since the last tick.",
    )
    def run_failure_alert(
        context: dg.SensorEvaluationContext, home: HomeResource, alerts: dg.ResourceParam[Channel]
    ) -> dg.SensorResult:
        return _tell_failures(context, home.home(spec.name), others, alerts)

    return run_failure_alert


def _of(spec: CatalogSpec) -> str:
    return "" if spec == MAIN_SPEC else f"Catalog {spec.label}. "


def _tell_failures(
    context: dg.SensorEvaluationContext,
    home: Home,
    others: Sequence[CatalogSpec] | None,
    alerts: Channel,
) -> dg.SensorResult:
    cursor = context.cursor or ""
    if not cursor.isdigit():  # at first, what failed before is not told
        latest = context.instance.fetch_run_status_changes(
            dg.DagsterEventType.RUN_FAILURE, limit=1
        ).records
        cursor = str(latest[0].storage_id if latest else 0)
        return dg.SensorResult(skip_reason="Runs that fail from now on are told", cursor=cursor)
    events = context.instance.fetch_run_status_changes(
        dg.RunStatusChangeRecordsFilter(
            dg.DagsterEventType.RUN_FAILURE, after_storage_id=int(cursor)
        ),
        ascending=True,
        limit=_MAX_FAILURES,
    ).records
    failed = _failures(context, [event.event_log_entry for event in events], home.spec, others)
    if failed:
        settings = home.policy().alerts
        _tell(context, alerts, _failure_alert(failed, home.spec, settings), settings)
    return dg.SensorResult(
        skip_reason=f"{len(failed)} runs have failed since the last tick",
        cursor=str(events[-1].storage_id) if events else cursor,
    )


@dataclass(frozen=True, slots=True)
class _Failed:
    """A run that failed, and why."""

    run_id: str
    photos: Sequence[str]
    reason: str

    def __str__(self) -> str:
        named = ", ".join(self.photos[:_MAX_NAMED])
        more = len(self.photos) - _MAX_NAMED
        photos = f"{named} and {more} more" if more > 0 else named or "no photo"
        return f"Run {self.run_id[:8]} ({photos}): {self.reason}"


def _failures(
    context: dg.SensorEvaluationContext,
    entries: Sequence[dg.EventLogEntry],
    spec: CatalogSpec,
    others: Sequence[CatalogSpec] | None,
) -> list[_Failed]:
    """The runs of this code location and catalog among those that failed."""
    known, found = Known(context.instance), []
    for entry in entries:
        run = context.instance.get_run_by_id(entry.run_id)
        if run is None or not _is_ours(run, context):
            continue
        if not is_of(run, spec) if others is None else any(is_of(run, each) for each in others):
            continue
        found.append(_Failed(run.run_id, photos_of(run, spec, known), _reason(entry)))
    return found


def _is_ours(run: dg.DagsterRun, context: dg.SensorEvaluationContext) -> bool:
    """Whether a run is of this code location; one from a terminal is of none."""
    here, origin = context.code_location_origin, run.remote_job_origin
    if here is None or origin is None:
        return True
    return origin.repository_origin.code_location_origin.location_name == here.location_name


def _reason(entry: dg.EventLogEntry) -> str:
    """Why a run failed: what its step said of it, or else Dagster."""
    event = entry.dagster_event
    if event is None:
        return entry.user_message
    data = event.job_failure_data  # None where a run was marked as failed from outside
    step = data.first_step_failure_event if data else None
    if step is not None and step.step_failure_data.error is not None:
        told = step.step_failure_data.user_failure_data
        error = step.step_failure_data.error
        # The outermost error only says that the op failed.
        return (told.description if told else "") or (error.cause or error).message.strip()
    if data and data.error is not None:
        return data.error.message.strip()
    return event.message or "no reason was given"


def _failure_alert(failed: Sequence[_Failed], spec: CatalogSpec, settings: AlertSettings) -> Alert:
    lines = [str(each) for each in failed[:_MAX_NAMED]]
    if len(failed) > _MAX_NAMED:
        lines.append(f"and {len(failed) - _MAX_NAMED} more runs")
    url = settings.dagster_url.rstrip("/")
    photos = len({photo for each in failed for photo in each.photos})
    hint = "The run's log says more; `imgflow status` names the photos that wait"
    if len(failed) == 1:
        title, link = f"Run {failed[0].run_id[:8]} failed", f"{url}/runs/{failed[0].run_id}"
    else:
        title, link = f"{len(failed)} runs failed", f"{url}/runs"
    facts = {**_catalog(spec), "photos": photos}
    return Alert("run_failed", title, "\n".join([*lines, hint]), facts, link)


def _catalog(spec: CatalogSpec) -> dict[str, str | int | float]:
    """The catalog as a fact of an alert; no fact where there are no others."""
    return {} if spec == MAIN_SPEC else {"catalog": spec.label}


def quarantine_rate_alert_of(spec: CatalogSpec = MAIN_SPEC) -> dg.SensorDefinition:
    """Who is told when many photos of a catalog need a person."""

    @dg.sensor(
        name=named(spec, "quarantine_rate_alert"),
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=_of(spec)
        + "Tells people when too many of the latest photos need a person (the policy's "
        "`alerts` says how many): once, until it has become better, or for a day.",
    )
    def quarantine_rate_alert(
        context: dg.SensorEvaluationContext, home: HomeResource, alerts: dg.ResourceParam[Channel]
    ) -> dg.SensorResult:
        return _tell_rate(context, home.home(spec.name), alerts)

    return quarantine_rate_alert


def _tell_rate(context: dg.SensorEvaluationContext, home: Home, alerts: Channel) -> dg.SensorResult:
    settings = home.policy().alerts
    images, stopped = _latest_images(context.instance, settings.quarantine_window, home.name)
    told = f"{stopped} of the latest {images} images need a person"
    if images < settings.quarantine_min_images:
        return dg.SensorResult(skip_reason=f"{told}: too few to judge", cursor=context.cursor)
    if stopped / images <= settings.quarantine_rate:
        return dg.SensorResult(skip_reason=told, cursor="{}")
    alert = Alert(
        "quarantine_rate",
        f"{stopped / images:.0%} of the photos need a person",
        "Something may have changed for many photos at once: a supplier's files, the policy, an "
        "engine. `imgflow status` says why each of them waits",
        {
            **_catalog(home.spec),
            "images": images,
            "stopped": stopped,
            "alert above": f"{settings.quarantine_rate:.0%}",
        },
        f"{settings.dagster_url.rstrip('/')}/runs",
    )
    return _tell_once(context, alerts, alert, settings, told, {})


def _latest_images(instance: dg.DagsterInstance, window: int, catalog: str) -> tuple[int, int]:
    """Images of a catalog's latest finished runs, and how many of them need a person. Whole runs,
    until the window is full; what they did stands in their tags."""
    finished = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE],
        # Runs of `main` from before there were catalogs say nothing of it.
        tags={} if catalog == MAIN else {CATALOG_TAG: catalog},
    )
    images, stopped, cursor = 0, 0, None
    for _ in range(_MAX_RUNS // _PAGE):
        runs = instance.get_runs(filters=finished, cursor=cursor, limit=_PAGE)
        for run in runs:
            if run.tags.get(CATALOG_TAG, MAIN) != catalog:
                continue
            images += int(run.tags.get(_IMAGES, 0))
            stopped += int(run.tags.get(_STOPPED, 0))
            if images >= window:
                return images, stopped
        if len(runs) < _PAGE:
            break
        cursor = runs[-1].run_id
    return images, stopped


def overdue_alert_of(spec: CatalogSpec = MAIN_SPEC) -> dg.SensorDefinition:
    """Who is told when a catalog was not compared as a whole for too long."""

    @dg.sensor(
        name=named(spec, "overdue_alert"),
        minimum_interval_seconds=OVERDUE_INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=_of(spec)
        + "Tells people when the last whole comparison of the catalog is older than "
        f"{spec.fresh_within_hours:g} hours, as its freshness policy does in the UI: once, until "
        "it was compared, or for a day.",
    )
    def overdue_alert(
        context: dg.SensorEvaluationContext, home: HomeResource, alerts: dg.ResourceParam[Channel]
    ) -> dg.SensorResult:
        return _tell_overdue(context, home.home(spec.name), alerts)

    return overdue_alert


def _tell_overdue(
    context: dg.SensorEvaluationContext, home: Home, alerts: Channel
) -> dg.SensorResult:
    spec, now = home.spec, time.time()
    # A catalog that was never compared is as old as this sensor.
    watched_since = _number(context.cursor, "watched_since") or now
    cursor = {"watched_since": watched_since}
    compared_at = last_refreshed(context.instance, spec)
    hours = (now - (compared_at or watched_since)) / 3600
    what = "last compared" if compared_at else "never compared, and watched since"
    told = f"{what} {hours:.1f} hours ago; overdue after {spec.fresh_within_hours:g}"
    if hours <= spec.fresh_within_hours:
        return dg.SensorResult(skip_reason=told, cursor=json.dumps(cursor))
    settings = home.policy().alerts
    path = "/".join(refresh_key(spec).path)
    alert = Alert(
        "catalog_overdue",
        f"The catalog '{spec.label}' was not compared for {hours:.0f} hours",
        "What was deleted, or has become stale, is not seen. The schedule "
        f"{named(spec, 'catalog_refresh')} compares it: see whether Dagster's daemon runs, and "
        "what its ticks say",
        {"catalog": spec.label, "hours": round(hours, 1), "alert above": spec.fresh_within_hours},
        f"{settings.dagster_url.rstrip('/')}/assets/{path}",
    )
    return _tell_once(context, alerts, alert, settings, told, cursor)


def _tell_once(
    context: dg.SensorEvaluationContext,
    alerts: Channel,
    alert: Alert,
    settings: AlertSettings,
    told: str,
    cursor: Mapping[str, float],
) -> dg.SensorResult:
    """Tell people of what lasts, unless they were told less than a day ago.

    told: it as the tick's log has it. cursor: what else the sensor remembers.
    """
    now = time.time()
    if now - _number(context.cursor, "told_at") < REMIND_S:
        return dg.SensorResult(skip_reason=f"{told}: people know", cursor=context.cursor)
    _tell(context, alerts, alert, settings)
    return dg.SensorResult(skip_reason=told, cursor=json.dumps({**cursor, "told_at": now}))


def _number(cursor: str | None, name: str) -> float:
    """A number of a cursor; 0 where it has none."""
    try:
        return float(json.loads(cursor or "{}").get(name, 0))
    except (ValueError, TypeError, AttributeError):
        return 0.0


def _tell(
    context: dg.SensorEvaluationContext, alerts: Channel, alert: Alert, settings: AlertSettings
) -> None:
    """Deliver an alert, or warn where nobody has said where to. Raises ImgflowError."""
    if not alerts.send(alert, settings):
        context.log.warning(
            f"{alert}. Nobody was told: set the environment variable {settings.webhook_env} to a "
            "webhook's address, and restart `imgflow dev`"
        )
