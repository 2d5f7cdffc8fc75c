"""What goes into a stage and what comes out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from imgflow.engines.registry import Engines
from imgflow.engines.spec import EngineSpec
from imgflow.errors import EngineUnavailable
from imgflow.imaging.colour import flatten, plain_background
from imgflow.imaging.decode import DecodeLimits, decode
from imgflow.imaging.encode import encode_mask
from imgflow.imaging.masks import Mask
from imgflow.imaging.photo import Generation, Rights
from imgflow.lineage.record import (
    GateResult,
    ObjectRef,
    Operation,
    Reason,
    Record,
    Rendition,
    Verdict,
)
from imgflow.policy.manifest import Manifest
from imgflow.policy.policy import Policy
from imgflow.store.keys import ImageKey
from imgflow.store.store import Store

# Objects are our own: whatever is in the store was within the limits when it came in, and an
# enlarged version may be larger than any upload.
_TRUSTED = DecodeLimits(max_bytes=1 << 33, max_pixels=1 << 31)


class Picture:
    """A version's pixels and the object that keeps them. Decoded when first looked at.

    pixels: (H, W, 3) or (H, W, 4), uint8 or uint16, sRGB, straight alpha. Treat as read-only.
    """

    def __init__(
        self, store: Store, ref: ObjectRef, pixels: NDArray[np.generic] | None = None
    ) -> None:
        self.ref = ref
        self._store = store
        self._pixels = pixels

    @property
    def pixels(self) -> NDArray[Any]:
        if self._pixels is None:
            photo = decode(self._store.read(self.ref), _TRUSTED, keep_16_bit=True)
            self._pixels = photo.pixels
        return self._pixels

    @cached_property
    def view(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8: what a viewer sees, on a plain background where it is transparent."""
        pixels = self.pixels
        if pixels.shape[2] == 3:
            return flatten(pixels, (255, 255, 255))
        return flatten(pixels, plain_background(pixels))


@dataclass(frozen=True, slots=True)
class Job:
    """One image on its way through the line.

    policy, routes: resolved for this image, and by which routes.
    data: the upload's bytes.
    masks: the mask files by the name that the manifest gives them.
    attachments: sha256 of the archived manifest and masks.
    known_hashes: hashes that a mask may name as the image that it was drawn on.
    rights: known once raw is made. generation: the same; what made a picture that says it is
    synthetic.
    earlier: the records of the versions before, in the order of the line.
    person: who asks, for a one-shot command; empty in the automatic line.
    """

    key: ImageKey
    policy: Policy
    routes: tuple[str, ...]
    manifest: Manifest
    masks: dict[str, bytes]
    attachments: dict[str, str]
    data: bytes
    original: ObjectRef | None
    store: Store
    engines: Engines
    known_hashes: frozenset[str] = frozenset()
    rights: Rights = field(default_factory=Rights)
    person: str = ""
    earlier: tuple[Record, ...] = ()
    generation: Generation | None = None

    @property
    def requester(self) -> str:
        """Whose word a manifest's step is done on."""
        if self.person:
            return f"person:{self.person}"
        return f"manifest:{self.manifest.job_id}" if self.manifest.job_id else "manifest"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a stage did to a picture.

    pixels: the new version; None where the input passes on unchanged.
    object: where some object holds these pixels already, so that nothing is encoded.
    rejected: what a failed gate stopped, for the reviewer to see.
    rights: what raw read from the original's metadata.
    unneeded: those of the stage's settings, by name, that had no part in it: whatever they were,
    this is what would have come out.
    """

    verdict: Verdict
    pixels: NDArray[Any] | None = None
    object: ObjectRef | None = None
    rejected: NDArray[Any] | None = None
    reason: Reason | None = None
    operations: tuple[Operation, ...] = ()
    gates: tuple[GateResult, ...] = ()
    measures: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    renditions: tuple[Rendition, ...] = ()
    rights: Rights | None = None
    generation: Generation | None = None
    unneeded: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Absent:
    """An engine that the policy names and that is not available, and why."""

    error: EngineUnavailable

    @property
    def code_version(self) -> str:
        """As an engine's: it changes once the engine is there."""
        return self.error.code


class _Engine(Protocol):
    @property
    def spec(self) -> EngineSpec: ...


def spec_of(find: Callable[[], _Engine], role: str = "") -> EngineSpec | Absent:
    """What an engine says of itself. role: as in EngineUnavailable."""
    try:
        with in_role(role):
            return find().spec
    except EngineUnavailable as error:
        return Absent(error)


@contextmanager
def in_role(role: str) -> Iterator[None]:
    """Says which of the stage's engines is meant, where one is not available."""
    try:
        yield
    except EngineUnavailable as error:
        error.role = role
        raise


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage as the chain sees it.

    code_version: raised when the stage's own code would give other pixels.
    settings: its part of the policy. engines: those that this policy lets it use, by the setting
    that names them, be they available or not: only a photo that needs one that is not there stops.
    asked: what a manifest asks of it, but for what hangs on the settings named only. All three, as
    JSON values, decide with the input what comes out.
    """

    code_version: str
    run: Callable[[Picture, Job], Outcome]
    settings: Callable[[Policy], dict[str, Any]]
    engines: Callable[[Policy, Engines], dict[str, list[EngineSpec | Absent]]]
    asked: Callable[[Job, Collection[str]], list[Any]]

    def engines_for(
        self, policy: Policy, engines: Engines, unneeded: Collection[str] = ()
    ) -> list[EngineSpec | Absent]:
        """All of its engines, but for those that only settings of `unneeded` name."""
        found = self.engines(policy, engines)
        return [each for name in found if name not in unneeded for each in found[name]]


def passed_through(why: str, unneeded: Collection[str] = frozenset(), **measures: float) -> Outcome:
    """Nothing to do, and why."""
    return Outcome(
        Verdict.PASSED_THROUGH, notes=(why,), measures=measures, unneeded=frozenset(unneeded)
    )


def store_mask(store: Store, mask: Mask) -> ObjectRef:
    """Keep a mask (H, W; 0 or 255) as an object of its own."""
    data = encode_mask(mask)
    return ObjectRef(
        sha256=store.put_object(data, "image/png"),
        media_type="image/png",
        size=len(data),
        width=mask.shape[1],
        height=mask.shape[0],
        channels=1,
        bit_depth=8,
    )
