"""`imgflow models ...`: the model shelf from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from imgflow.engines.shelf.cards import TASKS_OF, Card, CardError, CardFile, Loader, Task
from imgflow.engines.shelf.pull import pull as pull_model
from imgflow.engines.shelf.shelf import Finding, Shelf, sha256_of
from imgflow.errors import EngineUnavailable
from imgflow.home import Home

app = typer.Typer(help="The model shelf: weights beside those that come with imgflow.")
out = Console()
err = Console(stderr=True)

_MEBI = 1 << 20
_ENDINGS = {".safetensors", ".pth", ".pt", ".ckpt", ".json", ".txt", ".model"}

Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON on stdout.")]
Name = Annotated[str, typer.Argument(help="What the policy calls the model.")]


def _shelf() -> Shelf:
    return Shelf(Home.installation().models)


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """All models that are known, whether they are here, under which licence and from where."""
    shelf = _shelf()
    pins = shelf.pins()
    rows = []
    for name, card in shelf.cards.items():
        missing = len(shelf.missing(name))
        state = "here" if not missing else "partly" if missing < len(card.files) else "-"
        rows.append(
            {
                "name": name,
                "title": card.title,
                "for": card.task,
                "state": state,
                "licence": card.licence,
                "source": card.source,
                "bytes": card.size or _bytes_here(shelf, name),
                "pinned": sum(place.startswith(f"{name}/") for place in pins),
                "note": card.note,
            }
        )
    if as_json:
        print(json.dumps({"folder": str(shelf.root), "models": rows}))
        return
    table = Table(show_edge=False)
    # A name that is cut in two cannot be copied.
    table.add_column("name", no_wrap=True)
    table.add_column("model", overflow="fold")
    for row in rows:
        size = row["bytes"]
        facts = (
            str(row["for"]).replace("_", " "),
            {"-": "not here"}.get(str(row["state"]), str(row["state"])),
            *([f"{size / _MEBI:.1f} MB"] if isinstance(size, int) and size else []),
            str(row["licence"]),
        )
        told = [", ".join(facts), *([str(row["source"])] if row["source"] else [])]
        lines = "\n".join(f"[dim]{escape(each)}[/dim]" for each in told)
        table.add_row(str(row["name"]), f"{escape(str(row['title']))}\n{lines}")
    out.print(table)
    out.print(f"The shelf: {shelf.root}", soft_wrap=True, highlight=False, markup=False)


def _bytes_here(shelf: Shelf, name: str) -> int:
    files = (shelf.folder(name) / file.path for file in shelf.card(name).files)
    return sum(path.stat().st_size for path in files if path.is_file())


@app.command()
def pull(
    names: Annotated[list[str], typer.Argument(help="Names from `imgflow models list`.")],
    again: Annotated[bool, typer.Option(help="Fetch also what is here already.")] = False,
) -> None:
    """Fetch models: resumed where it broke off, checked against the catalog's hash, then pinned."""
    shelf = _shelf()
    for name in names:
        card = shelf.card(name)
        source = f", from {card.source}" if card.source else ""
        _say(f"{name}: {card.title}, {card.licence}{source}", to=err)
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=err,
            disable=not err.is_terminal,
        ) as bar:
            tasks = {file.path: bar.add_task(file.path, total=file.size) for file in card.files}

            def told(
                path: str,
                have: int,
                total: int | None,
                bar: Progress = bar,
                tasks: dict[str, TaskID] = tasks,
            ) -> None:
                bar.update(tasks[path], completed=have, total=total)

            fetched = pull_model(shelf, name, told, again=again)
        weights = shelf.weights(name)
        what = f"{len(fetched)} files fetched" if fetched else "was here already"
        _say(f"{name}: {what}, sha256 {weights.sha256}, in {weights.folder}")


