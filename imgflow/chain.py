"""One image through the line: version after version, each recorded, until it is done or stopped.

Knows nothing of Dagster: assets, one-shot commands and benchmarks all call `rescue`.
"""

from __future__ import annotations

import hashlib
import json
import time
import traceback
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from numpy.typing import NDArray

from imgflow import __version__
from imgflow.engines.account import Account, accounting
from imgflow.engines.registry import Engines
from imgflow.errors import EngineUnavailable, ImgflowError, StoreError
from imgflow.imaging.encode import encode_lossless
from imgflow.imaging.photo import Generation, Rights
from imgflow.lineage.environment import environment
from imgflow.lineage.record import ObjectRef, Reason, Record, Rendition, Verdict, Version
from imgflow.policy.catalog import Catalog
from imgflow.policy.choice import Prices, settle
from imgflow.policy.policy import MEASURED, Policy, with_route
from imgflow.stages import detext, inpaint, publish, raw, upscale
from imgflow.stages.intake import Intake, take_in
from imgflow.stages.stage import Absent, Job, Outcome, Picture, Stage
from imgflow.store.keys import ImageKey, Uploads
from imgflow.store.store import UNUSABLE, Store

STAGES: dict[Version, Stage] = {
    Version.RAW: raw.STAGE,
    Version.DETEXTED: detext.STAGE,
    Version.INPAINTED: inpaint.STAGE,
    Version.UPSCALED: upscale.STAGE,
    Version.PUBLISHED: publish.STAGE,
}
# The part of the policy that each stage's settings are of.
_PARTS = {
    Version.RAW: "raw",
    Version.DETEXTED: "detext",
    Version.INPAINTED: "inpaint",
    Version.UPSCALED: "upscale",
    Version.PUBLISHED: "renditions",
}
# Settings that name what is used instead of what cannot work.
_FALLBACKS = frozenset({"fallback", "denoiser_fallback"})


@dataclass(frozen=True, slots=True)
class Line:
    """What all images of a run have in common.

    person: who asked, for one-shot commands; empty in the automatic line.
    threads: how many threads the engines may use.
    rows: what catalog.csv says of single photos.
    prices: what engines take, for policies that choose by a budget.
    """

    catalog: str
    store: Store
    engines: Engines
    policy: Policy
    uploads: Uploads
    run_id: str
    person: str = ""
    threads: int = 1
    rows: Catalog = field(default_factory=Catalog)
    prices: Prices = field(default_factory=Prices)


@dataclass(frozen=True, slots=True)
class Step:
    """One version of one image: its record, and whether it was there already."""

    record: Record
    reused: bool = False


@dataclass(slots=True)
class Passage:
    """How far an image came.

    crash: the traceback of an error that is not the photo's fault; empty if there was none.
    missing: an earlier version that was not asked for and is not made yet, or not from the
    versions before it as they are now; without it, later ones cannot be made. held: the same,
    of one that has stopped.
    peak_mb: the most memory that its worker had needed by then, libraries included.
    """

    key: ImageKey
    steps: list[Step] = field(default_factory=list)
    crash: str = ""
    missing: Version | None = None
    held: Record | None = None
    peak_mb: float = 0.0

    @property
    def stopped(self) -> bool:
        return self.last is not None and self.last.verdict.stops

    @property
    def last(self) -> Record | None:
        return self.steps[-1].record if self.steps else None


