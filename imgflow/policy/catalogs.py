"""The catalogs of an installation: `catalogs.yaml`, a list. Without one there is `main` alone.

Each catalog has its own uploads, policy, table of photos, partition sets and schedule; records,
objects and published files share one store.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations, pairwise
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from imgflow.errors import BadCatalog, ImgflowError
from imgflow.policy.yamlfile import explain, load_yaml, read_limited, shortened
from imgflow.store.keys import ImageKey
from imgflow.store.place import Place

MAIN = "main"
MOST_KEYS = 100_000
"""Of one partition set: above that, Dagster's pages and daemons become slow."""
MOST_SHARDS = 500
SHARD = "_shard_"
"""Between a catalog's name and a shard's number; in no catalog's name."""
# What would be taken for something else among the names of assets, groups and jobs.
_TAKEN = frozenset({"photos", "reports", "catalog", "quality_report", "refresh"}) | {
    "raw", "detexted", "inpainted", "upscaled", "published",
}  # fmt: skip
_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
# Five fields of a cron expression; Dagster says the rest when it loads the schedule.
_CRON = re.compile(r"\S+(?: +\S+){4}")

FilePath = Annotated[str, Field(min_length=1, max_length=1000)]


class CatalogSpec(BaseModel):
    """One catalog of the list. Paths are relative to the installation's folder (IMGFLOW_HOME).

    name: in asset keys, partition sets, records and the paths of published files: it never
    changes. title: what people call it. shards: how many partition sets its photos are spread
    over by a hash of their keys; it never changes once photos are there, as each photo's
    history in Dagster is its shard's. refresh: cron of the comparison of all its photos, UTC;
    empty: IMGFLOW_REFRESH_CRON, or every night. fresh_within_hours: Dagster shows the catalog as
    overdue when its last whole comparison is older. uploads: a folder, or s3://bucket/prefix.
    queue: URL of the SQS queue with that bucket's notifications.
    """

    model_config = _STRICT

    name: str = Field(pattern=r"^[a-z][a-z0-9]*(?:_[a-z0-9]+)*$", max_length=40)
    title: str = Field("", max_length=200)
    folder: FilePath | None = None
    uploads: FilePath | None = None
    policy: FilePath | None = None
    table: FilePath | None = None
    queue: FilePath | None = None
    shards: int = Field(1, ge=1, le=MOST_SHARDS)
    refresh: str = Field("", max_length=200)
    fresh_within_hours: float = Field(36.0, gt=0, le=24 * 366)

    @field_validator("name")
    @classmethod
    def _not_taken(cls, name: str) -> str:
        if name in _TAKEN or SHARD in name:
            raise ValueError(f"'{name}' means something else here: choose another name")
        return name

    @field_validator("title")
    @classmethod
    def _one_line(cls, text: str) -> str:
        if not text.isprintable():
            raise ValueError("must be one line of text")
        return text

    @field_validator("refresh")
    @classmethod
    def _cron(cls, text: str) -> str:
        if text and not _CRON.fullmatch(text):
            raise ValueError("must be five cron fields, such as 0 3 * * *")
        return text

    @field_validator("folder", "uploads", "policy", "table")
    @classmethod
    def _path(cls, text: str | None) -> str | None:
        if text is not None and (not text.isprintable() or ".." in PurePosixPath(text).parts):
            raise ValueError("must be a path without '..'")
        return text

    @field_validator("uploads")
    @classmethod
    def _folder_or_bucket(cls, text: str | None) -> str | None:
        if text is not None and "://" in text:
            try:
                Place.parse(text)
            except ImgflowError as error:
                raise ValueError(f"{error.what}: write a folder or s3://bucket/prefix") from error
        return text

    @field_validator("folder", "policy", "table")
    @classmethod
    def _no_url(cls, text: str | None) -> str | None:
        if text is not None and "://" in text:
            raise ValueError("must be a path: only uploads may lie in a bucket")
        return text

    @field_validator("queue")
    @classmethod
    def _queue(cls, text: str | None) -> str | None:
        if text is not None and not re.match(r"https?://[^/\s]+/\S+\Z", text):
            raise ValueError("must be the URL of a queue")
        return text

    @field_validator("folder")
    @classmethod
    def _inside(cls, text: str | None) -> str | None:
        if text is not None and text.startswith("/"):
            raise ValueError("must lie in the installation's folder")
        return text

    @model_validator(mode="after")
    def _queue_of_bucket(self) -> Self:
        if self.queue is not None and uploads_place(self) is None:
            raise ValueError("queue tells of uploads in a bucket: name those (uploads: s3://...)")
        return self

    @property
    def place(self) -> str:
        """The folder of what is this catalog's alone, relative to the installation's."""
        return self.folder or ("." if self.name == MAIN else f"catalogs/{self.name}")

    @property
    def label(self) -> str:
        """What people call it."""
        return self.title or self.name

    def shard_of(self, key: ImageKey) -> int:
        """Which shard a photo is in, from 0: by its key alone, always the same."""
        return int(key.digest[:16], 16) % self.shards


