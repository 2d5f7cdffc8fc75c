"""The command line. Every command ends with exit code 0 only if all went well."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from imgflow.bench.commands import app as bench_app
from imgflow.errors import ImgflowError
from imgflow.home import CATALOG, Home

if TYPE_CHECKING:
    from imgflow.lineage.record import Version

app = typer.Typer(
    help="Rescue catalog photos: text off, holes filled, enlarged, checked, published, explained.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
policy_app = typer.Typer(help="The policy: what is repaired, with what, within which limits.")
app.add_typer(policy_app, name="policy", no_args_is_help=True)
app.add_typer(bench_app, name="bench")

out = Console()
err = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON instead of tables.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")]
Source = Annotated[Path, typer.Argument(help="A photo, or a folder of photos.")]
Target = Annotated[Path, typer.Argument(help="The file or folder to write.")]


def main() -> None:
    """Entry point: errors meant for people are printed, not raised."""
    try:
        app()
    except ImgflowError as error:
        err.print(f"[red]error[/red] {escape(str(error))}", soft_wrap=True)
        sys.exit(1)


# -- the line --------------------------------------------------------------------------


@app.command()
def demo() -> None:
    """The main job on real photos: damage a small catalog, take it through the line, show it."""
    from imgflow.demo.run import run_demo

    if not run_demo(Home.find(), out):
        raise typer.Exit(1)


@app.command()
def dev(
    port: Annotated[int, typer.Option(help="Port of the Dagster UI.")] = 3000,
    host: Annotated[str, typer.Option(help="Address that the UI listens on.")] = "127.0.0.1",
) -> None:
    """Start the Dagster UI and daemon on this installation."""
    from imgflow.defs.launch import dagster_home

    home = Home.find()
    workspace = Path("workspace.yaml")
    if not workspace.is_file():
        raise ImgflowError(
            "no_workspace",
            "there is no workspace.yaml here",
            hint="Run this in the project's folder",
        )
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
    folder = environment["DAGSTER_HOME"]
    raise typer.Exit(subprocess.call(command, env=environment, cwd=folder))  # noqa: S603


@app.command()
def ingest(
    paths: Annotated[list[Path], typer.Argument(help="Photos or folders of photos.")],
    as_json: Json = False,
) -> None:
    """Copy photos (with their manifests and masks) into the upload folder, and announce them."""
    from imgflow.defs.launch import announce
    from imgflow.ingest import ingest_path

    home = Home.find()
    results = [each for path in paths for each in ingest_path(path, home)]
    new = announce(home)
    counts = Counter(each.status for each in results)
    if as_json:
        _print_json({**counts, "new_keys": new, "files": [each.as_dict() for each in results]})
    else:
        for each in results:
            if each.status == "failed":
                err.print(f"[red]failed[/red] {escape(each.source)}: {escape(each.message)}")
        summary = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
        out.print(f"{summary or 'nothing found'}; {new} new in Dagster. Next: imgflow run")
    if counts["failed"]:
        raise typer.Exit(1)


@app.command()
def run(
    keys: Annotated[
        list[str] | None, typer.Option("--keys", help="Only these images; repeat or use commas.")
    ] = None,
    force: Annotated[
        bool, typer.Option(help="Make versions again though nothing changed.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Take uploads through the line, on the persistent Dagster instance."""
    from imgflow.defs.launch import launch
    from imgflow.defs.resources import Progress as Watch
    from imgflow.store.keys import ImageKey

    home = Home.find()
    scan = home.uploads.scan()
    wanted = [key for key, _ in scan.photos]
    if keys:
        wanted = [ImageKey(key) for each in keys for key in each.split(",") if key]
    passages: list[Any] = []

    class Bar(Watch):
        def passed(self, passage: Any) -> None:
            passages.append(passage)
            progress.advance(task)

    with _progress(quiet=as_json) as progress:
        task = progress.add_task("photos", total=len(wanted))
        runs = launch(wanted, home, Bar(), force=force)
    failures = [str(problem) for problem in scan.problems]
    failures += [each.error for each in runs if each.error]
    failures += [_stopped(passage) for passage in passages if passage.stopped]
    verdicts = Counter(str(passage.last.verdict) for passage in passages if passage.last)
    if as_json:
        _print_json(
            {
                "images": len(passages),
                "verdicts": verdicts,
                "runs": [each.run_id for each in runs],
                "failures": failures,
            }
        )
    else:
        for failure in failures:
            err.print(f"[red]stopped[/red] {escape(failure)}", soft_wrap=True)
        summary = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
        out.print(f"{len(passages)} photos: {summary or 'nothing to do'}")
    if failures or len(passages) < len(wanted):
        raise typer.Exit(1)


@app.command()
def status(as_json: Json = False) -> None:
    """How many photos are where, and why some of them wait."""
    from imgflow.lineage.overview import overview

    home = Home.find()
    found = overview(home.store.records(CATALOG))
    if as_json:
        _print_json(found.as_dict())
        return
    table = Table("version", "verdict", "photos")
    for (version, verdict), count in found.counts.items():
        table.add_row(version, verdict, str(count))
    out.print(table if found.counts else "No photo has been through the line yet.")
    for each in found.waiting:
        out.print(
            f"[yellow]{each.verdict}[/yellow] {escape(each.key)} at {each.version}: "
            f"{escape(each.message)}",
            soft_wrap=True,
        )


@policy_app.command("show")
def policy_show() -> None:
    """Print the policy in force, all fields with their values."""
    from imgflow.policy.policy import dump_policy

    home = Home.find()
    source = home.policy_file if home.policy_file.exists() else "the defaults"
    err.print(f"# {escape(str(source))}")
    print(dump_policy(home.policy()), end="")


