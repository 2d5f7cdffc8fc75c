"""Model cards: what a model is, which files it has, and where they come from. Data, not code.

Cards come with imgflow (catalog.yaml here), from the user's own catalog.yaml on the shelf, and
from the card.json of a model that was added by hand; later ones win.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from imgflow.errors import EngineUnavailable
from imgflow.policy.yamlfile import load_yaml, read_limited

Task = Literal["text_detector", "object_detector", "filler", "upscaler", "generator", "metric"]
Loader = Literal["spandrel", "torchscript", "diffusers", "easyocr", "mask_rcnn", "lpips"]
TASKS_OF: dict[Loader, tuple[Task, ...]] = {
    "spandrel": ("upscaler", "filler"),
    "torchscript": ("filler",),
    "diffusers": ("filler", "upscaler", "generator"),
    "easyocr": ("text_detector",),
    "mask_rcnn": ("object_detector",),
    "lpips": ("metric",),
}

CARD = "card.json"
CATALOG = "catalog.yaml"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_ENDINGS = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".json", ".txt", ".model")


class CardError(EngineUnavailable):
    """A card or the user's catalog of models is not valid, or a name that none has."""


def _relative(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or "\\" in path or "\0" in path:
        raise ValueError("must be a relative path with forward slashes")
    if any(part in ("..", ".") or part.startswith(".") for part in parts):
        raise ValueError("must not leave the model's folder, nor name hidden files")
    if len(parts) > 4 or len(path) > 200 or path == CARD:
        raise ValueError("is too long, or the card's own name")
    if not path.endswith(_ENDINGS):
        raise ValueError(f"must end in one of {', '.join(_ENDINGS)}")
    return path


def _web(url: str) -> str:
    parts = urlsplit(url)
    if not is_safe_url(url) or not parts.hostname or "@" in parts.netloc:
        raise ValueError("must be an https address without a password (http on this machine only)")
    return url


def is_safe_url(url: str) -> bool:
    """Whether nobody on the way can change what comes: https, or a server on this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)


def require_name(name: str) -> str:
    """A model's name, which is its folder's too. Raises CardError."""
    if not _NAME.fullmatch(name):
        raise CardError(
            "model_name_invalid",
            f"a model cannot be called {name!r:.80}",
            hint="Use small letters, digits, points, dashes and underscores, at most 64",
        )
    return name


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class CardFile(_Model):
    """One file. sha256, md5: of the file as it lies on the shelf; None: nobody has said.

    member: its name inside the zip archive that the url is of.
    """

    path: Annotated[str, AfterValidator(_relative)]
    url: Annotated[str, AfterValidator(_web)] | None = None
    member: str | None = None
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    md5: str | None = Field(None, pattern=r"^[0-9a-f]{32}$")
    size: int | None = Field(None, ge=1, description="bytes of what the url gives")


class Card(_Model):
    """A model. scale, receptive: of upscalers, as in EngineSpec. note: what a user should know."""

    title: str = Field(min_length=1, max_length=200)
    task: Task
    loader: Loader
    licence: str = Field(min_length=1, max_length=200)
    source: str = Field("", max_length=500)
    files: list[CardFile] = Field(min_length=1, max_length=200)
    architecture: str = ""
    scale: int = Field(1, ge=1, le=4)
    receptive: int = Field(32, ge=0, le=512)
    note: str = ""

    @model_validator(mode="before")
    @classmethod
    def _with_base(cls, given: Any) -> Any:
        """`base` saves writing one address many times: a file is then its path below it."""
        if not isinstance(given, Mapping) or "base" not in given:
            return given
        card = dict(given)
        base = str(card.pop("base"))
        found: list[Any] = []
        for file in card.get("files") or []:
            entry = {"path": file} if isinstance(file, str) else dict(file)
            found.append({**entry, "url": base + entry.get("url", entry["path"])})
        return {**card, "files": found}

    @model_validator(mode="after")
    def _fits(self) -> Card:
        if self.task not in TASKS_OF[self.loader]:
            allowed = ", ".join(TASKS_OF[self.loader])
            raise ValueError(f"the loader {self.loader} is for {allowed}, not {self.task}")
        paths = [file.path for file in self.files]
        if len(set(paths)) < len(paths):
            raise ValueError("two files have the same path")
        return self

    @property
    def pullable(self) -> bool:
        return all(file.url for file in self.files)

    @property
    def size(self) -> int | None:
        """Bytes to fetch, where they are known of all files."""
        sizes = [file.size for file in self.files]
        return sum(each for each in sizes if each) if all(sizes) else None


class _Catalog(_Model):
    models: dict[str, Card]


@lru_cache(maxsize=1)
def shipped_cards() -> dict[str, Card]:
    """The cards that come with imgflow."""
    path = Path(str(files("imgflow.engines.shelf") / CATALOG))
    return read_catalog(path)


def read_catalog(path: Path) -> dict[str, Card]:
    """Cards by name of a YAML file. Raises CardError (codes catalog_invalid, -_unreadable)."""
    try:
        document = load_yaml(read_limited(path))
        cards = _Catalog.model_validate({"models": document or {}}).models
    except OSError as error:
        raise CardError(
            "models_unreadable", f"the catalog of models {path} cannot be read: {error.strerror}"
        ) from error
    except ValidationError as error:
        raise _invalid(path, error) from error
    except ValueError as error:
        raise CardError("models_invalid", f"{path} is not valid: {error}") from error
    for name in cards:
        require_name(name)
    return cards


def read_card(path: Path) -> Card:
    """The card of a model that was added by hand. Raises CardError."""
    try:
        return Card.model_validate_json(read_limited(path))
    except OSError as error:
        raise CardError(
            "models_unreadable", f"the card {path} cannot be read: {error.strerror}"
        ) from error
    except ValidationError as error:
        raise _invalid(path, error) from error


def _invalid(path: Path, error: ValidationError) -> CardError:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "models")
    return CardError(
        "models_invalid",
        f"{path} is not valid: {where}: {first['msg']}",
        hint="Correct it, or take the model off the shelf: imgflow models rm NAME",
    )
