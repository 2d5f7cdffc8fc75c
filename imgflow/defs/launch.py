"""Runs of the line from a terminal, on the same instance that the Dagster UI shows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from imgflow.defs.orphans import fail_orphans, process_tag
from imgflow.defs.partitions import add_keys, by_part, known_keys
from imgflow.defs.queue import CATALOG_TAG, keys_in_flight
from imgflow.defs.requests import batches
from imgflow.defs.resources import Progress
from imgflow.home import Home
from imgflow.store.keys import ImageKey

_SETTINGS = "dagster.yaml"
# Outside the project there is no dagster.yaml to link; telemetry stays off all the same.
_WITHOUT_PROJECT = "telemetry: {enabled: false}\n"


@dataclass(frozen=True, slots=True)
class Launched:
    """A run that was made. `error`: why it failed, empty if it did not."""

    run_id: str
    keys: tuple[str, ...]
    error: str = ""


def dagster_home(home: Home) -> Path:
    """Dagster's folder: DAGSTER_HOME where that is set, else in the installation's folder.

    The project's dagster.yaml is linked into it, so that there is one such file.
    """
    if os.environ.get("DAGSTER_HOME"):
        return Path(os.environ["DAGSTER_HOME"])
    folder = home.dagster
    folder.mkdir(parents=True, exist_ok=True)
    project, settings = Path.cwd() / _SETTINGS, folder / _SETTINGS
    ours = settings.is_file() and settings.read_text() == _WITHOUT_PROJECT
    if settings.exists() and not ours:
        return folder
    settings.unlink(missing_ok=True)  # perhaps a link to a project that has moved
    if project.is_file():
        settings.symlink_to(project)
    else:
        settings.write_text(_WITHOUT_PROJECT)
    return folder


@contextmanager
def instance(home: Home) -> Iterator[dg.DagsterInstance]:
    """The persistent Dagster instance of an installation."""
    folder = str(dagster_home(home))
    # dagster.yaml refers to it, and so may whatever a run starts.
    before = os.environ.get("DAGSTER_HOME")
    os.environ["DAGSTER_HOME"] = folder
    try:
        with dg.DagsterInstance.from_config(folder) as found:
            yield found
    finally:
        if before is None:
            del os.environ["DAGSTER_HOME"]
        else:
            os.environ["DAGSTER_HOME"] = before


def announce(home: Home) -> int:
    """Make partitions for all photos in a catalog's uploads; returns how many were new."""
    with instance(home) as found:
        return add_keys(found, [key for key, _ in home.uploads.scan().photos], home.spec)


def in_flight(home: Home) -> set[str]:
    """The photos of a catalog in runs that have not ended."""
    with instance(home) as found:
        return keys_in_flight(found, home.spec)


def launch(
    keys: Sequence[ImageKey], home: Home, progress: Progress, *, force: bool = False
) -> list[Launched]:
    """Take images of a catalog through all versions, in runs of the policy's batch size."""
    from imgflow.definitions import line_definitions

    store, uploads = home.places
    definitions = line_definitions(str(home.root), progress, store, uploads)
    size = home.policy().run.batch_size
    launched = []
    with instance(home) as found:
        fail_orphans(found)
        add_keys(found, keys, home.spec)
        for part, wanted in by_part(keys, home.spec).items():
            job = definitions.resolve_job_def(part.job)
            for batch in batches(wanted, known_keys(found, part), size):
                config = batch.run_config(part.op, force=force)
                # The terminal has a progress bar; Dagster keeps the whole log.
                config["loggers"] = {"console": {"config": {"log_level": "CRITICAL"}}}
                result = job.execute_in_process(
                    instance=found,
                    tags={**batch.tags, **process_tag(), CATALOG_TAG: home.name},
                    run_config=config,
                    raise_on_error=False,
                )
                launched.append(Launched(result.run_id, batch.keys, _error(result)))
    return launched


def _error(result: dg.ExecuteInProcessResult) -> str:
    if result.success:
        return ""
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            if data.user_failure_data is not None and data.user_failure_data.description:
                return data.user_failure_data.description
            if data.error is not None:
                # The outermost error only says that the op failed.
                return (data.error.cause or data.error).message.strip()
    return "the run failed: see its log in the Dagster UI"
