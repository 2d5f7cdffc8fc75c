"""`imgflow bench s3` and `imgflow bench scale`."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

out = Console()
_EXAMPLES = 10
_RATIO_TARGET = 0.8

Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON last.")]


def add_to(app: typer.Typer) -> None:
    """Make these commands of `app`."""
    app.command()(s3)
    app.command()(scale)


def s3(
    photos: Annotated[
        int, typer.Option(min=0, help="Through the store by a bad network; 0: none.")
    ] = 1000,
    rate: Annotated[
        float, typer.Option(min=0.0, max=0.5, help="Share of requests that meet a fault.")
    ] = 0.1,
    images: Annotated[
        int, typer.Option(min=0, help="Through the line, in a folder and in a bucket; 0: none.")
    ] = 100,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same faults.")] = 0,
    as_json: Json = False,
) -> None:
    """The store in a bucket: nothing lost on a bad network, and its speed against a folder's."""
    from imgflow.bench.s3.ratio import bench_ratio
    from imgflow.bench.s3.survival import bench_survival

    figures: dict[str, object] = {}
    good = True
    with Progress(console=Console(stderr=True), transient=True) as progress:
        if photos:
            task = progress.add_task("photos", total=photos)
            found = bench_survival(photos, rate, seed, lambda: progress.advance(task))
            table = Table("fault", "requests", title=f"{photos} photos, {found.seconds:.0f} s")
            for fault, count in sorted(found.met.items()):
                table.add_row(fault, f"{count:,}")
            out.print(table)
            counts = {name: getattr(found, name) for name in ("lost", "double", "wrong")}
            told = ", ".join(f"{len(each)} {name}" for name, each in counts.items())
            out.print(f"{found.retried:,} requests made again; {told}")
            for each in [text for several in counts.values() for text in several][:_EXAMPLES]:
                out.print(each)
            figures["survival"] = found.as_dict()
            good = found.is_good
        if images:
            task = progress.add_task("images", total=2 * images)
            folder, bucket = bench_ratio(images, (640, 480), lambda: progress.advance(task))
            ratio = bucket.per_hour / folder.per_hour
            out.print(
                f"{images} photos of 640 x 480: {folder.per_hour:,.0f} an hour with the store in a "
                f"folder, {bucket.per_hour:,.0f} in a bucket: {ratio:.3f} (the aim is "
                f"{_RATIO_TARGET})"
            )
            figures["ratio"] = round(ratio, 3)
            figures["folder_images_per_hour"] = round(folder.per_hour)
            figures["bucket_images_per_hour"] = round(bucket.per_hour)
    if as_json:
        print(json.dumps(figures))
    if not good:
        raise typer.Exit(1)


def scale(
    keys: Annotated[int, typer.Option(min=100, help="Photos in the bucket.")] = 100_000,
    batch: Annotated[int, typer.Option(min=1, max=64, help="Of them made, in one run.")] = 64,
    photos: Annotated[int, typer.Option(min=1, help="To extrapolate to.")] = 10_000_000,
    as_json: Json = False,
) -> None:
    """Sensor, partitions, a run and an audit in a catalog of many keys in a bucket."""
    from imgflow.bench.s3.scale import bench_scale

    with Console(stderr=True).status("") as status:
        found = bench_scale(keys, batch, status.update)
    table = Table("figure", "value", title=f"{keys:,} keys")
    for name, value in found.as_dict().items():
        table.add_row(name, f"{value:,}")
    out.print(table)
    more = Table("of one pass", "", title=f"extrapolated to {photos:,} photos")
    for name, value in found.extrapolated(photos).items():
        more.add_row(name, f"{value:,.1f}" if value % 1 else f"{value:,.0f}")
    out.print(more)
    if as_json:
        print(json.dumps({**found.as_dict(), "extrapolated": found.extrapolated(photos)}))
