"""Versions made again from the archived original by their records alone, and compared.

Of the installation nothing is read but records and originals (with manifests and masks): not the
policy in force, not the catalog, not the upload folder, no object but to compare with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from imgflow.chain import STAGES, Remade, code_version, remake
from imgflow.engines.registry import Engines
from imgflow.equipment import equip
from imgflow.errors import ImgflowError, StoreError
from imgflow.home import Home
from imgflow.imaging.decode import DecodeLimits, decode
from imgflow.imaging.metrics import psnr
from imgflow.imaging.photo import Rights
from imgflow.lineage.environment import environment
from imgflow.lineage.record import ObjectRef, Record, Rendition, Version
from imgflow.policy.manifest import Manifest, parse_manifest
from imgflow.policy.policy import Policy
from imgflow.pool import supervise
from imgflow.stages.intake import MANIFEST
from imgflow.stages.stage import Absent, Job, Picture
from imgflow.store.keys import ImageKey
from imgflow.store.local import LocalStore
from imgflow.store.store import Store

_TRUSTED = DecodeLimits(max_bytes=1 << 33, max_pixels=1 << 31)

Status = Literal["same", "different", "unavailable"]


@dataclass(frozen=True, slots=True)
class Replayed:
    """One version, made again.

    why: what may have made the difference, or why it cannot be made; sentences. psnr: in dB, of
    the picture that differs most; infinite where only the files differ; None where nothing can
    be compared. pictures: the files that were made. notes: what was left out of the comparison.
    """

    key: str
    version: str
    status: Status
    why: tuple[str, ...] = ()
    psnr: float | None = None
    pictures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        found = asdict(self)
        if self.psnr is not None and math.isinf(self.psnr):
            found["psnr"] = "inf"  # which JSON has no number for
        return found


@dataclass(frozen=True, slots=True)
class Replay:
    """What to make again, and where.

    folder: for what is made; laid out like a store. versions: only these are compared; those
    before them are made all the same. remote: call remote engines again, which may cost money.
    home: the catalog whose shelf and policy bring further engines.
    """

    archive: Store
    catalog: str
    folder: Path
    versions: tuple[Version, ...] = tuple(Version)
    remote: bool = False
    timeout_s: float = 600.0
    home: Home | None = None


def replay_all(
    keys: Sequence[ImageKey], replay: Replay, *, workers: int
) -> Iterator[tuple[ImageKey, list[Replayed]]]:
    """Images made again in worker processes; each is told as it is done."""
    for done in supervise(
        _replay,
        keys,
        workers=min(workers, max(len(keys), 1)),
        timeout_s=replay.timeout_s,
        initializer=_start,
        initargs=(replay,),
    ):
        if done.loss is not None:
            found = _lost(done.item, replay, done.loss.message)
        else:
            found = done.result or []
        yield done.item, found


_of_worker: Replay


def _start(replay: Replay) -> None:
    global _of_worker
    import cv2

    cv2.setNumThreads(1)  # as in the workers of the line
    _of_worker = replay


def _replay(key: ImageKey) -> list[Replayed]:
    return replay_image(key, _of_worker)


def _lost(key: ImageKey, replay: Replay, why: str) -> list[Replayed]:
    records = [replay.archive.get_record(replay.catalog, key, each) for each in Version]
    return [
        Replayed(record.key, str(record.version), "unavailable", (why,))
        for record in records
        if record is not None and _wanted(record, replay)
    ]


def replay_image(key: ImageKey, replay: Replay, engines: Engines | None = None) -> list[Replayed]:
    """Make an image's versions again, as far as they have a picture.

    engines: what engines there are; by default those of the registry, with as many threads as the
    record says. Raises nothing that concerns one version alone.
    """
    store = replay.archive
    records = [store.get_record(replay.catalog, key, version) for version in Version]
    again = _Again(store, replay, engines)
    return [
        again.version(record)
        for record in records
        if record is not None and _wanted(record, replay)
    ]


def _wanted(record: Record, replay: Replay) -> bool:
    """Whether a version has a picture that can be compared."""
    picture = record.rejected if record.verdict.stops else record.output
    return record.version in replay.versions and picture is not None


class _Unavailable(Exception):
    """Why a version cannot be made again."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class _Again:
    """One image's versions made again, each once, though later ones need it too."""

    def __init__(self, store: Store, replay: Replay, engines: Engines | None) -> None:
        self._store, self._replay = store, replay
        self._scratch = _Scratch(replay.folder, replay.archive)
        self._engines = engines
        self._made: dict[str, Remade] = {}

    def version(self, record: Record) -> Replayed:
        def told(status: Status, *why: str, **more: Any) -> Replayed:
            return Replayed(record.key, str(record.version), status, why, **more)

        try:
            made = self._remade(record)
        except _Unavailable as error:
            return told("unavailable", error.why)
        except ImgflowError as error:
            return told("unavailable", error.what)
        except Exception as error:
            return told("unavailable", f"the line crashed on it: {type(error).__name__}: {error}")
        pairs = list(_pairs(record, made))
        if len(pairs) < max(len(record.renditions), 1):
            why = made.outcome.reason.message if made.outcome.reason else made.outcome.verdict
            return told("different", f"not every picture came out: {why}", *self._reasons(record))
        pictures = tuple(self._placed(record, pairs))
        notes = tuple(
            f"{each.name} was compared without its content credentials, which no two signings "
            "make the same"
            for each in record.renditions
            if each.unsigned_sha256
        )
        if all(pair.is_same for pair in pairs):
            return told("same", pictures=pictures, notes=notes)
        return told(
            "different",
            *(pair.names for pair in pairs if not pair.is_same),
            *self._reasons(record),
            psnr=self._worst_psnr(pairs),
            pictures=pictures,
            notes=notes,
        )

    # -- making ------------------------------------------------------------------------

    def _remade(self, record: Record) -> Remade:
        known = record.to_json().decode()
        if known not in self._made:
            self._made[known] = self._make(record)
        return self._made[known]

    def _make(self, record: Record) -> Remade:
        engines = self._engines or _engines(record.environment.threads, self._replay.home)
        policy = _policy(record)
        self._require_engines(record, policy, engines)
        original = self._original(record)
        before = self._before(record)
        earlier = self._earlier(before)
        picture = Picture(self._scratch, original) if before is None else self._picture(before)
        manifest = _manifest(record, self._store)
        masks = {
            name: self._store.read_original(sha256)
            for name, sha256 in record.attachments.items()
            if name != MANIFEST
        }
        outputs = [each.output.sha256 for each in earlier if each.output]
        remade = [self._remade(each).output for each in earlier]
        job = Job(
            key=ImageKey(record.key),
            policy=policy,
            routes=tuple(record.routes),
            manifest=manifest,
            masks=masks,
            attachments=record.attachments,
            data=self._store.read_original(original.sha256),
            original=original,
            known_hashes=frozenset(
                [original.sha256, *outputs, *(each.sha256 for each in remade if each)]
            ),
            store=self._scratch,
            engines=engines,
            rights=Rights(**earlier[-1].rights) if earlier else Rights(),
            earlier=earlier,
        )
        return remake(record.version, picture, job)

    def _picture(self, before: Record) -> Picture:
        made = self._remade(before).picture
        if made is None:
            raise _Unavailable(f"{before.version}, from which it is made, did not come out")
        return made

    def _original(self, record: Record) -> ObjectRef:
        if record.original_sha256 is None:
            raise _Unavailable("its record names no original")
        size = len(self._store.read_original(record.original_sha256))
        given = record.input if record.version is Version.RAW else None
        media_type = given.media_type if given else "application/octet-stream"
        return ObjectRef(
            sha256=record.original_sha256, media_type=media_type, size=size, area="originals"
        )

    def _before(self, record: Record) -> Record | None:
        """The record of the version that this one was made from, current or replaced."""
        if record.version.upstream is None:
            return None
        for found in self._candidates(record, record.version.upstream):
            output = found.output
            if output and record.input and output.sha256 == record.input.sha256:
                return found
        raise _Unavailable(f"no record of {record.version.upstream} says how its input came to be")

    def _candidates(self, record: Record, version: Version) -> Iterator[Record]:
        key, catalog = ImageKey(record.key), record.catalog
        current = self._store.get_record(catalog, key, version)
        if current is not None:
            yield current
        for files in self._store.image_files(catalog, key.digest):
            for each, sha256 in sorted(files.replaced):
                if each is version:
                    text = self._store.replaced_record(catalog, key.digest, each, sha256)
                    yield Record.from_json(text)

    def _earlier(self, record: Record | None) -> tuple[Record, ...]:
        """A record with all before it, in the order of the line."""
        return () if record is None else (*self._earlier(self._before(record)), record)

    def _require_engines(self, record: Record, policy: Policy, engines: Engines) -> None:
        """Raises _Unavailable where the very weights are not there, or are somebody else's."""
        here = {
            each.weights_sha256
            for each in STAGES[record.version].engines_for(policy, engines)
            if not isinstance(each, Absent)
        }
        for operation in record.operations:
            engine = operation.engine
            if operation.endpoint and not self._replay.remote:
                raise _Unavailable(
                    f"{operation.name} was done by the remote engine at {operation.endpoint}, "
                    "which is only asked again with --remote"
                )
            if engine and engine.weights_sha256 and engine.weights_sha256 not in here:
                raise _Unavailable(
                    f"the weights {engine.weights_sha256} of {engine.name} ({engine.model_id}) "
                    "are not installed"
                )

    # -- comparing ---------------------------------------------------------------------

    def _placed(self, record: Record, pairs: Sequence[_Pair]) -> Iterator[str]:
        """The files that were made; renditions also under the names that they are published by."""
        paths = {each.name: each.path for each in record.renditions}
        for pair in pairs:
            if pair.name in paths:
                data = self._scratch.read(pair.made)
                self._scratch.publish(record.catalog, paths[pair.name], data)
                yield self._scratch.published_location(record.catalog, paths[pair.name])
            else:
                yield self._scratch.location(pair.made)

    def _worst_psnr(self, pairs: Sequence[_Pair]) -> float | None:
        found = []
        for pair in pairs:
            if pair.is_same:
                continue
            try:
                recorded = decode(self._store.read(pair.recorded), _TRUSTED, keep_16_bit=True)
            except ImgflowError:
                return None
            made = decode(self._scratch.read(pair.made), _TRUSTED, keep_16_bit=True)
            if recorded.pixels.shape != made.pixels.shape:
                return None
            found.append(_psnr(recorded.pixels, made.pixels))
        return min(found)

    def _reasons(self, record: Record) -> Iterator[str]:
        """What is not as it was when the version was made."""
        was, here = record.environment, environment(record.environment.threads)
        for name in ("python", "platform", "instruction_set", "accelerator"):
            before, now = getattr(was, name), getattr(here, name)
            if before != now:
                yield f"{name.replace('_', ' ')}: {before or 'none'} then, {now or 'none'} now"
        for name in sorted({*was.libraries, *here.libraries}):
            before, now = was.libraries.get(name), here.libraries.get(name)
            if before != now:
                yield f"{name} {before or 'missing'} then, {now or 'missing'} now"
        if was.batch > 1:
            yield f"made in batches of {was.batch}, which its neighbours may have changed"
        devices = {each.device for each in record.operations} - {"cpu"}
        if devices:
            yield f"made on {', '.join(sorted(devices))}"
        code = code_version(
            record.version,
            _policy(record),
            self._engines or _engines(record.environment.threads, self._replay.home),
            record.unneeded,
        )
        if code != record.code_version:
            yield f"code {record.code_version} then, {code} now"


