"""The command line. Every command ends with exit code 0 only if all went well."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from imgflow.bench.commands import app as bench_app
from imgflow.catalog_choice import Catalog, OneCatalog, by_catalog, chosen, label, typed_keys
from imgflow.console import AS_JSON as _AS_JSON
from imgflow.console import Json, err, out
from imgflow.console import complain as _complain
from imgflow.console import photos as _photos
from imgflow.console import print_json as _print_json
from imgflow.console import progress_bar as _progress
from imgflow.console import say as _say
from imgflow.errors import BadKey, BadMask, BadPhoto, EngineUnavailable, ImgflowError
from imgflow.files import printable, replacing
from imgflow.home import CATALOG, Home
from imgflow.lineage_commands import add_to as _add_lineage_commands
from imgflow.models_cli import app as models_app
from imgflow.serve import PORTS, Service

if TYPE_CHECKING:
    from imgflow.chain import Passage
    from imgflow.lineage.overview import Overview
    from imgflow.lineage.record import Version
    from imgflow.oneshot import Result, Task
    from imgflow.policy.choice import Prices
    from imgflow.policy.manifest import Manifest
    from imgflow.policy.policy import Policy
    from imgflow.store.keys import ImageKey
    from imgflow.store.store import Damaged


class _Commands(TyperGroup):
    """Commands whose errors are told, and not raised."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ImgflowError as error:
            code, text = error.code, str(error)
        except OSError as error:
            if error.errno == errno.EPIPE or error.filename is None:
                raise
            code, text = "os_error", f"{printable(error.filename)}: {error.strerror}"
        if ctx.meta.get(_AS_JSON):
            _print_json({"error": text, "code": code})
        _complain("error", text)
        raise typer.Exit(1)


app = typer.Typer(
    cls=_Commands,
    help="Rescue catalog photos: text off, holes filled, enlarged, checked, published, explained.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
policy_app = typer.Typer(help="The policy: what is repaired, with what, within which limits.")
app.add_typer(policy_app, name="policy", no_args_is_help=True)
app.add_typer(bench_app, name="bench")
_add_lineage_commands(app)
app.add_typer(models_app, name="models", no_args_is_help=True)

Engine = Annotated[
    str | None, typer.Option(help="Instead of the policy's: one that it declares, or a model.")
]
_NOTHING = "nothing to do. Bring some: imgflow ingest PATHS"

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")]
Source = Annotated[Path, typer.Argument(help="A photo, or a folder of photos.")]
Target = Annotated[Path, typer.Argument(help="The file or folder to write.")]
GivenPhoto = Annotated[
    Path,
    typer.Argument(
        help="A photo file, or the key of one in a bucket of uploads; a manifest beside it counts.",
        metavar="PHOTO",
    ),
]


def main() -> None:
    app()


# -- the line --------------------------------------------------------------------------


@app.command()
def demo() -> None:
    """The main job on real photos: damage a small catalog, take it through the line, show it."""
    from imgflow.demo.run import run_demo

    home = Home.installation().of(CATALOG)
    home.require_folders("imgflow demo")
    if not run_demo(home, out):
        raise typer.Exit(1)


@app.command()
def dev(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the Dagster UI.")] = 3000,
    host: Annotated[str, typer.Option(help="Address that the UI listens on.")] = "127.0.0.1",
) -> None:
    """Start the Dagster UI and daemon on this installation."""
    from imgflow.defs.launch import dagster_home
    from imgflow.serve import become, require_free

    home = Home.installation()
    workspace = Path("workspace.yaml")
    if not workspace.is_file():
        raise ImgflowError(
            "no_workspace",
            "there is no workspace.yaml here",
            hint="Run this in the project's folder",
        )
    require_free(host, port)
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(dagster_home(home)),
        "IMGFLOW_HOME": str(home.root),
    }
    out.print(f"Dagster UI: http://{host}:{port}  (Ctrl+C stops it)")
    command = [
        sys.executable, "-W", "ignore", "-m", "dagster", "dev",
        "--workspace", str(workspace.absolute()), "--port", str(port), "--host", host,
    ]  # fmt: skip
    # In Dagster's own folder, where its dagster.yaml is the one in force.
    os.chdir(environment["DAGSTER_HOME"])
    become(command, environment)


