"""Keys of images, and the upload folder that they point into."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath
from typing import Self
from urllib.parse import unquote_to_bytes

from imgflow.errors import BadKey, BadPhoto, ImgflowError

MAX_KEY_BYTES = 1024

PHOTO_SUFFIXES = frozenset(
    (
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".webp",
        ".tif",
        ".tiff",
        ".gif",
        ".bmp",
        ".avif",
        ".mpo",
    )
)
"""Suffixes of files that the line takes for photos, in lower case."""

MASK_ENDING = ".mask.png"
"""How the names of masks end that lie beside their photo."""

_SHOWN = 60


class ImageKey(str):
    """An image's key: its path below the upload root, with its extension.

    POSIX separators, Unicode NFC. Keys that differ only in case are different. What a Dagster
    partition key, a line of text or a comma-separated list cannot hold is percent-encoded as
    UTF-8, so that the path can be had back:

    - the per cent sign itself, control characters, line and paragraph separators, the byte
      order mark, and the bytes of names that are not UTF-8;
    - three and more dots, and dots at the end: Dagster writes ranges as `first...last`;
    - commas: `dagster job backfill --partitions` splits at them;
    - the vertical bar: the Dagster UI splits the partition in a link at it;
    - white space around the whole key.

    Raises BadKey (codes: key_empty, key_absolute, key_outside, key_too_long, key_invalid) for a
    text that no path has as its key.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        key = cls.from_path(_decode(text))
        if str(key) != text:
            raise BadKey(
                "key_invalid",
                f"{_shorten(text)} is not written as keys are: it would be {_shorten(key)}",
                hint="Take keys from 'imgflow status' as they stand there",
            )
        return key

    @classmethod
    def from_path(cls, relative: PurePath | str) -> Self:
        """The key of a path below the upload root."""
        path = PurePosixPath(relative if isinstance(relative, str) else relative.as_posix())
        if path.is_absolute():
            raise BadKey(
                "key_absolute",
                f"the path {_shorten(str(path))} is absolute",
                hint="Keys are paths below the upload folder",
            )
        if not path.parts:
            raise BadKey("key_empty", "an empty path names no image")
        if ".." in path.parts:
            raise BadKey(
                "key_outside",
                f"the path {_shorten(str(path))} leads out of the upload folder",
                hint="Name the file without '..'",
            )
        text = _encode(_normal(str(path)))
        size = len(text.encode())
        if size > MAX_KEY_BYTES:
            raise BadKey(
                "key_too_long",
                f"the key of {_shorten(str(path))} has {size} bytes; {MAX_KEY_BYTES} are allowed",
                hint="Give the file or its folders shorter names",
            )
        return str.__new__(cls, text)

    @property
    def relative_path(self) -> PurePosixPath:
        """The path below the upload root. On disk it may be spelled in another Unicode form."""
        return PurePosixPath(_decode(self))

    @property
    def digest(self) -> str:
        """sha256 of the key's UTF-8, in hexadecimal."""
        return hashlib.sha256(self.encode()).hexdigest()


_ALWAYS_ENCODED = frozenset("%,|\u2028\u2029\ufeff")
_DOTS = re.compile(r"\.{3,}|\.+\Z")
# What most names are made of, where nothing is to be encoded: catalogs have many thousand.
_PLAIN = re.compile(r"[\w/-](?:[\w ./()+=@&'-]*[\w/-])?", re.ASCII)


def _encode(path: str) -> str:
    """Percent-encode a canonical path. Inverse of `_decode`."""
    if _PLAIN.fullmatch(path) and "..." not in path:
        return path
    spaces = len(path) - len(path.lstrip()), len(path.rstrip())
    dots = {at for run in _DOTS.finditer(path) for at in range(*run.span())}
    encoded = []
    escaped = False
    for at, character in enumerate(path):
        escaped = (
            character in _ALWAYS_ENCODED
            or unicodedata.category(character) in ("Cc", "Cs")
            or not spaces[0] <= at < spaces[1]
            or at in dots
            # After an escape an accent would belong to the escape's last letter: %2E + acute.
            or (escaped and unicodedata.combining(character) != 0)
        )
        encoded.append(_escape(character) if escaped else character)
    return "".join(encoded)


