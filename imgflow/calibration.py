"""What work takes on this machine, as benchmarks have measured it: data/calibration.json.

A cache of measurements: it can be deleted, and is made anew by `imgflow bench engines` and
`imgflow bench precheck`. An engine that is not in it is never chosen for a budget of seconds.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from imgflow.errors import ImgflowError
from imgflow.files import replacing
from imgflow.policy.choice import Prices
from imgflow.policy.engines import RemoteEngine
from imgflow.policy.policy import Policy

NAME = "calibration.json"


@dataclass(frozen=True, slots=True)
class Calibration:
    """engines: seconds per megapixel of the photo, by name. stages: coefficients of what a quick
    look estimates a stage's milliseconds by, and by_stage: with which engine, where another may
    take its place. machine: where that was measured."""

    machine: str = ""
    engines: dict[str, float] = field(default_factory=dict)
    stages: dict[str, list[float]] = field(default_factory=dict)
    by_stage: dict[str, str] = field(default_factory=dict)


def load_calibration(root: Path) -> Calibration:
    """The calibration of a home; empty without one. Raises ImgflowError."""
    path = root / NAME
    try:
        given = json.loads(path.read_bytes())
        return Calibration(
            machine=str(given.get("machine", "")),
            engines={str(k): _positive(v) for k, v in given.get("engines", {}).items()},
            stages={
                str(k): [float(each) for each in v] for k, v in given.get("stages", {}).items()
            },
            by_stage={str(k): str(v) for k, v in given.get("by_stage", {}).items()},
        )
    except FileNotFoundError:
        return Calibration()
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ImgflowError(
            "calibration_unreadable",
            f"{path} cannot be read: {error}",
            hint="Delete it; `imgflow bench engines` makes it anew",
        ) from error


def save_calibration(root: Path, changes: Calibration) -> Calibration:
    """Write what was measured, beside what was measured before. Raises ImgflowError."""
    known = load_calibration(root)
    merged = replace(
        known,
        machine=changes.machine or known.machine,
        engines={**known.engines, **changes.engines},
        stages={**known.stages, **changes.stages},
        by_stage={**known.by_stage, **changes.by_stage},
    )
    with replacing(root / NAME) as partial:
        partial.write_text(json.dumps(asdict(merged), indent=1, sort_keys=True) + "\n")
    return merged


def prices_of(root: Path, policy: Policy) -> Prices:
    """What engines take: on this machine, and by the policy's word on services."""
    cost = {
        name: settings.cost
        for name, settings in policy.engines.items()
        if isinstance(settings, RemoteEngine)
    }
    return Prices(seconds=load_calibration(root).engines, cost=cost)


def _positive(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ValueError(f"{value!r} is no number of seconds")
    return float(value)
