"""What engines tell of their work: where it was done, with which seed, at what cost.

A stage opens an account around its engines' calls; engines write into the one that is open.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(slots=True)
class Account:
    """Of all calls while it was open. dtype: what was computed in; None: nobody said.

    cost: of all calls, probes included, in the currency of the policy; None: nothing was paid.
    notes: what a person should know, such as memory that ran out; each once.
    """

    device: str = "cpu"
    dtype: str | None = None
    seed: int | None = None
    prompt: str | None = None
    negative_prompt: str | None = None
    endpoint: str | None = None
    cost: float | None = None
    calls: int = 0
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def pay(self, cost: float) -> None:
        self.cost = round((self.cost or 0.0) + cost, 6)


_open: ContextVar[Account | None] = ContextVar("account", default=None)


@contextmanager
def accounting() -> Iterator[Account]:
    """An account that is open meanwhile; those around it are closed for that time."""
    made = Account()
    token = _open.set(made)
    try:
        yield made
    finally:
        _open.reset(token)


def account() -> Account:
    """The account that is open, or one that nobody reads."""
    return _open.get() or Account()
