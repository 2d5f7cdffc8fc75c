"""`imgflow bench ...`: the figures of the README."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from imgflow.bench.s3.commands import add_to as _add_s3_commands

app = typer.Typer(help="Measure what the README claims.", no_args_is_help=True)
_add_s3_commands(app)
out = Console()

# A batch of 64, from the drop until it is published.
_DROP_TARGET_S = 120.0
_EXAMPLES = 10

Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON last.")]

_IMPORT = "import time; t = time.perf_counter(); import imgflow.definitions as d; import sys; \
print(time.perf_counter() - t, 'torch' in sys.modules)"


@app.command()
def memory(
    width: Annotated[int, typer.Option(min=64, help="Pixels.")] = 8000,
    height: Annotated[int, typer.Option(min=64, help="Pixels.")] = 6000,
    as_json: Json = False,
) -> None:
    """Peak memory of one worker that takes a very large photo through all stages."""
    from imgflow.bench.memory import as_json as line
    from imgflow.bench.memory import bench_memory

    rows = bench_memory(width, height)
    table = Table("stage", "verdict", "seconds", title=f"{width} x {height} pixels, one worker")
    for row in rows[1:]:
        table.add_row(row.stage, row.verdict, f"{row.seconds:.2f}")
    out.print(table)
    out.print(
        f"peak resident memory {rows[-1].peak_mb:.0f} MB, libraries included "
        f"({rows[0].peak_mb:.0f} MB before the first photo)"
    )
    if as_json:
        print(json.dumps(line(rows, width, height)))


@app.command("import")
def import_time(
    times: Annotated[int, typer.Option(min=1, help="Fresh processes to measure.")] = 7,
    as_json: Json = False,
) -> None:
    """Seconds that Dagster waits for `import imgflow.definitions`, in fresh processes."""
    seconds, torch = [], False
    for _ in range(times):
        found = subprocess.run(  # noqa: S603
            [sys.executable, "-c", _IMPORT], capture_output=True, text=True, check=True
        )
        elapsed, loaded = found.stdout.split()
        seconds.append(float(elapsed))
        torch = torch or loaded == "True"
    median = statistics.median(seconds)
    out.print(
        f"import imgflow.definitions: median {median:.2f} s, slowest {max(seconds):.2f} s "
        f"of {times}; torch loaded: {'yes' if torch else 'no'}"
    )
    if as_json:
        print(json.dumps({"median_s": median, "slowest_s": max(seconds), "torch": torch}))


@app.command()
def throughput(
    images: Annotated[int, typer.Option(min=1, help="Photos, a third of them with text.")] = 500,
    width: Annotated[int, typer.Option(min=64, help="Pixels.")] = 640,
    height: Annotated[int, typer.Option(min=64, help="Pixels.")] = 480,
    as_json: Json = False,
) -> None:
    """Images per hour through Dagster, and through the bare chain with the same worker pool."""
    from imgflow.bench.throughput import as_json as line
    from imgflow.bench.throughput import bench_throughput, published_share

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("photos", total=2 * images)
        dagster, bare = bench_throughput(images, (width, height), lambda: progress.advance(task))
    table = Table("", "images/hour", "seconds", "parent ms/image", "worker peak MB")
    for each in (dagster, bare):
        table.add_row(
            each.name,
            f"{each.per_hour:,.0f}",
            f"{each.seconds:.1f}",
            f"{each.parent_ms:.0f}",
            f"{each.peak_mb_per_worker:.0f}",
        )
    out.print(table)
    total = sum(dagster.stage_seconds.values())
    stages = ", ".join(f"{n} {s / total:.0%}" for n, s in dagster.stage_seconds.items())
    out.print(f"ratio {dagster.per_hour / bare.per_hour:.3f}; workers' time: {stages}")
    share = published_share(dagster.verdicts.items())
    out.print(f"verdicts: {dict(dagster.verdicts)}; {share:.1%} without a person")
    if as_json:
        print(json.dumps(line(dagster, bare)))


@app.command()
def overhead(
    images: Annotated[int, typer.Option(min=1, help="Photos, all made before.")] = 64,
    as_json: Json = False,
) -> None:
    """What Dagster costs per image, apart from the work: photos that need nothing any more."""
    from imgflow.bench.overhead import as_json as line
    from imgflow.bench.overhead import bench_overhead

    rows = bench_overhead(images)
    table = Table("per image", "wall ms", "parent processor ms", "events")
    for row in rows:
        table.add_row(
            row.name, f"{row.wall_ms:.0f}", f"{row.parent_cpu_ms:.0f}", f"{row.events:.1f}"
        )
    out.print(table)
    if as_json:
        print(json.dumps(line(rows)))


@app.command()
def sensor(
    files: Annotated[int, typer.Option(min=1, help="Files in the upload folder.")] = 20_000,
    as_json: Json = False,
) -> None:
    """Seconds that the upload sensor's ticks take over many files, and what they find."""
    from imgflow.bench.sensor import as_json as line
    from imgflow.bench.sensor import bench_sensor

    with Console(stderr=True).status("") as status:
        ticks = bench_sensor(files, status.update)
    table = Table("tick", "seconds", "runs requested", "keys found", "keys doubled")
    for tick in ticks:
        row = (f"{tick.seconds:.2f}", str(tick.requests), str(tick.keys), str(tick.doubled))
        table.add_row(tick.what, *row)
    out.print(table)
    found, doubled = sum(tick.keys for tick in ticks), sum(tick.doubled for tick in ticks)
    out.print(f"{found} of {files} keys found, {doubled} doubled")
    if as_json:
        print(json.dumps(line(ticks)))
    if found - doubled != files or doubled:
        raise typer.Exit(1)


