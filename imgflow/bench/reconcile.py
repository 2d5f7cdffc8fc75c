"""Whether uploads, store, published files and Dagster's event log tell the same story."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES

from imgflow.batch import Order, run_batch
from imgflow.defs.launch import instance
from imgflow.home import CATALOG, Home
from imgflow.lineage.record import Record, Version
from imgflow.store.keys import ImageKey
from imgflow.store.store import sha256_hex

_ENDED = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
_PAGE = 1000


@dataclass(slots=True)
class Finding:
    """One thing that was looked at: how many there are, and what is wrong with some of them."""

    what: str
    count: int = 0
    wrong: list[str] = field(default_factory=list)

    def must(self, holds: bool, otherwise: str) -> None:
        self.count += 1
        if not holds:
            self.wrong.append(otherwise)


def reconcile(
    home: Home, uploaded: Mapping[str, Collection[str]], scratch: Path
) -> Iterator[Finding]:
    """Look at everything, once nothing is going on any more.

    uploaded: for each key the sha256 of all the bytes that were ever uploaded whole under it.
    scratch: a folder for the same photos' way through a line without trouble. What it makes must
    be what is here.
    """
    records = list(home.store.records(CATALOG))
    yield from _uploads(home, uploaded, records)
    yield _objects(home)
    yield _references(home, records)
    yield _published(home, records)
    yield _outcomes(home, records, scratch)
    with instance(home) as dagster:
        yield from _dagster(dagster, home, records)
    yield Finding("half-written files left behind, not visible", len(leftovers(home)))


def leftovers(home: Home) -> list[Path]:
    """What killed writers left: files that no reader takes for anything."""
    return [path for name in (".writing-*", ".*.part") for path in home.root.rglob(name)]


def _uploads(
    home: Home, uploaded: Mapping[str, Collection[str]], records: list[Record]
) -> Iterator[Finding]:
    keys = Finding("photos uploaded, each with one key and an outcome")
    ended = {
        each.key for each in records if each.verdict.stops or each.version is list(Version)[-1]
    }
    found = [str(key) for key, _ in home.uploads.scan().photos]
    for key in sorted({*found, *uploaded, *ended}):
        known = (found.count(key), key in uploaded, key in ended)
        keys.must(known == (1, True, True), f"{key}: (in folder, uploaded, has an outcome) {known}")
    yield keys
    archive = Finding("uploads archived, all generations")
    for key, hashes in uploaded.items():
        for sha256 in hashes:
            path = home.root / "store/originals" / sha256[:2] / sha256
            archive.must(path.is_file(), f"{key}: {sha256} is not in originals")
    yield archive
    current = Finding("raw records of the bytes that lie in the upload folder")
    raw = {each.key: each for each in records if each.version is Version.RAW}
    for key, path in home.uploads.scan().photos:
        recorded = raw[key].original_sha256 if key in raw else None
        current.must(recorded == sha256_hex(path.read_bytes()), f"{key}: {recorded}")
    yield current


def _objects(home: Home) -> Finding:
    finding = Finding("files of the store whose bytes hash to their names")
    for area in ("originals", "objects"):
        for path in (home.root / "store" / area).rglob("*"):
            if path.is_file() and not path.name.startswith(".writing-"):
                good = sha256_hex(path.read_bytes()) == path.name.partition(".")[0]
                finding.must(good, str(path))
    return finding


def _references(home: Home, records: Iterable[Record]) -> Finding:
    finding = Finding("objects that records name, in place")
    for record in records:
        refs = [record.input, record.output, record.rejected]
        refs += [each.object for each in record.renditions]
        refs += [each.mask for each in record.operations]
        for ref in filter(None, refs):
            path = Path(home.store.location(ref))
            good = path.is_file() and path.stat().st_size == ref.size
            finding.must(good, f"{record.key} {record.version}: {ref.sha256}")
    return finding


def _published(home: Home, records: Iterable[Record]) -> Finding:
    finding = Finding("published files that are what their record says, and no others")
    folder = home.root / "store/published" / CATALOG
    visible = {each for each in folder.rglob("*") if each.is_file() and each.name[0] != "."}
    for record in records:
        for rendition in record.renditions:
            path = folder / rendition.path
            same = path in visible and sha256_hex(path.read_bytes()) == rendition.object.sha256
            finding.must(same, f"{record.key}: {path} is not what its record says")
            visible.discard(path)
    finding.wrong += [f"{path}: no record names it" for path in sorted(visible)]
    return finding


def _outcomes(home: Home, records: Iterable[Record], scratch: Path) -> Finding:
    """Against the same uploads on their way through a line where nothing goes wrong."""
    finding = Finding("photos whose versions, verdicts and reasons a quiet line makes too")
    quiet = Home(scratch / "quiet")
    quiet.root.mkdir(parents=True)
    quiet.uploads.root.symlink_to(home.uploads.root)
    for file in (home.policy_file, home.catalog_file):
        if file.exists():
            shutil.copy(file, quiet.root / file.name)
    keys = [key for key, _ in home.uploads.scan().photos]
    for _ in run_batch(keys, Order(quiet, run_id="quiet")):
        pass
    ours, theirs = _told(records), _told(quiet.store.records(CATALOG))
    for key in sorted({*ours, *theirs}):
        finding.must(
            ours.get(key) == theirs.get(key),
            f"{key}: {ours.get(key)}, and in a quiet line {theirs.get(key)}",
        )
    return finding


def _told(records: Iterable[Record]) -> dict[str, list[tuple[str, str, str]]]:
    """For each photo, up to where it stopped: verdict, what was made, why it stopped."""
    told: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    stopped = set()
    for record in records:
        if record.key not in stopped:
            made = "" if record.verdict.stops else record.data_version
            reason = record.reason.code if record.reason else ""
            told[record.key].append((str(record.verdict), made, reason))
        if record.verdict.stops:
            stopped.add(record.key)
    return dict(told)


def _dagster(dagster: dg.DagsterInstance, home: Home, records: list[Record]) -> Iterator[Finding]:
    runs = Finding("runs that have ended")
    for run in dagster.get_runs():
        runs.must(run.status in _ENDED, f"{run.run_id}: {run.status.value} {run.tags}")
    yield runs
    backfills = Finding("backfills that have ended")
    for backfill in dagster.get_backfills():
        ended = backfill.status in BULK_ACTION_TERMINAL_STATUSES
        backfills.must(ended, f"{backfill.backfill_id}: {backfill.status.value}")
    yield backfills
    keys = Finding("partitions, one for each photo that was uploaded")
    partitions = dagster.get_dynamic_partitions("photos")
    photos = {str(key) for key, _ in home.uploads.scan().photos}
    for key in photos | set(partitions):
        there = (partitions.count(key), key in photos)
        keys.must(there == (1, True), f"{key}: (partitions, in the folder) {there}")
    yield keys
    shown = Finding("finished records that Dagster shows as they are")
    true = Finding("materializations of what a record has or had")
    for version in Version:
        events = list(_materializations(dagster, version))
        latest = dict(events)
        for record in records:
            if record.version is version and not record.verdict.stops:
                told = latest.get(record.key)
                shown.must(told == record.data_version, f"{record.key} {version}: shown {told}")
        known = {(each.key, each.data_version) for each in _ever(home, records, version)}
        for key, data_version in events:
            true.must((key, data_version) in known, f"{key} {version}: {data_version}")
    yield shown
    yield true


def _materializations(dagster: dg.DagsterInstance, version: Version) -> Iterator[tuple[str, str]]:
    """(key, data version) of all of a version's materializations, oldest first."""
    cursor = None
    while True:
        page = dagster.fetch_materializations(
            dg.AssetKey(str(version)), limit=_PAGE, cursor=cursor, ascending=True
        )
        for found in page.records:
            event = found.asset_materialization
            assert event is not None
            assert event.tags is not None
            yield str(event.partition), event.tags["dagster/data_version"]
        if not page.has_more:
            return
        cursor = page.cursor


def _ever(home: Home, records: Iterable[Record], version: Version) -> Iterator[Record]:
    """The current records of a version, and those that they replaced."""
    for record in records:
        if record.version is version:
            yield record
            folder = home.root / "store/records" / CATALOG / ImageKey(record.key).digest
            for path in folder.glob(f"history/{version}-*.json"):
                yield Record.from_json(path.read_bytes())
