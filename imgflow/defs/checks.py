"""The checks of each version, and what a record says of them."""

from __future__ import annotations

from dataclasses import dataclass

import dagster as dg

from imgflow.defs.naming import PLAIN, Part
from imgflow.defs.partitions import partitions_of
from imgflow.lineage.record import GateResult, Record, Verdict, Version

DESCRIPTIONS = {
    "readable": "The upload is a whole image that can be decoded within the limits",
    "no_residual_text": "OCR finds nothing where text was removed",
    "psnr": "PSNR in dB: of a displaced probe for fills, of the result made small again for "
    "enlargements",
    "ssim": "SSIM, measured on the same pixels as PSNR",
    "haarpsi": "HaarPSI, measured on the same pixels as PSNR",
    "edge_continuity": "The rim of the filled mask does not show",
    "halo": "The enlarged picture does not overshoot its source beside edges",
    "edge_fidelity": "The source's edges keep their place, strength and smoothness",
    "artifact_rate": "The enlarged picture shows nothing that its source does not support",
    "deliverable": "Every rendition opens, and has the size and format that the policy names",
}
_REPAIR = ("psnr", "ssim", "haarpsi", "edge_continuity")
CHECKS = {
    Version.RAW: ("readable",),
    Version.DETEXTED: ("no_residual_text", *_REPAIR),
    Version.INPAINTED: _REPAIR,
    Version.UPSCALED: ("psnr", "ssim", "haarpsi", "halo", "edge_fidelity", "artifact_rate"),
    Version.PUBLISHED: ("deliverable",),
}


def check_specs(part: Part = PLAIN) -> list[dg.AssetCheckSpec]:
    partitions = partitions_of(part)
    return [
        dg.AssetCheckSpec(
            name,
            asset=part.path(version),
            description=DESCRIPTIONS[name],
            partitions_def=partitions,
        )
        for version, names in CHECKS.items()
        for name in names
    ]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check says of one image. A warning: it could not be evaluated."""

    passed: bool
    warning: bool
    description: str
    value: float | None = None
    threshold: float | None = None


def check_result(record: Record, name: str) -> CheckResult | None:
    """The result of a version's check, from its record.

    None: the photo stopped before this was measured, and another check says why. Dagster's UI
    shows a check as failed as soon as it failed for one photo: one reason is one failed check.
    """
    stopped = record.verdict.stops
    if stopped and not _failed(record) and name == CHECKS[record.version][0]:
        reason = record.reason.message if record.reason else str(record.verdict)
        return CheckResult(False, False, reason)
    results = _results(record, name)
    if results:
        return _worst(results)
    if stopped:
        return None
    if record.verdict is Verdict.PASSED_THROUGH:
        return CheckResult(True, False, "nothing was repaired, so nothing is measured")
    return CheckResult(False, True, "not evaluated")


def _failed(record: Record) -> bool:
    """Whether a check of the record's version failed by what was measured."""
    names = CHECKS[record.version]
    return any(each.passed is False for name in names for each in _results(record, name))


def _results(record: Record, name: str) -> list[GateResult]:
    results = [gate for gate in record.gates if gate.name == name]
    if name == "psnr":  # where there was no ground to measure it on, that is what failed
        results += [gate for gate in record.gates if gate.name == "probed" and not gate.passed]
    return results


def _worst(results: list[GateResult]) -> CheckResult:
    """Several repairs of one version give several results: the worst speaks."""
    order = {False: 0, None: 1, True: 2}
    worst = min(results, key=lambda each: order[each.passed])
    if worst.passed is None:
        return CheckResult(False, True, f"not evaluated: {worst.note}", None, worst.threshold)
    return CheckResult(worst.passed, False, worst.note, worst.value, worst.threshold)
