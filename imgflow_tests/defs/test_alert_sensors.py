"""People are told once of what went wrong, and again where it could not be delivered."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from PIL import Image

from imgflow.alerts import Alert
from imgflow.definitions import defs, line_definitions
from imgflow.defs import alerts
from imgflow.defs.alerts import outcome_tags
from imgflow.defs.launch import instance, launch
from imgflow.defs.refreshed import refresh_key
from imgflow.defs.resources import HomeResource, Progress
from imgflow.errors import ImgflowError
from imgflow.home import Home
from imgflow.policy.catalogs import MAIN_SPEC
from imgflow.policy.policy import AlertSettings
from imgflow.store.keys import ImageKey

FAILURE, RATE, OVERDUE = "run_failure_alert", "quarantine_rate_alert", "overdue_alert"


class Recorder:
    """Takes alerts, or says that it cannot."""

    def __init__(self) -> None:
        self.sent: list[Alert] = []
        self.problem: ImgflowError | None = None
        self.configured = True

    def send(self, alert: Alert, settings: AlertSettings) -> bool:
        if self.problem is not None:
            raise self.problem
        if self.configured:
            self.sent.append(alert)
        return self.configured


class Daemon:
    """Ticks a sensor, and keeps its cursor as Dagster's daemon does: not of ticks that fail."""

    def __init__(self, home: Home, dagster: dg.DagsterInstance) -> None:
        self.home, self.instance, self.channel = home, dagster, Recorder()
        self.definitions = line_definitions(str(home.root))
        self.cursors: dict[str, str | None] = {}

    def tick(self, sensor: str) -> str:
        """Returns why no run was asked for."""
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursors.get(sensor),
            definitions=self.definitions,
            resources={"home": HomeResource(root=str(self.home.root)), "alerts": self.channel},
        )
        found = self.definitions.resolve_sensor_def(sensor).evaluate_tick(context)
        self.cursors[sensor] = found.cursor
        return found.skip_message or ""

    def run(self, images: int = 0, stopped: int = 0, **fields: object) -> dg.DagsterRun:
        """A run of the line that has succeeded."""
        given = {
            "status": dg.DagsterRunStatus.SUCCESS,
            "tags": outcome_tags("main", images, stopped) if images else {},
            **fields,
        }
        return self.instance.add_run(dg.DagsterRun("rescue_photos", **given))

    def fail(self, message: str = "it broke", keys: tuple[str, ...] = ("a.png",)) -> str:
        config = {"ops": {"rescue": {"config": {"keys": list(keys)}}}}
        run = self.run(status=dg.DagsterRunStatus.STARTED, run_config=config)
        self.instance.report_run_failed(run, message)
        return run.run_id


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    found = Home(tmp_path / "data")
    found.uploads.root.mkdir(parents=True)
    return found


@pytest.fixture
def dagster() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


@pytest.fixture
def daemon(home: Home, dagster: dg.DagsterInstance) -> Daemon:
    return Daemon(home, dagster)


def test_the_sensors_run_by_themselves() -> None:
    found = {sensor.name: sensor for sensor in defs.sensors or []}
    for name in (FAILURE, RATE, OVERDUE):
        assert found[name].default_status is dg.DefaultSensorStatus.RUNNING


# -- runs that failed ------------------------------------------------------------------


def test_what_a_failed_run_says(home: Home) -> None:
    """A real run, in which no photo is done within the time allowed."""
    home.policy_file.write_text(
        "run: {workers: 1, image_timeout_s: 0.001}\nretries: {budget: 0}\n"
        "alerts: {dagster_url: 'https://dagster.shop/'}\n"
    )
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(home.uploads.root / "a.png")
    with instance(home) as dagster:
        daemon = Daemon(home, dagster)
        daemon.tick(FAILURE)
        (run,) = launch([ImageKey("a.png")], home, Progress())
        daemon.tick(FAILURE)
        tags = dagster.get_run_by_id(run.run_id).tags
    (alert,) = daemon.channel.sent
    assert alert.kind == "run_failed"
    assert run.run_id[:8] in alert.title
    assert "(a.png)" in alert.text
    assert "took longer than 0.001 seconds" in alert.text
    assert "imgflow status" in alert.text
    assert alert.link == f"https://dagster.shop/runs/{run.run_id}"
    assert (tags["imgflow/images"], tags["imgflow/stopped"]) == ("1", "1")