def rescue(
    key: ImageKey,
    line: Line,
    versions: Sequence[Version] = tuple(Version),
    *,
    force: bool = False,
    intake: Intake | None = None,
) -> Passage:
    """Take one image through the given versions, in the order of the line.

    A version whose inputs, settings and engines have not changed is not made again (unless
    `force`). A version that stops (gate, bad input, crash) ends the passage; its record says
    why. Versions that were not asked for are taken from their records; where one is missing
    or stopped, later versions are not made. `intake`: what was given for the image, where that
    does not lie in the upload folder.

    Raises StoreError where nothing can be recorded: disk full, store unwritable.
    """
    passage = Passage(key)
    wanted = [version for version in Version if version in versions]
    intake = intake or taken_in(key, line)
    job = _job(intake, line)
    if intake.problem is not None:
        refused = Outcome(Verdict.QUARANTINED, reason=_reason(intake.problem))
        passage.steps.append(Step(_commit(_Work(wanted[0], job, None), line, refused)[0]))
        return passage
    picture: Picture | None = Picture(line.store, intake.original) if intake.original else None
    for version in Version:
        existing = line.store.get_record(line.catalog, key, version)
        if version in wanted:
            work = _Work(version, job, picture)
            record, picture, crash = _make(work, line, existing, force)
            passage.steps.append(Step(record, reused=record is existing))
            passage.crash = crash
        elif existing is None or not _made_from(existing, picture):
            # Of another upload, or of a version that has been made anew since: what would come
            # out is half of the one picture and half of the other.
            passage.missing = version
            break
        else:
            record = existing
            passage.held = existing if existing.verdict.stops else None
            picture = Picture(line.store, record.output) if record.output else None
        if record.verdict.stops or version is wanted[-1]:
            break
        job = _routed(_informed(job, record), record, line)
    return passage


def first_unmade(key: ImageKey, line: Line, versions: Sequence[Version]) -> Version | None:
    """The first of the given versions that `rescue` would have to make, or None.

    Nothing is decoded or made. Raises StoreError.
    """
    found = unmade(key, line, versions)
    return found.version if found else None


@dataclass(frozen=True, slots=True)
class Unmade:
    """A version that `rescue` would have to make.

    why: "missing" (no record, or its files are gone), "changed" (its inputs, settings or engines
    have), "retired", or "stopped": it would stop again, as nothing has changed since it did.
    """

    version: Version
    why: Literal["missing", "changed", "retired", "stopped"]


def unmade(
    key: ImageKey,
    line: Line,
    versions: Sequence[Version] = tuple(Version),
    intake: Intake | None = None,
) -> Unmade | None:
    """The first of the given versions that `rescue` would have to make, and why.

    Nothing is decoded or made. intake: what was given for the image, where that is known; its
    bytes are not needed. Raises StoreError.
    """
    intake = intake or taken_in(key, line)
    job = _job(intake, line)
    if intake.problem is not None:
        first = next(version for version in Version if version in versions)
        existing = line.store.get_record(line.catalog, key, first)
        refused = existing is not None and existing.verdict.stops and _same_files(existing, job)
        return Unmade(first, "stopped" if refused else "changed" if existing else "missing")
    picture = Picture(line.store, job.original) if job.original else None
    for version in Version:
        record = line.store.get_record(line.catalog, key, version)
        if version in versions:
            if record is None:
                return Unmade(version, "missing")
            work = _Work(version, job, picture)
            _identify(work, record.unneeded)
            if record.verdict is Verdict.RETIRED:
                return Unmade(version, "retired")
            if record.verdict.stops:
                same = _stopped_for_the_same(record, work, line)
                return Unmade(version, "stopped" if same else "changed")
            if record.fingerprint != work.fingerprint:
                return Unmade(version, "changed")
            if not _still_good(record, work, line.store):
                return Unmade(version, "missing")
        if record is None or record.output is None:
            return None
        picture = Picture(line.store, record.output)
        job = _routed(_informed(job, record), record, line)
    return None


def _made_from(record: Record, picture: Picture | None) -> bool:
    """Whether a version was made from this very picture."""
    return (
        picture is not None
        and record.input is not None
        and record.input.sha256 == picture.ref.sha256
    )


def _same_files(record: Record, job: Job) -> bool:
    """Whether the record is of the very files that were given now."""
    sha256 = job.original.sha256 if job.original else None
    return record.original_sha256 == sha256 and record.attachments == job.attachments


