"""Manifests: `<photo>.json` beside a photo, what is to be done to it and for whom.

The order of a manifest's steps does not matter to the line: text goes first, then objects, then
the enlargement.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from imgflow.errors import BadManifest
from imgflow.policy.policy import STRICT, AssetType, Criticality, Traits, Whole
from imgflow.policy.text import Line
from imgflow.policy.yamlfile import (
    explain,
    read_limited,
    require_small,
    require_unicode,
    shortened,
)
from imgflow.store.keys import PHOTO_SUFFIXES

_MAX_COORDINATE = 1_000_000
# Of the name of one file or folder, on the file systems of Linux.
_MAX_NAME_BYTES = 255
_SHA256 = r"^[0-9a-f]{64}$"
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")


Coordinate = Annotated[float, Field(ge=0, le=_MAX_COORDINATE)]
Length = Annotated[float, Field(ge=1, le=_MAX_COORDINATE)]
Point = Annotated[tuple[Coordinate, Coordinate], Field(strict=False)]
Label = Annotated[Line, Field(min_length=1, max_length=200)]


class _Model(BaseModel):
    model_config = STRICT


class Region(_Model):
    """A rectangle (x, y, width, height) or a polygon, in pixels of the upright photo."""

    x: Coordinate | None = None
    y: Coordinate | None = None
    width: Length | None = None
    height: Length | None = None
    polygon: list[Point] | None = Field(None, min_length=3, max_length=1000)

    @field_validator("polygon")
    @classmethod
    def _has_an_area(cls, polygon: list[Point] | None) -> list[Point] | None:
        # Not by the signed area, which is 0 for a bow tie too.
        if polygon is not None and _on_a_line(np.array(polygon, np.float64)):
            raise ValueError("must have an area: its corners lie on one line")
        return polygon

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
        # The validator saw to it.
        assert self.x is not None
        assert self.y is not None
        assert self.width is not None
        assert self.height is not None
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
    mask: Line | None = Field(None, min_length=1, max_length=1000)
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
    scale: Annotated[Literal[2, 3, 4], Whole]


Instruction = Annotated[RemoveText | Inpaint | Upscale, Field(discriminator="op")]


class Manifest(_Model):
    """What is said of one photo. All fields are optional."""

    version: Annotated[Literal[1], Whole] = 1
    job_id: Label | None = None
    asset_type: AssetType | None = None
    category: Label | None = None
    criticality: Criticality | None = None
    image_sha256: str | None = Field(None, pattern=_SHA256)
    steps: list[Instruction] = Field(default_factory=list, max_length=100)
    callback: str | None = Field(None, max_length=2000)

    @field_validator("callback")
    @classmethod
    def _is_web_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not re.fullmatch(r"https?://[!-~]+", value, re.IGNORECASE):
            raise ValueError("must be an http or https URL, in ASCII and without blanks")
        parts = urlsplit(value)
        _ = parts.port  # raises ValueError for one out of range
        if "@" in parts.netloc:
            raise ValueError("must not carry a user name or password")
        if not _HOST.fullmatch(parts.hostname or ""):
            raise ValueError("must be an http or https URL with the name of a host")
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
    # os.path.isfile, because a photo's name may be too long to have ".json" behind it.
    if os.path.isfile(exact):  # noqa: PTH113
        return exact
    by_stem = photo.with_suffix(".json")
    owner = photo.with_suffix("")
    if not os.path.isfile(by_stem) or _is_photo(owner):  # noqa: PTH113
        return None  # a.jpg.json beside a.jpg.png and a.jpg is that of a.jpg
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
        require_small(text)
        document = json.loads(text, object_pairs_hook=_without_duplicates)
        if not isinstance(document, dict):
            raise ValueError("it must be a JSON object")  # noqa: TRY004 - as all of them
        require_unicode(document)
        return Manifest.model_validate(document)
    except ValidationError as error:
        problem = explain(error, Manifest)
    except RecursionError:
        problem = "it is nested too deeply"
    except ValueError as error:
        problem = str(error)
    raise BadManifest(
        "manifest_invalid",
        f"the manifest {name} is not valid: {problem}",
        hint="Correct the manifest and run the photo again",
    )


def mask_path(manifest: Path, mask: str) -> Path:
    """The file of a mask that a manifest names, which must lie in the manifest's folder tree.

    Raises BadManifest (codes mask_name_invalid, mask_path_outside).
    """
    names = mask.split("/")
    if "\0" in mask or any(len(os.fsencode(name)) > _MAX_NAME_BYTES for name in names):
        raise _bad_mask("mask_name_invalid", manifest, mask, "which no file can be called")
    path = manifest.parent / mask
    # os.path.realpath, because Path.resolve raises RuntimeError for a loop of links.
    folder = os.path.realpath(manifest.parent)
    if mask.startswith("/") or not Path(os.path.realpath(path)).is_relative_to(folder):
        raise _bad_mask("mask_path_outside", manifest, mask, "which is not in its folder")
    return path


def _bad_mask(code: str, manifest: Path, mask: str, why: str) -> BadManifest:
    return BadManifest(
        code,
        f"the manifest {manifest} names the mask {shortened(mask)}, {why}",
        hint="Put the mask beside the manifest or in a folder below, and name it relative to it",
    )


def _photos_of_stem(photo: Path) -> Iterator[str]:
    # Names first: folders may hold many thousand files, and paths are slow.
    for name in os.listdir(photo.parent):
        if name.startswith(photo.stem):
            each = photo.with_name(name)
            if each.stem == photo.stem and _is_photo(each):
                yield name


def _is_photo(path: Path) -> bool:
    return path.suffix.lower() in PHOTO_SUFFIXES and path.is_file()


def _on_a_line(points: NDArray[np.float64]) -> bool:
    return bool(np.linalg.matrix_rank(points - points[0], tol=1e-6) < 2)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            raise ValueError(f"the field {shortened(name)} stands twice")
        fields[name] = value
    return fields
