"""Commands on what the records say: whether it is true, and whether it can be done again."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgflow.catalog_choice import Catalog, by_catalog, chosen, label, typed_keys
from imgflow.console import Json, complain, photos, print_json, progress_bar, say
from imgflow.errors import BadKey, ImgflowError
from imgflow.files import printable
from imgflow.home import Home

if TYPE_CHECKING:
    from imgflow.chain import Line
    from imgflow.imaging.xmp import Provenance
    from imgflow.lineage.audit import ImageAudit
    from imgflow.lineage.query import Query
    from imgflow.lineage.record import Version
    from imgflow.store.keys import ImageKey

_EXAMPLES = 10

Keys = Annotated[list[str] | None, typer.Argument(help="Keys of photos. Default: all.")]
Model = Annotated[str, typer.Option(help="Only what this engine or model has worked on.")]
Weights = Annotated[str, typer.Option(help="The same, by the first digits of the weights' hash.")]
Seed = Annotated[int | None, typer.Option(help="Only what was made with this seed.")]
Since = Annotated[str, typer.Option(help="Only what was made from this date (2026-11-26) on.")]
Until = Annotated[str, typer.Option(help="Only what was made before this date.")]
Route = Annotated[str, typer.Option(help="Only what went by this route of the policy.")]
Stale = Annotated[
    bool, typer.Option("--stale", help="Only what policy and engines would now make otherwise.")
]


def add_to(app: typer.Typer) -> None:
    """Make these commands of `app`."""
    for command in (audit, recall, replay, whoami, report, gc, schema):
        app.command()(command)


def audit(
    keys: Keys = None,
    model: Model = "",
    weights: Weights = "",
    seed: Seed = None,
    since: Since = "",
    until: Until = "",
    route: Route = "",
    stale: Stale = False,
    catalog: Catalog = "",
    as_json: Json = False,
) -> None:
    """Verify records, files and links against each other and Dagster's log; explain single photos.

    With keys: the chain of each photo, from its original to the published files.
    """
    from imgflow.lineage.story import story

    homes, question = chosen(catalog), _query(model, weights, seed, since, until, route)
    asked = stale or not question.is_empty
    matched: dict[str, list[str]] = {}
    counts: Counter[str] = Counter()
    problems, outdated = [], []
    for home, image in _audited(_keys(keys, homes), question, stale=stale, quiet=as_json):
        name = label(home, image.key, homes)
        counts.update(
            images=int(bool(image.records)), versions=len(image.records), files=image.files,
            bytes=image.size, events=image.events,
        )  # fmt: skip
        problems += [(home, each) for each in image.problems]
        outdated += [f"{name} {each}: {why}" for each, why in image.outdated.items()]
        if asked:
            matched[name] = [
                str(each) for each, record in image.records.items() if question.matches(record)
            ]
        if keys and not as_json:
            say(f"{name}: {'intact' if not image.problems else 'not as recorded'}")
            for line in story(image.records):
                say(f"  {line}")
    if as_json:
        print_json(
            {
                **{name: counts[name] for name in ("images", "versions", "files", "bytes")},
                "events": counts["events"],
                "problems": [{**_named(home, homes), **asdict(each)} for home, each in problems],
                "outdated": outdated,
                **({"matched": matched} if asked else {}),
            }
        )
    elif not keys and not counts["images"] and not problems:
        say(_no_match(question, homes) if asked else "there is no record yet")
    else:
        if not keys:
            for key, versions in matched.items():
                say(f"{key}: {', '.join(versions)}")
        for why in outdated:
            say(why, mark="[yellow]outdated[/yellow] ")
        say(
            f"{photos(counts['images'])}, {counts['versions']} versions, {counts['files']} files "
            f"({counts['bytes'] / 1e6:,.0f} MB), {counts['events']} events: "
            + (f"{len(problems)} problems" if problems else "all as recorded")
        )
    for home, each in problems:
        complain(each.code, label(home, str(each), homes))
    if problems:
        raise typer.Exit(1)


def recall(
    keys: Keys = None,
    model: Model = "",
    weights: Weights = "",
    seed: Seed = None,
    since: Since = "",
    until: Until = "",
    route: Route = "",
    stale: Stale = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which photos.")] = False,
    catalog: Catalog = "",
    as_json: Json = False,
) -> None:
    """Have Dagster make again what matches; with --stale only what would come out otherwise."""
    from imgflow.cli import run_photos

    homes, question = chosen(catalog), _query(model, weights, seed, since, until, route)
    if not keys and question.is_empty and not stale:
        raise ImgflowError(
            "recall_of_everything",
            "this would make the whole catalog again",
            hint="Name photos, or what they have in common: see imgflow recall --help",
        )
    wanted = [
        (home, list(_matching(home, only, question, stale=stale)))
        for home, only in _keys(keys, homes)
    ]
    found = [label(home, key, homes) for home, recalled in wanted for key in recalled]
    if dry_run or not found:
        if as_json:
            print_json({"recalled": found})
            return
        for key in found:
            say(key)
        say(f"{photos(len(found))} would be made again" if found else _no_match(question, homes))
        return
    run_photos([each for each in wanted if each[1]], force=not stale, as_json=as_json)


def replay(
    keys: Keys = None,
    everything: Annotated[bool, typer.Option("--all", help="The whole catalog.")] = False,
    version: Annotated[
        str, typer.Option(help="Compare this version alone (raw, ..., published).")
    ] = "",
    to: Annotated[
        Path | None, typer.Option(help="The folder for what is made. Default: data/replay.")
    ] = None,
    remote: Annotated[
        bool, typer.Option("--remote", help="Ask remote engines again, which may cost money.")
    ] = False,
    catalog: Catalog = "",
    as_json: Json = False,
) -> None:
    """Make versions again from the original, by their records alone, and compare the bytes."""
    from imgflow.pool import cores
    from imgflow.replay import Replay, Replayed, replay_all, summary

    homes = chosen(catalog)
    if bool(keys) == everything:
        raise ImgflowError(
            "replay_of_what", "name the photos, or say --all", hint="See imgflow replay --help"
        )
    wanted = [
        (home, sorted(home.store.image_keys(home.name) if only is None else only))
        for home, only in _keys(keys, homes)
    ]
    folder = _outside(to or homes[0].root / "replay", homes)
    replayed: list[tuple[Home, Replayed]] = []
    total = sum(len(only) for _, only in wanted)
    with progress_bar(quiet=as_json) as progress:
        bar = progress.add_task("photos", total=total)
        for home, only in wanted:
            order = Replay(
                archive=home.store,
                catalog=home.name,
                folder=folder,
                versions=_versions(version),
                remote=remote,
                home=home,
            )
            for _, versions in replay_all(only, order, workers=cores()):
                progress.advance(bar)
                replayed += [(home, each) for each in versions]
    counts = summary([each for _, each in replayed])
    not_same = [(home, each) for home, each in replayed if each.status != "same"]
    if as_json:
        print_json(
            {
                **counts,
                "folder": str(folder),
                "details": [{**_named(home, homes), **each.as_dict()} for home, each in not_same],
            }
        )
    for home, each in replayed if keys and not as_json else not_same:
        name = label(home, f"{each.key} {each.version}", homes)
        text = f"{name}: {'; '.join((*each.why, *each.notes)) or 'same bytes'}"
        if each.psnr is not None:
            text += f"; PSNR {each.psnr:.2f} dB"
        if each.status == "same":
            say(text)
        else:
            complain(each.status, text)
    if not as_json:
        told = ", ".join(f"{count} {name}" for name, count in counts.items())
        say(f"{photos(total)}: {told}. Made in {folder}")
    if not_same or not replayed:
        raise typer.Exit(1)


def whoami(
    file: Annotated[Path, typer.Argument(help="A published file, under whatever name.")],
    catalog: Catalog = "",
    as_json: Json = False,
) -> None:
    """Find the record of a file: which photo it is, and what was done to it with which model."""
    from imgflow.imaging.credentials import credentials_of
    from imgflow.imaging.decode import read_photo_bytes
    from imgflow.lineage.audit import read_image
    from imgflow.lineage.story import story
    from imgflow.lineage.whoami import identify
    from imgflow.store.keys import ImageKey

    data = read_photo_bytes(file)
    homes = chosen(catalog)
    # The first of the best: what was published is more than what is only stated.
    home, found = min(
        ((each, identify(data, each.store, each.name)) for each in homes),
        key=lambda pair: list(_MATCHES).index(pair[1].match),
    )
    signed = credentials_of(data)
    record = found.record
    if as_json:
        print_json(
            {
                "match": found.match,
                "sha256": found.sha256,
                **_named(home, homes if record else ()),
                "key": record.key if record else "",
                "rendition": found.rendition.name if found.rendition else "",
                "current": found.is_current,
                "record": record.model_dump(mode="json") if record else None,
                "states": asdict(found.states) if found.states else None,
                "credentials": asdict(signed) if signed else None,
            }
        )
    else:
        key = label(home, record.key, homes) if record else ""
        say(_MATCHES[found.match].format(key=key, file=printable(file)))
        if record is not None and not found.is_current:
            say("That version has been replaced since.")
        if record is not None:
            records = {record.version: record}
            for files in home.store.image_files(home.name, ImageKey(record.key).digest):
                image = read_image(files, home.name)
                records = image.records if found.is_current else records
            for text in story(records):
                say(f"  {text}")
        elif found.states is not None:
            for text in _stated(found.states):
                say(f"  {text}")
        if signed is not None:
            told = ", ".join(filter(None, (f"signed by {signed.signer}", *signed.problems)))
            say(f"content credentials: {signed.state}, {told}")
    if found.match == "none":
        raise typer.Exit(1)


_MATCHES = {
    "published": "{key}: published from here, byte for byte",
    "original": "{key}: this is the archived original",
    "stated": "{key}: as its XMP says; the bytes are not those that were published",
    "none": "{file}: no record of this file",
}


def _stated(states: Provenance) -> Iterator[str]:
    """What a file without a record here says of itself, in lines; nobody vouches for it."""
    yield "It says of itself:"
    for name, value in asdict(states).items():
        if value and name != "steps":
            yield f"  {name.replace('_', ' ')}: {printable(str(value))}"
    for step in states.steps:
        told = [step.model, step.weights and f"weights {step.weights[:12]}"]
        told += [f"seed {step.seed}" if step.seed is not None else "", step.prompt]
        yield f"  {printable(step.name)}: {printable(', '.join(filter(None, told)))}"


def _versions(name: str) -> tuple[Version, ...]:
    from imgflow.lineage.record import Version

    if not name:
        return tuple(Version)
    try:
        return (Version(name),)
    except ValueError as error:
        raise ImgflowError(
            "version_unknown", f"there is no version '{name}'", hint=f"One of {', '.join(Version)}"
        ) from error


def _outside(folder: Path, homes: Sequence[Home]) -> Path:
    """A folder that is not the store's: nothing of what is kept may be overwritten."""
    folder = folder.absolute()
    real = Path(os.path.realpath(folder))
    for ours in (homes[0].store_folder, *(home.uploads.root for home in homes)):
        if real.is_relative_to(os.path.realpath(ours)):
            raise ImgflowError(
                "replay_inside", f"{folder} is inside of {ours}", hint="Name another folder"
            )
    return folder