def _stopped_for_the_same(record: Record, work: _Work, line: Line) -> bool:
    """Whether a version that stopped would have the same inputs, settings and engines again."""
    if record.fingerprint:
        return record.fingerprint == work.fingerprint
    if record.verdict is Verdict.NEEDS_REVIEW:
        # Of an earlier imgflow: an engine was not there, needed or not.
        return False
    # It never came to the stage: refused at the door, or its worker died.
    return _same_files(record, work.job) and record.policy_sha256 == line.policy.digest()


def stop(key: ImageKey, line: Line, version: Version, reason: Reason) -> Passage:
    """Quarantine an image from outside: its worker died, or it took too long.

    The record's input is what the version would have been made from, where that is recorded.
    """
    job = _job(taken_in(key, line), line)
    work = _Work(version, job, _last_good(version, job, line))
    record, _ = _commit(work, line, Outcome(Verdict.QUARANTINED, reason=reason))
    return Passage(key, [Step(record)], crash=reason.message)


def _last_good(version: Version, job: Job, line: Line) -> Picture | None:
    """The picture before a version: of the upload as it is now, and of no earlier one."""
    if job.original is None:
        return None
    if version.upstream is None:
        return Picture(line.store, job.original)
    before = line.store.get_record(line.catalog, job.key, version.upstream)
    if before is None or before.output is None:
        return None
    same = before.original_sha256 == job.original.sha256
    return Picture(line.store, before.output) if same else None


@dataclass(slots=True)
class _Work:
    """One version to make. The clock starts when it is taken up.

    unneeded: settings that code version and fingerprint are not of.
    """

    version: Version
    job: Job
    picture: Picture | None
    code_version: str = ""
    fingerprint: str = ""
    unneeded: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    clock: float = field(default_factory=time.perf_counter)

    @property
    def stage(self) -> Stage:
        return STAGES[self.version]

    def falls_back(self, error: EngineUnavailable) -> bool:
        """Whether the policy names an engine for when the other is not there; it is used then."""
        policy = self.job.policy.on_fallback(_PARTS[self.version], error.role)
        if policy is None:
            return False
        self.job = replace(self.job, policy=policy)
        # What is recorded is what worked; the fingerprint stays: with the engine it is made anew.
        self.code_version = code_version(self.version, policy, self.job.engines)
        self.notes.append(_text(f"the fallback was used: {error.what}"))
        return True


def _make(
    work: _Work, line: Line, existing: Record | None, force: bool
) -> tuple[Record, Picture | None, str]:
    """Make a version or find it made: its record, its picture, and a crash's traceback."""
    crash = ""
    try:
        if existing is not None and not force:
            _identify(work, existing.unneeded)
            if _still_good(existing, work, line.store):
                picture = Picture(line.store, existing.output) if existing.output else None
                return existing, picture, ""
        # As long as nobody knows what comes out, all may have a part in it.
        _identify(work)
        if work.picture is None:
            raise RuntimeError(f"there is no picture to make {work.version} from")
        outcome = _run(work, work.picture)
    except EngineUnavailable as error:
        outcome = Outcome(Verdict.NEEDS_REVIEW, reason=_reason(error))
    except ImgflowError as error:
        if _concerns_all(error):
            raise
        outcome = Outcome(Verdict.QUARANTINED, reason=_reason(error))
    except Exception as error:
        crash = traceback.format_exc()
        outcome = Outcome(Verdict.QUARANTINED, reason=crash_reason(error, crash))
    record, picture = _commit(work, line, outcome)
    return record, picture, crash


def _run(work: _Work, picture: Picture) -> Outcome:
    """What the stage makes; by the fallbacks of its route, where its engines cannot work."""
    while True:
        try:
            outcome = run_stage(work.stage, picture, work.job)
            break
        except EngineUnavailable as error:
            if not work.falls_back(error):
                raise
    if work.notes:
        # What the engine would have needed that was not there nobody knows.
        return replace(outcome, notes=(*work.notes, *outcome.notes))
    settings = work.stage.settings(work.job.policy)
    _identify(work, (outcome.unneeded | _FALLBACKS) & settings.keys())
    return outcome


