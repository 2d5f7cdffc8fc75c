"""Fetching a model's files: resumed where it broke off, checked, then put in place at once."""

from __future__ import annotations

import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import requests

from imgflow.engines.shelf.cards import Card, CardError, CardFile, is_safe_url
from imgflow.engines.shelf.shelf import Shelf, Why, digest_of, sha256_of
from imgflow.engines.webwords import in_words

Progress = Callable[[str, int, int | None], None]
"""Told of a file, how many bytes of it are here, and how many it has, where that is known."""

_TIMEOUT_S = (10.0, 60.0)  # to connect, and between two pieces
# What a broken connection loses at most.
_PIECE = 1 << 16
_TRIES = 4
_BACKOFF_S = 0.5
_MOST_BYTES = 64 << 30
_SPARE_BYTES = 1 << 30  # of the disk


def pull(shelf: Shelf, name: str, progress: Progress, *, again: bool = False) -> list[str]:
    """Fetch what is missing of a model; returns the paths that were fetched.

    again: also what is there already. Raises CardError (codes model_not_pullable, pull_failed,
    pull_wrong_hash, disk_full).
    """
    card = shelf.card(name)
    if not card.pullable:
        raise CardError(
            "model_not_pullable",
            f"nobody has said where '{name}' can be fetched",
            hint=f"Get it from {card.source or 'its makers'}, then imgflow models add {name} PATH",
        )
    wanted = card.files if again else shelf.missing(name)
    for file in wanted:
        _pull_file(shelf, name, card, file, progress)
    return [file.path for file in wanted]


def _pull_file(shelf: Shelf, name: str, card: Card, file: CardFile, progress: Progress) -> None:
    target = shelf.folder(name) / file.path
    partial = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _download(file, partial, progress)
        ready = _unpacked(file, partial) if file.member else partial
        found = sha256_of(ready)
        _require_hash(name, file, ready, found)
        ready.replace(target)
        partial.unlink(missing_ok=True)
        _etag_file(partial).unlink(missing_ok=True)
    except OSError as error:
        raise CardError(
            "pull_failed", f"{target} cannot be written: {error.strerror or error}"
        ) from error
    why: Why = "catalog" if file.sha256 or file.md5 else "first use"
    shelf.accept(name, file.path, found, why)


def _download(file: CardFile, partial: Path, progress: Progress) -> None:
    """All bytes of a file's address in `partial`, which may hold the first of them already."""
    assert file.url is not None  # the card is pullable
    problem = ""
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_BACKOFF_S * 2 ** (attempt - 1))
        try:
            if _fetch(file.url, file, partial, progress):
                return
            problem = "the connection ended early"
        except requests.RequestException as error:
            problem = in_words(error)
    raise CardError(
        "pull_failed",
        f"{file.url} cannot be fetched: {problem:.300}",
        hint="Run the same command again: it goes on where it broke off. Without a network, "
        "copy the model's folder from a machine that has it",
    )


def _fetch(url: str, file: CardFile, partial: Path, progress: Progress) -> bool:
    """One try; True once all is there. Raises RequestException for what may pass by itself."""
    have = partial.stat().st_size if partial.exists() else 0
    etag_file = _etag_file(partial)
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if etag_file.exists():
            # Another file by now: then all of it comes.
            headers["If-Range"] = etag_file.read_text().strip()
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S) as answer:
        for passed in [*answer.history, answer]:
            if not is_safe_url(passed.url):
                raise CardError("pull_failed", f"{url} leads to {passed.url:.200}: not https")
        if answer.status_code == 416:  # nothing is left: whole, or of another file
            partial.unlink()
            raise requests.RequestException("what was here did not fit")
        if answer.status_code in (401, 403, 404, 410):
            raise CardError(
                "pull_failed",
                f"{url} answers {answer.status_code} {answer.reason}",
                hint="It may have moved, or ask for an account: fetch it by hand, then "
                "imgflow models add",
            )
        answer.raise_for_status()
        resumed = answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(
            f"bytes {have}-"
        )
        have = have if resumed else 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length and length.isdigit() else file.size
        _require_room(file, total, have, partial)
        if etag := answer.headers.get("ETag", ""):
            etag_file.write_text(etag[:200])
        with partial.open("ab" if resumed else "wb") as out:
            progress(file.path, have, total)
            for piece in answer.iter_content(_PIECE):
                out.write(piece)
                have += len(piece)
                if have > (file.size or _MOST_BYTES):
                    raise CardError("pull_failed", f"{url} sends more than it should")
                progress(file.path, have, total)
    return total is None or have == total


def _require_room(file: CardFile, total: int | None, have: int, partial: Path) -> None:
    if file.size is not None and total is not None and total != file.size:
        raise CardError(
            "pull_failed",
            f"{file.url} has {total} bytes, the catalog says {file.size}",
            hint="It is another file by now: update imgflow, or fetch it by hand",
        )
    free = shutil.disk_usage(partial.parent).free
    if total is not None and total - have > free - _SPARE_BYTES:
        raise CardError("disk_full", f"{file.path} needs {total - have} bytes, and {free} are free")


def _unpacked(file: CardFile, archive: Path) -> Path:
    """The one member of a zip archive that is wanted, beside it."""
    target = archive.with_name(archive.name + ".member.part")
    try:
        with zipfile.ZipFile(archive) as zipped:
            member = zipped.getinfo(file.member or "")
            _require_room(CardFile(path=file.path), member.file_size, 0, target)
            # Only one member is read, and written where we say: names in it lead nowhere.
            with zipped.open(member) as source, target.open("wb") as out:
                left = member.file_size
                while left > 0 and (piece := source.read(min(_PIECE, left))):
                    out.write(piece)
                    left -= len(piece)
    except (zipfile.BadZipFile, KeyError, RuntimeError, NotImplementedError) as error:
        archive.unlink(missing_ok=True)
        target.unlink(missing_ok=True)
        raise CardError(
            "pull_failed", f"{file.url} is no zip archive with {file.member} in it: {error}"
        ) from error
    return target


def _require_hash(name: str, file: CardFile, ready: Path, sha256: str) -> None:
    right = file.sha256 in (None, sha256)
    if right and file.md5 is not None:
        right = digest_of(ready, "md5") == file.md5
    if right:
        return
    # Kept, it would be taken for the beginning of the right one.
    partial = ready.with_name(file.path.rpartition("/")[2] + ".part")
    for path in (ready, partial, _etag_file(partial)):
        path.unlink(missing_ok=True)
    raise CardError(
        "pull_wrong_hash",
        f"what {file.url} gave for '{name}' has sha256 {sha256}, which is not what the catalog "
        "says: it was thrown away",
        hint="Try again; if it stays so, the file was replaced upstream: do not use it unseen",
    )


def _etag_file(partial: Path) -> Path:
    return partial.with_name(f".{partial.name}.etag")
