"""What all commands of the terminal share: how they speak to people and to programs."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

AS_JSON = "imgflow.as_json"
"""Where a command's context says that it prints JSON."""

out = Console()
err = Console(stderr=True)


def _remember_json(ctx: typer.Context, value: bool) -> bool:
    ctx.meta[AS_JSON] = value  # shared with the group, which tells of errors
    return value


Json = Annotated[
    bool,
    typer.Option(
        "--json", help="Print one line of JSON on stdout, and no more.", callback=_remember_json
    ),
]


def say(text: str, *, mark: str = "", to: Console | None = None) -> None:
    """One line, never wrapped: a name that is cut in two cannot be copied."""
    (to or out).print(mark + escape(text), soft_wrap=True, highlight=False)


def complain(mark: str, text: str) -> None:
    say(text, mark=f"[red]{mark}[/red] ", to=err)


def progress_bar(*, quiet: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=err,
        disable=quiet or not err.is_terminal,
        transient=True,
    )


def print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False))


def photos(count: int) -> str:
    return "1 photo" if count == 1 else f"{count} photos"
