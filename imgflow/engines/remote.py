"""Engines over HTTP: a vendor's or an in-house service for any of the protocols.

One POST per call, multipart: `image` and `mask` as PNG files and `parameters` as JSON ("task",
"scale", "prompt", "negative_prompt", "seed", "width", "height", as far as they apply). The answer
is a picture, or for detectors JSON:

    {"regions": [{"polygon": [[x, y], ...], "text": "...", "confidence": 0.9}]}
    {"objects": [{"label": "...", "confidence": 0.9, "polygon": [[x, y], ...]}]}

A header `X-Cost` names what the call cost. Repeated tries of a call carry the same
`Idempotency-Key`, so that a service can charge for them once.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from typing import Annotated, Any
from urllib.parse import urlsplit

import numpy as np
import requests
import urllib3
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from imgflow.engines.account import account
from imgflow.engines.spec import EngineSpec, Proposal
from imgflow.engines.webwords import in_words
from imgflow.errors import BadPhoto, EngineUnavailable
from imgflow.imaging.colour import data_range, flatten, to_uint8
from imgflow.imaging.decode import DecodeLimits, decode
from imgflow.imaging.encode import encode_lossless, encode_mask
from imgflow.imaging.masks import polygon_mask
from imgflow.lineage.record import TextRegion
from imgflow.policy.engines import RemoteEngine

_PIECE = 1 << 16
_BACKOFF_S = 0.5
_MOST_WAIT_S = 30.0
_PASSES = (408, 425, 429, 500, 502, 503, 504)  # may go away by themselves
_MOST_COST = 1e6

_Coordinate = Annotated[float, Field(ge=-1e6, le=1e6)]
_Polygon = Annotated[list[tuple[_Coordinate, _Coordinate]], Field(min_length=3, max_length=1000)]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class _Region(_Answer):
    polygon: _Polygon
    text: str = Field("", max_length=1000)
    confidence: float = Field(1.0, ge=0, le=1)


class _Object(_Answer):
    label: str = Field(max_length=200)
    confidence: float = Field(1.0, ge=0, le=1)
    polygon: _Polygon


class _Regions(_Answer):
    regions: list[_Region] = Field(max_length=10_000)


class _Objects(_Answer):
    objects: list[_Object] = Field(max_length=1000)


class _Remote:
    """What all remote engines have in common. settings: of the policy."""

    def __init__(self, name: str, settings: RemoteEngine, **fields: Any) -> None:
        self.settings = settings
        self.spec = EngineSpec(
            name=name,
            kind=settings.task,
            model_id=settings.model_id,
            licence=settings.licence,
            deterministic=False,
            seeded=settings.seeded,
            prompted=settings.prompted,
            parameters=(("endpoint", settings.endpoint),),
            **fields,
        )

    def ask(
        self,
        parameters: dict[str, Any],
        image: NDArray[Any] | None = None,
        mask: NDArray[np.uint8] | None = None,
    ) -> bytes:
        """The answer's body. Raises EngineUnavailable for a service that does not deliver."""
        files: dict[str, tuple[str | None, bytes, str]] = {}
        if image is not None:
            if max(image.shape[:2]) > self.settings.max_side:
                raise self._failed(
                    f"the picture has {image.shape[1]} x {image.shape[0]} pixels, and "
                    f"{self.settings.max_side} a side may be sent"
                )
            files["image"] = ("image.png", encode_lossless(image), "image/png")
        if mask is not None:
            files["mask"] = ("mask.png", encode_mask(mask), "image/png")
        given = {name: value for name, value in parameters.items() if value is not None}
        text = json.dumps({"task": self.settings.task, **given}, sort_keys=True)
        files["parameters"] = (None, text.encode(), "application/json")
        digest = hashlib.sha256(self.settings.endpoint.encode())
        for name, (_, data, _) in sorted(files.items()):
            digest.update(name.encode() + b"\0" + hashlib.sha256(data).digest())
        headers = {
            "Idempotency-Key": digest.hexdigest(),
            "Accept-Encoding": "identity",
            **self._secret(),
        }
        return self._tried(files, headers)

    def picture(self, body: bytes, shape: tuple[int, int], dtype: Any) -> NDArray[Any]:
        """(H, W, 3) of that shape and dtype. Raises EngineUnavailable for anything else."""
        height, width = shape
        limits = DecodeLimits(max_bytes=self.settings.max_bytes, max_pixels=max(height * width, 1))
        try:
            pixels = decode(body, limits, keep_16_bit=dtype == np.uint16).pixels
        except BadPhoto as error:
            raise self._failed(f"what came cannot be used: {error.what}") from error
        if pixels.shape[:2] != shape:
            made = f"{pixels.shape[1]} x {pixels.shape[0]}"
            raise self._failed(f"it made {made} pixels, and not {width} x {height}")
        if dtype == np.uint16 and pixels.dtype == np.uint16:
            return pixels[:, :, :3]
        plain = flatten(pixels, (255, 255, 255))
        return plain if dtype == np.uint8 else plain.astype(np.uint16) * 257

    def parsed(self, body: bytes, kind: type[_Regions] | type[_Objects]) -> Any:
        try:
            return kind.model_validate_json(body)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise self._failed(f"its answer is not as agreed: {where} {first['msg']}") from error

    def _secret(self) -> dict[str, str]:
        name = self.settings.secret_env
        if name is None:
            return {}
        secret = os.environ.get(name, "")
        if not secret or not secret.isascii() or not secret.isprintable():
            raise EngineUnavailable(
                "secret_missing",
                f"the engine '{self.spec.name}' needs the environment variable {name}",
                hint=f"Set {name} where imgflow runs; it never stands in the policy",
            )
        return {"Authorization": f"Bearer {secret}"}

    def _tried(
        self, files: dict[str, tuple[str | None, bytes, str]], headers: dict[str, str]
    ) -> bytes:
        problem, wait = "", 0.0
        for attempt in range(self.settings.retries + 1):
            if attempt:
                pause = max(_BACKOFF_S * 2 ** (attempt - 1), wait)
                time.sleep(min(pause, _MOST_WAIT_S) * random.uniform(0.8, 1.2))
            try:
                with requests.post(
                    self.settings.endpoint,
                    files=files,
                    headers=headers,
                    timeout=self.settings.timeout_s,
                    stream=True,
                    # Elsewhere the secret would not belong.
                    allow_redirects=False,
                ) as answer:
                    if answer.status_code == 200:
                        body = self._body(answer)
                        self._paid(answer)
                        return body
                    problem = f"it answers {answer.status_code} {answer.reason:.100}"
                    if answer.status_code not in _PASSES:
                        break
                    after = answer.headers.get("Retry-After", "")
                    wait = float(after) if after.isdecimal() else 0.0
            except requests.RequestException as error:
                problem = in_words(error)
        raise self._failed(problem)

    def _body(self, answer: requests.Response) -> bytes:
        """All of it, within the limits of size and time."""
        deadline = time.monotonic() + self.settings.timeout_s
        body = bytearray()
        while piece := _piece(answer):
            body += piece
            if len(body) > self.settings.max_bytes:
                raise self._failed(f"its answer has more than {self.settings.max_bytes} bytes")
            if time.monotonic() > deadline:
                raise requests.Timeout("the answer takes too long")
        length = answer.headers.get("Content-Length", "")
        if length.isdecimal() and int(length) != len(body):
            raise requests.exceptions.ChunkedEncodingError("the answer ended early")
        return bytes(body)

    def _paid(self, answer: requests.Response) -> None:
        told = answer.headers.get("X-Cost", "")
        cost = self.settings.cost
        try:
            named = float(told)
            if 0 <= named <= _MOST_COST:
                cost = named
        except ValueError:
            pass
        books = account()
        books.pay(cost)
        books.calls += 1
        if not self.settings.task.endswith("detector"):
            books.endpoint, books.device = self.settings.endpoint, "remote"

    def _failed(self, why: str) -> EngineUnavailable:
        host = urlsplit(self.settings.endpoint).netloc
        return EngineUnavailable(
            "remote_failed",
            f"the service of the engine '{self.spec.name}' at {host} did not deliver: {why}",
            hint="Look after the service and run the photo again, or let the policy name another "
            "engine or a fallback",
        )


