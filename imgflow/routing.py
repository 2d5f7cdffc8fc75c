"""Why a photo gets the engines and thresholds that it gets, line by line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from imgflow.calibration import prices_of
from imgflow.chain import raw_measures
from imgflow.engines.registry import Engines
from imgflow.errors import EngineUnavailable
from imgflow.home import Home
from imgflow.imaging.decode import decode
from imgflow.policy.choice import Choice, settle
from imgflow.policy.manifest import Manifest
from imgflow.policy.policy import Policy, UpscaleSettings
from imgflow.stages import raw
from imgflow.stages.enlargement import mode_of
from imgflow.store.keys import ImageKey


@dataclass(frozen=True, slots=True)
class Explained:
    """traits, measures: of the photo. routes: each with why it is not for it; empty: it is.

    choices: engines that were weighed. engines: stage and task, name, and what is wrong with it.
    """

    traits: dict[str, tuple[str, str]]
    measures: dict[str, float]
    routes: list[tuple[str, str, list[str]]]
    choices: list[Choice]
    engines: list[tuple[str, str, str]]
    policy: Policy

    def as_dict(self) -> dict[str, Any]:
        return {
            "traits": {
                name: {"value": value, "said_by": by} for name, (value, by) in self.traits.items()
            },
            "measures": self.measures,
            "routes": [
                {"name": name, "applies": not why, "why": why, "sets": sets}
                for name, why, sets in self.routes
            ],
            "choices": [asdict(each) for each in self.choices],
            "engines": [
                {"for": what, "engine": name, "problem": problem}
                for what, name, problem in self.engines
            ],
        }

    def lines(self) -> Iterator[str]:
        """For a person to read."""
        for name, (value, by) in self.traits.items():
            yield (
                f"{name.replace('_', ' ')}: {value} (by {by})"
                if value
                else (f"{name.replace('_', ' ')}: nobody has said")
            )
        yield "measured: " + ", ".join(f"{k} {v:.3g}" for k, v in self.measures.items())
        if not self.routes:
            yield "the policy has no routes"
        for name, why, sets in self.routes:
            yield f"route '{name}' " + (
                f"is not for it: {why}" if why else f"sets {', '.join(sets)}"
            )
        for each in self.choices:
            yield choice_line(each)
        if self.policy.upscale.mode == "creative":
            yield _mode_line(self.policy.upscale, self.traits["category"][0])
        for what, name, problem in self.engines:
            yield engine_line(what, name, problem)


def explain(
    data: bytes, key: ImageKey, manifest: Manifest, home: Home, policy: Policy, engines: Engines
) -> Explained:
    """The way of a photo through the policy.

    data: the photo's bytes. manifest: what lies beside it. Raises BadPhoto, BadCatalog.
    """
    completed = home.catalog().complete(key, manifest)
    traits = {
        name: (value, "manifest" if getattr(manifest, name) else "catalog.csv" if value else "")
        for name, value in completed.traits().as_dict().items()
    }
    first = policy.for_image(completed.traits()).policy.raw
    photo = decode(data, raw.limits(first), keep_16_bit=first.keep_16_bit)
    measures = raw_measures(raw.measures_of(photo.pixels, all_of_them=True))
    routes = [
        (route.name, route.when.misses(completed.traits(), measures), _paths(route.set))
        for route in policy.routes
    ]
    found = settle(policy, completed.traits(), measures, prices_of(home.root, policy))
    used = engines_used(found.policy, engines)
    return Explained(traits, measures, routes, found.choices, used, found.policy)


def engines_used(policy: Policy, engines: Engines) -> list[tuple[str, str, str]]:
    """What each stage would use under a photo's policy: for what, its name, and why that cannot
    work; empty: it can."""
    return list(_engines(policy, engines))


def engine_line(what: str, name: str, problem: str) -> str:
    """One of them, for a person to read."""
    return f"{what}: '{name}'" + (f", but {problem}" if problem else " is ready")


def choice_line(choice: Choice) -> str:
    """A choice, for a person to read."""
    taken = "is taken" if choice.taken else "is not taken"
    return f"{choice.part}: '{choice.engine}' {taken}: {choice.why}"


def _mode_line(settings: UpscaleSettings, category: str) -> str:
    if mode_of(settings, category) == "conservative":
        why = f"{category} is always conservative"
        return f"upscale, mode: conservative, '{settings.engine}' enlarges: {why}"
    return f"upscale, mode: creative, '{settings.creative_engine}' enlarges: the policy says so"


def _engines(policy: Policy, engines: Engines) -> Iterator[tuple[str, str, str]]:
    scale = min(max(policy.upscale.max_scale, 2), 4)
    detext, fill, large = policy.detext, policy.inpaint, policy.upscale
    asked: list[tuple[str, str, Callable[[str], Any], str | None]] = [
        ("detext, detector", detext.detector, engines.text_detector, detext.fallback),
        ("detext, eraser", detext.eraser, engines.eraser, None),
        *(
            [("detext, fill", detext.fill, engines.filler, None)]
            if detext.fill != detext.eraser
            else []
        ),
        ("inpaint, fill", fill.fill, engines.filler, fill.fallback),
        *(
            (
                f"inpaint, {' or '.join(rule.labels) or 'objects'} ({rule.action})",
                rule.detector,
                engines.object_detector,
                None,
            )
            for rule in fill.objects
        ),
    ]
    if large.max_scale > 1:
        names = {"engine": large.engine}
        if large.mode == "creative" and large.creative_engine is not None:
            names["creative engine"] = large.creative_engine
        asked += [
            (f"upscale, {role}", name, lambda name: engines.upscaler(name, scale), large.fallback)
            for role, name in names.items()
        ]
    asked.append(
        ("upscale, sharpener", large.sharpener, lambda name: engines.upscaler(name, 1), None)
    )
    if large.denoise_above is not None:
        asked.append(
            (
                "upscale, denoiser",
                large.denoiser,
                lambda name: engines.denoiser(name, 1),
                large.denoiser_fallback,
            )
        )
    for what, name, find, fallback in asked:
        try:
            find(name)
            yield what, name, ""
        except EngineUnavailable as error:
            instead = f"; '{fallback}' is used instead" if fallback else "; a person decides"
            yield what, name, f"{error.what}{instead}"


def _paths(changes: dict[str, Any], before: str = "") -> list[str]:
    """What a route sets, as dotted names with values."""
    found: list[str] = []
    for name, value in changes.items():
        if isinstance(value, dict):
            found += _paths(value, f"{before}{name}.")
        else:
            found.append(f"{before}{name} = {value}")
    return found