@app.command()
def drop(
    images: Annotated[int, typer.Option(min=1, help="Photos, a third of them with text.")] = 64,
    as_json: Json = False,
) -> None:
    """Seconds from a drop into the upload folder until all is published, services included."""
    from imgflow.bench.drop import as_json as line
    from imgflow.bench.drop import bench_drop

    with Console(stderr=True).status("") as status:
        drops = bench_drop(images, status.update)
    table = Table("seconds after the drop", *(each.what for each in drops))
    for name in ("services_up", "noticed", "run_started", "first_published", "all_done"):
        table.add_row(name.replace("_", " "), *(f"{getattr(each, name):.1f}" for each in drops))
    out.print(table)
    for each in drops:
        out.print(f"{each.what}: {each.published} published, {each.stopped} stopped")
    if as_json:
        print(json.dumps(line(drops)))
    if max(each.all_done for each in drops) > _DROP_TARGET_S:
        raise typer.Exit(1)


@app.command()
def soak(
    minutes: Annotated[float, typer.Option(min=0.5, help="How long there is trouble.")] = 30,
    seed: Annotated[int, typer.Option(help="Of the trouble.")] = 0,
    folder: Annotated[
        Path | None, typer.Option(help="An empty folder to work in, which is kept.")
    ] = None,
    as_json: Json = False,
) -> None:
    """The line in service under uploads, backfills, refreshes and kills; then all must be right."""
    from imgflow.bench.soak import as_json as line
    from imgflow.bench.soak import bench_soak

    started = time.monotonic()
    err = Console(stderr=True)

    def told(what: str) -> None:
        err.print(f"{time.monotonic() - started:7.1f} s  {what}", highlight=False)

    result = bench_soak(minutes, seed, folder, told)
    done = Table("injected", "times", title=f"{result.seconds / 60:.1f} minutes, seed {seed}")
    for what, count in sorted(result.injected.items()):
        done.add_row(what, str(count))
    out.print(done)
    found = Table("found", "count", "wrong", title=f"after {result.drain_seconds:.0f} s of drain")
    for each in result.findings:
        found.add_row(each.what, str(each.count), str(len(each.wrong)))
    out.print(found)
    for outcome, count in result.outcomes.most_common():
        out.print(f"{count} {outcome}", highlight=False)
    for wrong in (wrong for each in result.findings for wrong in each.wrong[:_EXAMPLES]):
        out.print(wrong, markup=False, highlight=False, soft_wrap=True)
    if result.left:
        out.print(f"did not come to rest: {result.left}", markup=False, highlight=False)
    if as_json:
        print(json.dumps(line(result), ensure_ascii=False))
    if result.mismatches:
        raise typer.Exit(1)


