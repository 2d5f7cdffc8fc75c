"""Which versions a question is about: by model, weights, seed, date and route."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from imgflow.errors import ImgflowError
from imgflow.lineage.record import Operation, Record

_LEAST_DIGITS = 6
# An engine's code version, which names it among another operation's parameters, has so many.
_SHORT = 12


@dataclass(frozen=True, slots=True)
class Query:
    """All of what is said must hold; of what an engine did, for one and the same operation.

    model: an engine's name or part of its model id, in any case. weights: the first digits of
    their sha256. since, until: when the version was made; until is left out. route: of the policy.
    An engine has worked on a version where it made its pixels, or found what was to be made anew.
    """

    model: str = ""
    weights: str = ""
    seed: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    route: str = ""

    def __post_init__(self) -> None:
        weights = self.weights.lower()
        if weights and (len(weights) < _LEAST_DIGITS or set(weights) - set("0123456789abcdef")):
            raise ImgflowError(
                "weights_invalid",
                f"'{self.weights}' are not the first digits of a sha256",
                hint=f"Give at least {_LEAST_DIGITS} of them, as `imgflow audit KEY` prints them",
            )

    @property
    def is_empty(self) -> bool:
        return self == Query()

    def matches(self, record: Record) -> bool:
        if self.since is not None and record.started_at < self.since:
            return False
        if self.until is not None and record.started_at >= self.until:
            return False
        if self.route and self.route not in record.routes:
            return False
        if not (self.model or self.weights or self.seed is not None):
            return True
        return any(self._has_done(operation) for operation in record.operations)

    def _has_done(self, operation: Operation) -> bool:
        if self.seed is not None and operation.seed != self.seed:
            return False
        engines = list(_engines(operation))
        if self.model and not any(self.model.lower() in name.lower() for name, _ in engines):
            return False
        wanted = self.weights.lower()
        return not wanted or any(_same_start(wanted, weights) for _, weights in engines)


def _engines(operation: Operation) -> Iterator[tuple[str, str]]:
    """Name and weights (perhaps their first digits only) of all engines that an operation names."""
    if operation.engine is not None:
        engine = operation.engine
        yield f"{engine.name}:{engine.model_id}", engine.weights_sha256 or ""
    for value in operation.parameters.values():
        if isinstance(value, str) and ":" in value:  # a detector's code version
            name, _, weights = value.partition("@")
            yield name, weights


def _same_start(wanted: str, weights: str) -> bool:
    if len(weights) <= _SHORT:
        wanted = wanted[: len(weights)]
    return bool(weights) and weights.startswith(wanted)