@dataclass(frozen=True, slots=True)
class _Pair:
    """A recorded picture and the one made again. wanted: the hash that it must have."""

    name: str
    recorded: ObjectRef
    made: ObjectRef
    wanted: str

    @property
    def is_same(self) -> bool:
        return self.made.sha256 == self.wanted

    @property
    def names(self) -> str:
        return f"{self.name}: {self.made.sha256}, recorded is {self.wanted}"


def _pairs(record: Record, made: Remade) -> Iterator[_Pair]:
    if record.verdict.stops and record.rejected is not None:
        if made.rejected is not None:
            yield _Pair("rejected", record.rejected, made.rejected, record.rejected.sha256)
    elif record.renditions:
        again = {each.name: each for each in made.outcome.renditions}
        for each in record.renditions:
            if each.name in again:
                yield _Pair(each.name, each.object, again[each.name].object, _unsigned(each))
    elif record.output is not None and made.output is not None:
        yield _Pair("picture", record.output, made.output, record.output.sha256)


def _unsigned(rendition: Rendition) -> str:
    return rendition.unsigned_sha256 or rendition.object.sha256


def _psnr(recorded: NDArray[Any], made: NDArray[Any]) -> float:
    if np.array_equal(recorded, made):
        return math.inf
    return psnr(recorded, made, data_range=float(np.iinfo(recorded.dtype).max))


