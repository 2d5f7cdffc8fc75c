"""A proxy before an S3 server that does to requests what bad networks and strained services do."""

from __future__ import annotations

import http.client
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Fault = Literal["500", "503", "400", "timeout", "lost", "cut", "wrong", "sent_wrong"]
FAULTS: dict[Fault, str] = {
    "500": "an internal error, and nothing was done",
    "503": "SlowDown, and nothing was done",
    "400": "BadDigest, and nothing was done: other bytes arrived than were sent",
    "timeout": "no answer in time, and nothing was done",
    "lost": "all was done, and the connection ends before the answer",
    "cut": "all was done, and the connection ends in the midst of the answer",
    "wrong": "other bytes than those that were stored",
    "sent_wrong": "other bytes arrive than those that were sent, and the server has not looked",
}
_CODES: dict[Fault, str] = {"500": "InternalError", "503": "SlowDown", "400": "BadDigest"}
_HOP = frozenset(("connection", "keep-alive", "transfer-encoding", "content-length", "server"))


class Proxy:
    """Forwards to `target`, and now and then does not. seed: of which requests meet which fault.

    rates: of each fault, of all requests. timeout_s: how long nothing comes before the connection
    ends. met: how often each fault was met; `passed`: what went through.
    """

    def __init__(
        self, target: str, rates: Mapping[Fault, float], *, seed: int = 0, timeout_s: float = 1.0
    ) -> None:
        self.target = urlsplit(target).netloc
        self.rates = dict(rates)
        self.timeout_s = timeout_s
        self.met: Counter[str] = Counter()
        self.endpoint = ""
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self.conditional = threading.Lock()
        """Services decide writes under a condition one after the other; moto's threads do not."""

    def fault(self) -> Fault | None:
        """What the next request meets."""
        with self._lock:
            drawn = self._chance.random()
            for fault, rate in self.rates.items():
                drawn -= rate
                if drawn < 0:
                    self.met[fault] += 1
                    return fault
            self.met["passed"] += 1
            return None


@contextmanager
def faulty(
    target: str, rates: Mapping[Fault, float], *, seed: int = 0, timeout_s: float = 1.0
) -> Iterator[Proxy]:
    """A proxy before the server at `target`, listening on this machine while the context lasts."""
    proxy = Proxy(target, rates, seed=seed, timeout_s=timeout_s)

    class Handler(_Handler):
        pass

    Handler.proxy = proxy
    with _Server(("127.0.0.1", 0), Handler) as server:
        proxy.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that gave up: what this proxy is for


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    proxy: Proxy

    def _handle(self) -> None:
        fault = self.proxy.fault()
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if fault == "400" and not body:
            fault = None
        if fault in _CODES:
            text = f"<Error><Code>{_CODES[fault]}</Code><Message>{FAULTS[fault]}</Message></Error>"
            sent = b"" if self.command == "HEAD" else text.encode()
            self._answer(int(fault), [("Content-Type", "application/xml")], sent)
            return
        if fault == "timeout":
            time.sleep(self.proxy.timeout_s)
            self._hang_up()
            return
        if fault == "sent_wrong":
            body = _changed(body, 0x20)
        conditional = "If-Match" in self.headers or "If-None-Match" in self.headers
        with self.proxy.conditional if conditional else nullcontext():
            status, headers, answer = self._forwarded(body)
        if fault == "lost":
            self._hang_up()
            return
        if fault == "wrong":
            answer = _changed(answer, 0x40)
        self._answer(status, headers, answer, cut=fault == "cut")

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle  # noqa: N815 - names of http.server

    def _forwarded(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.proxy.target, timeout=60)
        try:
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body or None)
            answer = connection.getresponse()
            self._length = answer.headers.get("Content-Length")
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _answer(
        self, status: int, headers: list[tuple[str, str]], body: bytes, *, cut: bool = False
    ) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in _HOP:
                self.send_header(name, value)
        # To a HEAD the length is told of what does not come.
        head = self.command == "HEAD" and status < 400
        self.send_header("Content-Length", (head and self._length) or str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:  # the client was quicker
            return

    def log_message(self, format: str, *args: object) -> None:
        pass


def _changed(body: bytes, bits: int) -> bytes:
    """A byte in the middle is another one. bits: so that one fault does not undo another."""
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ bits]) + body[middle + 1 :] if body else body
