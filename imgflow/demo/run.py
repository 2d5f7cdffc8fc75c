"""The demo: a damaged catalog through the real line, judged against the known truth."""

from __future__ import annotations

import os
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import Progress as ProgressBar
from rich.table import Table

from imgflow.chain import Passage
from imgflow.defs.launch import launch
from imgflow.defs.resources import Progress
from imgflow.demo.catalog import DemoPhoto, build_catalog
from imgflow.demo.outcome import Outcome, compare, shown
from imgflow.gallery import gallery_row, render_gallery
from imgflow.home import CATALOG, Home
from imgflow.lineage.record import Record, Verdict, Version
from imgflow.store.store import Store

# Columns of a terminal from which the table is legible.
_WIDE = 100
_COLOURS = {
    Verdict.PUBLISHED: "green",
    Verdict.ACCEPTED_WITH_ARTIFACTS: "yellow",
    Verdict.NEEDS_REVIEW: "yellow",
    Verdict.QUARANTINED: "red",
}


def run_demo(home: Home, out: Console) -> bool:
    """Build the catalog, run it through Dagster, print the table and write the gallery.

    True if the line did its work: photos that it stopped on purpose count as work done.
    """
    folder = home.root / "demo"
    photos = build_catalog(home.uploads.root, folder / "truth")
    out.print(f"{len(photos)} damaged photos dropped into {home.uploads.root / 'demo'}")

    worked = 0.0  # in this very run: what an earlier one made is taken over, and takes no time

    class Bar(Progress):
        def passed(self, passage: Passage) -> None:
            nonlocal worked
            worked += sum(step.record.seconds for step in passage.steps if not step.reused)
            bar.advance(task)

    with ProgressBar(console=out, transient=True) as bar:
        task = bar.add_task("through the line", total=len(photos))
        runs = launch([photo.key for photo in photos], home, Bar())
    errors = [run.error for run in runs if run.error]

    store = home.store
    records = {photo.key: _records(photo, store) for photo in photos}
    outcomes = [compare(photo, store, records[photo.key]) for photo in photos]
    print_outcomes(outcomes, out)
    gallery = folder / "gallery.html"
    rows = [
        gallery_row(
            store,
            records[photo.key],
            photo.title,
            about=f"Expected: {photo.expected}",
            figures=outcome.figures(),
        )
        for photo, outcome in zip(photos, outcomes, strict=True)
    ]
    gallery.write_text(render_gallery(rows, title="imgflow demo", seconds=worked), encoding="utf-8")
    for error in errors:
        out.print(f"[red]error[/red] {escape(error)}", soft_wrap=True)
    out.print(f"Gallery, before and after: file://{gallery.absolute()}", soft_wrap=True)
    out.print(f"Published files:           {_published(home)}", soft_wrap=True)
    out.print("Dagster UI:                .venv/bin/imgflow dev   (then http://127.0.0.1:3000)")
    return not errors


def _records(photo: DemoPhoto, store: Store) -> dict[Version, Record]:
    found = ((version, store.get_record(CATALOG, photo.key, version)) for version in Version)
    return {version: record for version, record in found if record is not None}


def _published(home: Home) -> str:
    folder = Path(home.store.published_location(CATALOG, "demo"))
    return os.path.relpath(folder)


def print_outcomes(outcomes: list[Outcome], out: Console) -> None:
    """As a table, or where the terminal is narrow as a list: no key is cut in two."""
    if out.width < _WIDE:
        _print_list(outcomes, out)
    else:
        out.print(_table(outcomes))


def _print_list(outcomes: list[Outcome], out: Console) -> None:
    for each in outcomes:
        colour = _COLOURS.get(each.verdict, "white")
        reason = f": {escape(each.reason)}" if each.reason else ""
        figures = [f"{name} {value}" for name, value in each.figures() if "damage" not in name]
        out.print(f"[bold]{escape(each.title)}[/bold]")
        out.print(f"  {escape(each.key)}", soft_wrap=True, highlight=False)
        for line in (
            f"{escape(each.found)} [dim]->[/dim] {escape(each.done)}",
            ", ".join([*figures, f"{each.seconds:.1f} s"]),
            f"[{colour}]{each.verdict}[/]{reason}",
        ):
            out.print(Padding(line, (0, 0, 0, 2)), highlight=False)


def _table(outcomes: list[Outcome]) -> Table:
    table = Table(title="What the line did", show_lines=True)
    longest = max((cell_len(each.key) for each in outcomes), default=0)
    table.add_column("photo", overflow="fold", width=longest)
    table.add_column("found, and done", overflow="fold", ratio=4)
    table.add_column("PSNR\nbefore\nafter", justify="right", no_wrap=True)
    table.add_column("SSIM\nbefore\nafter", justify="right", no_wrap=True)
    table.add_column("s", justify="right", no_wrap=True)
    table.add_column("verdict", overflow="fold", ratio=3)
    for each in outcomes:
        verdict = f"[{_COLOURS.get(each.verdict, 'white')}]{each.verdict}[/]"
        if each.reason:
            verdict += f"\n{escape(each.reason)}"
        table.add_row(
            f"[bold]{escape(each.title)}[/bold]\n{escape(each.key)}",
            f"{escape(each.found)}\n[dim]->[/dim] {escape(each.done)}",
            f"{shown(each.psnr_before, 'dB')}\n{shown(each.psnr_after, 'dB')}",
            f"{shown(each.ssim_before)}\n{shown(each.ssim_after)}",
            f"{each.seconds:.1f}",
            verdict,
        )
    return table
