"""A PostgreSQL of a test's own, from the binaries that Debian's package brings. No test here."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MISSING = "PostgreSQL is not installed: apt-get install postgresql"
USER, DATABASE, PASSWORD = "imgflow", "postgres", "of a test"
_HOST = "127.0.0.1"
_START_S = 120.0


@dataclass(frozen=True, slots=True)
class Postgres:
    """A server that takes connections on this machine."""

    port: int

    @property
    def settings(self) -> dict[str, str]:
        """The variables that deploy/dagster.yaml reads."""
        return {
            "DAGSTER_PG_HOST": _HOST,
            "DAGSTER_PG_USER": USER,
            "DAGSTER_PG_PASSWORD": PASSWORD,
            "DAGSTER_PG_DB": DATABASE,
        }


def binaries() -> Path | None:
    """Where initdb and postgres lie: Debian keeps them out of the path. None: nowhere."""
    there = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = str(there[-1]) if there else shutil.which("initdb")
    return Path(found).parent if found else None


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A server with a cluster of its own in a temporary folder, until the context ends."""
    found = binaries()
    assert found is not None, MISSING
    folder = Path(tempfile.mkdtemp(prefix="imgflow-postgres-"))
    somebody = _somebody(folder)
    try:
        (folder / "password").write_text(PASSWORD)
        made = subprocess.run(
            [
                found / "initdb", "--pgdata", folder / "data", "--username", USER,
                "--auth", "scram-sha-256", "--pwfile", folder / "password",
                "--locale", "C", "--encoding", "UTF8", "--no-sync",
            ],
            cwd=folder, capture_output=True, text=True, check=False, **somebody,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        with socket.socket() as free:
            free.bind((_HOST, 0))
            port = free.getsockname()[1]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [
                    found / "postgres", "-D", folder / "data", "-h", _HOST, "-p", str(port),
                    "-k", folder, "-F",
                ],
                cwd=folder, stdout=log, stderr=log, start_new_session=True, **somebody,
            )  # fmt: skip
        try:
            _wait(server, port, folder / "log")
            yield Postgres(port)
        finally:
            server.send_signal(signal.SIGINT)  # ends connections, too
            server.wait(60)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _somebody(folder: Path) -> dict[str, Any]:
    """As whom to start it: it refuses to work for root. The folder becomes theirs."""
    if os.geteuid() != 0:
        return {}
    known = {each.pw_name: each for each in pwd.getpwall()}
    found = known.get("postgres") or known["nobody"]
    os.chown(folder, found.pw_uid, found.pw_gid)
    return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}


def _wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    import psycopg2

    end = time.monotonic() + _START_S
    while True:
        try:
            psycopg2.connect(
                host=_HOST, port=port, user=USER, password=PASSWORD, dbname=DATABASE
            ).close()
        except psycopg2.OperationalError:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        else:
            return
