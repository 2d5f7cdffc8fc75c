"""Gates: measured values against the policy's thresholds, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgflow.imaging.colour import data_range
from imgflow.imaging.masks import Mask, mask_box
from imgflow.imaging.metrics import METRICS, edge_continuity, psnr
from imgflow.lineage.record import GateResult, Reason, Verdict
from imgflow.policy.policy import RepairGates
from imgflow.stages.probe import ProbeResult, Repair, displaced_probe
from imgflow.stages.stage import Outcome

Pixels = NDArray[Any]

# Pixels around a mask that the edge measure looks at.
_EDGE_SURROUNDINGS = 16

# JSON has no infinity; identical images are reported at this many decibels.
PSNR_OF_EQUALS = 120.0


def gate(
    name: str, metric: str, value: float | None, threshold: float, note: str = ""
) -> GateResult:
    """Hold a measured value against its threshold; None means that there was nothing to measure."""
    if value is None:
        return GateResult(name=name, metric=metric, threshold=threshold, note=note)
    if math.isinf(value):
        value = PSNR_OF_EQUALS
    return GateResult(
        name=name,
        metric=metric,
        value=round(value, 4),
        threshold=threshold,
        passed=METRICS[metric].passes(value, threshold),
        note=note,
    )


def repair_gates(
    before: Pixels,
    after: Pixels,
    mask: Mask,
    unclean: Mask,
    repair: Repair,
    thresholds: RepairGates,
) -> list[GateResult]:
    """Gates of a repair: how well it does where the truth is known, and whether its rim shows.

    before, after: (H, W, 3|4). unclean: (H, W), 255 where the photo is no clean ground.
    """
    box = mask_box(mask)
    if box is None:
        raise ValueError("there is no repair to gate: the mask is empty")
    around = box.padded(_EDGE_SURROUNDINGS, *mask.shape).slices
    rim = edge_continuity(
        np.ascontiguousarray(after[around][:, :, :3]),
        np.ascontiguousarray(mask[around]),
        data_range=data_range(after.dtype),
    )
    probe = displaced_probe(after, mask, unclean, repair)
    won = _won(before, after, mask, probe)
    note = "" if probe.probes else "no similar clean ground for a probe in this photo"
    share = probe.unprobed / mask.size
    trusted = share <= thresholds.unprobed_area
    return [
        gate("psnr", "psnr", probe.psnr, thresholds.psnr, note),
        gate("ssim", "ssim", probe.ssim, thresholds.ssim, note),
        gate("haarpsi", "haarpsi", probe.haarpsi, thresholds.haarpsi, note),
        gate("edge_continuity", "edge_continuity", rim, thresholds.edge_continuity),
        *([] if thresholds.gain is None else [_gain_gate(won, thresholds.gain)]),
        # A little of a photo may be repaired on trust; what is large enough to ruin it may not.
        GateResult(
            name="probed",
            metric="unprobed_area",
            value=round(share, 4),
            threshold=thresholds.unprobed_area,
            passed=trusted,
            note=""
            if trusted
            else f"{share:.1%} of the photo was repaired where no similar clean "
            "ground is left to try the repair on",
        ),
    ]


def _won(before: Pixels, after: Pixels, mask: Mask, probe: ProbeResult) -> float | None:
    """By how many dB a repair comes nearer to the truth, as far as its probes tell.

    What was taken off may hardly show on a probe's ground. Then the probes still tell how near to
    the truth repairs come, and what was changed here tells from how far.
    """
    if probe.psnr is None or probe.gain is None:
        return None
    colours = (np.ascontiguousarray(each[:, :, :3]) for each in (before, after))
    changed = psnr(*colours, data_range=data_range(after.dtype), mask=mask)
    return max(probe.gain, probe.psnr - changed)


def _gain_gate(gain: float | None, least: float) -> GateResult:
    """A repair that hardly comes nearer to the truth may as well be left."""
    if gain is None:
        return GateResult(name="gain", metric="psnr_gain", threshold=least)
    passed = gain >= least
    return GateResult(
        name="gain",
        metric="psnr_gain",
        value=round(min(gain, PSNR_OF_EQUALS), 4),
        threshold=least,
        passed=passed,
        note=""
        if passed
        else f"the repair wins {gain:.1f} dB, less than {least:g}, as its probes tell",
    )


def judge(outcome: Outcome, gates: Sequence[GateResult], *, accept_artifacts: bool) -> Outcome:
    """The outcome with its gates: kept, accepted with artifacts, or quarantined."""
    gates = (*outcome.gates, *gates)
    failed = [each for each in gates if each.passed is False]
    if not failed:
        return replace(outcome, gates=gates)
    if accept_artifacts:
        notes = (*outcome.notes, f"accepted by policy although {_describe(failed)}")
        return replace(outcome, verdict=Verdict.ACCEPTED_WITH_ARTIFACTS, gates=gates, notes=notes)
    reason = Reason(
        code="gate_failed",
        message=_describe(failed),
        hint="Look at the rejected result; repair the photo by hand, paint a better mask, "
        "or let the policy use another engine",
    )
    return replace(
        outcome,
        verdict=Verdict.QUARANTINED,
        pixels=None,
        rejected=outcome.pixels,
        reason=reason,
        gates=gates,
    )


def _describe(failed: Sequence[GateResult]) -> str:
    return "; ".join(_sentence(each) for each in failed)


def _sentence(failed: GateResult) -> str:
    if failed.metric not in METRICS:
        return failed.note
    metric = METRICS[failed.metric]
    side = "below" if metric.better == "higher" else "above"
    return f"{failed.name} {failed.value:g} is {side} {failed.threshold:g} {metric.unit}".strip()
