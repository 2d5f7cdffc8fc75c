"""`imgflow bench text`: its cases are what they say, and its figures mean what they say."""

from __future__ import annotations

import io
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from samples import FakeDetector, Pixels, default_font, encoded, photo

from imgflow.bench.text import cases, clock, measure
from imgflow.bench.text.bad import BAD, GreyFill, WeakEraser
from imgflow.bench.text.cases import PLAINS, Sources, find_sources, overlay_case, plain_case
from imgflow.bench.text.report import summary, tables, upper_bound
from imgflow.bench.text.results import (
    CLASSICAL,
    Attempt,
    Nearness,
    OverlayResult,
    PlainResult,
    TextBench,
)
from imgflow.bench.text.worst import worst, write_worst
from imgflow.engines.spec import EngineSpec, Found, TextMap
from imgflow.errors import ImgflowError
from imgflow.home import Home
from imgflow.imaging.masks import dilate
from imgflow.synthesis.overlays import KINDS


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """Two photos, and Pillow's own font under the name of one that is kept from training."""
    folder = tmp_path_factory.mktemp("sources")
    (folder / "fonts").mkdir()
    default_font(folder / "fonts").rename(folder / "fonts" / "lato.otf")
    for name in ("astronaut", "coffee"):
        (folder / f"{name}.png").write_bytes(encoded(photo(name, 240)))
    return find_sources(folder, folder / "fonts", seed=1)


class BlackEraser:
    """Sees no text by itself, finds it everywhere when asked where, and black under it."""

    spec = EngineSpec(name="eraser", kind="eraser", model_id="black", licence="Apache-2.0")

    def survey(self, pixels: Pixels) -> TextMap:
        nothing = np.zeros(pixels.shape[:2], np.uint8)
        return TextMap(nothing, nothing)

    def find(self, pixels: Pixels, region: Pixels) -> Found:
        return Found(region, 1.0)

    def restore(
        self, pixels: Pixels, mask: Pixels, *, opaque: bool = False, copies: object = None
    ) -> Pixels:
        return np.zeros_like(pixels)


@pytest.fixture
def blind(sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker in this process, with an OCR that reads nothing; its pictures in tmp_path."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")  # the worker sets them, and this takes them back
    monkeypatch.setattr(tempfile, "tempdir", None)
    measure.start(sources, tmp_path, tmp_path)
    measure._bench.engines.register_text_detector("rapidocr", FakeDetector)
    measure._bench.engines.register_eraser("eraser", BlackEraser)


# -- cases -------------------------------------------------------------------------------


def test_a_case_is_made_of_seed_and_number_alone(sources: Sources) -> None:
    other = replace(sources, seed=2)
    for make in (overlay_case, plain_case):
        data = make(sources, 3).upload.data
        assert make(sources, 3).upload.data == data
        assert make(other, 3).upload.data != data


def test_kinds_take_turns(sources: Sources) -> None:
    assert [overlay_case(sources, number).kind for number in range(5)] == list(KINDS)
    assert [plain_case(sources, number).what for number in range(3)] == list(PLAINS)


@pytest.mark.parametrize("number", range(10))
def test_the_region_holds_what_the_overlay_changed(sources: Sources, number: int) -> None:
    case = overlay_case(sources, number)
    difference = np.abs(case.upload.pixels.astype(int) - case.truth).mean(axis=2)
    assert difference[case.region].mean() > cases.VISIBLE / 2
    if case.upload.name.endswith(".png"):
        assert difference[~case.region].max() < 0.02 * 255 + 1
    assert not (case.lines & ~case.region).any()


def test_both_file_types_come_up(sources: Sources) -> None:
    names = {overlay_case(sources, number).upload.name for number in range(12)}
    assert names == {"photo.png", "photo.jpg"}