@app.command()
def engines(
    photos: Annotated[Path, typer.Argument(help="A folder of photos that no training saw.")],
    engine: Annotated[
        list[str] | None, typer.Option(help="Only these; services are measured only if named.")
    ] = None,
    cases: Annotated[int, typer.Option(min=1, help="So many of the photos at most.")] = 12,
    plot: Annotated[
        Path | None, typer.Option(help="An .svg file for quality against time.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Every installed fill and upscaler: quality, time, memory, and which to use for whom."""
    from dataclasses import asdict

    from imgflow.bench.engines.measure import TASKS, candidates
    from imgflow.bench.engines.report import plot as drawn
    from imgflow.bench.engines.report import recommendation, table
    from imgflow.bench.engines.run import bench_engines
    from imgflow.bench.precheck import find_photos
    from imgflow.calibration import Calibration, save_calibration
    from imgflow.errors import BadPhoto
    from imgflow.files import replacing
    from imgflow.home import Home
    from imgflow.lineage.environment import environment

    home = Home.find()
    paths = find_photos(photos)[:cases]
    if not paths:
        raise BadPhoto("no_photo", "there is no photo in this folder", photo=str(photos))
    found = list(candidates(home, home.policy(), paths, engine or ()))
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("engines", total=len(found))
        readings = bench_engines(found, lambda: progress.advance(task))
    for each in TASKS:
        out.print(table(readings, each))
    for reading in (each for each in readings if each.problem):
        out.print(f"{reading.name}: {reading.problem}", markup=False, soft_wrap=True)
    if all(each.lpips is None for each in readings):
        out.print(
            "LPIPS is not measured: its weights are not installed (imgflow models pull lpips)"
        )
    out.print(f"on {len(paths)} photos. For the policy:")
    out.print(recommendation(readings), markup=False, soft_wrap=True, highlight=False)
    seconds = {each.name: each.seconds for each in readings if each.seconds > 0}
    machine = environment(1).instruction_set
    save_calibration(home.root, Calibration(machine=machine, engines=seconds))
    if plot is not None:
        with replacing(plot) as partial:
            partial.write_text(drawn(readings))
    if as_json:
        print(json.dumps([asdict(each) for each in readings]))


@app.command()
def precheck(
    photos: Annotated[Path, typer.Argument(help="A folder of photos; at least 4, better 40.")],
    cases: Annotated[int, typer.Option(min=4, help="So many of them at most.")] = 40,
    as_json: Json = False,
) -> None:
    """Calibrate the quick look on half of the photos, and check its milliseconds on the others."""
    from imgflow.bench.precheck import MEDIAN_AIM, TAIL_AIM, bench_precheck, find_photos
    from imgflow.calibration import Calibration, save_calibration
    from imgflow.equipment import equip
    from imgflow.home import Home
    from imgflow.lineage.environment import environment
    from imgflow.precheck import stage_engines

    home = Home.find()
    policy = home.policy()
    found = find_photos(photos)[:cases]
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("photos", total=len(found))
        result = bench_precheck(found, policy, equip(home, policy), lambda: progress.advance(task))
    machine = environment(1).instruction_set
    measured = Calibration(machine=machine, stages=result.stages, by_stage=stage_engines(policy))
    save_calibration(home.root, measured)
    out.print(
        f"calibrated on {result.calibrated} photos, checked on {len(result.errors)} others: "
        f"median error {result.median:.0%} (aim {MEDIAN_AIM:.0%}), 90th percentile "
        f"{result.tail:.0%} (aim {TAIL_AIM:.0%}); a look takes {result.took_ms:.0f} ms of one core"
    )
    if as_json:
        figures = {
            "median": result.median,
            "p90": result.tail,
            "photos": len(result.errors),
            "took_ms": result.took_ms,
            "stages": result.stages,
        }
        print(json.dumps(figures))
    if not result.is_good:
        raise typer.Exit(1)


@app.command()
def text(
    photos: Annotated[Path, typer.Argument(help="A folder of photos that no training saw.")],
    cases: Annotated[int, typer.Option(min=1, help="With an overlay, and as many without.")] = 300,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same cases.")] = 0,
    fonts: Annotated[Path, typer.Option(help="Where the fonts are.")] = Path("/usr/share/fonts"),
    worst: Annotated[
        Path | None, typer.Option(help="A folder for a picture of the worst twenty.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Text removal held against the truth: what is cleaned, what slips by, what is wiped off."""
    from imgflow.bench.text.cases import find_sources
    from imgflow.bench.text.report import summary, tables
    from imgflow.bench.text.run import bench_text
    from imgflow.bench.text.worst import write_worst

    sources = find_sources(photos, fonts, seed)
    with TemporaryDirectory(prefix="imgflow-bench-") as folder:
        pictures = Path(folder) if worst else None
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("cases", total=2 * cases + 1)
            found = bench_text(sources, cases, lambda: progress.advance(task), pictures=pictures)
        figures = summary(found)
        for part in tables(figures):
            out.print(part)
        if worst and pictures:
            out.print(f"the worst: {write_worst(found, sources, pictures, worst)}")
    if as_json:
        print(json.dumps(figures))
    if found.lost:
        raise typer.Exit(1)


@app.command()
def upscale(
    photos: Annotated[Path, typer.Argument(help="A folder of photos that no training saw.")],
    engine: Annotated[
        list[str] | None, typer.Option(help="Of the registry; may be given several times.")
    ] = None,
    cases: Annotated[
        int | None, typer.Option(min=1, help="So many of the photos, spread over all.")
    ] = None,
    looks: Annotated[
        int | None,
        typer.Option(min=1, max=8, help="As upscale.looks of the policy; times are of one."),
    ] = None,
    rounds: Annotated[int, typer.Option(min=0, help="Photos per timing; 0: no timing.")] = 5,
    peak_tflops: Annotated[
        float | None, typer.Option(min=0.001, help="Of the graphics card, in bfloat16.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Enlargement held against the truth and against bicubic, its seconds and its memory."""
    from imgflow.bench.upscale.cases import find_sources
    from imgflow.bench.upscale.report import summary, tables
    from imgflow.bench.upscale.run import bench_upscale, steps

    engines = tuple(dict.fromkeys(engine or ("lanczos", "sr")))
    sources = find_sources(photos, cases)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("photos", total=steps(sources, engines, rounds))
        found = bench_upscale(sources, engines, looks, rounds, lambda: progress.advance(task))
    figures = summary(found, peak_tflops=peak_tflops)
    for part in tables(figures):
        out.print(part)
    if as_json:
        print(json.dumps(figures))
    if found.lost:
        raise typer.Exit(1)


@app.command()
def audit(
    images: Annotated[int, typer.Option(min=5, help="Photos of the catalog.")] = 1000,
    many: Annotated[
        int, typer.Option(min=1000, help="Records of the catalog that memory is measured on.")
    ] = 20_000,
    as_json: Json = False,
) -> None:
    """Seconds and memory of `imgflow audit`."""
    from imgflow.bench.audit import as_json as line
    from imgflow.bench.audit import bench_audit

    with Console(stderr=True).status("") as status:
        runs = bench_audit(images, many, status.update)
    titles = ("images", "records", "files", "GB", "events", "seconds", "processor s", "peak MB")
    table = Table("audit", *titles)
    for run in runs:
        counts = (run.images, run.records, run.files)
        table.add_row(
            run.what,
            *(f"{count:,}" for count in counts),
            f"{run.gigabytes:.2f}",
            f"{run.events:,}",
            f"{run.seconds:.2f}",
            f"{run.cpu_seconds:.2f}",
            f"{run.peak_mb:.0f}",
        )
    out.print(table)
    if as_json:
        print(json.dumps(line(runs)))
    if any(run.problems for run in runs):
        out.print("problems were found where there are none")
        raise typer.Exit(1)
