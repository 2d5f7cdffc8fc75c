"""Manifests: `<photo>.json` beside a photo, what is to be done to it and for whom.

The order of a manifest's steps does not matter to the line: text goes first, then objects, then
the enlargement.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from imgflow.errors import BadManifest
from imgflow.policy.policy import AssetType, Criticality, Traits
from imgflow.policy.yamlfile import explain, read_limited
from imgflow.store.keys import PHOTO_SUFFIXES

_MAX_BYTES = 1_000_000
_MAX_COORDINATE = 1_000_000
_SHA256 = r"^[0-9a-f]{64}$"

Coordinate = Annotated[float, Field(ge=0, le=_MAX_COORDINATE)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Region(_Model):
    """A rectangle (x, y, width, height) or a polygon, in pixels of the upright photo."""

    x: Coordinate | None = None
    y: Coordinate | None = None
    width: Annotated[float, Field(gt=0, le=_MAX_COORDINATE)] | None = None
    height: Annotated[float, Field(gt=0, le=_MAX_COORDINATE)] | None = None
    polygon: list[tuple[Coordinate, Coordinate]] | None = Field(None, min_length=3, max_length=1000)

    @model_validator(mode="after")
    def _is_one_shape(self) -> Region:
        sides = [self.x, self.y, self.width, self.height]
        rectangle = all(side is not None for side in sides)
        if (
            rectangle == (self.polygon is not None)
            or any(side is not None for side in sides) != rectangle
        ):
            raise ValueError("give either x, y, width and height, or polygon")
        return self

    def polygon_points(self) -> NDArray[np.float64]:
        """(N, 2) corners as x, y. A rectangle's last pixel lies inside it."""
        if self.polygon is not None:
            return np.array(self.polygon, np.float64)
        assert self.x is not None and self.y is not None  # the validator saw to it
        assert self.width is not None and self.height is not None
        right, bottom = self.x + self.width - 1, self.y + self.height - 1
        return np.array(
            [(self.x, self.y), (right, self.y), (right, bottom), (self.x, bottom)], np.float64
        )


class RemoveText(_Model):
    """Remove text: in a region, or of a wording that the hint describes, or all of it."""

    op: Literal["remove_text"]
    region: Region | None = None
    hint: Literal["date-stamp", "caption", "watermark", "url", "screenshot"] | None = None


class Inpaint(_Model):
    """Fill what a mask file (white = fill) or a region marks."""

    op: Literal["inpaint"]
    mask: str | None = Field(None, min_length=1, max_length=1000)
    region: Region | None = None
    mask_image_sha256: str | None = Field(None, pattern=_SHA256)
    prompt: str | None = Field(None, max_length=2000)
    negative_prompt: str | None = Field(None, max_length=2000)
    seed: int | None = Field(None, ge=0, lt=2**32)
    preserve_edges: bool = False

    @model_validator(mode="after")
    def _has_one_area(self) -> Inpaint:
        if (self.mask is None) == (self.region is None):
            raise ValueError("give exactly one of mask and region")
        if self.mask_image_sha256 is not None and self.mask is None:
            raise ValueError("mask_image_sha256 belongs to a mask, and there is none")
        return self


class Upscale(_Model):
    """Enlarge by a factor, whatever the policy would decide."""

    op: Literal["upscale"]
    scale: Literal[2, 3, 4]


Instruction = Annotated[RemoveText | Inpaint | Upscale, Field(discriminator="op")]


class Manifest(_Model):
    """What is said of one photo. All fields are optional."""

    version: Literal[1] = 1
    job_id: str | None = Field(None, min_length=1, max_length=200)
    asset_type: AssetType | None = None
    category: str | None = Field(None, min_length=1, max_length=200)
    criticality: Criticality | None = None
    image_sha256: str | None = Field(None, pattern=_SHA256)
    steps: list[Instruction] = Field(default_factory=list, max_length=100)
    callback: str | None = Field(None, max_length=2000)

    @field_validator("callback")
    @classmethod
    def _is_web_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an http or https URL")
        if parts.username or parts.password:
            raise ValueError("must not carry a user name or password")
        return value

    @model_validator(mode="after")
    def _enlarges_once(self) -> Manifest:
        if sum(isinstance(step, Upscale) for step in self.steps) > 1:
            raise ValueError("only one upscale step is possible")
        return self

    def traits(self) -> Traits:
        return Traits(self.asset_type or "", self.category or "", self.criticality or "")


def find_manifest(photo: Path) -> Path | None:
    """The manifest beside a photo: `a.jpg.json`, or `a.json` if only one photo is called `a`.

    Raises BadManifest (code manifest_ambiguous) where `a.json` could belong to several photos.
    """
    exact = photo.with_name(photo.name + ".json")
    if exact.is_file():
        return exact
    by_stem = photo.with_suffix(".json")
    if not by_stem.is_file():
        return None
    photos = sorted(_photos_of_stem(photo))
    if len(photos) > 1:
        raise BadManifest(
            "manifest_ambiguous",
            f"{by_stem.name} may belong to {' or '.join(photos)}",
            hint=f"Name it {exact.name}",
            photo=str(photo),
        )
    return by_stem


def read_manifest(path: Path) -> bytes:
    """The manifest's bytes. Raises BadManifest (code manifest_unreadable)."""
    try:
        return read_limited(path)
    except OSError as error:
        raise BadManifest(
            "manifest_unreadable", f"the manifest {path} cannot be read: {error.strerror}"
        ) from error


def parse_manifest(text: bytes, name: str) -> Manifest:
    """The manifest of a JSON text; `name` is what errors call it. Raises BadManifest."""
    try:
        if len(text) > _MAX_BYTES:
            raise ValueError(f"it is larger than {_MAX_BYTES} bytes")
        document = json.loads(text)
        if not isinstance(document, dict):
            raise ValueError("it must be a JSON object")
        return Manifest.model_validate(document)
    except ValidationError as error:
        problem = explain(error, Manifest)
    except (ValueError, RecursionError) as error:
        problem = str(error)
    raise BadManifest(
        "manifest_invalid",
        f"the manifest {name} is not valid: {problem}",
        hint="Correct the manifest and run the photo again",
    )


def mask_path(manifest: Path, mask: str) -> Path:
    """The file of a mask that a manifest names, which must lie in the manifest's folder tree.

    Raises BadManifest (code mask_path_outside).
    """
    folder = manifest.parent
    path = folder / mask
    inside = path.resolve().is_relative_to(folder.resolve())
    if PurePosixPath(mask).is_absolute() or "\0" in mask or not inside:
        raise BadManifest(
            "mask_path_outside",
            f"the manifest {manifest} names the mask {mask!r}, which is not in its folder",
            hint="Put the mask beside the manifest or in a folder below, and name it relative to it",
        )
    return path


def _photos_of_stem(photo: Path) -> Iterator[str]:
    for each in photo.parent.iterdir():
        if each.stem == photo.stem and each.suffix.lower() in PHOTO_SUFFIXES:
            yield each.name
