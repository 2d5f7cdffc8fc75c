"""The catalog: `catalog.csv`, what a shop says of its photos in one table.

One row per photo, found by its key. What a manifest says of the same photo wins, field by field.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from imgflow.errors import BadCatalog, BadKey
from imgflow.policy.manifest import Inpaint, Manifest
from imgflow.policy.policy import AssetType, Criticality, Traits
from imgflow.policy.yamlfile import shortened
from imgflow.store.keys import ImageKey

_COLUMNS = ("key", "asset_type", "category", "criticality", "prompt")
_ALLOWED = {"asset_type": get_args(AssetType), "criticality": get_args(Criticality)}
# As in manifests.
_LONGEST_CATEGORY = 200
_LONGEST_PROMPT = 2000
_MAX_BYTES = 100_000_000
_MAX_PROBLEMS = 10


@dataclass(frozen=True, slots=True)
class CatalogRow:
    """What the catalog says of one photo. prompt: of inpaint steps that have none; may be empty."""

    traits: Traits = field(default_factory=Traits)
    prompt: str = ""

    def completes(self, manifest: Manifest) -> Manifest:
        """The manifest with this row's word where it has none of its own."""
        given = {name: value for name, value in self.traits.as_dict().items() if value}
        update: dict[str, Any] = {
            name: value for name, value in given.items() if getattr(manifest, name) is None
        }
        if self.prompt:
            update["steps"] = [
                step.model_copy(update={"prompt": self.prompt})
                if isinstance(step, Inpaint) and step.prompt is None
                else step
                for step in manifest.steps
            ]
        return manifest.model_copy(update=update) if update else manifest


class Catalog(Mapping[ImageKey, CatalogRow]):
    """The rows by key. ignored: columns that mean nothing to the line."""

    def __init__(
        self, rows: Mapping[ImageKey, CatalogRow] | None = None, ignored: tuple[str, ...] = ()
    ) -> None:
        self._rows = dict(rows or {})
        self.ignored = ignored

    def __getitem__(self, key: ImageKey) -> CatalogRow:
        return self._rows[key]

    def __iter__(self) -> Iterator[ImageKey]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def complete(self, key: ImageKey, manifest: Manifest) -> Manifest:
        """A photo's manifest with what its row adds."""
        row = self._rows.get(key)
        return manifest if row is None else row.completes(manifest)


def load_catalog(path: Path) -> Catalog:
    """The catalog of a CSV file in UTF-8, separated by commas, semicolons or tabs.

    Without a file it is empty. Keys that no photo has are no mistake: it may come later.
    Raises BadCatalog (codes catalog_unreadable, catalog_invalid) that names the line, the column,
    the value and what is allowed.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return Catalog()
    except OSError as error:
        raise BadCatalog(
            "catalog_unreadable", f"the catalog {path} cannot be read: {error.strerror}"
        ) from error
    if len(data) > _MAX_BYTES:
        raise _bad(path, [f"it is larger than {_MAX_BYTES} bytes"])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _bad(path, [f"line {line} is not UTF-8: save it as 'CSV UTF-8'"]) from error
    return _parse(text, path)


def _parse(text: str, path: Path) -> Catalog:
    header = text.split("\n", 1)[0]
    separator = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: dict[ImageKey, CatalogRow] = {}
    first_line: dict[ImageKey, int] = {}
    problems: list[str] = []
    # Rows of a catalog mostly repeat a few traits: one object for each is enough.
    traits_of: dict[tuple[str, str, str], Traits] = {}
    try:
        names = [_column(each) for each in next(reader, [])]
        if not names:
            return Catalog()
        _require_columns(names, path)
        places = [names.index(name) if name in names else -1 for name in _COLUMNS]
        for cells in reader:
            if not any(cells):
                continue
            line = reader.line_num
            if len(cells) > len(names):
                problems.append(f"line {line} has {len(cells)} cells, the header has {len(names)}")
                continue
            key_text, asset_type, category, criticality, prompt = (
                cells[place].strip() if 0 <= place < len(cells) else "" for place in places
            )
            said = (asset_type, category, criticality)
            if said not in traits_of:
                problems += _mistakes(line, dict(zip(_COLUMNS[1:4], said, strict=True)))
                traits_of[said] = Traits(*said)
            if len(prompt) > _LONGEST_PROMPT:
                problems.append(
                    f"line {line}, column prompt: {shortened(prompt)} is longer than "
                    f"{_LONGEST_PROMPT} characters"
                )
            try:
                key = _key(key_text)
            except BadKey as error:
                problems.append(f"line {line}, column key: {error.what}")
                continue
            if key in rows:
                problems.append(
                    f"line {line}, column key: {shortened(str(key))} stands in line "
                    f"{first_line[key]} already; each photo has one row"
                )
            rows[key] = CatalogRow(traits_of[said], prompt)
            first_line[key] = line
    except csv.Error as error:
        problems.append(f"line {reader.line_num}: {error}")
    if problems:
        raise _bad(path, problems)
    return Catalog(rows, tuple(sorted(set(names) - set(_COLUMNS) - {""})))


def _column(title: str) -> str:
    return "_".join(title.strip().lower().replace("-", " ").split())


def _require_columns(names: list[str], path: Path) -> None:
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise _bad(path, [f"line 1: the column {shortened(twice[0])} stands twice"])
    if "key" not in names:
        raise _bad(
            path,
            [f"line 1: there is no column 'key'; columns are {', '.join(_COLUMNS)}, in any order"],
        )


def _key(text: str) -> ImageKey:
    """A key as it is written in imgflow, or a photo's path as its file is named."""
    if not text:
        raise BadKey("key_empty", "it is empty; it is a path below the upload folder")
    try:
        return ImageKey(text)
    except BadKey:
        return ImageKey.from_path(text)


def _mistakes(line: int, cells: Mapping[str, str]) -> Iterator[str]:
    for name, value in cells.items():
        where = f"line {line}, column {name}"
        allowed = _ALLOWED.get(name)
        if allowed and value and value not in allowed:
            yield f"{where}: {shortened(value)} is none of {', '.join(allowed)}"
        elif len(value) > _LONGEST_CATEGORY:
            yield f"{where}: {shortened(value)} is longer than {_LONGEST_CATEGORY} characters"
        elif any(unicodedata.category(each) in ("Cc", "Zl", "Zp") for each in value):
            yield f"{where}: {shortened(value)} must not contain control characters or line breaks"


def _bad(path: Path, problems: list[str]) -> BadCatalog:
    told = "; ".join(problems[:_MAX_PROBLEMS])
    if len(problems) > _MAX_PROBLEMS:
        told += f"; and {len(problems) - _MAX_PROBLEMS} more"
    return BadCatalog(
        "catalog_invalid",
        f"the catalog {path} is not valid: {told}",
        hint="Correct it: until then nothing is run",
    )
