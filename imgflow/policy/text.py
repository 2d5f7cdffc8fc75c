"""Text in settings."""

from __future__ import annotations

import unicodedata
from typing import Annotated

from pydantic import AfterValidator


def one_line(text: str) -> str:
    """The text, which may have no control characters or line breaks. Raises ValueError."""
    if any(unicodedata.category(each) in ("Cc", "Zl", "Zp") for each in text):
        raise ValueError("must not contain control characters or line breaks")
    return text


Line = Annotated[str, AfterValidator(one_line)]
