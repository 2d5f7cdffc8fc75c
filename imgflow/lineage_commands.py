"""Commands on what the records say: whether it is true, and whether it can be done again."""

from __future__ import annotations

import json

import typer


def add_to(app: typer.Typer) -> None:
    """Make these commands of `app`."""
    for command in (schema,):
        app.command()(command)


def schema() -> None:
    """Print the JSON Schema of records, for programs that read them."""
    from imgflow.lineage.schema import record_schema

    print(json.dumps(record_schema(), indent=1))
