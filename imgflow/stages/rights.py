"""Whether words on a photo claim rights in it, and whether they name a mark of the shop's own."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from difflib import SequenceMatcher
from functools import lru_cache

_CLAIM = re.compile(
    r"[©®]|\(\s?c\s?\)|\bcopyright|\bcopr\b|rights reserved|\bcourtesy of\b|\bcredit\s?:|"
    r"\b(photos?|images?|shot|pictures?)\s?(by\b|:\s?\w)|\bdo not (copy|use|reproduce)\b|"
    r"版权|版權|著作権|авторск",
    re.IGNORECASE,
)
# How an address begins: no part of anybody's name.
_SCHEME = re.compile(r"\bhttps?\s?:?\s?/*|\bwww\.", re.IGNORECASE)
# Who makes and sells photographs. Beside a name it is a claim; alone it may be a button.
_TRADE = re.compile(
    r"\w*(photogra|fotogra|фотогра)\w*|\b(photos?|fotos?|studios?|images|imaging|pictures|visuals|"
    r"lens|prints|фото|студия)\b|摄影|攝影|写真|撮影",
    re.IGNORECASE,
)
_STOCK = re.compile(
    r"(photo|foto|image|stock|picture|lens)\s?(bank|stock|hub|vault|library|archive|photo|image|"
    r"gallery|agency)",
    re.IGNORECASE,
)
_AGENCIES = (
    "shutterstock", "gettyimages", "istock", "istockphoto", "alamy", "dreamstime", "depositphotos",
    "adobestock", "fotolia", "123rf", "bigstock", "bigstockphoto", "canstockphoto", "pond5",
    "envato", "freepik", "vecteezy", "stocksy", "eyeem", "picfair", "agefotostock", "superstock",
    "imago", "reuters", "agence france presse", "associated press", "corbis", "masterfile",
    "photocase", "panthermedia", "colourbox", "crestock", "stockfood", "plainpicture", "mauritius",
    "visualchina", "vcg", "nipic", "699pic", "huitu", "tuchong", "lori", "photogenica",
)  # fmt: skip
# Letters of the shortest name.
_NAME = 3
# Shorter names are found in other words by accident ("in stock"): they must be words of the text.
_SURE_LENGTH = 8
# Words that one name is written in, at most.
_WORDS = 3
# A reading that is only a part of an own mark has this many letters, and this share of them.
_PART_LENGTH, _PART = 6, 0.5
# Letters that OCR takes for each other, as one of them.
_LOOKALIKES = str.maketrans("01l|!5$8@", "oiiiissba")
# Share of letters in their order from which a reading is one of the mark's.
_ALIKE = 0.8


@lru_cache(maxsize=1024)
def claims_rights(text: str) -> bool:
    """Whether a text says whose the photo is: a sign, a photographer's trade, or an agency."""
    # OCR often leaves out the space between two words.
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", _SCHEME.sub("", text))
    if _CLAIM.search(text) or _STOCK.search(text):
        return True
    named, trades = _TRADE.subn(" ", text)
    if trades and sum(each.isalpha() for each in named) >= _NAME:
        return True
    letters, runs = _letters(text), _runs(text)
    return any(
        _within(agency, letters) if len(agency) >= _SURE_LENGTH else agency in runs
        for agency in map(_letters, _AGENCIES)
    )


def names_own_mark(text: str, own_marks: Sequence[str]) -> bool:
    """Whether a text is one of these marks, a line with one, or what the photo's edge leaves of
    one; loosely, as OCR reads."""
    letters = _letters(text)
    return any(
        _within(mark, letters)
        or (len(letters) >= max(_PART_LENGTH, _PART * len(mark)) and _within(letters, mark))
        for mark in map(_letters, own_marks)
    )


def _runs(text: str) -> set[str]:
    """Letters of each few words that follow each other, joined."""
    words = [letters for word in text.split() if (letters := _letters(word))]
    return {
        "".join(words[start : start + count])
        for start in range(len(words))
        for count in range(1, _WORDS + 1)
    }


def _letters(text: str) -> str:
    """Letters and digits alone, in one case, those that look alike made the same."""
    name = _SCHEME.sub("", text.casefold())
    plain = unicodedata.normalize("NFKD", name).translate(_LOOKALIKES)
    return "".join(each for each in plain if each.isalnum())


def _within(mark: str, text: str) -> bool:
    """Whether some stretch of the text as long as the mark is nearly the mark."""
    if not mark or len(text) < _ALIKE * len(mark):
        return False
    starts = range(max(len(text) - len(mark), 0) + 1)
    stretches = (text[start : start + len(mark)] for start in starts)
    return any(SequenceMatcher(None, mark, each).ratio() >= _ALIKE for each in stretches)