def test_a_failure_is_told_once_and_none_from_before_the_sensor_ran(daemon: Daemon) -> None:
    daemon.fail("long ago")
    daemon.tick(FAILURE)
    assert daemon.channel.sent == []
    daemon.fail("its process was killed")
    for _ in range(3):
        daemon.tick(FAILURE)
    (alert,) = daemon.channel.sent
    assert "its process was killed" in alert.text


def test_the_very_first_failure_of_an_installation_is_told(daemon: Daemon) -> None:
    daemon.tick(FAILURE)
    daemon.fail()
    daemon.tick(FAILURE)
    assert len(daemon.channel.sent) == 1


def test_a_delivery_that_fails_fails_the_tick_and_is_made_up_for_in_one_alert(
    daemon: Daemon,
) -> None:
    daemon.tick(FAILURE)
    daemon.channel.problem = ImgflowError("alert_not_delivered", "the webhook is down")
    for number in range(7):
        daemon.fail(f"problem {number}", ("a.png", f"{number}.png"))
        with pytest.raises(Exception, match="the webhook is down"):
            daemon.tick(FAILURE)
    daemon.channel.problem = None
    daemon.tick(FAILURE)
    daemon.tick(FAILURE)
    (alert,) = daemon.channel.sent
    assert alert.title == "7 runs failed"
    assert alert.facts == {"photos": 8}
    assert "problem 4" in alert.text
    assert "and 2 more runs" in alert.text


def test_a_run_of_many_photos_names_a_few(daemon: Daemon) -> None:
    daemon.tick(FAILURE)
    daemon.fail(keys=tuple(f"{number}.png" for number in range(64)))
    daemon.tick(FAILURE)
    (alert,) = daemon.channel.sent
    assert "4.png and 59 more" in alert.text


def test_other_code_locations_look_after_their_own_runs(daemon: Daemon) -> None:
    target = LoadableTargetOrigin(python_file="shop.py")
    here, other = (
        InProcessCodeLocationOrigin(target, location_name=name) for name in ("imgflow", "shop")
    )
    context = dg.SensorEvaluationContext(
        instance_ref=None,
        last_tick_completion_time=None,
        last_run_key=None,
        cursor=None,
        repository_name=None,
        code_location_origin=here,
    )

    def run_of(location: InProcessCodeLocationOrigin) -> dg.DagsterRun:
        from dagster._core.remote_origin import RemoteJobOrigin, RemoteRepositoryOrigin

        origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), "nightly")
        return dg.DagsterRun("nightly", remote_job_origin=origin)

    assert alerts._is_ours(run_of(here), context)
    assert not alerts._is_ours(run_of(other), context)
    assert alerts._is_ours(dg.DagsterRun("rescue_photos"), context), "`imgflow run` has none"


def test_without_a_webhook_the_log_says_how_to_set_one(
    daemon: Daemon, capfd: pytest.CaptureFixture[str]
) -> None:
    daemon.channel.configured = False
    daemon.tick(FAILURE)
    daemon.fail("it broke")
    daemon.tick(FAILURE)
    told = capfd.readouterr().err
    assert "it broke" in told
    assert "IMGFLOW_WEBHOOK" in told
    daemon.tick(FAILURE)
    assert "IMGFLOW_WEBHOOK" not in capfd.readouterr().err


# -- the share of photos that need a person --------------------------------------------


def test_a_high_rate_is_told_once_until_it_has_fallen(daemon: Daemon) -> None:
    daemon.run(64, 13)
    daemon.tick(RATE)
    daemon.run(64, 13)
    daemon.tick(RATE)
    (alert,) = daemon.channel.sent
    assert alert.title == "20% of the photos need a person"
    assert alert.facts == {"images": 64, "stopped": 13, "alert above": "20%"}
    daemon.run(200, 0)
    daemon.tick(RATE)
    assert len(daemon.channel.sent) == 1
    daemon.run(200, 50)
    daemon.tick(RATE)
    assert len(daemon.channel.sent) == 2


def test_a_rate_at_the_limit_is_no_incident(daemon: Daemon) -> None:
    daemon.run(100, 20)
    assert "20 of the latest 100" in daemon.tick(RATE)
    assert daemon.channel.sent == []


