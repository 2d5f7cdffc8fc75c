"""A webhook gets its alert whole, or the sender hears why not; its address is never told."""

from __future__ import annotations

import json
import threading
import time
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from imgflow import alerts
from imgflow.alerts import Alert, Webhook
from imgflow.errors import ImgflowError
from imgflow.policy.policy import AlertSettings

ALERT = Alert(
    "run_failed",
    "Run 1234 failed",
    "<!channel>.png & co. crashed",
    {"photos": 3},
    "http://127.0.0.1:3000/runs/1234",
)
SECRET = "T0SECRET"


class Receiver(ThreadingHTTPServer):
    """Answers with the given statuses, one after the other, then with the last one for ever."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.bodies: list[dict[str, Any]] = []
        self.statuses = [200]
        self.wait_s = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{SECRET}"


class _Answer(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append(json.loads(body))
        time.sleep(self.server.wait_s)
        statuses = self.server.statuses
        self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
        self.send_header("Location", f"http://127.0.0.1:{self.server.server_address[1]}/other")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST  # noqa: N815 - what a client that follows redirects would send

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setattr(alerts, "_BACKOFF_S", 0.0)
    with Receiver() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("IMGFLOW_WEBHOOK", server.url)
        yield server
        server.shutdown()


def refused(settings: AlertSettings | None = None) -> ImgflowError:
    with pytest.raises(ImgflowError) as raised:
        Webhook().send(ALERT, settings or AlertSettings())
    whole = "".join(traceback.format_exception(raised.value))
    assert SECRET not in whole
    return raised.value


def test_an_alert_arrives_as_json(receiver: Receiver) -> None:
    assert Webhook().send(ALERT, AlertSettings())
    assert receiver.bodies == [
        {
            "source": "imgflow",
            "kind": "run_failed",
            "title": "Run 1234 failed",
            "text": "<!channel>.png & co. crashed",
            "facts": {"photos": 3},
            "link": "http://127.0.0.1:3000/runs/1234",
        }
    ]


def test_slack_gets_text_in_which_a_photos_name_rings_nobody(receiver: Receiver) -> None:
    assert Webhook().send(ALERT, AlertSettings(format="slack"))
    assert receiver.bodies == [
        {
            "text": "*Run 1234 failed*\n&lt;!channel&gt;.png &amp; co. crashed\n• photos: 3\n"
            "<http://127.0.0.1:3000/runs/1234|Open in Dagster>"
        }
    ]


def test_the_address_comes_from_the_variable_that_the_policy_names(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IMGFLOW_WEBHOOK")
    assert not Webhook().send(ALERT, AlertSettings())
    monkeypatch.setenv("SHOP_HOOK", f" {receiver.url}\n")  # as read from a file of secrets
    assert Webhook().send(ALERT, AlertSettings(webhook_env="SHOP_HOOK"))
    assert len(receiver.bodies) == 1


@pytest.mark.parametrize("busy", [500, 503, 429])
def test_a_busy_webhook_is_tried_again(receiver: Receiver, busy: int) -> None:
    receiver.statuses = [busy, busy, 204]
    assert Webhook().send(ALERT, AlertSettings())
    assert len(receiver.bodies) == 3


def test_a_webhook_that_stays_busy_is_given_up_for_this_time(receiver: Receiver) -> None:
    receiver.statuses = [502]
    error = refused()
    assert error.code == "alert_not_delivered"
    assert "127.0.0.1" in error.what
    assert "502" in error.what
    assert len(receiver.bodies) == 3


@pytest.mark.parametrize("status", [400, 403, 404, 301, 307, 308])
def test_a_refusal_is_not_tried_again_and_a_redirect_not_followed(
    receiver: Receiver, status: int
) -> None:
    receiver.statuses = [status]
    assert str(status) in refused().what
    assert len(receiver.bodies) == 1


def test_a_webhook_that_does_not_answer_costs_a_bounded_time(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "_BUDGET_S", 0.05)
    receiver.wait_s = 0.5
    clock = time.monotonic()
    assert "Timeout" in refused(AlertSettings(timeout_s=0.1)).what
    assert time.monotonic() - clock < 0.4
    assert len(receiver.bodies) == 1, "no try begins after the budget"


def test_a_host_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "_BACKOFF_S", 0.0)
    monkeypatch.setenv("IMGFLOW_WEBHOOK", f"http://127.0.0.1:9/{SECRET}")
    assert refused().code == "alert_not_delivered"


@pytest.mark.parametrize(
    "address",
    [
        f"ftp://example.com/{SECRET}",
        f"file:///{SECRET}",
        f"hooks.example.com/{SECRET}",
        f"https:///{SECRET}",
        f"http://[{SECRET}",
    ],
)
def test_what_is_no_web_address_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMGFLOW_WEBHOOK", address)
    error = refused()
    assert error.code == "webhook_invalid"
    assert "IMGFLOW_WEBHOOK" in error.what


def test_a_very_long_text_is_cut(receiver: Receiver) -> None:
    Webhook().send(Alert("run_failed", "t", "x" * 100_000), AlertSettings())
    assert len(receiver.bodies[0]["text"]) == 3000