def run_stage(stage: Stage, picture: Picture, job: Job) -> Outcome:
    """A stage's outcome, with what its engines told of their work. Raises what it raises."""
    with accounting() as told:
        outcome = stage.run(picture, job)
    paid = any(each.cost is not None for each in outcome.operations)
    return _with_account(outcome, told) if told.calls or told.notes or paid else outcome


def _with_account(outcome: Outcome, told: Account) -> Outcome:
    operations = list(outcome.operations)
    for number, operation in enumerate(operations):
        if operation.engine is not None:
            known: dict[str, Any] = {}
            if told.device != "cpu":
                known["device"] = told.device
            if told.dtype is not None:
                known["dtype"] = told.dtype
            for name in ("seed", "prompt", "negative_prompt", "endpoint"):
                if getattr(operation, name) is None:
                    known[name] = getattr(told, name)
            operations[number] = operation.model_copy(update=known)
    # Of detectors too, and where nothing was repaired.
    spent = [*(each.cost for each in operations), told.cost]
    costs = [cost for cost in spent if cost is not None]
    paid = {"cost": round(sum(costs), 6)} if costs else {}
    if told.cost is not None and operations:
        # What one operation has kept account of itself stays.
        cost = round((operations[-1].cost or 0.0) + told.cost, 6)
        operations[-1] = operations[-1].model_copy(update={"cost": cost})
    return replace(
        outcome,
        operations=tuple(operations),
        measures={**outcome.measures, **paid},
        notes=(*outcome.notes, *told.notes),
    )


def _commit(work: _Work, line: Line, outcome: Outcome) -> tuple[Record, Picture | None]:
    """Objects first, then published files, then the record: what has no record has not happened."""
    store, job = line.store, work.job
    replaced = store.get_record(line.catalog, job.key, work.version)
    output, picture = _output(outcome, work.picture, store)
    generation = outcome.generation or job.generation
    for rendition in outcome.renditions:
        if not outcome.verdict.stops:
            store.publish(line.catalog, rendition.path, store.read(rendition.object))
    record = Record(
        catalog=line.catalog,
        key=str(job.key),
        version=work.version,
        verdict=outcome.verdict,
        reason=outcome.reason,
        original_sha256=job.original.sha256 if job.original else None,
        input=work.picture.ref if work.picture else None,
        output=output,
        rejected=_put_pixels(outcome.rejected, store) if outcome.rejected is not None else None,
        renditions=_renditions(outcome, replaced),
        operations=list(outcome.operations),
        gates=list(outcome.gates),
        measures=outcome.measures,
        notes=list(outcome.notes),
        rights=asdict(outcome.rights or job.rights),
        fingerprint=work.fingerprint,
        policy_sha256=line.policy.digest(),
        settings=work.stage.settings(job.policy),
        unneeded=list(work.unneeded),
        routes=list(job.routes),
        traits=job.manifest.traits().as_dict(),
        steps=[step.model_dump(mode="json") for step in job.manifest.steps],
        attachments=job.attachments,
        job_id=job.manifest.job_id,
        imgflow_version=__version__,
        code_version=work.code_version or f"{work.version}-{work.stage.code_version}",
        run_id=line.run_id,
        started_at=work.started,
        seconds=round(time.perf_counter() - work.clock, 4),
        environment=environment(line.threads),
        synthetic=generation is not None,
        variant=generation.variant if generation else 0,
        generation=asdict(generation) if generation else None,
    )
    if replaced is not None and not record.verdict.stops:
        _withdraw(replaced, record, store)
    store.put_record(record)
    return record, picture


def code_version(
    version: Version, policy: Policy, engines: Engines, unneeded: Collection[str] = ()
) -> str:
    """Short text that changes whenever a stage's code or its engines may give other pixels.

    Engines that are not available stand in it as such, with what the policy names instead; those
    that only the settings of `unneeded` name stand in it not at all.
    """
    stage = STAGES[version]
    names: dict[str, None] = {}
    for each in stage.engines_for(policy, engines, unneeded):
        names[each.code_version] = None
        if isinstance(each, Absent):
            instead = policy.on_fallback(_PARTS[version], each.error.role)
            others = stage.engines_for(instead, engines, unneeded) if instead else []
            names |= dict.fromkeys(other.code_version for other in others)
    return "+".join([f"{version}-{stage.code_version}", *names])