def _piece(answer: requests.Response) -> bytes:
    """What has come of a body, as soon as anything has; empty at its end. One that drips is not
    waited for until a block is full. Raises RequestException."""
    try:
        piece: bytes = answer.raw.read1(_PIECE, decode_content=False)
    except urllib3.exceptions.ReadTimeoutError as error:
        raise requests.Timeout(str(error)) from error
    except urllib3.exceptions.HTTPError as error:
        raise requests.exceptions.ChunkedEncodingError(str(error)) from error
    return piece


class RemoteFill(_Remote):
    def __init__(self, name: str, settings: RemoteEngine) -> None:
        super().__init__(name, settings, tiling="crop", dtypes=("uint8", "uint16"))

    def fill(
        self,
        pixels: NDArray[np.generic],
        mask: NDArray[np.uint8],
        *,
        prompt: str | None = None,
        negative_prompt: str | None = None,
        seed: int | None = None,
    ) -> NDArray[np.generic]:
        hole = np.where(mask > 0, np.uint8(255), np.uint8(0))
        # What the policy does not say that it takes is not sent: a record says the same.
        if not self.spec.prompted:
            prompt = negative_prompt = None
        if not self.spec.seeded:
            seed = None
        body = self.ask(
            {"prompt": prompt, "negative_prompt": negative_prompt, "seed": seed}, pixels, hole
        )
        account().seed, account().prompt = seed, prompt
        return self.picture(body, mask.shape, pixels.dtype)


