"""The shelf: a folder with one folder per model, and what is known of their files.

    models/
      pins.json          the hash that each file had when it was first used; review it
      catalog.yaml       cards of your own (optional)
      lama/big-lama.pt   the files of a model, below its name

A folder that was copied from another machine is as good as one that was fetched here.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from imgflow.engines.shelf.cards import (
    CARD,
    CATALOG,
    Card,
    CardError,
    CardFile,
    read_card,
    read_catalog,
    require_name,
    shipped_cards,
)
from imgflow.errors import EngineUnavailable
from imgflow.files import printable, replacing

PINS = "pins.json"
_SEEN = ".seen.json"
_BLOCK = 1 << 20

Why = Literal["catalog", "first use", "added"]


@dataclass(frozen=True, slots=True)
class Weights:
    """A model's files on the shelf, their hashes checked.

    sha256: of the file, or over all files of a model that has several. bytes: of all of them.
    """

    name: str
    card: Card
    folder: Path
    paths: tuple[str, ...]
    sha256: str
    bytes: int

    @property
    def file(self) -> Path:
        """The first file: of most models the only one."""
        return self.folder / self.paths[0]


@dataclass(frozen=True, slots=True)
class Finding:
    """What `verify` found of a file. status: ok, missing, changed or new (not pinned before)."""

    model: str
    path: str
    status: Literal["ok", "missing", "changed", "new"]
    detail: str = ""


class Shelf:
    """The models below a folder, which need not exist."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def cards(self) -> dict[str, Card]:
        """All models by name: imgflow's, the user's own, and those added by hand.

        Raises CardError.
        """
        found = dict(shipped_cards())
        if (self.root / CATALOG).is_file():
            found |= read_catalog(self.root / CATALOG)
        for path in sorted(self.root.glob(f"*/{CARD}")):
            found[require_name(path.parent.name)] = read_card(path)
        return dict(sorted(found.items()))

    def card(self, name: str) -> Card:
        """Raises CardError for a name that no card has."""
        if name not in self.cards:
            raise CardError(
                "model_unknown",
                f"there is no model named '{name}'",
                hint="`imgflow models list` names all; `imgflow models add NAME PATH` adds yours",
            )
        return self.cards[name]

    def folder(self, name: str) -> Path:
        return self.root / require_name(name)

    def missing(self, name: str) -> list[CardFile]:
        """The files of a model that are not there."""
        folder = self.folder(name)
        return [file for file in self.card(name).files if not (folder / file.path).is_file()]

    def weights(self, name: str) -> Weights:
        """A model's files, complete and with the hashes that they must have.

        A file whose hash nobody has said is pinned: from then on it must stay the same.
        Raises EngineUnavailable (codes weights_missing, weights_changed), CardError.
        """
        card = self.card(name)
        if missing := self.missing(name):
            raise _missing(name, card, missing, self.root)
        known = {file.path: file for file in card.files}
        hashes: dict[str, str] = {}
        with self._state() as state:
            for path in self._paths(name, card):
                found = self._hash(name, path, state)
                self._require_right(name, known.get(path), path, found, state)
                hashes[path] = found
        ordered = (*known, *sorted(set(hashes) - set(known)))
        folder = self.folder(name)
        return Weights(
            name=name,
            card=card,
            folder=folder,
            paths=ordered,
            sha256=_over(hashes),
            bytes=sum((folder / path).stat().st_size for path in hashes),
        )

    def verify(self, name: str) -> list[Finding]:
        """Hash all files of a model anew and compare. Raises CardError."""
        card = self.card(name)
        known = {file.path: file for file in card.files}
        findings = [Finding(name, file.path, "missing") for file in self.missing(name)]
        with self._state() as state:
            for path in self._paths(name, card):
                if not (self.folder(name) / path).is_file():
                    continue
                found = self._hash(name, path, state, afresh=True)
                wrong = self._wrong(known.get(path), f"{name}/{path}", found, state)
                pinned = f"{name}/{path}" in state.pins
                status: Literal["ok", "changed", "new"] = (
                    "changed" if wrong else "ok" if pinned or _is_said(known.get(path)) else "new"
                )
                findings.append(Finding(name, path, status, wrong or found))
        return findings

    def accept(self, name: str, path: str, sha256: str, why: Why) -> None:
        """Pin a file's hash, whatever it was before: the file is new, and known to be right."""
        with self._state() as state:
            state.pin(f"{name}/{path}", sha256, why)

    def add(self, name: str, source: Path, card: Card) -> None:
        """Copy a file, or a folder's files, onto the shelf under a new name.

        source: what the card's paths lie in, or the one file that it names. Raises CardError
        (codes model_exists, model_not_added).
        """
        folder = self.folder(name)
        if folder.exists():
            raise CardError(
                "model_exists",
                f"there is a model named '{name}' on the shelf already",
                hint=f"Take it off first: imgflow models rm {name}",
            )
        try:
            for file in card.files:
                origin = source if source.is_file() else source / file.path
                with replacing(folder / file.path) as partial:
                    shutil.copyfile(origin, partial)
                self.accept(name, file.path, sha256_of(folder / file.path), "added")
            with replacing(folder / CARD) as partial:
                partial.write_text(card.model_dump_json(indent=1, exclude_defaults=True) + "\n")
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise CardError(
                "model_not_added", f"{printable(source)} cannot be copied: {error.strerror}"
            ) from error
        self.__dict__.pop("cards", None)

    def remove(self, name: str) -> int:
        """Take a model's files and pins off the shelf; returns how many files it was.

        Raises CardError.
        """
        folder = self.folder(name)
        if not folder.is_dir() or folder.is_symlink():
            raise CardError("model_not_here", f"there is no model '{name}' on the shelf")
        count = sum(path.is_file() for path in folder.rglob("*"))
        shutil.rmtree(folder)
        with self._state() as state:
            state.forget(name)
        self.__dict__.pop("cards", None)
        return count

    def pins(self) -> dict[str, dict[str, str]]:
        """What pins.json holds: for "model/file" its sha256, since when, and why."""
        return _read(self.root / PINS)

    def _paths(self, name: str, card: Card) -> list[str]:
        """The card's files and whatever else a loader could find in the folder."""
        folder = self.folder(name)
        found = {
            path.relative_to(folder).as_posix()
            for path in folder.rglob("*")
            if path.is_file() and not path.name.startswith(".") and path.suffix != ".part"
        }
        return sorted((found - {CARD}) | {file.path for file in card.files})

    def _hash(self, name: str, path: str, state: _State, *, afresh: bool = False) -> str:
        file = self.folder(name) / path
        status = file.stat()
        mark = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        seen = state.seen.get(f"{name}/{path}")
        if not afresh and seen is not None and seen[:-1] == mark:
            return str(seen[-1])
        found = sha256_of(file)
        state.see(f"{name}/{path}", [*mark, found])
        return found

    def _require_right(
        self, name: str, file: CardFile | None, path: str, found: str, state: _State
    ) -> None:
        place = f"{name}/{path}"
        wrong = self._wrong(file, place, found, state)
        if wrong:
            again = f"imgflow models rm {name}, then imgflow models add {name} PATH"
            if self.card(name).pullable:
                again = f"imgflow models pull {name} --again"
            pinned = file is None or file.sha256 is None
            anew = f"imgflow models verify {name} --pin"
            raise EngineUnavailable(
                "weights_changed",
                f"the weights {self.root / place} are not what they must be: {wrong}",
                hint=f"Get the right ones: {again}"
                + (f"; or, if you replaced them on purpose, pin them: {anew}" if pinned else ""),
            )
        if place not in state.pins:
            state.pin(place, found, "catalog" if _is_said(file) else "first use")

    def _wrong(self, file: CardFile | None, place: str, found: str, state: _State) -> str:
        """Why a file is not the right one; empty if it is, or nobody has said."""
        pinned = state.pins.get(place, {}).get("sha256")
        if pinned is not None and pinned != found:
            return f"sha256 {found[:12]}..., pinned is {pinned[:12]}..."
        if file is not None and file.sha256 not in (None, found):
            return f"sha256 {found[:12]}..., the catalog says {file.sha256[:12]}..."
        if file is not None and file.md5 is not None and pinned is None:
            md5 = digest_of(self.root / place, "md5")
            if md5 != file.md5:
                return f"md5 {md5[:12]}..., the catalog says {file.md5[:12]}..."
        return ""

    @contextmanager
    def _state(self) -> Iterator[_State]:
        """Pins and seen files, under a lock, written if they change.

        On a shelf that cannot be written nothing is pinned; the record has the hash all the same.
        """
        with _locked(self.root):
            state = _State(_read(self.root / PINS), _read(self.root / _SEEN))
            yield state
            for name, content, changed in (
                (PINS, state.pins, state.pinned),
                (_SEEN, state.seen, state.saw),
            ):
                if changed and os.access(self.root, os.W_OK):
                    with replacing(self.root / name) as partial:
                        text = json.dumps(content, indent=1, sort_keys=True)
                        partial.write_text(text + "\n")