def test_a_rate_that_stays_high_is_told_again_after_a_day(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000_000.0
    monkeypatch.setattr("imgflow.defs.alerts.time.time", lambda: now)
    daemon.run(100, 90)
    for hours, told in ((0, 1), (23, 1), (24.1, 2), (25, 2)):
        now = 1_000_000.0 + hours * 3600
        daemon.tick(RATE)
        assert len(daemon.channel.sent) == told
    assert len(daemon.cursors[RATE] or "") < 100


def test_a_rate_alert_that_was_not_delivered_is_sent_at_the_next_tick(daemon: Daemon) -> None:
    daemon.run(100, 90)
    daemon.channel.problem = ImgflowError("alert_not_delivered", "the webhook is down")
    with pytest.raises(Exception, match="the webhook is down"):
        daemon.tick(RATE)
    daemon.channel.problem = None
    daemon.tick(RATE)
    daemon.tick(RATE)
    assert len(daemon.channel.sent) == 1


def test_few_images_tell_nothing_and_others_runs_are_passed_over(daemon: Daemon) -> None:
    daemon.run(19, 19)
    daemon.run()  # of another job
    daemon.run(9, 9, status=dg.DagsterRunStatus.STARTED)
    assert "too few" in daemon.tick(RATE)
    daemon.run(1, 1, status=dg.DagsterRunStatus.FAILURE)
    daemon.tick(RATE)
    assert len(daemon.channel.sent) == 1


def test_only_the_latest_images_count(
    home: Home, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "_PAGE", 2)
    home.policy_file.write_text("alerts: {quarantine_window: 50, quarantine_rate: 0.5}\n")
    daemon.run(1000, 1000)
    for _ in range(5):
        daemon.run(10, 1)
    assert "5 of the latest 50" in daemon.tick(RATE)


def test_a_cursor_that_somebody_wrote_is_no_obstacle(daemon: Daemon) -> None:
    daemon.cursors = {FAILURE: "x", RATE: "[1]", OVERDUE: '{"watched_since": "x"}'}
    daemon.run(100, 90)
    daemon.tick(FAILURE)
    daemon.tick(RATE)
    daemon.tick(OVERDUE)
    assert len(daemon.channel.sent) == 1


# -- a catalog that is overdue ---------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """clock(hours): it is so many hours later than now."""
    began = time.time()

    def later(hours: float) -> None:
        monkeypatch.setattr("imgflow.defs.alerts.time.time", lambda: began + hours * 3600)

    return later


def test_a_catalog_that_was_not_compared_for_long_is_told_once_a_day(
    daemon: Daemon, clock: Callable[[float], None]
) -> None:
    compared = dg.AssetMaterialization(refresh_key(MAIN_SPEC))
    daemon.instance.report_runless_asset_event(compared)
    limit = MAIN_SPEC.fresh_within_hours
    for hours, told in (
        (0, 0),
        (limit - 0.1, 0),
        (limit + 0.1, 1),
        (limit + 23, 1),
        (limit + 25, 2),
    ):
        clock(hours)
        assert "last compared" in daemon.tick(OVERDUE)
        assert len(daemon.channel.sent) == told, hours
    alert = daemon.channel.sent[0]
    assert (alert.kind, alert.facts["hours"]) == ("catalog_overdue", limit + 0.1)
    assert alert.link == "http://127.0.0.1:3000/assets/refresh"


def test_a_catalog_that_was_never_compared_is_as_old_as_its_sensor(
    daemon: Daemon, clock: Callable[[float], None]
) -> None:
    limit = MAIN_SPEC.fresh_within_hours
    for hours, told in ((0, 0), (limit, 0), (limit + 1, 1)):
        clock(hours)
        assert "never compared" in daemon.tick(OVERDUE)
        assert len(daemon.channel.sent) == told, hours
    compared = dg.AssetMaterialization(refresh_key(MAIN_SPEC))
    daemon.instance.report_runless_asset_event(compared)
    clock(limit + 2)
    assert "last compared 1.0 hours ago" in daemon.tick(OVERDUE)
    assert "told_at" not in (daemon.cursors[OVERDUE] or ""), "the next time it is told at once"


def test_an_overdue_alert_that_was_not_delivered_is_sent_at_the_next_tick(
    daemon: Daemon, clock: Callable[[float], None]
) -> None:
    daemon.tick(OVERDUE)
    clock(1000)
    daemon.channel.problem = ImgflowError("alert_not_delivered", "the webhook is down")
    with pytest.raises(Exception, match="the webhook is down"):
        daemon.tick(OVERDUE)
    daemon.channel.problem = None
    daemon.tick(OVERDUE)
    daemon.tick(OVERDUE)
    assert len(daemon.channel.sent) == 1
