"""What went wrong between us and a server, in words: those of the library are for programmers."""

from __future__ import annotations

import requests


def in_words(error: requests.RequestException) -> str:
    """A clause about the server or the connection."""
    if error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason:.100}"
    match error:
        case requests.Timeout():
            return "the server takes too long"
        case requests.exceptions.ChunkedEncodingError():
            return "the connection broke off"
        case requests.ConnectionError():
            return "the server cannot be reached"
    return str(error)
