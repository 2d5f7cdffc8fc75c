"""Remote engines against a real server on this machine."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2
import numpy as np
import pytest
from samples import decoded, encoded, photo

from imgflow.engines.account import accounting
from imgflow.engines.remote import (
    RemoteFill,
    RemoteGenerator,
    RemoteObjectDetector,
    RemoteTextDetector,
    RemoteUpscaler,
)
from imgflow.errors import EngineUnavailable
from imgflow.policy.engines import RemoteEngine

Answer = tuple[int, dict[str, str], bytes]


class Service:
    """Answers as `answer(parts)` says. `calls` keeps the headers and parts of each request.

    at_once: bytes of a body that are sent before it pauses.
    """

    at_once, pause_s = 1 << 30, 0.0

    def __init__(self) -> None:
        self.answer: Callable[[dict[str, bytes]], Answer] = lambda parts: (200, {}, b"")
        self.calls: list[tuple[dict[str, str], dict[str, bytes]]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
                message = BytesParser(policy=HTTP).parsebytes(head + body)
                parts = {
                    str(part.get_param("name", header="content-disposition")): part.get_payload(
                        decode=True
                    )
                    for part in message.iter_parts()
                }
                service.calls.append((dict(self.headers), parts))
                status, headers, content = service.answer(parts)
                try:
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    if "Content-Length" not in headers:
                        self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    for at in range(0, len(content), service.at_once):
                        self.wfile.write(content[at : at + service.at_once])
                        time.sleep(service.pause_s)
                except (BrokenPipeError, ConnectionResetError):  # it was not waited for
                    pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/engine"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def settings(self, task: str, **fields: Any) -> RemoteEngine:
        return RemoteEngine.model_validate(
            {"use": "remote", "task": task, "endpoint": self.url, **fields}
        )

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgflow.engines.remote._BACKOFF_S", 0.001)


def hole(pixels: Any) -> Any:
    mask = np.zeros(pixels.shape[:2], np.uint8)
    mask[4:9, 5:12] = 255
    return mask


def test_a_fill_sends_photo_mask_and_parameters_and_takes_a_picture(service: Service) -> None:
    pixels = photo("coffee", 40)
    mask = hole(pixels)

    def answer(parts: dict[str, bytes]) -> Answer:
        made = decoded(parts["image"]).copy()
        made[decoded(parts["mask"]) > 0] = (1, 2, 3)
        return 200, {"X-Cost": "0.25"}, encoded(made)

    service.answer = answer
    fill = RemoteFill("vendor", service.settings("filler", prompted=True, seeded=True))
    with accounting() as told:
        filled = fill.fill(pixels, mask, prompt="wood", seed=3)
    assert (filled[mask > 0] == (1, 2, 3)).all()
    assert (filled[mask == 0] == pixels[mask == 0]).all()
    ((headers, parts),) = service.calls
    asked = json.loads(parts["parameters"])
    assert asked == {"task": "filler", "prompt": "wood", "seed": 3}
    assert "Authorization" not in headers
    assert (told.cost, told.endpoint, told.device) == (0.25, service.url, "remote")
    assert (told.seed, told.prompt) == (3, "wood")


def test_what_a_service_does_not_take_is_not_sent(service: Service) -> None:
    pixels = photo("coffee", 40)
    service.answer = lambda parts: (200, {}, parts["image"])
    fill = RemoteFill("vendor", service.settings("filler"))
    with accounting() as told:
        fill.fill(pixels, hole(pixels), prompt="wood", negative_prompt="text", seed=3)
    ((_, parts),) = service.calls
    assert json.loads(parts["parameters"]) == {"task": "filler"}
    assert (told.seed, told.prompt) == (None, None)


def test_a_service_that_is_not_there_is_told_in_words() -> None:
    settings = RemoteEngine(
        use="remote", task="filler", endpoint="http://127.0.0.1:9/fill", retries=0
    )
    pixels = photo("coffee", 40)
    with pytest.raises(EngineUnavailable, match="the server cannot be reached"):
        RemoteFill("vendor", settings).fill(pixels, hole(pixels))


def test_sixteen_bits_go_and_come(service: Service) -> None:
    pixels = photo("coffee", 40).astype(np.uint16) * 257 + 1
    service.answer = lambda parts: (200, {}, parts["image"])
    filled = RemoteFill("vendor", service.settings("filler")).fill(pixels, hole(pixels))
    np.testing.assert_array_equal(filled, pixels)


def test_an_upscaler_sends_tiles_and_its_scale(service: Service) -> None:
    def answer(parts: dict[str, bytes]) -> Answer:
        tile = cv2.imdecode(np.frombuffer(parts["image"], np.uint8), cv2.IMREAD_UNCHANGED)
        scale = json.loads(parts["parameters"])["scale"]
        large = np.repeat(np.repeat(tile, scale, axis=0), scale, axis=1)
        return 200, {}, cv2.imencode(".png", large)[1].tobytes()

    service.answer = answer
    tile = photo("coffee", 24).astype(np.float32) / 255
    large = RemoteUpscaler("vendor", service.settings("upscaler"), 3).enlarge(tile)
    assert large.shape == (tile.shape[0] * 3, 72, 3)
    np.testing.assert_allclose(large[::3, ::3], tile, atol=1e-4)


def test_detectors_take_json(service: Service) -> None:
    square = [[1, 2], [9, 2], [9, 8], [1, 8]]
    regions = {"regions": [{"polygon": square, "text": "SALE", "confidence": 0.9}]}
    objects = {"objects": [{"label": "person", "confidence": 0.8, "polygon": square}]}
    pixels = photo("coffee", 40)
    service.answer = lambda _: (200, {}, json.dumps(regions).encode())
    (found,) = RemoteTextDetector("t", service.settings("text_detector")).detect(pixels)
    assert (found.text, found.confidence) == ("SALE", 0.9)
    ends = [[11, 2], [19, 2], [19, 8], [11, 8]]
    regions["regions"].insert(0, {"polygon": ends, "text": "ENDS", "confidence": 0.8})
    detector = RemoteTextDetector("t", service.settings("text_detector"))
    assert detector.read(pixels) == ("SALE ENDS", 0.8)
    service.answer = lambda _: (200, {}, json.dumps({"regions": []}).encode())
    assert detector.read(pixels) == ("", 0.0)
    service.answer = lambda _: (200, {}, json.dumps(objects).encode())
    (thing,) = RemoteObjectDetector("o", service.settings("object_detector")).propose(pixels)
    assert (thing.label, thing.confidence) == ("person", 0.8)
    assert thing.mask[5, 5] == 255
    assert thing.mask[20, 20] == 0


def test_a_generator_gets_words_alone(service: Service) -> None:
    service.answer = lambda _: (200, {}, encoded(photo("coffee", 40)))
    size = photo("coffee", 40).shape
    engine = RemoteGenerator("g", service.settings("generator", cost=0.5))
    with accounting() as told:
        made = engine.generate("a shoe", seed=1, width=size[1], height=size[0])
    assert made.shape == size
    assert set(service.calls[0][1]) == {"parameters"}
    assert told.cost == 0.5


def test_the_secret_comes_from_the_environment(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = photo("coffee", 40)
    service.answer = lambda parts: (200, {}, parts["image"])
    fill = RemoteFill("vendor", service.settings("filler", secret_env="VENDOR_KEY"))
    monkeypatch.delenv("VENDOR_KEY", raising=False)
    with pytest.raises(EngineUnavailable, match="VENDOR_KEY") as error:
        fill.fill(pixels, hole(pixels))
    assert error.value.code == "secret_missing"
    assert service.calls == []
    monkeypatch.setenv("VENDOR_KEY", "s3cret")
    fill.fill(pixels, hole(pixels))
    assert service.calls[0][0]["Authorization"] == "Bearer s3cret"
    assert "s3cret" not in repr(fill.spec)


def test_what_may_pass_is_tried_again_with_the_same_key(service: Service) -> None:
    answers = [(503, {}, b""), (429, {"Retry-After": "0"}, b"")]
    service.answer = lambda parts: answers.pop(0) if answers else (200, {}, parts["image"])
    pixels = photo("coffee", 40)
    with accounting() as told:
        RemoteFill("vendor", service.settings("filler", cost=1.0)).fill(pixels, hole(pixels))
    assert len(service.calls) == 3
    assert len({headers["Idempotency-Key"] for headers, _ in service.calls}) == 1
    assert told.cost == 1.0


@pytest.mark.parametrize(
    ("answer", "why", "calls"),
    [
        ((400, {}, b""), "answers 400", 1),
        ((302, {"Location": "http://127.0.0.1:1/x"}, b""), "answers 302", 1),
        ((500, {}, b""), "answers 500", 3),
        ((200, {}, b"<html>"), "not an image", 1),
        ((200, {}, encoded(photo("coffee", 20))), "it made 20 x 13 pixels", 1),
        ((200, {}, encoded(photo("coffee", 80))), "cannot be used", 1),
        ((200, {"Content-Length": "5000"}, b"x" * 1000), "did not deliver", 3),
    ],
)
def test_what_is_not_a_good_answer_is_an_error(
    service: Service, answer: Answer, why: str, calls: int
) -> None:
    service.answer = lambda _: answer
    pixels = photo("coffee", 40)
    with pytest.raises(EngineUnavailable, match=why) as error:
        RemoteFill("vendor", service.settings("filler")).fill(pixels, hole(pixels))
    assert error.value.code == "remote_failed"
    assert len(service.calls) == calls


def test_an_answer_that_is_too_large_is_not_read(service: Service) -> None:
    service.answer = lambda _: (200, {}, b"x" * 100_000)
    pixels = photo("coffee", 40)
    settings = service.settings("filler", max_bytes=2000)
    with pytest.raises(EngineUnavailable, match="more than 2000 bytes"):
        RemoteFill("vendor", settings).fill(pixels, hole(pixels))
    assert len(service.calls) == 1


def test_a_service_whose_answer_drips_is_given_up(service: Service) -> None:
    pixels = photo("coffee", 40)
    service.answer = lambda parts: (200, {}, parts["image"])
    service.at_once, service.pause_s = 1, 0.05
    fill = RemoteFill("vendor", service.settings("filler", timeout_s=0.5, retries=1))
    started = time.monotonic()
    with pytest.raises(EngineUnavailable, match="too long"):
        fill.fill(pixels, hole(pixels))
    assert time.monotonic() - started < 5
    # Slow, but not too slow.
    service.at_once, service.pause_s = 500, 0.001
    patient = RemoteFill("vendor", service.settings("filler", timeout_s=30))
    assert np.array_equal(patient.fill(pixels, hole(pixels)), pixels)


def test_a_service_that_is_too_slow_is_given_up(service: Service) -> None:
    def slow(_: dict[str, bytes]) -> Answer:
        time.sleep(1.0)
        return 200, {}, b""

    service.answer = slow
    pixels = photo("coffee", 40)
    settings = service.settings("filler", timeout_s=0.2, retries=0)
    started = time.perf_counter()
    with pytest.raises(EngineUnavailable, match="takes too long"):
        RemoteFill("vendor", settings).fill(pixels, hole(pixels))
    assert time.perf_counter() - started < 0.9


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"objects": [{"label": "x", "polygon": [[0, 0]]}]}',
        b'{"objects": [{"label": "x", "confidence": 7, "polygon": [[0,0],[1,0],[1,1]]}]}',
        b'{"objects": [{"label": "x", "polygon": [[0,0],[1e300,0],[1,1]]}]}',
        b"not json",
    ],
)
def test_json_that_is_not_as_agreed_is_refused(service: Service, body: bytes) -> None:
    service.answer = lambda _: (200, {}, body)
    with pytest.raises(EngineUnavailable, match="not as agreed"):
        RemoteObjectDetector("o", service.settings("object_detector")).propose(photo("coffee", 40))


@pytest.mark.parametrize(
    "fields",
    [
        {"endpoint": "http://example.com/x"},
        {"endpoint": "http://example.com/x", "insecure": True, "secret_env": "KEY"},
        {"endpoint": "https://user:word@example.com/x"},
        {"endpoint": "file:///etc/passwd"},
        {"endpoint": "https://example.com:99999/x"},
    ],
)
def test_addresses_that_are_not_safe_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"endpoint|http|port"):
        RemoteEngine.model_validate({"use": "remote", "task": "filler", **fields})