def line_code_versions(policy: Policy, engines: Engines) -> dict[Version, str]:
    """For each version a short text that changes whenever it may come out differently.

    One text for all images, whatever their routes: the stage's code, the engines that any route
    may use, and a digest of all routes' settings and of what decides the versions before. An
    engine that is not there is named so: the images that need it wait for review, others go on.
    """
    texts: dict[Version, str] = {}
    for version, stage in STAGES.items():
        part, settings = _PARTS[version], stage.settings(policy)
        routed = [(route, with_route(policy, route)) for route in policy.routes]
        # What a route sets elsewhere may matter too: a rendition asks for its pixels.
        routed = [
            (route, each)
            for route, each in routed
            if part in route.set or stage.settings(each) != settings
        ]
        names: list[str] = []
        for each in [policy, *(each for _, each in routed)]:
            names += [engine.code_version for engine in stage.engines_for(each, engines)]
        decides = [
            settings,
            [
                [route.when.as_dict(), route.set.get(part), stage.settings(each)]
                for route, each in routed
            ],
            list(texts.values()),
        ]
        digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
        engine_names = dict.fromkeys(names)
        texts[version] = "+".join(
            [f"{version}-{stage.code_version}", *engine_names, f"settings:{digest[:8]}"]
        )
    return texts


def crash_reason(error: BaseException, trace: str) -> Reason:
    """Why a photo stopped, for an error that imgflow did not foresee."""
    return Reason(
        code="crashed",
        message=_text(f"{type(error).__name__}: {error}"),
        hint="The photo is unharmed. Run it again; if it stops again, report the traceback",
        traceback=_text(trace),
        transient=isinstance(error, (MemoryError, OSError, TimeoutError)),
    )


def taken_in(key: ImageKey, line: Line) -> Intake:
    """What was given for an image; where that cannot be used, why. Raises StoreError."""
    try:
        return take_in(key, line.catalog, line.store, line.uploads, raw.limits(line.policy.raw))
    except ImgflowError as error:
        if _concerns_all(error):
            raise
        return Intake(key, problem=error)


def _concerns_all(error: ImgflowError) -> bool:
    """Whether nothing can be recorded any more. A damaged object stops its image only."""
    return isinstance(error, StoreError) and error.code in UNUSABLE


def _job(intake: Intake, line: Line) -> Job:
    manifest = line.rows.complete(intake.key, intake.manifest)
    routed = line.policy.for_image(manifest.traits())
    return Job(
        key=intake.key,
        policy=routed.policy,
        routes=routed.applied,
        manifest=manifest,
        masks=intake.masks,
        attachments=intake.attachments,
        data=intake.data,
        original=intake.original,
        known_hashes=frozenset([intake.original.sha256] if intake.original else []),
        store=line.store,
        engines=line.engines,
        person=line.person,
    )


def _informed(job: Job, record: Record) -> Job:
    """The job with what a finished version has told."""
    known = job.known_hashes | ({record.output.sha256} if record.output else set())
    return replace(
        job,
        rights=Rights(**record.rights),
        known_hashes=known,
        earlier=(*job.earlier, record),
    )


@dataclass(frozen=True, slots=True)
class Remade:
    """A version made once more, of which nothing is recorded. output, rejected: its objects."""

    outcome: Outcome
    output: ObjectRef | None
    rejected: ObjectRef | None
    picture: Picture | None


def remake(version: Version, picture: Picture, job: Job) -> Remade:
    """What a stage makes of a picture, with its objects in the job's store.

    Raises what the stage raises.
    """
    outcome = run_stage(STAGES[version], picture, job)
    rejected = None if outcome.rejected is None else _put_pixels(outcome.rejected, job.store)
    output, made = _output(outcome, picture, job.store)
    return Remade(outcome, output, rejected, made)


