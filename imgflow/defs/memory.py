"""A few short texts that outlive processes and machines, in Dagster's own storage.

Schedules have no cursor, and a code server in a container no disk that stays.
"""

from __future__ import annotations

import dagster as dg

_PREFIX = "imgflow/"


def recall(instance: dg.DagsterInstance, name: str) -> str:
    """What was remembered under a name; empty if nothing was."""
    key = _PREFIX + name
    return instance.daemon_cursor_storage.get_cursor_values({key}).get(key, "")


def remember(instance: dg.DagsterInstance, name: str, text: str) -> None:
    instance.daemon_cursor_storage.set_cursor_values({_PREFIX + name: text})