def test_an_overlay_that_nobody_would_see_is_drawn_again(
    sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    dates = range(0, 50, len(KINDS))
    monkeypatch.setattr(cases, "VISIBLE", 60.0)
    found = [overlay_case(sources, number) for number in dates]
    assert sum(case.invisible for case in found) > 0
    for case in found:
        difference = np.abs(case.upload.pixels.astype(int) - case.truth)
        assert difference[case.region].mean() > 50  # JPEG takes a little
    monkeypatch.setattr(cases, "VISIBLE", 256.0)
    monkeypatch.setattr(cases, "_TRIES", 3)
    with pytest.raises(ImgflowError, match="of 3 overlays of kind date none can be seen"):
        overlay_case(sources, 0)


def test_a_folder_without_photos_is_an_error(sources: Sources, tmp_path: Path) -> None:
    with pytest.raises(ImgflowError, match="no photos"):
        find_sources(tmp_path, tmp_path, seed=0)


# -- what is measured --------------------------------------------------------------------


@pytest.mark.usefixtures("blind")
def test_what_ocr_does_not_read_slips_through(sources: Sources, tmp_path: Path) -> None:
    result = measure._measure_overlay(0)
    for attempt in (result.line, result.once, *result.bad.values()):
        assert not attempt.made
        assert not attempt.stopped
        assert not result.good(attempt)
        assert attempt.nearness == result.before
    assert result.fault(result.line) == "left as it was"
    assert result.boxes == result.before
    assert result.fills == {}
    assert (tmp_path / "overlay-0.png").exists()

    plain = measure._measure_plain(0)
    assert plain.changed == 0
    assert not plain.stopped


@pytest.mark.usefixtures("blind")
def test_a_repair_is_judged_by_the_truth(sources: Sources, tmp_path: Path) -> None:
    case = overlay_case(sources, 0)
    record = measure._rescue(case.upload, Home(tmp_path))
    before = measure._nearness(case, case.upload.pixels)

    def attempt(made: Pixels) -> tuple[OverlayResult, Attempt]:
        found = measure._attempt(case, record, made)
        return _result(before=before, line=found), found

    result, perfect = attempt(case.truth)
    assert result.good(perfect)
    assert (perfect.nearness.psnr, perfect.nearness.lines_psnr) == (100, 100)
    assert (perfect.nearness.ssim, perfect.nearness.haarpsi) == pytest.approx((1, 1))

    grey = case.upload.pixels.copy()
    grey[case.region] = 255 - case.upload.pixels[case.region]
    result, damaged = attempt(grey)
    assert not result.good(damaged)
    assert result.fault(damaged) == "gain below 3 dB"
    assert not damaged.elsewhere

    far = case.truth.copy()
    far[dilate(case.region.astype(np.uint8), 20) == 0] ^= 1
    assert attempt(far)[1].elsewhere


def test_the_grey_fill_paints_holes_only() -> None:
    pixels = np.full((4, 4, 3), 200, np.uint8)
    mask = np.zeros((4, 4), np.uint8)
    mask[1, 1] = 255
    filled = GreyFill().fill(pixels, mask)
    assert (filled[1, 1] == 127).all()
    assert (filled[mask == 0] == 200).all()


def test_the_weak_eraser_takes_off_a_quarter() -> None:
    pixels = np.full((4, 4, 3), 200, np.uint8)
    region = np.full((4, 4), 255, np.uint8)
    weak = WeakEraser(BlackEraser())
    assert not weak.survey(pixels).overlay.any()
    assert (weak.find(pixels, region).mask == region).all()
    assert (weak.restore(pixels, region) == 150).all()
    assert weak.spec.code_version != BlackEraser.spec.code_version


def test_the_bench_lists_its_own_marks() -> None:
    assert "SPECIMEN" in measure.policy().detext.own_marks
    assert measure.policy(own_marks=()).detext.own_marks == []


@pytest.mark.usefixtures("blind")
def test_the_clock(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_ROUNDS", 1)
    monkeypatch.setattr(clock, "large_photo", lambda *_: photo("coffee", 120).copy())
    found = clock.measure_seconds(sources, measure._bench.engines, measure.policy())
    assert found.photos == len(KINDS)
    assert found.repaired == 0
    assert 0 < found.without < 5
    assert set(found.by_kind) == set(KINDS)


# -- figures -----------------------------------------------------------------------------


def _nearness(psnr: float) -> Nearness:
    return Nearness(psnr, psnr, 0.9, 0.8)


def _attempt(psnr: float, *, stopped: bool = False, reads: bool = False) -> Attempt:
    return Attempt(
        made=psnr != 20,
        stopped=stopped,
        why="gate_failed: psnr" if stopped else "",
        nearness=_nearness(psnr),
        reads=reads,
        elsewhere=False,
    )


def _result(**fields: object) -> OverlayResult:
    nothing = _attempt(20)
    given: dict[str, object] = {
        "number": 0,
        "kind": "date",
        "opaque": True,
        "invisible": 0,
        "legible": True,
        "before": _nearness(20),
        "line": nothing,
        "once": nothing,
        "fills": {
            name: _nearness(psnr) for name, psnr in zip(CLASSICAL, (25, 26, 24), strict=True)
        },
        "boxes": _nearness(22),
        "bad": dict.fromkeys(BAD, nothing),
    }
    return OverlayResult(**{**given, **fields})  # type: ignore[arg-type]


@pytest.fixture
def bench() -> TextBench:
    """Six overlays: cleaned, stopped though good, damaged and stopped, damaged and out, still
    read and out, left as it was. Three photos without, one of them altered."""
    lines = [
        _attempt(30),
        _attempt(28, stopped=True),
        _attempt(15, stopped=True),
        _attempt(22),
        _attempt(30, reads=True),
        _attempt(20),
    ]
    return TextBench(
        overlays=[
            _result(
                number=number, line=line, bad=dict.fromkeys(BAD, _attempt(10, stopped=number < 3))
            )
            for number, line in enumerate(lines)
        ],
        plain=[
            PlainResult(
                number, "photo", False, stopped=number == 1, changed=9 * (number == 2), why=""
            )
            for number in range(3)
        ],
    )


def test_shares_are_of_all_cases(bench: TextBench) -> None:
    row = summary(bench)["ways"]["automatic line"]["by_kind"]["all"]
    assert row["cleaned"] == pytest.approx(1 / 6)
    assert row["stopped"] == pytest.approx(2 / 6)
    assert row["slipped"] == pytest.approx(3 / 6)
    assert row["before"]["psnr_median"] == 20
    # Of what came out: 30, 22, 30 and 20 dB.
    assert row["after"]["psnr_median"] == 26


def test_gates_are_held_against_damage(bench: TextBench) -> None:
    gates = summary(bench)["gates"]
    assert gates == {
        "passed_good": 1,
        "passed_damaged": 2,
        "failed_good": 1,
        "failed_damaged": 1,
        "precision": pytest.approx(1 / 2),
        "recall": pytest.approx(1 / 3),
    }
    for bad in summary(bench)["bad_engines"].values():
        assert bad == {"repairs": 6, "damaged": 6, "damaged_stopped": 0.5}


def test_rivals_are_met_on_the_lines_repairs(bench: TextBench) -> None:
    rivals = summary(bench)["rivals"]
    assert rivals["telea on OCR boxes"]["cases"] == 5
    assert rivals["telea on OCR boxes"]["psnr_advantage"] == 28 - 22
    assert rivals["navier-stokes, same mask"]["psnr_advantage"] == 28 - 26
    assert rivals["best of the three"]["psnr"] == 26


def test_altered_photos_have_an_upper_bound(bench: TextBench) -> None:
    row = summary(bench)["plain"]["all"]
    assert (row["cases"], row["altered"]) == (3, 1)
    assert row["stopped"] == pytest.approx(1 / 3)
    assert row["altered_upper_95"] == pytest.approx(0.8646, abs=1e-4)


def test_upper_bound() -> None:
    assert upper_bound(0, 300) == pytest.approx(1 - 0.05 ** (1 / 300))
    assert upper_bound(3, 300) == pytest.approx(0.0256, abs=1e-4)
    assert upper_bound(5, 5) == 1


def test_a_summary_is_json_and_prints(bench: TextBench) -> None:
    for each in (bench, TextBench()):
        found = summary(each)
        assert json.loads(json.dumps(found)) == json.loads(json.dumps(found, allow_nan=False))
        console = Console(file=io.StringIO(), width=100)
        for part in tables(found):
            console.print(part)


def test_the_worst_come_first(bench: TextBench) -> None:
    found = worst(bench)
    assert isinstance(found[0], PlainResult)
    lines = [each.number for each in found[1:] if isinstance(each, OverlayResult)]
    # Out and not cleaned, by gain; then damaged and stopped; then what is good.
    assert lines == [5, 3, 4, 2, 0, 1]


def test_the_worst_are_drawn(bench: TextBench, sources: Sources, tmp_path: Path) -> None:
    for number in range(6):
        picture = overlay_case(sources, number).upload.pixels
        (tmp_path / f"overlay-{number}.png").write_bytes(encoded(picture))
    altered = plain_case(sources, 2).upload.pixels.copy()
    altered[:9, 0] ^= 255
    (tmp_path / "plain-2.png").write_bytes(encoded(altered))
    path = write_worst(bench, sources, tmp_path, tmp_path / "new")
    with Image.open(path) as sheet:
        assert sheet.height > 4 * 288  # seven cases, two side by side
