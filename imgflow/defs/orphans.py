"""Runs whose process is gone. Whoever started them was killed too, so nobody marked them as failed.

Dagster's run monitoring cannot tell: its default launcher knows of no process. Such a run would
count as started for ever, and with one run at a time it would hold up the queue.
"""

from __future__ import annotations

import os
import platform

import dagster as dg

_PROCESS = "imgflow/process"


def process_tag() -> dict[str, str]:
    """The tag of a run that this process carries out."""
    return {_PROCESS: _name(os.getpid())}


def fail_orphans(instance: dg.DagsterInstance) -> list[str]:
    """Mark the started runs of this machine whose process is gone as failed; returns their ids."""
    started = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
    orphans = [run for run in started if _is_gone(run.tags.get(_PROCESS, ""))]
    for run in orphans:
        instance.report_run_failed(
            run,
            "The run's process was killed. What it had made is kept: "
            "run the photos again, and the rest is made",
        )
    return [run.run_id for run in orphans]


def _is_gone(name: str) -> bool:
    machine, _, rest = name.rpartition("/")
    pid = rest.partition(":")[0]
    return machine == platform.node() and pid.isdigit() and _name(int(pid)) != name


def _name(pid: int) -> str:
    """Machine, process, and when it started: numbers of processes are given again."""
    import psutil

    try:
        since = psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return ""
    return f"{platform.node()}/{pid}:{since:.0f}"
