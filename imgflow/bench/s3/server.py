"""moto's server as a process of its own on this machine: S3 and SQS that forget all at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import boto3

from imgflow.errors import ImgflowError

_HOST = "127.0.0.1"
_REGION = "us-east-1"
_COUNTS = "/-/requests"


@dataclass(frozen=True, slots=True)
class Server:
    """A server that listens."""

    endpoint: str
    pid: int

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to work on it: the whole environment."""
        return {**os.environ, **self.settings}

    @property
    def settings(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ENDPOINT_URL_SQS": self.endpoint,
            "AWS_REGION": _REGION,
            "AWS_DEFAULT_REGION": _REGION,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def requests(self) -> dict[str, int]:
        """How many requests came so far: GET, PUT, HEAD, ..., and LIST."""
        with urllib.request.urlopen(f"{self.endpoint}{_COUNTS}") as answer:  # noqa: S310
            found: dict[str, int] = json.load(answer)
        return found

    def client(self, service: str = "s3") -> Any:
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=_REGION,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",  # noqa: S106 - moto asks for none
        )


@contextmanager
def serve(*buckets: str, fill: str = "") -> Iterator[Server]:
    """A server with these buckets, until the context ends (or this process, however).

    fill: `<bucket>/<prefix>/<number>`: so many small objects in the first bucket, made without
    requests.

    Raises ImgflowError (code moto_missing).
    """
    if find_spec("moto") is None:
        raise ImgflowError(
            "moto_missing",
            "this needs an S3 server on this machine, and moto is not installed",
            hint="Install imgflow with its development tools: pip install -e '.[dev]'",
        )
    command = [sys.executable, "-W", "ignore", "-m", "imgflow.bench.s3.server", fill]
    process = subprocess.Popen(  # noqa: S603 - our own
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        assert process.stdout is not None
        try:
            port = process.stdout.readline().strip()
            if not port:
                raise ImgflowError("moto_failed", f"moto's server did not start: {command}")
            server = Server(f"http://{_HOST}:{port}", process.pid)
            for bucket in buckets[1 if fill else 0 :]:
                server.client().create_bucket(Bucket=bucket)
            yield server
        finally:
            process.kill()


def _main() -> None:
    import logging

    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    from imgflow.bench.s3.names import keep_in_order

    keep_in_order()
    logging.getLogger("werkzeug").disabled = True
    # Headers and body are sent one after the other: without this, the second waits 40 ms.
    WSGIRequestHandler.disable_nagle_algorithm = True
    # An answer in one piece.
    WSGIRequestHandler.wbufsize = -1
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if sys.argv[1]:
        _fill(*sys.argv[1].split("/"))
    application = _Counting(DomainDispatcherApplication(create_backend_app))
    server = make_server(_HOST, 0, application, threaded=True)
    print(server.port, flush=True)
    server.serve_forever()


class _Counting:
    """Counts requests by their kind, and tells the counts to who asks for `_COUNTS`."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self._counts: Counter[str] = Counter()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if path == _COUNTS:
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(self._counts).encode()]
        is_list = method == "GET" and "list-type=" in environ.get("QUERY_STRING", "")
        self._counts["LIST" if is_list else method] += 1
        return self._application(environ, start_response)


def _fill(bucket: str, prefix: str, number: str) -> None:
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    backend.create_bucket(bucket, _REGION)
    for at in range(int(number)):
        name = f"{prefix}/shelf_{at // 1000:03}/photo_{at:06}.jpg"
        backend.put_object(bucket, name, b"photo %d" % at)


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    _main()
