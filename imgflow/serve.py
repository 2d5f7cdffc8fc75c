"""The three services of a deployment, each a process of Dagster's own: what the image starts."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NoReturn

from imgflow.errors import ImgflowError

Service = Literal["code", "webserver", "daemon"]
PORTS: dict[Service, int] = {"code": 4000, "webserver": 3000}


def command(service: Service, host: str, port: int, workspace: Path) -> list[str]:
    """What to execute for a service. host, port: where it listens; the daemon does not.

    workspace: the file that says where the code server is. Raises ImgflowError (code
    no_workspace).
    """
    python = [sys.executable, "-W", "ignore", "-m"]
    if service == "code":
        return [
            *python, "dagster", "code-server", "start", "--module-name", "imgflow.definitions",
            "--location-name", "imgflow", "--host", host, "--port", str(port),
        ]  # fmt: skip
    if not workspace.is_file():
        raise ImgflowError(
            "no_workspace",
            f"there is no {workspace}",
            hint="It names the code server: see deploy/workspace.yaml",
        )
    names = ["--workspace", str(workspace.absolute())]
    if service == "daemon":
        return [*python, "dagster._daemon", "run", *names]
    return [*python, "dagster_webserver", "--host", host, "--port", str(port), *names]


def require_free(host: str, port: int) -> None:
    """Raises ImgflowError (code port_taken, host_unknown) where nothing can listen there."""
    try:
        with socket.create_server((host, port), family=_family(host)):
            pass
    except socket.gaierror as error:
        raise ImgflowError("host_unknown", f"no address is called {host}: {error}") from error
    except OSError as error:
        raise ImgflowError(
            "port_taken",
            f"the UI cannot listen on {host}:{port}: {error.strerror}",
            hint="If `imgflow dev` runs there already, use that one; else name another: --port",
        ) from error


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def serve(service: Service, host: str, port: int, workspace: Path) -> NoReturn:
    """Become the service: signals reach Dagster itself. Raises ImgflowError (codes no_workspace,
    no_dagster_home)."""
    home = Path(os.environ.get("DAGSTER_HOME") or "")
    # Without a dagster.yaml each service would keep runs of its own on its own disk.
    if not os.environ.get("DAGSTER_HOME") or not (home / "dagster.yaml").is_file():
        raise ImgflowError(
            "no_dagster_home",
            "DAGSTER_HOME names no folder with a dagster.yaml, which all services must share",
            hint="See deploy/; `imgflow dev` is for one machine, and needs none",
        )
    become(command(service, host, port, workspace), os.environ)


def become(program: list[str], environment: Mapping[str, str]) -> NoReturn:
    """Execute one of Dagster's programs in this very process: whoever ends it ends Dagster."""
    # To Dagster SIGTERM means what SIGINT does, and that a script's background jobs ignore from
    # their birth: they would never end.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.stdout.flush()
    os.execve(program[0], program, environment)  # noqa: S606