@lru_cache(maxsize=4)
def _engines(threads: int, home: Home | None) -> Engines:
    if home is None:
        return Engines(threads=threads)
    return equip(home, home.policy(), threads=threads)


def _policy(record: Record) -> Policy:
    """The policy for one version: its stage's part, as the record has it."""
    settings = dict(record.settings)
    try:
        match record.version:
            case Version.RAW:
                return Policy.model_validate({"raw": settings})
            case Version.DETEXTED:
                return Policy.model_validate({"detext": settings})
            case Version.INPAINTED:
                detext = settings.pop("detext", {})
                return Policy.model_validate({"inpaint": settings, "detext": detext})
            case Version.UPSCALED:
                # What the renditions ask of the enlargement stands for them.
                wanted = settings.pop("wanted_long_side")
                asking = [{"min_long_side": wanted}, *settings.pop("framing", [])]
                renditions = [
                    {"name": f"asking-{number}", "long_side": each["min_long_side"], **each}
                    for number, each in enumerate(asking)
                ]
                return Policy.model_validate({"upscale": settings, "renditions": renditions})
            case Version.PUBLISHED:
                # No two signings give the same bytes: files are compared as they were before.
                provenance = {**settings.get("provenance", {}), "certificate": None}
                return Policy.model_validate({**settings, "provenance": provenance})
    except (ValidationError, KeyError) as error:
        raise _Unavailable(
            f"its settings are of another imgflow ({record.imgflow_version}): {error}"
        ) from error


