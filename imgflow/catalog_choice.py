"""Which catalogs a command is about: the one that was named, or all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from imgflow.errors import BadKey
from imgflow.home import Home

if TYPE_CHECKING:
    from imgflow.store.keys import ImageKey

Catalog = Annotated[
    str,
    typer.Option(
        "--catalog",
        envvar="IMGFLOW_CATALOG",
        show_envvar=False,
        help="Only this catalog of catalogs.yaml. Default: all of them.",
    ),
]
OneCatalog = Annotated[
    str,
    typer.Option(
        "--catalog",
        envvar="IMGFLOW_CATALOG",
        show_envvar=False,
        help="Which catalog, where catalogs.yaml lists several.",
    ),
]


def chosen(name: str) -> tuple[Home, ...]:
    """The catalog of this name; empty: all. Raises BadCatalog."""
    found = Home.installation()
    return (found.of(name),) if name else found.all()


def typed_keys(given: Iterable[str]) -> list[ImageKey]:
    """Keys as they were typed, in any Unicode form; each once.

    Raises BadKey.
    """
    from imgflow.store.keys import ImageKey

    found: dict[ImageKey, None] = {}
    for text in map(str.strip, given):
        if not text:
            continue
        try:
            key = ImageKey(text)
        except BadKey:  # not as keys are written, but perhaps as the file is named
            key = ImageKey.from_path(text)
        found[key] = None
    return list(found)


def by_catalog(
    keys: Sequence[ImageKey], homes: Sequence[Home], has: Callable[[Home, ImageKey], bool]
) -> tuple[list[tuple[Home, list[ImageKey]]], list[ImageKey]]:
    """Keys by the catalog that has them, and those that none has.

    has: whether a catalog has a photo. Raises BadKey (code key_ambiguous) for one that several
    have.
    """
    found: dict[Home, list[ImageKey]] = {home: [] for home in homes}
    unknown = []
    for key in keys:
        owners = [home for home in homes if has(home, key)]
        if len(owners) > 1:
            raise BadKey(
                "key_ambiguous",
                f"several catalogs have a photo {key}: {', '.join(each.name for each in owners)}",
                hint="Say which: --catalog NAME",
            )
        if owners:
            found[owners[0]].append(key)
        else:
            unknown.append(key)
    return [(home, wanted) for home, wanted in found.items() if wanted], unknown


def label(home: Home, text: str, homes: Sequence[Home]) -> str:
    """A photo's key, or what is told of it, with its catalog where there are several."""
    return f"{home.name}: {text}" if len(homes) > 1 else text