@app.command()
def serve(
    service: Annotated[Service, typer.Argument(help="Which of a deployment's three services.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "0.0.0.0",  # noqa: S104
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Where it is not given: code 4000, webserver 3000."),
    ] = None,
    workspace: Annotated[
        Path, typer.Option(help="The file that says where the code server is.")
    ] = Path("workspace.yaml"),
) -> None:
    """Start a service of a deployment; see docs/deploy.md. On one machine: imgflow dev."""
    from imgflow.serve import serve as start

    start(service, host, port or PORTS.get(service, 0), workspace)


@app.command()
def ingest(
    paths: Annotated[list[Path], typer.Argument(help="Photos or folders of photos.")],
    catalog: OneCatalog = "",
    as_json: Json = False,
) -> None:
    """Copy photos (with their manifests and masks) into the upload folder, and announce them."""
    from imgflow.defs.launch import announce
    from imgflow.ingest import ingest_paths

    home = Home.installation().of(catalog)
    results = list(ingest_paths(paths, home))
    new = announce(home)
    statuses = ("new", "changed", "unchanged", "incomplete", "failed")
    counts = {each: sum(result.status == each for result in results) for each in statuses}
    if as_json:
        _print_json({**counts, "new_keys": new, "files": [each.as_dict() for each in results]})
    for each in results:
        if each.message:
            _complain(each.status, f"{each.source}: {each.message}")
    if not as_json:
        summary = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        taken = len(results) - counts["failed"]
        following = " Next: imgflow run" if taken else ""
        _say(f"{summary}; {new} new in Dagster. Uploads: {home.uploads_place}.{following}")
    if counts["failed"] or counts["incomplete"]:
        raise typer.Exit(1)


@app.command()
def run(
    keys: Annotated[
        list[str] | None, typer.Option("--keys", help="Only these images; repeat or use commas.")
    ] = None,
    force: Annotated[
        bool, typer.Option(help="Make versions again though nothing changed.")
    ] = False,
    catalog: Catalog = "",
    as_json: Json = False,
) -> None:
    """Take uploads through the line, on the persistent Dagster instance."""
    homes = chosen(catalog)
    there = [home for home in homes if home.has_uploads]
    if not there:
        raise BadPhoto(
            "not_found",
            "there is no upload folder",
            hint="Bring photos with `imgflow ingest PATHS`, or correct IMGFLOW_HOME",
            photo=printable(homes[0].uploads.root),
        )
    if keys is not None:
        run_photos(_existing_keys(keys, homes), force=force, as_json=as_json)
        return
    scans = [(home, home.uploads.scan()) for home in there]
    problems = [str(problem) for _, scan in scans for problem in scan.problems]
    wanted = [(home, [key for key, _ in scan.photos]) for home, scan in scans]
    run_photos(wanted, problems, force=force, as_json=as_json)


def run_photos(
    wanted: Sequence[tuple[Home, Sequence[ImageKey]]],
    problems: Sequence[str] = (),
    *,
    force: bool = False,
    as_json: bool = False,
) -> None:
    """Take photos of catalogs through the line, and say what became of them.

    problems: what is to be told as failed beside them.
    """
    from imgflow.defs.launch import Launched, launch
    from imgflow.defs.resources import Progress as Watch

    homes = [home for home, _ in wanted]
    failures = list(problems)
    passages: list[Passage] = []
    runs: list[Launched] = []

    class Bar(Watch):
        def passed(self, passage: Passage) -> None:
            passages.append(passage)
            progress.advance(task)

    with _progress(quiet=as_json) as progress:
        task = progress.add_task("photos", total=sum(len(keys) for _, keys in wanted))
        for home, keys in wanted:
            before = len(passages)
            launched = launch(keys, home, Bar(), force=force)
            passed = passages[before:]
            missed = sorted(set(keys) - {passage.key for passage in passed})
            told = [each.error for each in launched if each.error]
            told += [_stopped(passage) for passage in passed if passage.stopped]
            told += [f"{key}: the run ended before its turn. Run it again" for key in missed]
            failures += [label(home, each, homes) for each in told]
            runs += launched
    verdicts = Counter(str(passage.last.verdict) for passage in passages if passage.last)
    reused = sum(all(step.reused for step in passage.steps) for passage in passages)
    if as_json:
        _print_json(
            {
                "images": len(passages),
                "reused": reused,
                "verdicts": verdicts,
                "runs": [each.run_id for each in runs],
                "failures": failures,
            }
        )
    for failure in failures:
        _complain("stopped", failure)
    if not as_json:
        counted = [f"{count} {verdict}" for verdict, count in sorted(verdicts.items())]
        if reused:
            counted.append(f"{reused} unchanged since the last run")
        nothing = "none was finished" if any(keys for _, keys in wanted) else _NOTHING
        summary = ", ".join(counted) or nothing
        _say(f"{_photos(len(passages))}: {summary}")
    if failures:
        raise typer.Exit(1)


def _existing_keys(given: list[str], homes: Sequence[Home]) -> list[tuple[Home, list[ImageKey]]]:
    """The keys that were typed, by catalog, each once. Raises ImgflowError."""
    keys = typed_keys(part for each in given for part in each.split(","))
    wanted, unknown = by_catalog(keys, homes, _has_photo)
    if unknown or not wanted:
        names = ", ".join(unknown)
        where = ", ".join(home.uploads_place for home in homes)
        raise BadKey(
            "key_unknown",
            f"no such photo in {where}: {names}" if unknown else "no key was given",
            hint="A key is a path below the upload folder, such as shoes/red.jpg. Nothing was run",
        )
    return wanted


def _has_photo(home: Home, key: ImageKey) -> bool:
    """Whether a catalog has a photo: among its uploads, or, deleted there, in the archive."""
    from imgflow.lineage.record import Version

    try:
        home.uploads.path_of(key)
    except BadPhoto as error:
        archived = home.store.get_record(home.name, key, Version.RAW)
        return error.code != "not_found" or bool(archived and archived.original_sha256)
    return True


@app.command()
def catalogs(as_json: Json = False) -> None:
    """List the catalogs, with what is each one's own, and check the list."""
    rows = []
    for home in Home.installation().all():
        spec = home.spec
        rows.append(
            {
                "name": spec.name,
                "title": spec.title,
                "shards": spec.shards,
                "photos": sum(1 for _ in home.store.image_keys(home.name)),
                "uploads": home.uploads_place,
                "policy": str(home.policy_file) if home.policy_file.exists() else "",
                "policy_sha256": home.policy().digest(),
                "rows": len(home.catalog()),
                "refresh": spec.refresh,
                "fresh_within_hours": spec.fresh_within_hours,
            }
        )
    if as_json:
        _print_json({"catalogs": rows})
        return
    for row in rows:
        title = f" ({row['title']})" if row["title"] else ""
        shards = "" if row["shards"] == 1 else f" in {row['shards']} shards"
        _say(f"{row['name']}{title}: {_photos(int(str(row['photos'])))} in the records{shards}")
        _say(f"  uploads: {row['uploads']}")
        _say(f"  policy:  {row['policy'] or 'the defaults'}")


@app.command()
def refresh(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    catalog: Catalog = "",
    as_json: Json = False,
) -> None:
    """Compare uploads, records, policy and engines, and make what is new, changed or stale.

    With refresh.retire_missing in the policy, withdraw what was published of photos that are gone.
    """
    from imgflow.defs.launch import in_flight
    from imgflow.refresh import plan_refresh, retire

    homes = chosen(catalog)
    plans = [(home, plan_refresh(home, in_flight=in_flight(home))) for home in homes]
    for home, plan in plans:
        for problem in plan.problems:
            _complain("problem", label(home, problem, homes))
        if not dry_run:
            for key in plan.retired:
                retire(key, home)
        if not as_json:
            _say(label(home, plan.summary(), homes))
    wanted = [
        (home, [key for keys in plan.requests.values() for key in keys])
        for home, plan in plans
        if plan.wanted
    ]
    if as_json and (dry_run or not wanted):
        told = {home.name: plan.as_dict() for home, plan in plans}
        _print_json({"catalogs": told} if len(homes) > 1 else told[homes[0].name])
    if wanted and not dry_run:
        run_photos(wanted, as_json=as_json)


@app.command()
def status(catalog: Catalog = "", as_json: Json = False) -> None:
    """How many photos are where, and why some of them wait."""
    from imgflow.lineage.overview import overview

    homes = chosen(catalog)
    told = {}
    for home in homes:
        found = overview(home.store.records(home.name), home.store.location)
        damaged = list(home.store.damaged(home.name))
        told[home.name] = {**found.as_dict(), "damaged": [asdict(each) for each in damaged]}
        if not as_json:
            if len(homes) > 1:
                _say(f"{home.spec.label}:", mark=f"[bold]{home.name}[/bold] ")
            _tell_status(found, damaged, home)
    if as_json:
        _print_json({"catalogs": told} if len(homes) > 1 else told[homes[0].name])


def _tell_status(found: Overview, damaged: Sequence[Damaged], home: Home) -> None:
    for each in damaged:
        _complain("damaged", str(each))
    table = Table("version", "verdict", "photos")
    for (version, verdict), count in found.counts.items():
        table.add_row(version, verdict, str(count))
    if not found.counts:
        _say(
            f"No photo has been through the line of {home.root} yet (IMGFLOW_HOME names another "
            "folder). Next: imgflow ingest PATHS, imgflow run"
        )
        return
    out.print(table)
    for photo in found.waiting:
        text = f"{photo.message}. {photo.hint}" if photo.hint else photo.message
        if photo.still_published:
            text += " (what was published before is still in place)"
        if photo.log:
            text += ". Its log: imgflow status --json"
        _say(f"{photo.key} at {photo.version}: {text}", mark=f"[yellow]{photo.verdict}[/yellow] ")
        if photo.picture:
            _say(f"  last good: {photo.last_good or 'the original'}, {photo.picture}")
        if photo.rejected:
            _say(f"  rejected: {photo.rejected}")


@policy_app.command("show")
def policy_show(catalog: OneCatalog = "") -> None:
    """Print the policy in force, all fields with their values."""
    from imgflow.policy.policy import dump_policy

    home = Home.installation().of(catalog)
    source = home.policy_file if home.policy_file.exists() else "the defaults"
    err.print(f"# {escape(str(source))}")
    print(dump_policy(home.policy()), end="")


@policy_app.command("check")
def policy_check(
    path: Annotated[Path | None, typer.Argument(help="Default: the policy in force.")] = None,
    catalog: OneCatalog = "",
) -> None:
    """Say whether a policy file is valid, and what is wrong with it."""
    from imgflow.policy.policy import load_policy, with_route

    home = Home.installation().of(catalog)
    if path is None and home.policy_file.exists():
        path = home.policy_file
    policy = load_policy(path)
    where = printable(path) if path else "the defaults"
    places = [(where, policy)]
    places += [
        (f"{where}, route '{route.name}'", with_route(policy, route)) for route in policy.routes
    ]
    missing: dict[str, str] = {}  # by what is wrong: a route has what the policy has, too
    for place, used in places:
        for each in _absent(home, used, place):
            missing.setdefault(each.what, str(each))
    for text in missing.values():
        _complain("error", text)
    if missing:
        raise typer.Exit(1)
    _say(f"{where} (sha256 {policy.digest()[:12]})", mark="[green]valid[/green] ")


def _absent(home: Home, policy: Policy, where: str) -> Iterator[EngineUnavailable]:
    """What is wrong with the engines that the policy names and there are not."""
    from imgflow.chain import STAGES
    from imgflow.equipment import equip
    from imgflow.stages.stage import Absent

    engines = equip(home, policy)
    for stage in STAGES.values():
        for each in stage.engines_for(policy, engines):
            if isinstance(each, Absent):
                each.error.photo = where
                yield each.error


@app.command()
def generate(
    prompt: Annotated[
        str | None, typer.Argument(help="What shall be on the picture; or use --catalog.")
    ] = None,
    target: Annotated[
        Path | None, typer.Argument(help="The file to write; with several variants, numbered.")
    ] = None,
    catalog: Annotated[
        bool, typer.Option("--catalog", help="Make raws for catalog rows with a prompt, no photo.")
    ] = False,
    engine: Annotated[str, typer.Option(help="Default: generate.engine of the policy.")] = "",
    category: Annotated[str, typer.Option(help="Chooses the preset of the policy.")] = "",
    negative_prompt: Annotated[str, typer.Option(help="What shall not be on it.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same picture.")] = 0,
    variants: Annotated[int, typer.Option(min=1, max=100, help="Each with the next seed.")] = 1,
    as_json: Json = False,
) -> None:
    """Make pictures from words, marked as synthetic in the file, in records and in what is
    published."""
    from imgflow import generate as making
    from imgflow.equipment import equip
    from imgflow.pool import cores

    home = Home.find()
    policy = home.policy()
    if catalog == (prompt is not None) or (target is None) != catalog:
        raise typer.BadParameter("give a prompt and a file, or --catalog")
    if catalog:
        home.require_folders("imgflow generate --catalog", of_store=False)
    generator = equip(home, policy, threads=cores()).generator(engine or making.engine_name(policy))
    wishes: list[tuple[Path, making.Wish]]
    if catalog:
        wishes = [
            (home.uploads.root / key.relative_path, wish) for key, wish in making.missing_raws(home)
        ]
    else:
        assert prompt is not None and target is not None  # noqa: PT018 - seen to above
        wishes = [
            (
                target if variants == 1 else target.with_stem(f"{target.stem}-{number + 1:02}"),
                making.Wish(prompt, category, negative_prompt, seed, number),
            )
            for number in range(variants)
        ]
    for path, _ in wishes:
        making.require_target(path)
    rows: list[dict[str, Any]] = []
    with _progress(quiet=as_json) as progress:
        bar = progress.add_task("pictures", total=len(wishes))
        for path, wish in wishes:
            made = making.make(wish, generator, policy.generate)
            making.write(made, path)
            generation = asdict(made.generation)
            rows.append({"file": printable(path), "cost": made.cost, "generation": generation})
            for note in made.notes:
                _say(f"{printable(path)}: {note}", mark="[yellow]note[/yellow] ", to=err)
            progress.advance(bar)
    if as_json:
        _print_json({"pictures": rows})
        return
    for row in rows:
        _say(f"{row['file']}: synthetic, seed {row['generation']['seed']}")
    following = ". Next: imgflow run" if catalog and rows else ""
    _say(f"{len(rows)} made by '{generator.spec.name}'{following}")


@app.command()
def route(
    photo: GivenPhoto,
    as_json: Json = False,
) -> None:
    """Explain which routes, engines and thresholds a photo gets, line by line."""
    from imgflow.equipment import equip
    from imgflow.routing import explain

    home = Home.find()
    policy = home.policy()
    data, manifest, key = _given(photo, home, policy)
    found = explain(data, key, manifest, home, policy, equip(home, policy))
    if as_json:
        _print_json(found.as_dict())
        return
    for line in found.lines():
        _say(line)


def _given(photo: Path, home: Home, policy: Policy) -> tuple[bytes, Manifest, ImageKey]:
    """A photo's bytes, the manifest beside it, and its key. Of uploads in a bucket the key says
    which one. Raises BadPhoto, BadManifest, BadKey, StoreError."""
    from imgflow.imaging.decode import read_photo_bytes
    from imgflow.policy.manifest import Manifest, find_manifest, parse_manifest, read_manifest
    from imgflow.stages import raw
    from imgflow.store.keys import ImageKey

    fetched = None
    if home.inbox is not None and not photo.is_absolute() and not photo.exists():
        fetched = ImageKey.from_path(str(photo))
        photo = home.uploads.path_of(fetched)
    data = read_photo_bytes(photo, raw.limits(policy.raw))
    beside = find_manifest(photo)
    manifest = Manifest() if beside is None else parse_manifest(read_manifest(beside), str(beside))
    # A photo of the upload folder is in the catalog by its path below that.
    place = photo.absolute()
    inside = place.is_relative_to(home.uploads.root)
    name = str(place.relative_to(home.uploads.root)) if inside else place.name
    return data, manifest, fetched or ImageKey.from_path(name)


@app.command()
def precheck(
    photo: GivenPhoto,
    as_json: Json = False,
) -> None:
    """Tell from a small copy what a photo needs, by which engines, and about how long it takes."""
    from imgflow.calibration import load_calibration, prices_of
    from imgflow.equipment import equip
    from imgflow.pool import cores
    from imgflow.precheck import precheck as look
    from imgflow.routing import engine_line

    home = Home.find()
    policy = home.policy()
    data, manifest, key = _given(photo, home, policy)
    manifest = home.catalog().complete(key, manifest)
    engines, prices = equip(home, policy, threads=cores()), prices_of(home.root, policy)
    quick = look(data, policy, engines, load_calibration(home.root), manifest, prices)
    if as_json:
        _print_json(quick.as_dict())
        return
    _say(f"{quick.width} x {quick.height} pixels, looked at in {quick.took_ms:.0f} ms")
    clear = "" if quick.mask_confidence is None else f", strokes {quick.mask_confidence:.0%} clear"
    what = f"{len(quick.regions)} overlays to remove{clear}" if quick.regions else "no overlay"
    doubt = f"; {quick.uncertain} texts for a person to decide" if quick.uncertain else ""
    _say(f"text: {what}{doubt}")
    if quick.regions:
        _say(f"fill at full resolution: {'yes' if quick.full_resolution else 'not needed'}")
    _say(f"enlargement: {quick.enlarged}")
    _say(f"routes: {', '.join(quick.routes) or 'none is for it'} (imgflow route tells why)")
    for what, name, problem in quick.engines:
        _say(engine_line(what, name, problem))
    if quick.milliseconds:
        parts = ", ".join(f"{stage} {ms:.0f}" for stage, ms in quick.milliseconds.items())
        total = f"about {sum(quick.milliseconds.values()):.0f} ms"
        if quick.unmeasured:
            total += f" and what {' and '.join(quick.unmeasured)} takes (imgflow bench engines)"
        _say(f"{total}: {parts}")
    else:
        _say("milliseconds are not known here yet: imgflow bench precheck PHOTOS")


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check this machine and installation, and say what to do about what is wrong."""
    from imgflow.doctor import examine

    findings = examine(Home.installation().all()[0])
    if as_json:
        _print_json([finding.as_dict() for finding in findings])
    else:
        colours = {"ok": "green", "warning": "yellow", "failed": "red"}
        table = Table("", "what", "found", show_edge=False)
        for finding in findings:
            mark = f"[{colours[finding.status]}]{finding.status}[/]"
            table.add_row(mark, finding.what, escape(finding.found))
        out.print(table)
    if any(finding.status == "failed" for finding in findings):
        raise typer.Exit(1)


# -- one-shot commands -----------------------------------------------------------------


@app.command()
def rescue(
    source: Source, target: Target, overwrite: Overwrite = False, as_json: Json = False
) -> None:
    """Repair photos as the line would, by the policy and the manifests beside them."""
    from imgflow.lineage.record import Version
    from imgflow.oneshot import Task

    policy = Home.find().policy()
    task = Task(_until(Version.UPSCALED), policy, prices=_prices(policy))
    _tell(_repair(source, target, task, overwrite, as_json), target, as_json)


@app.command()
def detext(
    source: Source,
    target: Target,
    report: Annotated[
        Path | None, typer.Option(help="Write what was found in each photo, as JSON.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Remove text of the product as well.")
    ] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Remove overlaid text from photos, marks that claim rights included: you ask for it."""
    from imgflow.lineage.record import Version
    from imgflow.oneshot import Task, text_report
    from imgflow.policy.manifest import Manifest

    if report is not None and report.suffix.lower() != ".json":
        raise ImgflowError(
            "report_name", f"the report {printable(report)} must be named .json", hint="Rename it"
        )
    text = "all" if everything else "overlays"
    task = Task(_until(Version.DETEXTED), _policy(text=text), Manifest())
    results = _repair(source, target, task, overwrite, as_json)
    if report is not None:
        found = [text_report(each) for each in results]
        with replacing(report) as partial:
            partial.write_text(json.dumps(found, indent=1) + "\n")
    _tell(results, target, as_json)


@app.command()
def inpaint(
    source: Source,
    target: Target,
    mask: Annotated[Path, typer.Option(help="A mask of the photo's size: white is filled.")],
    prompt: Annotated[str | None, typer.Option(help="What to paint, for engines that ask.")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="For engines that draw random numbers.")
    ] = None,
    engine: Engine = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Fill what a mask marks."""
    from imgflow.imaging.decode import read_photo_bytes
    from imgflow.lineage.record import Version
    from imgflow.oneshot import Task

    name = printable(mask.name)
    asked = _asked({"op": "inpaint", "mask": name, "prompt": prompt, "seed": seed})
    try:
        masks = {name: read_photo_bytes(mask)}
    except BadPhoto as error:
        what = f"the mask {printable(mask)} cannot be read: {error.what}"
        raise BadMask("mask_unreadable", what) from error
    policy = _with_engine(_policy(text="none"), "inpaint", "fill", engine)
    task = Task(_until(Version.INPAINTED), policy, asked, masks, _prices(policy))
    _tell(_repair(source, target, task, overwrite, as_json), target, as_json)


@app.command()
def upscale(
    source: Source,
    target: Target,
    scale: Annotated[int, typer.Option(help="How many times larger: 2, 3 or 4.")],
    engine: Engine = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Enlarge photos."""
    from imgflow.lineage.record import Version
    from imgflow.oneshot import Task

    if scale not in (2, 3, 4):
        raise typer.BadParameter(f"photos are enlarged 2, 3 or 4 times, not {scale}")
    asked = _asked({"op": "upscale", "scale": scale})
    policy = _with_engine(_policy(text="none"), "upscale", "engine", engine)
    task = Task(_until(Version.UPSCALED), policy, asked, prices=_prices(policy))
    _tell(_repair(source, target, task, overwrite, as_json), target, as_json)


def _prices(policy: Policy) -> Prices:
    from imgflow.calibration import prices_of

    return prices_of(Home.find().root, policy)


def _policy(*, text: str) -> Policy:
    """The policy in force, but for which text is removed: all or none."""
    policy = Home.find().policy()
    return policy.model_copy(update={"detext": policy.detext.model_copy(update={"text": text})})


def _with_engine(policy: Policy, part: str, role: str, engine: str | None) -> Policy:
    """The policy where a person has named the engine of a part: no other is weighed or used."""
    if engine is None:
        return policy
    changes: dict[str, Any] = {role: engine, "better": [], "fallback": None}
    if part == "upscale":
        changes["mode"] = "conservative"
    settings = getattr(policy, part).model_copy(update=changes)
    return policy.model_copy(update={part: settings, "routes": []})


def _asked(step: dict[str, Any]) -> Manifest:
    """The manifest that a command's options stand for. Raises BadManifest."""
    from imgflow.policy.manifest import parse_manifest

    return parse_manifest(json.dumps({"steps": [step]}).encode(), "made of the options")


def _until(last: Version) -> tuple[Version, ...]:
    versions = list(type(last))
    return tuple(versions[: versions.index(last) + 1])


def _repair(source: Path, target: Path, task: Task, overwrite: bool, as_json: bool) -> list[Result]:
    """Repair a file or a folder's files, with a progress bar. Raises BadPhoto if there is none."""
    from imgflow.equipment import equip
    from imgflow.oneshot import errands, repair_files
    from imgflow.pool import cores

    engines = equip(Home.find(), task.policy, threads=cores())
    files, results = errands(source, target)
    if not files and not results:
        raise BadPhoto("no_photo", "there is no photo in this folder", photo=printable(source))
    with _progress(quiet=as_json) as progress:
        bar = progress.add_task("photos", total=len(files))
        for result in repair_files(files, task, engines, overwrite=overwrite):
            results.append(result)
            progress.advance(bar)
    return results


def _tell(results: Sequence[Result], target: Path, as_json: bool) -> None:
    """Say what became of each photo, and exit with 1 if one failed."""
    statuses = ("repaired", "converted", "copied", "failed")
    counts = {each: sum(result.status == each for result in results) for each in statuses}
    failed = [
        {"file": printable(each.source), "error": each.error}
        for each in results
        if each.status == "failed"
    ]
    notes = [
        {"file": printable(each.source), "note": note} for each in results for note in each.notes
    ]
    if as_json:
        _print_json({"photos": len(results), **counts, "failed": failed, "notes": notes})
    else:
        for each in notes:
            _say(f"{each['file']}: {each['note']}", mark="[yellow]note[/yellow] ", to=err)
    for each in failed:
        _complain("failed", f"{each['file']}: {each['error']}")
    if not as_json:
        words = {"copied": "copied as they need nothing", "converted": "converted only"}
        summary = [f"{count} {words.get(each, each)}" for each, count in counts.items() if count]
        where = f". Results: {printable(target)}" if len(failed) < len(results) else ""
        _say(f"{_photos(len(results))}: {', '.join(summary)}{where}")
    if failed:
        raise typer.Exit(1)


def _stopped(passage: Passage) -> str:
    assert passage.last is not None
    reason = passage.last.reason
    text = str(passage.last.verdict) if reason is None else reason.message
    if reason is not None and reason.hint:
        text = f"{text}. {reason.hint}"
    return f"{passage.key} at {passage.last.version}: {text}"
