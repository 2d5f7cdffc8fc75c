"""Fonts to draw with: those of the machine, split into seen in training and kept for benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from imgflow.errors import ImgflowError

FOLDER = Path("/usr/share/fonts")
"""Where Debian puts fonts."""

HELD_OUT = (
    "lato",
    "carlito",
    "cabin",
    "quicksand",
    "opensans",
    "ebgaramond",
    "hack",
    "comfortaa",
    "caladea",
    "nanumgothic",
    "texgyreheros",
    "notoserif-",
    "droidsansfallback",
)
"""Beginnings of the file names of fonts that no training may see: benchmarks draw with them."""

_SUFFIXES = (".ttf", ".otf", ".ttc")
# Pictures, music and the like.
_NO_LETTERS = ("symbol", "emoji", "music", "math", "dingbat", "icons", "d050000l", "dseg14")


@dataclass(frozen=True, slots=True)
class Fonts:
    """Font files, by the letters that they have. All tuples are sorted."""

    latin: tuple[Path, ...]
    cyrillic: tuple[Path, ...]
    chinese: tuple[Path, ...]

    def having(self, text: str) -> tuple[Path, ...]:
        """Files that can write a text of one of these scripts; empty if there are none."""
        if any("一" <= letter <= "鿿" for letter in text):
            return self.chinese
        return self.cyrillic if any("А" <= letter <= "я" for letter in text) else self.latin


def find_fonts(folder: Path = FOLDER, *, held_out: bool) -> Fonts:
    """The fonts below a folder: those of HELD_OUT, or all others.

    Raises ImgflowError where there is none.
    """
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in _SUFFIXES
        and path.name.lower().startswith(HELD_OUT) == held_out
        and not any(word in path.name.lower() for word in _NO_LETTERS)
    ]
    fonts = Fonts(
        latin=tuple(path for path in files if _has(path, "Aag0&")),
        cyrillic=tuple(path for path in files if _has(path, "Жяф")),
        chinese=tuple(path for path in files if _has(path, "品图")),
    )
    if not fonts.latin:
        raise ImgflowError(
            "fonts_missing",
            f"there are no {'kept-back ' if held_out else ''}fonts below {folder}",
            hint="Install some: apt-get install fonts-lato fonts-dejavu fonts-liberation",
        )
    return fonts


@lru_cache(maxsize=512)
def font(path: Path, size: int) -> ImageFont.FreeTypeFont:
    """A font at `size` pixels."""
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def _has(path: Path, letters: Sequence[str]) -> bool:
    """Whether a font draws all of these letters, each another picture than a missing one's."""
    try:
        pictures = {_picture(path, letter) for letter in (*letters, "\uffff")}
    except OSError:  # not a font that FreeType reads
        return False
    return len(pictures) == len(letters) + 1


def _picture(path: Path, letter: str) -> bytes:
    image = Image.new("L", (32, 32))
    ImageDraw.Draw(image).text((4, 4), letter, font=font(path, 20), fill=255)
    return np.asarray(image).tobytes()
