"""A real installation in service: `imgflow dev` with all its processes, its GraphQL, and kills."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import psutil

from imgflow.errors import ImgflowError
from imgflow.home import Home
from imgflow.lineage.record import Version

Role = Literal["dev", "webserver", "daemon", "code server", "run", "worker", ""]

START_S = 300.0
"""How long the services may take to start; 15 s on two idle cores."""
_STOP_S = 60.0
_ANSWER_S = 60.0

_LOCATIONS = """
query { workspaceOrError { ... on Workspace { locationEntries {
  loadStatus locationOrLoadError { __typename ... on PythonError { message } } } } } }
"""
# Sent when a person presses "Launch backfill" in the materialize dialog.
_BACKFILL = """
mutation LaunchPartitionBackfill($backfillParams: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $backfillParams) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""
# "Reload definitions".
_RELOAD = """
mutation { reloadRepositoryLocation(repositoryLocationName: "imgflow") { __typename } }
"""


class Service:
    """One installation and the processes that `imgflow dev` starts for it."""

    def __init__(
        self, home: Home, project: Path, settings: Mapping[str, str] | None = None
    ) -> None:
        """project: the folder with workspace.yaml and dagster.yaml, in which a user would be.

        settings: further variables of the environment.
        """
        self.home = home
        self.settings = dict(settings or {})
        self.project = project
        self.port = _free_port()
        self.log = home.root / "service.log"
        self._dev: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start all services; `wait_until_up` waits for them."""
        self.home.root.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._dev = subprocess.Popen(  # noqa: S603
                [imgflow_command(), "dev", "--port", str(self.port)],
                cwd=self.project,
                env={**environment(self.home), **self.settings},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                # Ctrl+C works there even where this process was told to pass over it (nohup).
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def wait_until_up(self) -> None:
        """Return once the code location is loaded. Raises ImgflowError (code service_down)."""

        def is_up() -> bool:
            if not self.is_running:
                raise _down(f"the services ended at once: see {self.log}")
            try:
                entries = self.ask(_LOCATIONS)["workspaceOrError"]["locationEntries"]
            except (OSError, ValueError):
                return False
            return bool(entries) and all(each["loadStatus"] == "LOADED" for each in entries)

        until(is_up, START_S, "the services do not answer", every_s=0.2)

    @property
    def is_running(self) -> bool:
        return self._dev is not None and self._dev.poll() is None

    def stop(self) -> None:
        """End all services as Ctrl+C does, and what is left then by force."""
        if self._dev is not None and self._dev.poll() is None:
            self._dev.send_signal(signal.SIGINT)
            try:
                self._dev.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                with self.log.open("a") as log:
                    log.write("it did not stop, and was killed\n")
        self.kill(self.processes())

    def kill(self, processes: Iterable[psutil.Process]) -> int:
        """SIGKILL processes of this installation; returns how many were still there."""
        killed = sum(_signal(process, signal.SIGKILL) for process in processes)
        if self._dev is not None:
            self._dev.poll()
        return killed

    def processes(self, *roles: Role) -> list[psutil.Process]:
        """This installation's processes of some roles (none named: all), orphans included."""
        ours = [each for each in psutil.process_iter() if self._is_ours(each)]
        return [each for each in ours if (role := role_of(each)) and (not roles or role in roles)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get("IMGFLOW_HOME") == str(self.home.root)
        except (psutil.Error, OSError):
            return False

    def ask(self, query: str, **variables: Any) -> Any:
        """The data of a GraphQL answer. Raises OSError where nobody answers."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_S) as response:  # noqa: S310
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            raise OSError(f"{error}: {error.read().decode(errors='replace')}") from error
        if answer.get("errors"):
            raise OSError(str(answer["errors"]))
        return answer["data"]

    def backfill(self, versions: Iterable[Version], photos: Iterable[str]) -> str:
        """Ask for versions of photos as the UI does; returns the backfill's id."""
        params = {
            "assetSelection": [{"path": [str(version)]} for version in versions],
            "partitionNames": list(photos),
            "tags": [],
        }
        found = self.ask(_BACKFILL, backfillParams=params)["launchPartitionBackfill"]
        if found["__typename"] != "LaunchBackfillSuccess":
            raise OSError(f"{found['__typename']}: {found.get('message', '')}")
        return str(found["backfillId"])

    def reload(self) -> None:
        """Load the code location again, as the UI's button does."""
        self.ask(_RELOAD)


def role_of(process: psutil.Process) -> Role:
    """What a process does in the installation; empty: something else, or it has ended."""
    try:
        command = process.cmdline()
        if process.status() == psutil.STATUS_ZOMBIE:
            return ""
        parent = process.parent()
        of_a_run = parent is not None and _is_spawned(parent.cmdline())
    except (psutil.Error, OSError):
        return ""
    if _is_spawned(command):
        return "worker" if of_a_run else "run"
    if "dagster._daemon" in command:
        return "daemon"
    if "dagster_webserver" in command:
        return "webserver"
    if "code-server" in command or "grpc" in command:
        return "code server"
    return "dev" if "dev" in command else ""


def _is_spawned(command: list[str]) -> bool:
    # The code server starts runs and a run starts its workers the same way.
    return any("spawn_main" in part for part in command)


def _signal(process: psutil.Process, number: int) -> bool:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return False
    return True


def imgflow_command() -> str:
    """The command that users type."""
    return str(Path(sys.executable).with_name("imgflow"))


def environment(home: Home) -> dict[str, str]:
    """The environment of a process that shall work on `home`."""
    kept = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
    return {**kept, "IMGFLOW_HOME": str(home.root)}


def until(
    condition: Callable[[], bool], timeout_s: float, what: str, *, every_s: float = 0.1
) -> None:
    """Wait for a condition. Raises ImgflowError (code service_down) with `what` did not happen."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise _down(f"{what}, after {timeout_s:.0f} s")
        time.sleep(every_s)


def _down(what: str) -> ImgflowError:
    return ImgflowError("service_down", what)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
