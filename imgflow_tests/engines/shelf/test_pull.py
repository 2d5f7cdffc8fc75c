"""Fetching from a real server on this machine: resumed, checked, never half in place."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from imgflow.engines.shelf.cards import Card, CardError
from imgflow.engines.shelf.pull import pull
from imgflow.engines.shelf.shelf import Shelf

DATA = bytes(range(256)) * 4000


class Server:
    """Serves `files`; `cut` is after how many bytes the next answers break off; `asked` the Range
    headers that came."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut: list[int] = []
        self.asked: list[str | None] = []
        self.ranges = True
        self.redirect: dict[str, str] = {}
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                server.asked.append(self.headers.get("Range"))
                if self.path in server.redirect:
                    self.send_response(302)
                    self.send_header("Location", server.redirect[self.path])
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                data = server.files.get(self.path)
                if data is None:
                    self.send_error(404)
                    return
                etag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
                start = 0
                asked = self.headers.get("Range")
                same = self.headers.get("If-Range") in (None, etag)
                if asked and server.ranges and same:
                    start = int(asked.removeprefix("bytes=").rstrip("-"))
                    if start >= len(data):
                        self.send_error(416)
                        return
                    self.send_response(206)
                    self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
                else:
                    self.send_response(200)
                body = data[start:]
                self.send_header("Content-Length", str(len(body)))
                self.send_header("ETag", etag)
                self.end_headers()
                if server.cut:
                    self.wfile.write(body[: server.cut.pop(0)])
                    self.close_connection = True
                    return
                self.wfile.write(body)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgflow.engines.shelf.pull._BACKOFF_S", 0.001)


def shelf_for(tmp_path: Path, files: list[dict[str, Any]]) -> Shelf:
    card = Card.model_validate(
        {"title": "T", "task": "upscaler", "loader": "spandrel", "licence": "MIT", "files": files}
    )
    folder = tmp_path / "models"
    (folder / "net").mkdir(parents=True)
    (folder / "net" / "card.json").write_text(card.model_dump_json(exclude_defaults=True))
    return Shelf(folder)


def quiet(*_: object) -> None:
    pass


def test_fetched_checked_and_pinned(tmp_path: Path, server: Server) -> None:
    server.files["/net.pth"] = DATA
    sha256 = hashlib.sha256(DATA).hexdigest()
    shelf = shelf_for(
        tmp_path, [{"path": "net.pth", "url": f"{server.url}/net.pth", "sha256": sha256}]
    )
    told: list[tuple[str, int, int | None]] = []
    assert pull(shelf, "net", lambda *each: told.append(each)) == ["net.pth"]
    assert told[0] == ("net.pth", 0, len(DATA))
    assert told[-1] == ("net.pth", len(DATA), len(DATA))
    assert shelf.weights("net").sha256 == sha256
    assert shelf.pins()["net/net.pth"]["why"] == "catalog"
    assert {path.name for path in shelf.folder("net").iterdir()} == {"net.pth", "card.json"}
    assert pull(shelf, "net", quiet) == []


def test_a_broken_download_goes_on_where_it_ended(tmp_path: Path, server: Server) -> None:
    server.files["/net.pth"] = DATA
    server.cut = [300_000, 200_000]
    shelf = shelf_for(tmp_path, [{"path": "net.pth", "url": f"{server.url}/net.pth"}])
    pull(shelf, "net", quiet)
    assert (shelf.folder("net") / "net.pth").read_bytes() == DATA
    first, second, third = server.asked
    assert first is None
    assert second is not None
    assert third is not None
    assert 0 < int(second[6:-1]) < int(third[6:-1]) <= 500_000
    assert shelf.pins()["net/net.pth"]["why"] == "first use"


def test_what_went_wrong_is_told_in_words(tmp_path: Path, server: Server) -> None:
    server.files["/net.pth"] = DATA
    server.cut = [10_000] * 9
    shelf = shelf_for(tmp_path, [{"path": "net.pth", "url": f"{server.url}/net.pth"}])
    with pytest.raises(CardError) as error:
        pull(shelf, "net", quiet)
    assert error.value.what.endswith("cannot be fetched: the connection broke off")
    away = [{"path": "net.pth", "url": "http://127.0.0.1:9/net.pth"}]
    with pytest.raises(CardError) as error:
        pull(shelf_for(tmp_path / "other", away), "net", quiet)
    assert error.value.what.endswith("cannot be fetched: the server cannot be reached")