def _manifest(record: Record, store: Store) -> Manifest:
    """What was asked for the image, by the record; of schema 1, by the archived manifest."""
    said = {name: value for name, value in record.traits.items() if value}
    if record.steps is None:
        text = record.attachments.get(MANIFEST)
        given = parse_manifest(store.read_original(text), "in the archive") if text else Manifest()
        return given.model_copy(update=said)
    asked = {"job_id": record.job_id, "steps": record.steps, **said}
    try:
        return Manifest.model_validate(asked)
    except ValidationError as error:
        raise _Unavailable(f"what was asked is of another imgflow: {error}") from error


class _Scratch(LocalStore):
    """A store of its own, but for the originals: those it reads in the archive, and writes none."""

    def __init__(self, root: Path, archive: Store) -> None:
        super().__init__(root)
        self._archive = archive

    def put_original(self, data: bytes) -> str:
        raise StoreError("store_unwritable", "a replay archives no originals")

    def read(self, ref: ObjectRef) -> bytes:
        return self._archive.read(ref) if ref.area == "originals" else super().read(ref)

    def read_original(self, sha256: str) -> bytes:
        return self._archive.read_original(sha256)

    def exists(self, ref: ObjectRef) -> bool:
        return self._archive.exists(ref) if ref.area == "originals" else super().exists(ref)

    def location(self, ref: ObjectRef) -> str:
        return self._archive.location(ref) if ref.area == "originals" else super().location(ref)


def summary(found: Sequence[Replayed]) -> dict[str, int]:
    """How many versions, and how many of each status."""
    statuses: tuple[Status, ...] = ("same", "different", "unavailable")
    counts = {str(each): sum(one.status == each for one in found) for each in statuses}
    return {"versions": len(found), **counts}
