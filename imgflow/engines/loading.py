"""While something is loaded that a photo's time is not charged for: whoever keeps it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

Keeper = Callable[[str], AbstractContextManager[None]]


def _nobody(_: str) -> AbstractContextManager[None]:
    return nullcontext()


_keeper: Keeper = _nobody
_depth = 0


@contextmanager
def kept_by(keeper: Keeper) -> Iterator[None]:
    """Meanwhile this process's time is kept by `keeper`, which is asked for a context with the
    name of what is loaded, and may refuse with EngineUnavailable."""
    global _keeper
    before, _keeper = _keeper, keeper
    try:
        yield
    finally:
        _keeper = before


@contextmanager
def loading(what: str) -> Iterator[None]:
    """What is done within is loading. What is loaded on the way to something else is part of it.

    For the thread that works on the photo. Raises EngineUnavailable (code load_hung) for what has
    hung before.
    """
    global _depth
    with _keeper(what) if _depth == 0 else nullcontext():
        _depth += 1
        try:
            yield
        finally:
            _depth -= 1