@app.command()
def add(
    name: Name,
    path: Annotated[
        Path,
        typer.Argument(help="A weights file, or the folder of a pipeline, of EasyOCR, of LPIPS."),
    ],
    loader: Annotated[
        str, typer.Option(help=f"What reads it: {', '.join(TASKS_OF)}; spandrel finds out most.")
    ] = "spandrel",
    task: Annotated[str, typer.Option(help="What it is for, where the loader leaves it open.")] = (
        ""
    ),
    licence: Annotated[str, typer.Option(help="Of the weights, for the record.")] = "unknown",
    source: Annotated[str, typer.Option(help="Where it comes from, for the record.")] = "",
) -> None:
    """Copy weights of your own onto the shelf, look at what they are, and pin their hash."""
    from imgflow.engines.inspect import inspect_model

    if loader not in TASKS_OF:
        raise typer.BadParameter(f"--loader is one of {', '.join(TASKS_OF)}")
    chosen: Loader = next(each for each in TASKS_OF if each == loader)
    tasks = TASKS_OF[chosen]
    if task and task not in tasks:
        raise typer.BadParameter(f"--task of the loader {loader} is one of {', '.join(tasks)}")
    if not path.exists():
        raise CardError("model_not_added", f"there is no file or folder {path}")
    asked: Task | None = next((each for each in tasks if each == task), None)
    try:
        facts = inspect_model(path, chosen, asked)
    except EngineUnavailable as error:
        # Its own hint is about what lies on the shelf.
        raise CardError(
            "model_not_added",
            error.what,
            hint=f"Nothing was added. Say what reads it with --loader: {', '.join(TASKS_OF)}",
        ) from error
    if asked not in (None, facts.task):
        raise CardError(
            "model_not_added",
            f"{path} is for another task: {facts.task.replace('_', ' ')}",
            hint="Nothing was added. Leave --task out, or name other weights",
        )
    card = Card(
        title=f"{name}, added from {path.name}"[:200],
        task=facts.task,
        loader=chosen,
        licence=licence,
        source=source,
        files=[CardFile(path=each, sha256=digest) for each, digest in _files(path)],
        architecture=facts.architecture,
        scale=facts.scale,
        receptive=facts.receptive,
    )
    shelf = _shelf()
    shelf.add(name, path, card)
    scale = f" x{card.scale}" if card.task == "upscaler" else ""
    _say(f"{name}: {card.architecture or chosen}, {card.task}{scale}, in {shelf.folder(name)}")


def _files(path: Path) -> list[tuple[str, str]]:
    """Relative paths and hashes of what is to be copied."""
    if path.is_file():
        return [(path.name, sha256_of(path))]
    found = sorted(
        each
        for each in path.rglob("*")
        if each.is_file() and each.suffix in _ENDINGS and not each.name.startswith(".")
    )
    if not found:
        raise CardError("model_not_added", f"there are no weights in {path}")
    return [(each.relative_to(path).as_posix(), sha256_of(each)) for each in found]


@app.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Default: all that are here.")] = None,
    pin: Annotated[
        bool,
        typer.Option(
            "--pin",
            help="Take the files as they are, you have looked at them; but for those "
            "whose hash the catalog, or your models add, has said.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Hash the files on the shelf anew and compare them with the catalog and with pins.json."""
    shelf = _shelf()
    here = [
        name for name, card in shelf.cards.items() if len(shelf.missing(name)) < len(card.files)
    ]
    findings = [each for name in names or here for each in shelf.verify(name)]
    if pin:
        for each in findings:
            if each.status in ("new", "changed") and not _is_said(shelf, each):
                digest = sha256_of(shelf.folder(each.model) / each.path)
                shelf.accept(each.model, each.path, digest, "added")
        findings = [each for name in names or here for each in shelf.verify(name)]
    if as_json:
        rows = [
            {"model": f.model, "file": f.path, "status": f.status, "detail": f.detail}
            for f in findings
        ]
        print(json.dumps(rows))
    else:
        for each in findings:
            _say(f"{each.status:8} {each.model}/{each.path} {each.detail}".rstrip())
        if not findings:
            _say(f"No model is on the shelf yet, {shelf.root}. Next: imgflow models list")
    if any(each.status in ("missing", "changed") for each in findings):
        raise typer.Exit(1)


def _is_said(shelf: Shelf, finding: Finding) -> bool:
    """Whether the model's card says which hash the file must have: no pin stands against that."""
    files = shelf.card(finding.model).files
    return any(file.path == finding.path and file.sha256 is not None for file in files)


@app.command()
def rm(name: Name) -> None:
    """Take a model's files off the shelf."""
    count = _shelf().remove(name)
    _say(f"{name}: {count} files deleted")


def _say(text: str, *, to: Console | None = None) -> None:
    (to or out).print(escape(text), soft_wrap=True, highlight=False)
