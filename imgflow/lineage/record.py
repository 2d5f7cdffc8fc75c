"""Record schema 3: one JSON document per image and version, the commit point of the line.

A record names everything that is needed to explain its output and to make it again. It is
written last and atomically: what no record names has not happened.

Schemas 1 and 2 are read as well. 2 had no `unneeded`; 1 had no `steps`, `batch`, `accelerator`
and `unsigned_sha256` either, and no seal.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from imgflow.errors import StoreError
from imgflow.lineage.seal import sealed, unsealed

SCHEMA_VERSION: Literal[3] = 3
_READABLE = (1, 2, SCHEMA_VERSION)


class Version(StrEnum):
    """The versions of a photo, in the order of the line."""

    RAW = "raw"
    DETEXTED = "detexted"
    INPAINTED = "inpainted"
    UPSCALED = "upscaled"
    PUBLISHED = "published"

    @property
    def upstream(self) -> Version | None:
        """The version that this one is made from; None for raw."""
        order = list(Version)
        position = order.index(self)
        return order[position - 1] if position else None


class Verdict(StrEnum):
    """What became of a photo at a version."""

    REPAIRED = "repaired"  # pixels changed and every gate passed
    PASSED_THROUGH = "passed_through"  # nothing to do: the same object as the input
    PUBLISHED = "published"
    ACCEPTED_WITH_ARTIFACTS = "accepted_with_artifacts"  # a gate failed, the policy allows it
    NEEDS_REVIEW = "needs_review"  # a person has to decide
    QUARANTINED = "quarantined"  # a gate failed, the input is bad, or the line crashed on it
    RETIRED = "retired"

    @property
    def stops(self) -> bool:
        """True where no later version may be made from this one."""
        return self in (Verdict.NEEDS_REVIEW, Verdict.QUARANTINED, Verdict.RETIRED)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ObjectRef(_Model):
    """A content-addressed object: `sha256` of its encoded bytes, and what is inside."""

    sha256: str
    media_type: str
    size: int  # bytes
    width: int | None = None
    height: int | None = None
    channels: int | None = None
    bit_depth: int | None = None
    # An original that a browser shows as it is doubles as its raw version: nothing is encoded.
    area: Literal["originals", "objects"] = "objects"


class EngineStamp(_Model):
    """Which engine did the work, exactly."""

    name: str
    model_id: str
    weights_sha256: str | None = None  # None: a method without weights
    licence: str = ""


class TextRegion(_Model):
    """Text found in a photo: polygon of [x, y] in pixels, what it reads, confidence 0..1.

    kind: put over the photo, or part of what it shows; None: not judged, or not sure.
    score: probability of an overlay; None: not judged. reasons: what speaks for that, in words.
    """

    polygon: list[list[float]]
    text: str
    confidence: float
    kind: Literal["overlay", "product"] | None = None
    score: float | None = None
    reasons: list[str] = Field(default_factory=list)


class Operation(_Model):
    """One thing done to the pixels, with all that is needed to do it again."""

    name: str
    engine: EngineStamp | None = None
    requested_by: str = "policy"  # policy | manifest:<job id> | person:<name>
    parameters: dict[str, Any] = Field(default_factory=dict)
    seed: int | None = None
    prompt: str | None = None
    negative_prompt: str | None = None
    mask: ObjectRef | None = None
    regions: list[TextRegion] = Field(default_factory=list)
    tile_plan: dict[str, Any] | None = None
    device: str = "cpu"
    dtype: str = "uint8"
    endpoint: str | None = None  # of a remote engine
    cost: float | None = None  # of a remote engine, in the currency of its policy
    seconds: float = 0.0


class GateResult(_Model):
    """One gate. `passed` None: not evaluated, and `note` says why."""

    name: str
    metric: str
    value: float | None = None
    threshold: float | None = None
    passed: bool | None = None
    note: str = ""


class Reason(_Model):
    """Why a photo stopped: a stable code, a sentence for people, and what they can do."""

    code: str
    message: str
    hint: str = ""
    traceback: str = ""  # only for crashes
    transient: bool = False  # True: running again may help without any change


class Rendition(_Model):
    """One published file. `path` is relative to the catalog's published folder.

    framing: how the photo was framed (stages/publish.py); None: all of it, only reduced.
    unsigned_sha256: of the file before content credentials were added, which no two signings
    make the same; None: there are none.
    """

    name: str
    path: str
    object: ObjectRef
    framing: dict[str, Any] | None = None
    unsigned_sha256: str | None = None


class Decision(_Model):
    """What a person decided about this version."""

    person: str
    action: str
    at: datetime
    comment: str = ""


class Environment(_Model):
    """Where the version was made: whatever can change bytes beside the inputs."""

    python: str
    platform: str
    instruction_set: str
    threads: int
    libraries: dict[str, str]
    batch: int = 1  # images that an engine works on at once
    accelerator: str = ""  # the name of the device beside the processor; empty: none


class Record(_Model):
    """How one version of one image came to be."""

    schema_version: Literal[3] = SCHEMA_VERSION
    catalog: str
    key: str
    version: Version
    verdict: Verdict
    reason: Reason | None = None

    original_sha256: str | None = None
    input: ObjectRef | None = None
    output: ObjectRef | None = None
    rejected: ObjectRef | None = None  # what a failed gate stopped, kept for the reviewer
    renditions: list[Rendition] = Field(default_factory=list)

    operations: list[Operation] = Field(default_factory=list)
    gates: list[GateResult] = Field(default_factory=list)
    measures: dict[str, float] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)
    decisions: list[Decision] = Field(default_factory=list)

    # The same fingerprint means: doing it again would give the same output.
    fingerprint: str
    policy_sha256: str
    settings: dict[str, Any] = Field(default_factory=dict)  # this stage's part of the policy
    # Names of those settings that had no part in what came out: the fingerprint is of the others.
    unneeded: list[str] = Field(default_factory=list)
    routes: list[str] = Field(default_factory=list)
    traits: dict[str, str] = Field(default_factory=dict)
    # What was asked for this image, by manifest and catalog.csv; None: not said (schema 1).
    steps: list[dict[str, Any]] | None = None
    # Archived files that the user gave beside the photo: '/manifest', and masks by their names.
    attachments: dict[str, str] = Field(default_factory=dict)
    job_id: str | None = None
    rights: dict[str, str] = Field(default_factory=dict)  # copyright, creator, credit

    imgflow_version: str
    code_version: str
    run_id: str
    started_at: datetime
    seconds: float
    environment: Environment

    synthetic: bool = False  # the picture says that no camera has taken it
    variant: int = 0
    generation: dict[str, Any] | None = None  # what made it, as far as it says so

    @property
    def data_version(self) -> str:
        """Hash of the version's content: of its object, or of all its renditions."""
        if not self.renditions:
            return self.output.sha256 if self.output else ""
        hashes = "".join(rendition.object.sha256 for rendition in self.renditions)
        return hashlib.sha256(hashes.encode()).hexdigest()

    @field_validator("schema_version", mode="before")
    @classmethod
    def _is_readable(cls, version: Any) -> Any:
        return SCHEMA_VERSION if version in _READABLE else version

    def to_json(self) -> bytes:
        """Canonical bytes, sealed: the same record gives the same bytes."""
        return sealed(self.model_dump_json(indent=1).encode())

    @classmethod
    def from_json(cls, data: bytes) -> Record:
        """The record of a text of this schema or an older one.

        Raises ValidationError for what is no record, SealBroken for one that was changed,
        StoreError (code record_too_new) for one that a later imgflow has written.
        """
        body, _ = unsealed(data)
        try:
            return cls.model_validate_json(body)
        except ValidationError:
            _require_known(body)
            raise


def _require_known(body: bytes) -> None:
    """Raises StoreError: what a later imgflow wrote is no damage, and nobody may replace it."""
    try:
        version = json.loads(body)["schema_version"]
    except (ValueError, TypeError, KeyError):
        return
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise StoreError(
            "record_too_new",
            f"a record has schema version {version}, and this imgflow knows {SCHEMA_VERSION}",
            hint="Use the imgflow that wrote it, or a later one",
        )
