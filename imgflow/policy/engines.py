"""Engines that a policy declares: models of the shelf with their parameters, remote services,
and what works from pictures or other engines. Data only: imgflow/engines makes them.
"""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from imgflow.policy.text import Line

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_STRICT = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)
_Name = Annotated[Line, Field(min_length=1, max_length=100)]
_Seed = Annotated[int, Field(ge=0, lt=2**32)]


def _endpoint(url: str) -> str:
    parts = urlsplit(url)
    _ = parts.port  # raises ValueError for one out of range
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise ValueError("must be an http or https address without a user name or password")
    return url


class _Settings(BaseModel):
    model_config = _STRICT


class ModelEngine(_Settings):
    """A model of the shelf. What it has no use for is ignored; None: the model's own default."""

    use: Literal["model"]
    model: _Name = Field(description="its name on the shelf")
    seed: _Seed = Field(0, description="of engines that draw random numbers, where none is asked")
    # Diffusion pipelines:
    steps: int | None = Field(None, ge=1, le=1000)
    strength: float | None = Field(None, gt=0, le=1, description="how much is made up")
    guidance: float | None = Field(None, ge=0, le=50)
    prompt: Line = Field("", max_length=2000, description="where none is asked for")
    negative_prompt: Line = Field("", max_length=2000)
    side: int = Field(512, ge=16, le=4096, description="long side that it works at, pixels")
    # Detectors:
    labels: list[_Name] = Field(default_factory=list, description="classes, where not COCO's")
    min_score: float = Field(0.6, ge=0, le=1)


class JoinedEngine(_Settings):
    """Text detectors whose findings are put together, for recall."""

    use: Literal["joined"]
    detectors: list[_Name] = Field(min_length=2, max_length=5)


class LogoEngine(_Settings):
    """Finds a logo, given nothing but pictures of it."""

    use: Literal["logo"]
    pictures: list[_Name] = Field(
        min_length=1, max_length=20, description="files, relative to the home's folder"
    )
    label: _Name = "logo"
    min_matches: int = Field(10, ge=4, le=1000, description="features that must agree on a place")


class ExemplarEngine(_Settings):
    """Fills large textured holes with pieces of a kept library, or of the photo itself."""

    use: Literal["exemplars"]
    library: _Name | None = Field(
        None, description="folder of photos, relative to the home; null: the photo alone"
    )
    seed: _Seed = 0
    choices: int = Field(3, ge=1, le=20, description="best pieces that the seed chooses from")


class RemoteEngine(_Settings):
    """A service over HTTP: multipart in, a picture or JSON out.

    What is sent: `image` and `mask` as PNG, `parameters` as JSON. The secret stands in an
    environment variable and is sent as a bearer token.
    """

    use: Literal["remote"]
    task: Literal["text_detector", "object_detector", "filler", "upscaler", "generator"]
    endpoint: Annotated[Line, AfterValidator(_endpoint)]
    model_id: _Name = Field("remote", description="for the record; change it as the service does")
    licence: _Name = "of the service"
    secret_env: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,100}$")
    insecure: bool = Field(False, description="allow http to another machine")
    timeout_s: float = Field(30.0, gt=0, le=600)
    retries: int = Field(2, ge=0, le=10)
    max_bytes: int = Field(64 << 20, ge=1024, le=1 << 30, description="of an answer")
    cost: float = Field(0.0, ge=0, description="per call, where the answer names none")
    prompted: bool = Field(False, description="whether it takes a prompt")
    seeded: bool = Field(False, description="whether it takes a seed")
    max_side: int = Field(4096, ge=64, le=65500, description="pixels of what is sent")

    @model_validator(mode="after")
    def _is_private(self) -> RemoteEngine:
        parts = urlsplit(self.endpoint)
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK and not self.insecure:
            raise ValueError(
                "http to another machine can be read by others: use https, or set insecure to true"
            )
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK and self.secret_env:
            raise ValueError("a secret is never sent over http to another machine: use https")
        return self


EngineSettings = Annotated[
    ModelEngine | JoinedEngine | LogoEngine | ExemplarEngine | RemoteEngine,
    Field(discriminator="use"),
]