def report(catalog: Catalog = "", as_json: Json = False) -> None:
    """Bring the lineage table and the quality report up to date, as Dagster does every hour."""
    from imgflow.reports.page import write_report
    from imgflow.reports.table import rebuild

    homes, told = chosen(catalog), {}
    for home in homes:
        table = rebuild(home.store, home.name, home.catalog_table)
        made = write_report(home.store, home.name, table.path, home.quality_report)
        told[home.name] = {
            "photos": table.images,
            "rows": table.rows,
            "read": table.read,
            "unreadable": table.unreadable,
            "published_without_a_person": round(made.figures.automatic, 4),
            "table": str(table.path),
            "report": str(made.path),
        }
        if not as_json:
            counted = f"{photos(table.images)}, {table.rows} versions, {table.read} of them"
            say(label(home, f"{counted} read anew", homes))
            say(f"Table:  {table.path}")
            say(f"Report: {made.path.absolute().as_uri()}")
    if as_json:
        print_json({"catalogs": told} if len(homes) > 1 else told[homes[0].name])


def gc(
    delete: Annotated[bool, typer.Option("--delete", help="Drop them; without it: say which.")] = (
        False
    ),
    history_days: Annotated[
        float | None,
        typer.Option(min=0, help="Also what only records name that were replaced so long ago."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Drop objects that no record names; never originals. Safe while the line runs."""
    from imgflow.retention import drop, find_waste

    store = Home.installation().store
    waste = find_waste(store, history_days=history_days)
    gone = list(drop(store, waste)) if delete else []
    size = sum(each.size for each in (gone if delete else waste.objects))
    if as_json:
        print_json(
            {
                "unnamed": len(waste.objects),
                "young": waste.young,
                "kept": waste.kept,
                "dropped": len(gone),
                "bytes": size,
            }
        )
    elif delete:
        say(f"{len(gone)} objects dropped, {size / 1e6:,.1f} MB; {waste.kept} kept")
    else:
        for each in waste.objects[:_EXAMPLES]:
            say(each.path)
        more = "" if len(waste.objects) <= _EXAMPLES else ", the first of them above"
        say(
            f"{len(waste.objects)} objects of {size / 1e6:,.1f} MB that no record names{more}; "
            f"{waste.young} younger than a day, {waste.kept} kept"
            + (". imgflow gc --delete drops them" if waste.objects else "")
        )


def schema() -> None:
    """Print the JSON Schema of records, for programs that read them."""
    from imgflow.lineage.schema import record_schema

    print(json.dumps(record_schema(), indent=1))


# -- which photos ----------------------------------------------------------------------


def _keys(
    given: list[str] | None, homes: Sequence[Home]
) -> list[tuple[Home, list[ImageKey] | None]]:
    """The keys that were typed, by catalog; None for all of each catalog's.

    Raises BadKey for one without a record, or with records in several catalogs.
    """
    if not given:
        return [(home, None) for home in homes]
    wanted, unknown = by_catalog(typed_keys(given), homes, _has_record)
    if unknown:
        raise BadKey(
            "key_unknown",
            f"there is no record of {', '.join(unknown)}",
            hint="A key is a path below the upload folder; `imgflow status` counts the photos",
        )
    return [*wanted]


def _has_record(home: Home, key: ImageKey) -> bool:
    return any(home.store.image_files(home.name, key.digest))


def _named(home: Home, homes: Sequence[Home]) -> dict[str, str]:
    """The catalog as a field of JSON, where there are several."""
    return {"catalog": home.name} if len(homes) > 1 else {}


def _query(model: str, weights: str, seed: int | None, since: str, until: str, route: str) -> Query:
    from imgflow.lineage.query import Query

    return Query(model, weights, seed, _date(since), _date(until), route)


def _date(text: str) -> datetime | None:
    """A date or time as people write it; this machine's time where they name no zone."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError as error:
        raise ImgflowError(
            "date_invalid", f"'{text}' is no date", hint="Write 2026-11-26 or 2026-11-26T18:00"
        ) from error


def _audited(
    wanted: Sequence[tuple[Home, list[ImageKey] | None]],
    question: Query,
    *,
    stale: bool,
    quiet: bool,
) -> Iterator[tuple[Home, ImageAudit]]:
    """The audit of what matches, with a progress bar. Whole catalogs, where nothing is asked."""
    from imgflow.defs.eventlog import event_source
    from imgflow.lineage.audit import audit as audited

    for home, keys in wanted:
        if not question.is_empty or stale:
            keys = list(_matching(home, keys, question, stale=stale))
        with event_source(home) as events, progress_bar(quiet=quiet) as progress:
            bar = progress.add_task("photos", total=len(keys) if keys is not None else None)
            for image in audited(home.store, home.name, events, keys):
                progress.advance(bar)
                yield home, image


def _matching(
    home: Home, keys: list[ImageKey] | None, question: Query, *, stale: bool
) -> Iterator[ImageKey]:
    """The photos that have a version that the question is about."""
    from imgflow.lineage.audit import read_image
    from imgflow.store.keys import ImageKey

    line = None
    if stale:
        from imgflow.batch import Order

        line = Order(home, run_id="").line()
    for digest in [key.digest for key in keys] if keys is not None else [None]:
        for files in home.store.image_files(home.name, digest):
            image = read_image(files, home.name)
            if not image.key or not any(map(question.matches, image.records.values())):
                continue
            key = ImageKey(image.key)
            if line is None or _is_stale(key, line):
                yield key


def _no_match(question: Query, homes: Sequence[Home]) -> str:
    """That nothing matches, and whether that is because of a model that nobody knows."""
    from imgflow.lineage.query import Query

    model = question.model
    if model and not any(
        True for home in homes for _ in _matching(home, None, Query(model=model), stale=False)
    ):
        return f"no photo matches: no record names an engine or model '{model}'"
    return "no photo matches"


def _is_stale(key: ImageKey, line: Line) -> bool:
    from imgflow.refresh import is_stale

    return is_stale(key, line)
