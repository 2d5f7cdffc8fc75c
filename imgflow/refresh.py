"""The catalog compared as a whole: uploads, records, and what policy and engines ask for now.

Knows nothing of Dagster, and changes nothing but by `retire`.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from imgflow.batch import Order
from imgflow.chain import Line, taken_in, unmade
from imgflow.home import Home
from imgflow.lineage.record import ObjectRef, Reason, Record, Verdict, Version
from imgflow.policy.manifest import parse_manifest
from imgflow.sources import UploadSource, uploads_of
from imgflow.stages.intake import MANIFEST, Intake
from imgflow.store.keys import ImageKey
from imgflow.store.store import Store
from imgflow.watch import STABLE_S, Index, index_file, is_changed

_EXAMPLES = 5
# An upload folder that is not mounted looks like one whose photos are gone.
_MOST_RETIRED = 0.5


@dataclass(slots=True)
class RefreshPlan:
    """What the line would do if it went over the whole catalog now.

    new: no record yet. changed: other files or catalog traits than the record was made of.
    stale: the same files, but the policy or an engine has changed. unfinished: a version or its
    files are missing. retired: gone from the upload folder, to be withdrawn.
    current, stopped: photos with nothing to do; stopped ones wait for a person. busy: in a run
    that has not ended, or being written. refused: why nothing is retired although it was asked.
    after: where to go on, as not all was compared; empty: it was.
    """

    new: list[ImageKey] = field(default_factory=list)
    changed: list[ImageKey] = field(default_factory=list)
    stale: list[ImageKey] = field(default_factory=list)
    unfinished: list[ImageKey] = field(default_factory=list)
    retired: list[ImageKey] = field(default_factory=list)
    current: int = 0
    stopped: int = 0
    busy: int = 0
    refused: str = ""
    problems: list[str] = field(default_factory=list)
    after: str = ""

    @property
    def requests(self) -> dict[str, list[ImageKey]]:
        """What is to go through the line, by why."""
        kinds = {
            "new": self.new,
            "changed": self.changed,
            "stale": self.stale,
            "unfinished": self.unfinished,
        }
        return {why: keys for why, keys in kinds.items() if keys}

    @property
    def wanted(self) -> int:
        return sum(len(keys) for keys in self.requests.values())

    def as_dict(self) -> dict[str, Any]:
        kinds = ("new", "changed", "stale", "unfinished", "retired")
        counts = ("current", "stopped", "busy", "refused", "problems", "after")
        return {name: getattr(self, name) for name in (*kinds, *counts)}

    def summary(self) -> str:
        """One sentence: counts, with examples of what is to be done."""
        told = []
        for why, keys in {**self.requests, "retired": self.retired}.items():
            if keys:
                more = ", ..." if len(keys) > _EXAMPLES else ""
                told.append(f"{len(keys)} {why} ({', '.join(keys[:_EXAMPLES])}{more})")
        told += [f"{self.current} up to date", f"{self.stopped} waiting for a person"]
        if self.busy:
            told.append(f"{self.busy} in a run or being written")
        if self.refused:
            told.append(self.refused)
        return "; ".join(told)


def plan_refresh(
    home: Home,
    *,
    source: UploadSource | None = None,
    in_flight: Collection[str] = (),
    after: str = "",
    max_keys: int | None = None,
    budget_s: float | None = None,
) -> RefreshPlan:
    """Compare all photos with their records; changes nothing.

    source: what lists the uploads; None: the catalog's own, in a folder or a bucket.
    in_flight: keys in runs that have not ended. after: only keys that come later than this one.
    max_keys, budget_s: stop when so many are to be done or so much time has passed; the plan's
    `after` then says where.

    Raises BadPhoto (there is no upload folder), BadPolicy, BadCatalog, StoreError.
    """
    deadline = time.monotonic() + budget_s if budget_s is not None else float("inf")
    line = Order(home, run_id="").line()
    line = replace(line, store=home.store.without_archiving())
    source = source or uploads_of(home)
    listing = source.listing()
    uploaded = set(listing.keys)
    # A photo that cannot be taken is there all the same.
    unusable = {problem.photo for problem in listing.problems}
    recorded = set(home.store.image_keys(home.name)) - unusable
    missing = recorded - uploaded
    plan = RefreshPlan(problems=[str(problem) for problem in listing.problems])
    retires = line.policy.refresh.retire_missing and bool(missing)
    if retires and len(missing) > max(1, _MOST_RETIRED * len(recorded)):
        plan.refused = (
            f"{len(missing)} of {len(recorded)} photos are gone from {source.where}: "
            "nothing is retired, as it may not be mounted or not be whole"
        )
        retires = False
    comparison = _Comparison(line, Index.load(index_file(home)), source)
    for key in sorted(uploaded | recorded):
        if key <= after:
            continue
        if time.monotonic() > deadline or (
            max_keys is not None and plan.wanted + len(plan.retired) >= max_keys
        ):
            break
        plan.after = key
        is_there = key in uploaded
        if key in in_flight:
            plan.busy += 1
        elif not is_there and retires and _retirable(key, home) is not None:
            plan.retired.append(key)
        else:
            comparison.sort_in(plan, key, is_there=is_there)
    else:
        plan.after = ""
    return plan


def retire(key: ImageKey, home: Home, run_id: str = "refresh") -> Record | None:
    """Withdraw a photo's published files and record that; None if there is nothing to retire.

    Its originals, objects, earlier versions and history stay, and so does its partition key: it
    comes back when it is uploaded again. Raises StoreError.
    """
    record = _retirable(key, home)
    if record is None:
        return None
    for rendition in record.renditions:
        home.store.withdraw(home.name, rendition.path)
    retired = record.model_copy(
        update={
            "verdict": Verdict.RETIRED,
            "reason": Reason(
                code="upload_gone",
                message="the photo is gone from the upload folder",
                hint="Upload it again to have it published again",
            ),
            "renditions": [],
            "run_id": run_id,
            "started_at": datetime.now(UTC),
            "seconds": 0.0,
        }
    )
    home.store.put_record(retired)
    return retired


def is_stale(key: ImageKey, line: Line) -> bool:
    """Whether policy and engines would now make a version otherwise, or its files are gone.

    By the records alone: what lies in the upload folder is not looked at. Photos that wait for a
    person are not stale. Raises StoreError.
    """
    raw = line.store.get_record(line.catalog, key, Version.RAW)
    if raw is None or raw.verdict.stops:
        return False
    found = unmade(key, line, intake=_recorded(key, raw, line.store))
    return found is not None and found.why in ("changed", "missing")


def _retirable(key: ImageKey, home: Home) -> Record | None:
    """The record that a retirement replaces: of the published version, or of the last one."""
    records = [home.store.get_record(home.name, key, version) for version in reversed(Version)]
    last = next((record for record in records if record is not None), None)
    return None if last is None or last.verdict is Verdict.RETIRED else last


@dataclass(slots=True)
class _Comparison:
    line: Line
    index: Index
    source: UploadSource
    now: float = field(default_factory=time.time)

    def sort_in(self, plan: RefreshPlan, key: ImageKey, *, is_there: bool) -> None:
        """Compare one photo. is_there: in the uploads."""
        raw = self.line.store.get_record(self.line.catalog, key, Version.RAW)
        known = self.index.entries.get(key)
        given = self.source.given(key, known.masks if known else ()) if is_there else None
        if given is not None and self.now - given.changed_at < STABLE_S:
            plan.busy += 1
            return
        if raw is None:
            # Recorded, but not as raw, and gone: there is nothing to make it from.
            if not is_there:
                plan.stopped += 1
            else:
                plan.new.append(key)
            return
        if not is_there and raw.verdict.stops:
            plan.stopped += 1
            return
        settled = given is None or self.index.is_settled(key, given)
        recorded = settled and not raw.verdict.stops
        intake = _recorded(key, raw, self.line.store) if recorded else taken_in(key, self.line)
        found = unmade(key, self.line, intake=intake)
        if found is None or (found.why == "retired" and not is_there):
            plan.current += 1
        elif found.why == "stopped":
            plan.stopped += 1
        elif found.why == "missing":
            plan.unfinished.append(key)
        elif found.why == "retired" or is_changed(intake, raw, self.line):
            plan.changed.append(key)
        else:
            plan.stale.append(key)


def _recorded(key: ImageKey, raw: Record, store: Store) -> Intake:
    """What was given for a photo that could be used, as its record has it: no photo is read.

    Raises StoreError.
    """
    assert raw.original_sha256 is not None  # it could be used
    # Of the original only its hash decides anything.
    original = ObjectRef(sha256=raw.original_sha256, media_type="", size=0, area="originals")
    intake = Intake(key, original=original, attachments=raw.attachments)
    if MANIFEST not in raw.attachments:
        return intake
    text = store.read_original(raw.attachments[MANIFEST])
    return replace(intake, manifest=parse_manifest(text, f"of {key}"))