def _routed(job: Job, record: Record, line: Line) -> Job:
    """The job under the policy for what the raw version was measured to be, and within the budget
    for its size: later stages' engines and thresholds."""
    generation = None if record.generation is None else Generation(**record.generation)
    if record.version is not Version.RAW:
        return replace(job, generation=generation)
    traits, measures = job.manifest.traits(), raw_measures(record.measures)
    found = settle(line.policy, traits, measures, line.prices)
    return replace(job, policy=found.policy, routes=found.routes, generation=generation)


def raw_measures(measures: Mapping[str, float]) -> dict[str, float]:
    """What routes may ask for of a raw version's measures."""
    found = dict(measures)
    if "width" in found and "height" in found:
        found["megapixels"] = found["width"] * found["height"] / 1e6
        found["long_side"] = max(found["width"], found["height"])
    return {name: found[name] for name in MEASURED if name in found}


def _identify(work: _Work, unneeded: Collection[str] = ()) -> None:
    """Set the code version and the fingerprint: a hash of all that decides a version's output.

    unneeded: settings that have no part in it.
    """
    work.unneeded = tuple(sorted(unneeded))
    work.code_version = code_version(work.version, work.job.policy, work.job.engines, unneeded)
    settings = work.stage.settings(work.job.policy)
    depends = {
        "version": work.version,
        "input": work.picture.ref.sha256 if work.picture else None,
        "code": work.code_version,
        "settings": {name: each for name, each in settings.items() if name not in unneeded},
        "asked": work.stage.asked(work.job, unneeded),
    }
    work.fingerprint = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()


def _still_good(existing: Record, work: _Work, store: Store) -> bool:
    if existing.verdict.stops or existing.fingerprint != work.fingerprint:
        return False
    kept = [existing.output] if existing.output else []
    return all(store.exists(ref) for ref in kept) and all(
        store.is_published(existing.catalog, rendition.path, rendition.object)
        for rendition in existing.renditions
    )


def _output(
    outcome: Outcome, source: Picture | None, store: Store
) -> tuple[ObjectRef | None, Picture | None]:
    if outcome.verdict.stops:
        return None, None
    if outcome.renditions:
        return outcome.renditions[0].object, None
    if outcome.object is not None:  # pixels that some object holds already
        return outcome.object, Picture(store, outcome.object, outcome.pixels)
    if outcome.pixels is None:
        return source.ref if source else None, source
    ref = _put_pixels(outcome.pixels, store)
    return ref, Picture(store, ref, outcome.pixels)


def _put_pixels(pixels: NDArray[Any], store: Store) -> ObjectRef:
    data = encode_lossless(pixels)
    return ObjectRef(
        sha256=store.put_object(data, "image/png"),
        media_type="image/png",
        size=len(data),
        width=pixels.shape[1],
        height=pixels.shape[0],
        channels=pixels.shape[2],
        bit_depth=pixels.dtype.itemsize * 8,
    )


def _renditions(outcome: Outcome, replaced: Record | None) -> list[Rendition]:
    """What is in place now: after a stop that is what was published before."""
    if outcome.verdict.stops:
        return replaced.renditions if replaced else []
    return list(outcome.renditions)


def _withdraw(replaced: Record, record: Record, store: Store) -> None:
    """Take away published files that the policy no longer names; their bytes stay as objects."""
    kept = {rendition.path for rendition in record.renditions}
    for rendition in replaced.renditions:
        if rendition.path not in kept:
            store.withdraw(record.catalog, rendition.path)


def _reason(error: ImgflowError) -> Reason:
    return Reason(code=error.code, message=_text(error.what), hint=_text(error.hint))


def _text(message: str) -> str:
    """A message as JSON can hold it: paths in it may have bytes that are not UTF-8."""
    return message.encode("utf-8", "backslashreplace").decode()
