"""Runs whose process is gone. Whoever started them was killed too, so nobody marked them as failed.

Dagster's run monitoring cannot tell: its default launcher knows of no process. Such a run would
count as started for ever, and with one run at a time it would hold up the queue; so would one that
was killed before it could say its process, or that nobody came to start.
"""

from __future__ import annotations

import os
import platform
import time

import dagster as dg

_PROCESS = "imgflow/process"
_UNDER_WAY = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
START_S = 300.0
"""How long a run may take from one step of its start to the next: until it says its process."""
# A run that waits since before, because nothing was running, gets its time too.
_LOADED = time.time()


def process_tag() -> dict[str, str]:
    """The tag of a run that this process carries out."""
    return {_PROCESS: _name(os.getpid())}


def fail_orphans(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs whose process is gone, or never came to work, as failed; returns their ids."""
    records = instance.get_run_records(dg.RunsFilter(statuses=_UNDER_WAY))
    # Where Dagster's monitoring asks the launcher, a run that has not begun is its matter: a
    # machine with a card may take long to come up.
    patient = instance.run_monitoring_enabled
    orphans = [
        record.dagster_run
        for record in records
        if _is_orphan(record, _process_of(instance, record.dagster_run), patient=patient)
    ]
    for run in orphans:
        if run.status is dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, "The run's process is gone")
        else:
            instance.report_run_failed(
                run,
                "The run's process was killed. What it had made is kept: "
                "run the photos again, and the rest is made",
            )
    return [run.run_id for run in orphans]


def _process_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str | None:
    """The process that carries out a run; None until the run has said it. One that Dagster tries
    again has the tags of the run before at first, and so the process that was killed there."""
    name = run.tags.get(_PROCESS)
    if name is None or run.parent_run_id is None:
        return name
    before = instance.get_run_by_id(run.parent_run_id)
    return None if before is not None and before.tags.get(_PROCESS) == name else name


def _is_orphan(record: dg.RunRecord, name: str | None, *, patient: bool) -> bool:
    if name is not None:
        return _is_gone(name)
    return not patient and time.time() - max(record.update_timestamp.timestamp(), _LOADED) > START_S


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