MAIN_SPEC = CatalogSpec(name=MAIN)


class _Listed(BaseModel):
    model_config = _STRICT

    version: Literal[1] = 1
    catalogs: tuple[CatalogSpec, ...] = Field(min_length=1, max_length=1000)

    @model_validator(mode="after")
    def _apart(self) -> Self:
        names = [each.name for each in self.catalogs]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"the catalog '{twice[0]}' stands twice")
        places = [str(PurePosixPath(each.place)) for each in self.catalogs]
        for each, place in zip(self.catalogs, places, strict=True):
            if places.count(place) > 1:
                raise ValueError(f"the folder {shortened(place)} of '{each.name}' is another's too")
        return self


def load_catalogs(path: Path, root: Path) -> tuple[CatalogSpec, ...]:
    """The catalogs of a list, in its order; without the file, `main` alone.

    root: the installation's folder. Raises BadCatalog (codes catalogs_unreadable,
    catalogs_invalid) that says what is wrong, and where.
    """
    try:
        text = read_limited(path)
    except (FileNotFoundError, NotADirectoryError):  # the latter: of a home that cannot be made
        return (MAIN_SPEC,)
    except OSError as error:
        raise BadCatalog(
            "catalogs_unreadable", f"the list {path} cannot be read: {error.strerror}"
        ) from error
    try:
        found = _Listed.model_validate(load_yaml(text)).catalogs
        _require_apart(found, root)
    except ValidationError as error:
        problem = explain(error, _Listed, text)
    except ValueError as error:
        problem = str(error)
    else:
        return found
    raise BadCatalog(
        "catalogs_invalid",
        f"the list {path} is not valid: {problem}",
        hint="Correct it: until then nothing is run",
    )


def uploads_place(spec: CatalogSpec) -> Place | None:
    """Where in a bucket the list says that a catalog's photos are; None: in a folder, or it does
    not say."""
    return Place.parse(spec.uploads) if spec.uploads and "://" in spec.uploads else None


def uploads_folder(spec: CatalogSpec, root: Path) -> Path:
    """Where a catalog's photos are dropped; of uploads in a bucket what their paths begin with."""
    if spec.uploads is None or uploads_place(spec) is not None:
        return root / spec.place / "uploads"
    return root / spec.uploads


def _require_apart(catalogs: Sequence[CatalogSpec], root: Path) -> None:
    """Raises ValueError where a photo would be in two catalogs."""
    places = [(each, uploads_place(each)) for each in catalogs]
    folders = sorted(
        (uploads_folder(each, root).resolve(), each.name) for each, place in places if place is None
    )
    for (outer, first), (inner, second) in pairwise(folders):
        if inner.is_relative_to(outer):
            raise ValueError(
                f"the uploads of '{second}' lie in those of '{first}' ({outer}): name others"
            )
    buckets = [(place, each.name) for each, place in places if place is not None]
    for (one, first), (other, second) in combinations(buckets, 2):
        if one.overlaps(other):
            raise ValueError(
                f"the uploads of '{first}' ({one.url}) and of '{second}' ({other.url}) lie in one "
                "another: name others"
            )