@policy_app.command("check")
def policy_check(
    path: Annotated[Path | None, typer.Argument(help="Default: the policy in force.")] = None,
) -> None:
    """Say whether a policy file is valid, and what is wrong with it."""
    from imgflow.chain import code_version
    from imgflow.engines.registry import Engines
    from imgflow.lineage.record import Version
    from imgflow.policy.policy import load_policy

    home = Home.find()
    if path is None and home.policy_file.exists():
        path = home.policy_file
    policy = load_policy(path)
    for version in Version:  # the engines that it names exist
        code_version(version, policy, Engines())
    out.print(
        f"[green]valid[/green] {escape(str(path or 'the defaults'))} (sha256 {policy.digest()[:12]})"
    )


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check this machine and installation, and say what to do about what is wrong."""
    from imgflow.doctor import examine

    findings = examine(Home.find())
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

    _repair(
        source, target, Task(_until(Version.UPSCALED), Home.find().policy()), overwrite, as_json
    )


@app.command()
def detext(
    source: Source,
    target: Target,
    report: Annotated[
        Path | None, typer.Option(help="Write what was found in each photo, as JSON.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Remove text from photos."""
    from imgflow.lineage.record import Version
    from imgflow.oneshot import Task, text_report
    from imgflow.policy.manifest import Manifest

    policy = Home.find().policy()
    policy = policy.model_copy(update={"detext": policy.detext.model_copy(update={"mode": "all"})})
    task = Task(_until(Version.DETEXTED), policy, Manifest())
    results = _repair(source, target, task, overwrite, as_json, fail=False)
    if report is not None:
        report.write_text(json.dumps([text_report(each) for each in results], indent=1) + "\n")
    _fail_if_any(results)


@app.command()
def inpaint(
    source: Source,
    target: Target,
    mask: Annotated[Path, typer.Option(help="A mask of the photo's size: white is filled.")],
    prompt: Annotated[str | None, typer.Option(help="What to paint, for engines that ask.")] = None,
    seed: Annotated[int | None, typer.Option(help="For engines that draw random numbers.")] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Fill what a mask marks."""
    from imgflow.imaging.decode import read_photo_bytes
    from imgflow.lineage.record import Version
    from imgflow.oneshot import Task
    from imgflow.policy.manifest import Inpaint, Manifest

    step = Inpaint(op="inpaint", mask=mask.name, prompt=prompt, seed=seed)
    policy = Home.find().policy()
    policy = policy.model_copy(update={"detext": policy.detext.model_copy(update={"mode": "none"})})
    task = Task(
        _until(Version.INPAINTED),
        policy,
        Manifest(steps=[step]),
        masks={mask.name: read_photo_bytes(mask)},
    )
    _repair(source, target, task, overwrite, as_json)


@app.command()
def upscale(
    source: Source,
    target: Target,
    scale: Annotated[int, typer.Option(min=2, max=4, help="How many times larger: 2, 3 or 4.")],
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Enlarge photos."""
    from imgflow.lineage.record import Version
    from imgflow.oneshot import Task
    from imgflow.policy.manifest import Manifest, Upscale

    policy = Home.find().policy()
    policy = policy.model_copy(update={"detext": policy.detext.model_copy(update={"mode": "none"})})
    step = Upscale.model_validate({"op": "upscale", "scale": scale})
    task = Task(_until(Version.UPSCALED), policy, Manifest(steps=[step]))
    _repair(source, target, task, overwrite, as_json)


def _until(last: Version) -> tuple[Version, ...]:
    versions = list(type(last))
    return tuple(versions[: versions.index(last) + 1])


def _repair(
    source: Path, target: Path, task: Any, overwrite: bool, as_json: bool, *, fail: bool = True
) -> list[Any]:
    """Repair files with a progress bar, say what became of each, and exit with 1 if one failed."""
    from imgflow.engines.registry import Engines
    from imgflow.oneshot import Result, pairs, repair_files
    from imgflow.pool import cores

    files, problems = pairs(source, target)
    results = [Result(Path(each.photo), Path(), error=each.what) for each in problems]
    with _progress(quiet=as_json) as progress:
        bar = progress.add_task("photos", total=len(files))
        for result in repair_files(files, task, Engines(threads=cores()), overwrite=overwrite):
            results.append(result)
            progress.advance(bar)
    failed = [each for each in results if each.error]
    changed = sum(each.changed for each in results)
    copied = len(results) - len(failed) - changed
    if as_json:
        _print_json(
            {
                "photos": len(results),
                "repaired": changed,
                "copied": copied,
                "failed": [{"file": str(each.source), "error": each.error} for each in failed],
            }
        )
    else:
        for each in failed:
            err.print(
                f"[red]failed[/red] {escape(str(each.source))}: {escape(each.error)}",
                soft_wrap=True,
            )
        out.print(
            f"{changed} repaired, {copied} needed nothing and were copied, {len(failed)} failed"
        )
    if not results:
        err.print(f"[red]failed[/red] no photo found in {escape(str(source))}")
        raise typer.Exit(1)
    if fail:
        _fail_if_any(results)
    return results


def _fail_if_any(results: list[Any]) -> None:
    if any(each.error for each in results):
        raise typer.Exit(1)


def _stopped(passage: Any) -> str:
    reason = passage.last.reason
    text = f"{reason.message}. {reason.hint}" if reason else str(passage.last.verdict)
    return f"{passage.key} at {passage.last.version}: {text}"


def _progress(*, quiet: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=err,
        disable=quiet,
        transient=True,
    )


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False))