def test_another_call_goes_on_too(tmp_path: Path, server: Server) -> None:
    server.files["/net.pth"] = DATA
    server.cut = [100_000] + [10] * 3
    shelf = shelf_for(tmp_path, [{"path": "net.pth", "url": f"{server.url}/net.pth"}])
    with pytest.raises(CardError, match="cannot be fetched") as error:
        pull(shelf, "net", quiet)
    assert "goes on where it broke off" in error.value.hint
    assert not (shelf.folder("net") / "net.pth").exists()
    server.asked.clear()
    pull(shelf, "net", quiet)
    assert server.asked[0] is not None
    assert (shelf.folder("net") / "net.pth").read_bytes() == DATA


def test_a_file_that_changed_meanwhile_is_fetched_from_the_start(
    tmp_path: Path, server: Server
) -> None:
    server.files["/net.pth"] = DATA
    server.cut = [100_000] + [10] * 3
    shelf = shelf_for(tmp_path, [{"path": "net.pth", "url": f"{server.url}/net.pth"}])
    with pytest.raises(CardError):
        pull(shelf, "net", quiet)
    server.files["/net.pth"] = DATA[::-1]
    pull(shelf, "net", quiet)
    assert (shelf.folder("net") / "net.pth").read_bytes() == DATA[::-1]


def test_a_server_without_ranges_starts_again(tmp_path: Path, server: Server) -> None:
    server.files["/net.pth"] = DATA
    server.ranges = False
    server.cut = [100_000]
    shelf = shelf_for(tmp_path, [{"path": "net.pth", "url": f"{server.url}/net.pth"}])
    pull(shelf, "net", quiet)
    assert (shelf.folder("net") / "net.pth").read_bytes() == DATA


def test_a_wrong_hash_is_thrown_away_whole(tmp_path: Path, server: Server) -> None:
    server.files["/net.pth"] = DATA
    shelf = shelf_for(
        tmp_path, [{"path": "net.pth", "url": f"{server.url}/net.pth", "sha256": "0" * 64}]
    )
    with pytest.raises(CardError) as error:
        pull(shelf, "net", quiet)
    assert error.value.code == "pull_wrong_hash"
    assert not list(shelf.folder("net").glob("*.p*t*"))
    assert shelf.pins() == {}


def test_what_is_larger_than_the_catalog_says_is_refused(tmp_path: Path, server: Server) -> None:
    server.files["/net.pth"] = DATA
    shelf = shelf_for(tmp_path, [{"path": "net.pth", "url": f"{server.url}/net.pth", "size": 1000}])
    with pytest.raises(CardError, match="the catalog says 1000"):
        pull(shelf, "net", quiet)
    assert not (shelf.folder("net") / "net.pth").exists()


def test_a_file_that_is_gone_says_so_at_once(tmp_path: Path, server: Server) -> None:
    shelf = shelf_for(tmp_path, [{"path": "net.pth", "url": f"{server.url}/net.pth"}])
    with pytest.raises(CardError, match="404"):
        pull(shelf, "net", quiet)
    assert len(server.asked) == 1


def test_a_redirect_to_an_open_line_is_refused(tmp_path: Path, server: Server) -> None:
    server.redirect["/net.pth"] = f"http://127.0.0.2:{server.http.server_port}/net.pth"
    server.files["/net.pth"] = DATA
    shelf = shelf_for(tmp_path, [{"path": "net.pth", "url": f"{server.url}/net.pth"}])
    with pytest.raises(CardError, match=r"leads to|cannot be fetched"):
        pull(shelf, "net", quiet)
    assert not (shelf.folder("net") / "net.pth").exists()


def test_one_member_of_an_archive_is_taken(tmp_path: Path, server: Server) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../evil.pth", b"evil")
        archive.writestr("net.pth", DATA)
    server.files["/net.zip"] = packed.getvalue()
    md5 = hashlib.md5(DATA).hexdigest()
    shelf = shelf_for(
        tmp_path,
        [{"path": "net.pth", "url": f"{server.url}/net.zip", "member": "net.pth", "md5": md5}],
    )
    pull(shelf, "net", quiet)
    assert (shelf.folder("net") / "net.pth").read_bytes() == DATA
    assert {path.name for path in shelf.folder("net").iterdir()} == {"net.pth", "card.json"}


def test_what_is_no_archive_says_so(tmp_path: Path, server: Server) -> None:
    server.files["/net.zip"] = b"<html>sign in</html>"
    shelf = shelf_for(
        tmp_path, [{"path": "net.pth", "url": f"{server.url}/net.zip", "member": "net.pth"}]
    )
    with pytest.raises(CardError, match="no zip archive"):
        pull(shelf, "net", quiet)


def test_a_model_without_addresses_is_not_pullable(tmp_path: Path) -> None:
    shelf = shelf_for(tmp_path, [{"path": "net.pth"}])
    with pytest.raises(CardError, match="imgflow models add"):
        pull(shelf, "net", quiet)
