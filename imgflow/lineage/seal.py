"""The seal of a record: the last field of its text, a hash of all that stands before it.

It is of the bytes and not of what they mean, so that it holds whatever fields later versions of
imgflow know. It finds damage and careless edits; against somebody who writes a new seal there is
Dagster's event log, which has the hash of every record that it was told of.
"""

from __future__ import annotations

import hashlib
import re

_END = b"\n}"
_SEAL = re.compile(rb',\n "seal": "([0-9a-f]{64})"\n\}\Z')
_LENGTH = len(b',\n "seal": ""\n}') + 64


class SealBroken(ValueError):
    """A text is not what it was when it was sealed."""


def sealed(body: bytes) -> bytes:
    """A JSON object of one field a line, with its seal as the last one."""
    if not body.endswith(_END):
        raise ValueError("only a JSON object written over several lines can be sealed")
    seal = hashlib.sha256(body).hexdigest()
    return body[: -len(_END)] + f',\n "seal": "{seal}"'.encode() + _END


def unsealed(text: bytes) -> tuple[bytes, str]:
    """A sealed text without its seal, and the seal; that is empty where there is none.

    Raises SealBroken.
    """
    found = _SEAL.search(text, max(len(text) - _LENGTH, 0))
    if found is None:
        return text, ""
    body, seal = text[: found.start()] + _END, found[1].decode()
    if hashlib.sha256(body).hexdigest() != seal:
        raise SealBroken("the text has been changed since it was sealed")
    return body, seal
