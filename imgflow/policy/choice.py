"""Which engine an image gets: the best that its budget of seconds and cost allows.

A stage's `better` names engines, best first; each is weighed by what it takes on this machine
(measured by `imgflow bench engines`) and by what its service charges.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from imgflow.policy.policy import Policy, Traits

# A fill is tried on clean ground as well: as often as probes go, at most.
_PROBES = 5
_FIELDS = {"inpaint": "fill", "upscale": "engine"}


@dataclass(frozen=True, slots=True)
class Prices:
    """What engines take, by name. seconds: per megapixel of the photo, on this machine.

    cost: per call, of services.
    """

    seconds: Mapping[str, float] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Choice:
    """An engine that was weighed. taken: whether it is the one. why: in words."""

    part: str
    engine: str
    taken: bool
    why: str


@dataclass(frozen=True, slots=True)
class Settled:
    """The policy of an image in the end, and how that came. routes: those that shaped it."""

    policy: Policy
    routes: tuple[str, ...]
    choices: list[Choice]


def settle(
    policy: Policy, traits: Traits, measures: Mapping[str, float], prices: Prices
) -> Settled:
    """The policy for an image of these traits and measures of its raw version: by its routes,
    then by its budget. What the line goes by, and what tells of it beforehand."""
    routed = policy.for_image(traits, measures)
    chosen, choices = choose(routed.policy, measures.get("megapixels", 0.0), prices)
    return Settled(chosen, routed.applied, choices)


def seconds_of(
    policy: Policy, part: str, engine: str, megapixels: float, prices: Prices
) -> float | None:
    """What an engine takes for a photo of that size; None where nobody has measured it."""
    rate = prices.seconds.get(engine)
    if rate is None:
        return None
    looks = policy.upscale.looks_for(engine, round(1e6 * megapixels)) if part == "upscale" else 1
    return rate * megapixels * looks


def choose(policy: Policy, megapixels: float, prices: Prices) -> tuple[Policy, list[Choice]]:
    """The policy with each stage's engine chosen, and everything that was weighed.

    policy: resolved for an image. What is left has no `better` and no budget: two budgets that
    choose the same engines make the same outputs.
    """
    choices: list[Choice] = []
    changes: dict[str, Any] = {"budget": type(policy.budget)()}
    for part, name in _FIELDS.items():
        settings = getattr(policy, part)
        plain = getattr(settings, name)
        weighed = [_weighed(policy, part, engine, megapixels, prices) for engine in settings.better]
        best = next((each for each in weighed if each.taken), None)
        choices += weighed[: weighed.index(best) + 1] if best else weighed
        if best is None:
            why = "nothing better fits the budget" if weighed else "the policy names it"
            choices.append(Choice(part, plain, True, why))
        update: dict[str, Any] = {"better": [], name: best.engine if best else plain}
        changes[part] = settings.model_copy(update=update)
    return policy.model_copy(update=changes), choices


def _weighed(policy: Policy, part: str, engine: str, megapixels: float, prices: Prices) -> Choice:
    budget = policy.budget
    calls = 1 + _PROBES if part == "inpaint" else 1
    cost = calls * prices.cost.get(engine, 0.0)
    if budget.cost is not None and cost > budget.cost:
        why = f"it may cost {cost:g} of {budget.cost:g}"
        return Choice(part, engine, False, why)
    if budget.seconds is None:
        why = "no budget of seconds is set" if budget.cost is None else f"it costs {cost:g}"
        return Choice(part, engine, True, why)
    seconds = seconds_of(policy, part, engine, megapixels, prices)
    if seconds is None:
        why = "nobody has measured it on this machine: imgflow bench engines"
        return Choice(part, engine, False, why)
    fits = seconds <= budget.seconds
    why = f"about {seconds:.2g} s of {budget.seconds:g} s"
    return Choice(part, engine, fits, why)
