"""Gates hold a number against a threshold; the judge says what follows."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from samples import FakeFiller, Pixels, painted, photo

from imgflow.engines.registry import Engines
from imgflow.lineage.record import GateResult, Verdict
from imgflow.policy.policy import RepairGates
from imgflow.stages.fill import Fill, Filling, fill_holes
from imgflow.stages.gates import PSNR_OF_EQUALS, _won, gate, judge, repair_gates
from imgflow.stages.probe import ProbeResult
from imgflow.stages.stage import Outcome


@pytest.mark.parametrize(
    ("metric", "value", "threshold", "passed"),
    [
        ("psnr", 20.0, 16.0, True),
        ("psnr", 16.0, 16.0, True),
        ("psnr", 15.9, 16.0, False),
        ("ssim", 0.5, 0.55, False),
        ("haarpsi", 0.9, 0.4, True),
        ("edge_continuity", 2.9, 3.0, True),
        ("edge_continuity", 3.1, 3.0, False),
        ("halo", 0.2, 0.08, False),
        ("psnr", math.nan, 16.0, False),
    ],
)
def test_a_gate_knows_which_way_is_better(
    metric: str, value: float, threshold: float, passed: bool
) -> None:
    assert gate(metric, metric, value, threshold).passed is passed


def test_nothing_to_measure_is_not_a_pass() -> None:
    result = gate("psnr", "psnr", None, 16.0, "clean ground")
    assert result.passed is None
    assert result.value is None
    assert result.note == "clean ground"


def test_equal_images_have_a_number_that_json_can_hold() -> None:
    result = gate("psnr", "psnr", math.inf, 16.0)
    assert result.passed
    assert result.value == PSNR_OF_EQUALS


PIXELS = np.zeros((2, 2, 3), np.uint8)
DONE = Outcome(Verdict.REPAIRED, pixels=PIXELS, notes=("a note",))
GOOD = gate("psnr", "psnr", 30.0, 16.0)
LOW = gate("psnr", "psnr", 3.0, 16.0)
ROUGH = gate("edge_continuity", "edge_continuity", 9.0, 3.0)
UNKNOWN = gate("ssim", "ssim", None, 0.5)


def test_what_passes_is_kept() -> None:
    judged = judge(DONE, [GOOD, UNKNOWN], accept_artifacts=False)
    assert judged.verdict is Verdict.REPAIRED
    assert judged.pixels is PIXELS
    assert judged.rejected is None
    assert judged.reason is None
    assert judged.gates == (GOOD, UNKNOWN)


def test_what_fails_is_quarantined_with_its_pixels_kept_for_the_reviewer() -> None:
    judged = judge(DONE, [GOOD, LOW, ROUGH], accept_artifacts=False)
    assert judged.verdict is Verdict.QUARANTINED
    assert judged.verdict.stops
    assert judged.pixels is None
    assert judged.rejected is PIXELS
    assert judged.reason is not None
    assert judged.reason.code == "gate_failed"
    assert "psnr 3 is below 16" in judged.reason.message
    assert "edge_continuity 9 is above 3" in judged.reason.message
    assert judged.reason.hint
    assert not judged.reason.transient
    assert judged.gates == (GOOD, LOW, ROUGH)


def test_a_policy_may_accept_artifacts_and_says_so() -> None:
    judged = judge(DONE, [LOW], accept_artifacts=True)
    assert judged.verdict is Verdict.ACCEPTED_WITH_ARTIFACTS
    assert not judged.verdict.stops
    assert judged.pixels is PIXELS
    assert judged.rejected is None
    assert judged.notes[0] == "a note"
    assert "psnr 3 is below 16" in judged.notes[1]
    assert judge(DONE, [GOOD], accept_artifacts=True).verdict is Verdict.REPAIRED


def test_gates_that_were_there_already_count_too() -> None:
    before = Outcome(Verdict.REPAIRED, pixels=PIXELS, gates=(LOW,))
    assert judge(before, [GOOD], accept_artifacts=False).verdict is Verdict.QUARANTINED


def test_residual_text_is_said_in_words() -> None:
    residual = GateResult(
        name="no_residual_text",
        metric="residual_text",
        value=1.0,
        threshold=0.0,
        passed=False,
        note="OCR still reads '2024'",
    )
    reason = judge(DONE, [residual], accept_artifacts=False).reason
    assert reason is not None
    assert "OCR still reads '2024'" in reason.message


# ---- the gates of a repair ---------------------------------------------------------------


def repaired(engine: object) -> dict[str, GateResult]:
    pixels = photo("coffee", 320)
    mask = np.zeros(pixels.shape[:2], np.uint8)
    mask[150:170, 270:290] = 255
    damaged = painted(pixels, mask, (255, 255, 0))
    fill = Fill(engine, 32, 2)  # type: ignore[arg-type]
    after = fill_holes(damaged, mask, fill)
    gates = repair_gates(damaged, after, mask, mask, Filling(damaged, mask, fill), RepairGates())
    return {each.name: each for each in gates}


def test_a_good_fill_passes_all_gates() -> None:
    gates = repaired(Engines().filler("telea"))
    assert list(gates) == ["psnr", "ssim", "haarpsi", "edge_continuity", "gain", "probed"]
    assert all(each.passed for each in gates.values()), gates


def magenta(crop: Pixels, hole: Pixels) -> Pixels:
    return painted(crop, hole, (255, 0, 255))


def test_a_patch_of_colour_fails_at_probe_and_rim() -> None:
    gates = repaired(FakeFiller("bad", magenta))
    assert gates["psnr"].passed is False
    assert gates["edge_continuity"].passed is False


def test_an_engine_that_leaves_all_as_it_is_fails_the_probe() -> None:
    gates = repaired(FakeFiller("idle", lambda crop, hole: crop.copy()))
    assert gates["psnr"].passed is False
    assert gates["gain"].passed is False
    assert gates["gain"].value == pytest.approx(0, abs=0.01)


def won(probe: ProbeResult, changed: int) -> float | None:
    before = np.full((20, 20, 3), 100, np.uint8)
    mask = np.zeros((20, 20), np.uint8)
    mask[5:15, 5:15] = 255
    return _won(before, painted(before, mask, (100 + changed,) * 3), mask, probe)


def test_what_hardly_shows_on_the_probes_ground_is_weighed_where_it_was() -> None:
    probe = ProbeResult(psnr=30, ssim=1, haarpsi=1, gain=1, probes=2, unprobed=0)
    # 80 levels of 255 were changed: that was 10 dB.
    assert won(probe, 80) == pytest.approx(30 - 10.07, abs=0.01)
    assert won(replace(probe, gain=25), 80) == 25
    # Who changes hardly anything wins nothing.
    assert won(probe, 1) == 1
    assert won(probe, 0) == 1


def test_nobody_wins_where_nothing_was_probed() -> None:
    assert won(ProbeResult(None, None, None, None, probes=0, unprobed=100), 80) is None


def test_without_clean_ground_the_rim_is_still_judged() -> None:
    pixels = photo("coffee", 320)
    mask = np.zeros(pixels.shape[:2], np.uint8)
    mask[10:-10, 10:-10] = 255
    fill = Fill(FakeFiller("bad", magenta), 32, 2)
    after = fill_holes(pixels, mask, fill)
    trusting = RepairGates(unprobed_area=1)
    filling = Filling(pixels, mask, fill)
    gates = {each.name: each for each in repair_gates(pixels, after, mask, mask, filling, trusting)}
    assert gates["psnr"].passed is None
    assert "clean ground" in gates["psnr"].note
    assert gates["edge_continuity"].passed is False


def test_an_empty_mask_has_no_repair_to_gate() -> None:
    pixels = photo("coffee", 320)
    empty = np.zeros(pixels.shape[:2], np.uint8)
    fill = Fill(Engines().filler("telea"), 32, 2)
    with pytest.raises(ValueError, match="mask is empty"):
        repair_gates(pixels, pixels, empty, empty, Filling(pixels, empty, fill), RepairGates())


def test_a_large_repair_that_cannot_be_probed_is_not_trusted() -> None:
    pixels = photo("coffee", 320)
    mask = np.zeros(pixels.shape[:2], np.uint8)
    mask[60:100, 60:100] = 255
    everywhere = np.full_like(mask, 255)
    fill = Fill(Engines().filler("telea"), 32, 2)
    after = fill_holes(pixels, mask, fill)

    def probe(allowed: float) -> bool | None:
        filling = Filling(pixels, mask, fill)
        thresholds = RepairGates(unprobed_area=allowed)
        gates = repair_gates(pixels, after, mask, everywhere, filling, thresholds)
        return next(each for each in gates if each.name == "probed").passed

    assert probe(0.01) is False
    assert probe(0.5) is True
