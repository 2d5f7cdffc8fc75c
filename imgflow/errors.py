"""Errors written for people: what happened, to which photo, what to do about it."""

from __future__ import annotations


class ImgflowError(Exception):
    """Base of every error that imgflow raises on purpose.

    code: stable snake_case word for programs, records and filters.
    what: what happened, one sentence without a trailing period.
    hint: what the reader can do about it; may be empty.
    photo: key or path of the photo concerned; may be set later by who knows it.
    """

    def __init__(self, code: str, what: str, *, hint: str = "", photo: str = "") -> None:
        super().__init__(code, what, hint, photo)
        self.code = code
        self.what = what
        self.hint = hint
        self.photo = photo

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword arguments must survive the trip from a worker process.
        return (_rebuild, (type(self), self.code, self.what, self.hint, self.photo))

    def __str__(self) -> str:
        text = f"{self.photo}: {self.what}" if self.photo else self.what
        return f"{text}. {self.hint}" if self.hint else text


def _rebuild(kind: type[ImgflowError], code: str, what: str, hint: str, photo: str) -> ImgflowError:
    return kind(code, what, hint=hint, photo=photo)


class BadPhoto(ImgflowError):
    """The photo itself cannot be used: empty, truncated, too large, not an image."""


class BadMask(ImgflowError):
    """A mask does not belong to the photo: wrong size, drawn on another image, unreadable."""


class BadKey(ImgflowError):
    """A path or key cannot name an image."""


class BadManifest(ImgflowError):
    """A manifest beside a photo is not valid."""


class BadPolicy(ImgflowError):
    """The policy file is not valid."""


class BadCatalog(ImgflowError):
    """The catalog file, catalog.csv, is not valid."""


class EngineUnavailable(ImgflowError):
    """An engine that the policy names is unknown, or its weights or packages are missing.

    role: which of a stage's engines it is, as its settings call it; empty: the one that does the
    stage's work. Set by the stage.
    """

    role = ""


class StoreError(ImgflowError):
    """The store could not keep or find something: disk full, missing or damaged object."""
