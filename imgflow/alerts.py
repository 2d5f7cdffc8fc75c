"""Alerts: what people are told when the line needs them, and how it reaches them."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from imgflow.errors import ImgflowError
from imgflow.policy.policy import AlertSettings

_TRIES = 3
_BACKOFF_S = 1.0
# A try that would begin later than this is left to the next tick: Dagster ends ticks that take
# longer than a minute.
_BUDGET_S = 20.0
_TOO_MANY_REQUESTS = 429
# Chat services cut long messages, or refuse them.
_MAX_TEXT = 3000


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that a person should know.

    kind: stable snake_case word to filter by. facts: figures and names, in the order in which
    they are shown. link: where a person sees more; may be empty.
    """

    kind: str
    title: str
    text: str
    facts: Mapping[str, str | int | float] = field(default_factory=dict)
    link: str = ""

    def __str__(self) -> str:
        facts = ", ".join(f"{name}: {value}" for name, value in self.facts.items())
        return ". ".join(part for part in (self.title, self.text, facts, self.link) if part)


class Channel(Protocol):
    """A way to people. Another than the webhook goes into the resource `alerts`."""

    def send(self, alert: Alert, settings: AlertSettings) -> bool:
        """Deliver an alert; False where nobody has said where to. Raises ImgflowError where it
        did not arrive; it is sent again later."""


class Webhook:
    """Posts alerts to the address in the environment."""

    def send(self, alert: Alert, settings: AlertSettings) -> bool:
        """Raises ImgflowError (codes: webhook_invalid, alert_not_delivered)."""
        url = os.environ.get(settings.webhook_env, "").strip()
        if not url:
            return False
        host = _host(url, settings.webhook_env)
        body = {"json": _as_json, "slack": _as_slack}[settings.format](alert)
        problem = _post(url, body, settings.timeout_s)
        # Raised here and not where the request failed: what `requests` raises names the whole
        # address, and a log would show it as the cause.
        if problem:
            raise ImgflowError(
                "alert_not_delivered",
                f"the webhook on {host} did not take the alert '{alert.title}': {problem}",
                hint="It is sent again at the next tick",
            )
        return True


def _host(url: str, variable: str) -> str:
    """The host of a webhook's address: all of it that may be shown."""
    try:
        parts = urlsplit(url)
        valid, host = parts.scheme in ("http", "https"), parts.hostname
    except ValueError:
        valid, host = False, None
    if not valid or not host:
        raise ImgflowError(
            "webhook_invalid",
            f"the environment variable {variable} does not hold a webhook's address",
            hint="It must begin with https:// or http:// and name a host",
        )
    return host


def _post(url: str, body: Mapping[str, Any], timeout_s: float) -> str:
    """Why the body could not be delivered, without the address; empty if it was."""
    import requests

    clock, problem = time.monotonic(), ""
    for attempt in range(_TRIES):
        try:
            # Redirects are not followed: they would carry the alert to an address that nobody
            # has set. Nothing of the answer is read but its status.
            with requests.post(
                url, json=body, timeout=timeout_s, allow_redirects=False, stream=True
            ) as answer:
                status = answer.status_code
        except (requests.ConnectionError, requests.Timeout) as error:
            problem = type(error).__name__
        except requests.RequestException as error:  # not worth another try
            return type(error).__name__
        else:
            if 200 <= status < 300:
                return ""
            problem = f"it answered {status}"
            if status < 500 and status != _TOO_MANY_REQUESTS:
                return problem
        wait = _BACKOFF_S * 2**attempt
        if attempt == _TRIES - 1 or time.monotonic() - clock + wait > _BUDGET_S:
            break
        time.sleep(wait)
    return problem


def _as_json(alert: Alert) -> dict[str, Any]:
    return {
        "source": "imgflow",
        "kind": alert.kind,
        "title": alert.title,
        "text": alert.text[:_MAX_TEXT],
        "facts": dict(alert.facts),
        "link": alert.link,
    }


def _as_slack(alert: Alert) -> dict[str, Any]:
    lines = [f"*{_escaped(alert.title)}*", _escaped(alert.text[:_MAX_TEXT])]
    lines += [f"• {_escaped(name)}: {_escaped(str(value))}" for name, value in alert.facts.items()]
    if alert.link:
        lines.append(f"<{alert.link}|Open in Dagster>")
    return {"text": "\n".join(line for line in lines if line)}


def _escaped(text: str) -> str:
    """Text in which Slack finds no mark-up of its own: a photo's name must not ring everybody."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