class _State:
    """pins: "model/file" to sha256, since, why. seen: the same to file status and hash."""

    def __init__(self, pins: dict[str, Any], seen: dict[str, Any]) -> None:
        self.pins, self.seen = pins, seen
        self.pinned = self.saw = False

    def pin(self, place: str, sha256: str, why: Why) -> None:
        today = datetime.now(UTC).date().isoformat()
        self.pins[place] = {"sha256": sha256, "since": today, "why": why}
        self.pinned = True

    def see(self, place: str, mark: list[Any]) -> None:
        self.seen[place] = mark
        self.saw = True

    def forget(self, name: str) -> None:
        for table in (self.pins, self.seen):
            for place in [each for each in table if each.startswith(f"{name}/")]:
                del table[place]
        self.pinned = self.saw = True


def sha256_of(path: Path) -> str:
    return digest_of(path, "sha256")


def digest_of(path: Path, algorithm: str) -> str:
    """Hex digest of a file. algorithm: sha256 or md5."""
    # md5 only where upstream has published nothing better, against damage and not against people.
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _over(hashes: Mapping[str, str]) -> str:
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    lines = "".join(f"{path}\0{sha256}\n" for path, sha256 in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _is_said(file: CardFile | None) -> bool:
    return file is not None and bool(file.sha256 or file.md5)


def _missing(name: str, card: Card, missing: list[CardFile], root: Path) -> EngineUnavailable:
    what = missing[0].path + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
    how = (
        f"Fetch them: imgflow models pull {name}"
        if card.pullable
        else f"Add them: imgflow models add {name} PATH"
    )
    return EngineUnavailable(
        "weights_missing",
        f"the weights of '{name}' ({what}) are not in {root / name}",
        hint=f"{how}; or copy that folder from a machine that has them",
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        if path.name == _SEEN:
            return {}
        raise CardError(
            "pins_unreadable",
            f"{path} cannot be read: {error}",
            hint="Restore it, or delete it: all models are then pinned anew",
        ) from error
    return found if isinstance(found, dict) else {}


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """One process at a time; where the shelf is missing or read-only there is nothing to guard."""
    try:
        file = (root / ".lock").open("w")
    except OSError:
        yield
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