def _escape(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogateescape"))


def _decode(text: str) -> str:
    try:
        return unquote_to_bytes(text).decode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise _not_a_name(text) from error


def _normal(path: str) -> str:
    """The canonical spelling of a path: NFC, with undecodable bytes as surrogate escapes."""
    if "\0" in path:
        raise _not_a_name(path)
    try:
        path = path.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise _not_a_name(path) from error
    return unicodedata.normalize("NFC", path)


def _not_a_name(text: str) -> BadKey:
    return BadKey("key_invalid", f"{_shorten(text)} holds characters that no file name can have")


def _shorten(text: str) -> str:
    """A text of any length and content, printable, in quotes."""
    if len(text) > _SHOWN:
        text = f"{text[:_SHOWN]}..."
    return repr(str(text))


@dataclass(frozen=True, slots=True)
class Scan:
    """What lies in an upload folder.

    photos: sorted by key. problems: photos that cannot be taken, sorted by path; nothing of
    theirs is among `photos`. ignored: how many files have a suffix that no photo has.
    """

    photos: tuple[tuple[ImageKey, Path], ...] = ()
    problems: tuple[ImgflowError, ...] = ()
    ignored: int = 0


_PARTIAL_SUFFIXES = (".part", ".tmp", ".crdownload")
_MASK_FOLDER = "masks"


def is_passed_over(path: PurePosixPath) -> bool:
    """Whether the name of a file below the upload root says that it is no photo: hidden, in
    progress, a manifest or a mask."""
    name = path.name.lower()
    return (
        name.endswith((*_PARTIAL_SUFFIXES, MASK_ENDING, ".json"))
        or any(part.startswith(".") for part in path.parts)
        or any(part.lower() == _MASK_FOLDER for part in path.parts[:-1])
    )


class Uploads:
    """The folder that users drop photos into.

    Not photos, and passed over in silence: hidden files and folders (leading dot), uploads in
    progress (.part, .tmp, .crdownload), manifests (.json), and masks, which by convention are
    named `<anything>.mask.png` or lie in a folder `masks`.

    A link to a file is followed as long as it stays in the folder; a link to a folder is not
    entered: what it shows is found where it really lies.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def scan(self, suffixes: Collection[str] = PHOTO_SUFFIXES) -> Scan:
        """List the photos: files with one of `suffixes` (such as ".jpg"; case does not matter).

        Problems are BadPhoto (codes: symlink_outside, not_a_file, unreadable, key_collision)
        or BadKey. Raises BadPhoto (not_found) if there is no upload folder.
        """
        if not self.root.is_dir():
            raise BadPhoto(
                "not_found",
                "there is no upload folder",
                hint="Create it, or correct the path in the settings",
                photo=_printable(self.root),
            )
        walk = _Walk(Path(os.path.realpath(self.root)), {each.lower() for each in suffixes})
        walk.folder(self.root)
        paths_of: dict[ImageKey, list[Path]] = defaultdict(list)
        for path in walk.found:
            try:
                paths_of[ImageKey.from_path(path.relative_to(self.root))].append(path)
            except BadKey as error:
                error.photo = _printable(path)
                walk.problems.append(error)
        walk.problems += [_collision(key, paths) for key, paths in paths_of.items() if paths[1:]]
        return Scan(
            photos=tuple(
                sorted((key, paths[0]) for key, paths in paths_of.items() if not paths[1:])
            ),
            problems=tuple(sorted(walk.problems, key=lambda problem: problem.photo)),
            ignored=walk.ignored,
        )

    def path_of(self, key: ImageKey) -> Path:
        """The file of a key, whatever Unicode form its name has on disk.

        Raises BadPhoto (codes: not_found, key_collision, symlink_outside, not_a_file,
        unreadable).
        """
        path = self.root
        for part in key.relative_path.parts:
            path = _child(path, part, key)
        problem = _problem_of(path, Path(os.path.realpath(self.root)), photo=key)
        if problem is not None:
            raise problem
        return path


@dataclass(slots=True)
class _Walk:
    """One walk through an upload folder, and what it has met."""

    real_root: Path
    suffixes: Collection[str]
    found: list[Path] = field(default_factory=list)
    problems: list[ImgflowError] = field(default_factory=list)
    ignored: int = 0

    def folder(self, top: Path) -> None:
        # A stack, not recursion: folders may be nested deeper than Python calls.
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            try:
                with os.scandir(folder) as entries:
                    waiting += [Path(entry.path) for entry in entries if self._take(entry)]
            except OSError as error:
                self.problems.append(_unreadable(_printable(folder), error))

    def _take(self, entry: os.DirEntry[str]) -> bool:
        """Sort one entry in; true if it is a folder to look into."""
        name = entry.name.lower()
        if name.startswith("."):
            return False
        is_photo = os.path.splitext(name)[1] in self.suffixes
        if entry.is_dir(follow_symlinks=False) and not is_photo:
            return name != _MASK_FOLDER
        if name.endswith((*_PARTIAL_SUFFIXES, MASK_ENDING)) or entry.name.endswith(".json"):
            return False
        if entry.is_symlink() or is_photo:
            self._take_file(entry, is_photo)
        else:
            self.ignored += 1
        return False

    def _take_file(self, entry: os.DirEntry[str], is_photo: bool) -> None:
        path = Path(entry.path)
        if entry.is_symlink() or not entry.is_file():
            problem = _problem_of(path, self.real_root, photo=_printable(path))
            links_outside = problem is not None and problem.code == "symlink_outside"
            if problem is not None and (is_photo or links_outside):
                self.problems.append(problem)
                return
        if is_photo:
            self.found.append(path)
        elif not path.is_dir():
            self.ignored += 1


def _problem_of(path: Path, real_root: Path, photo: str) -> BadPhoto | None:
    """Why the file at `path` is none that may be read; None if it may."""
    try:
        real = Path(os.path.realpath(path, strict=True))
    except OSError:
        return BadPhoto(
            "not_a_file",
            "this is a link that leads nowhere",
            hint="Put the photo itself into the upload folder",
            photo=photo,
        )
    if not real.is_relative_to(real_root):
        return BadPhoto(
            "symlink_outside",
            "this is a link that leads out of the upload folder",
            hint="Put the photo itself into the upload folder",
            photo=photo,
        )
    if not real.is_file():
        return BadPhoto(
            "not_a_file",
            "this has the name of a photo, but is a folder"
            if real.is_dir()
            else "this has the name of a photo, but is not a file",
            hint="Rename it; nothing in it is read",
            photo=photo,
        )
    return None


def _child(folder: Path, part: str, key: ImageKey) -> Path:
    """The entry of `folder` whose normalised name is `part`."""
    # An ASCII name is looked up at once: it has no second spelling that people type.
    if part.isascii() and os.path.lexists(folder / part):
        return folder / part
    try:
        names = [name for name in os.listdir(folder) if _normal(name) == part]
    except (FileNotFoundError, NotADirectoryError):
        names = []
    except OSError as error:
        raise _unreadable(key, error) from error
    if not names:
        raise BadPhoto(
            "not_found",
            "the upload folder has no such photo (any more)",
            hint="Upload it again, or check the key's spelling",
            photo=key,
        )
    if len(names) > 1:
        raise _collision(key, [folder / name for name in names])
    return folder / names[0]


def _collision(key: ImageKey, paths: list[Path]) -> BadPhoto:
    names = " and ".join(ascii(os.fspath(path)) for path in sorted(paths))
    return BadPhoto(
        "key_collision",
        f"{names} have the same name in different Unicode spellings; none of them is taken",
        hint="Rename all but one",
        photo=key,
    )


def _unreadable(photo: str, error: OSError) -> BadPhoto:
    return BadPhoto(
        "unreadable",
        f"it cannot be read: {error.strerror}",
        hint="Check the permissions of the upload folder",
        photo=photo,
    )


def _printable(path: Path) -> str:
    """A path with the bytes that are not UTF-8 made visible: errors must be printable."""
    return os.fspath(path).encode("utf-8", "backslashreplace").decode()