class RemoteUpscaler(_Remote):
    """scale: sent along. Tiles are sent one by one, as far as the service sees around a pixel."""

    def __init__(self, name: str, settings: RemoteEngine, scale: int) -> None:
        super().__init__(
            name, settings, scale=scale, receptive=32, tiling="tiles", dtypes=("float32",)
        )

    def enlarge(self, tile: NDArray[np.float32]) -> NDArray[np.float32]:
        # 16 bits: nothing of the tile is lost on the way.
        sent = np.rint(np.clip(tile, 0, 1) * 65535).astype(np.uint16)
        body = self.ask({"scale": self.spec.scale}, sent)
        height, width = (side * self.spec.scale for side in tile.shape[:2])
        made = self.picture(body, (height, width), np.uint16)
        return made.astype(np.float32) / np.float32(data_range(made.dtype))


class RemoteTextDetector(_Remote):
    def detect(self, pixels: NDArray[np.uint8]) -> list[TextRegion]:
        answer = self.parsed(self.ask({}, pixels), _Regions)
        return [
            TextRegion(
                polygon=[[x, y] for x, y in each.polygon],
                text=each.text,
                confidence=each.confidence,
            )
            for each in answer.regions
        ]

    def read(self, line: NDArray[np.uint8]) -> tuple[str, float]:
        # An endpoint finds text and reads it at once.
        parts = sorted(self.detect(line), key=lambda each: min(x for x, _ in each.polygon))
        text = " ".join(each.text for each in parts)
        return text, min((each.confidence for each in parts), default=0.0)


class RemoteObjectDetector(_Remote):
    def propose(self, pixels: NDArray[np.uint8]) -> list[Proposal]:
        answer = self.parsed(self.ask({}, pixels), _Objects)
        proposals = []
        for each in answer.objects:
            mask = polygon_mask([np.array(each.polygon, np.float64)], *pixels.shape[:2])
            if mask.any():
                proposals.append(Proposal(each.label, each.confidence, mask))
        return proposals


class RemoteGenerator(_Remote):
    def generate(
        self,
        prompt: str,
        *,
        negative_prompt: str | None = None,
        seed: int = 0,
        width: int = 512,
        height: int = 512,
    ) -> NDArray[np.uint8]:
        body = self.ask(
            {
                "prompt": prompt,
                "negative_prompt": negative_prompt,
                "seed": seed,
                "width": width,
                "height": height,
            }
        )
        account().seed, account().prompt = seed, prompt
        return to_uint8(self.picture(body, (height, width), np.uint8))
