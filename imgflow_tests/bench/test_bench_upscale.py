"""`imgflow bench upscale`: its cases are what they say, and its figures mean what they say."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from samples import FakeUpscaler, Pixels, at_once, cubic, encoded, photo
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import nn
from typer.testing import CliRunner

from imgflow.bench.commands import app
from imgflow.bench.upscale import cases, clock, gpu, measure, rivals, run
from imgflow.bench.upscale.cases import QUALITIES, SCALES, SQUEEZED_SCALES, Source, find_sources
from imgflow.bench.upscale.report import summary, tables
from imgflow.bench.upscale.results import (
    BICUBIC,
    GpuReading,
    PhotoResult,
    Reading,
    Score,
    Timing,
    UpscaleBench,
)
from imgflow.engines.registry import Engines
from imgflow.errors import BadPhoto, EngineUnavailable, ImgflowError
from imgflow.imaging.decode import decode
from imgflow.imaging.metrics import psnr
from imgflow.imaging.resample import bicubic
from imgflow.pool import Done, Loss


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos, one of them a thumbnail."""
    folder = tmp_path_factory.mktemp("photos")
    for name, width in (("coffee", 200), ("astronaut", 150), ("chelsea", 100)):
        (folder / f"{name}.png").write_bytes(encoded(photo(name, width)))
    return folder


def nearest(tile: Pixels, scale: int) -> Pixels:
    return tile.repeat(scale, axis=0).repeat(scale, axis=1)


# -- cases -------------------------------------------------------------------------------


def test_photos_are_sorted_and_spread_over_all(folder: Path) -> None:
    assert [each.name for each in find_sources(folder, None)] == [
        "astronaut.png",
        "chelsea.png",
        "coffee.png",
    ]
    assert [each.name for each in find_sources(folder, 2)] == ["astronaut.png", "chelsea.png"]
    assert find_sources(folder, 9) == find_sources(folder, None)


@pytest.mark.parametrize("name", ["", "nowhere"])
def test_no_photos_is_an_error_for_people(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImgflowError, match=r"there (are no photos|is no folder).*no training saw"):
        find_sources(tmp_path / name, None)


def test_photos_are_shown_on_white_and_cut_to_their_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.zeros((40, 60, 4), np.uint8)
    pixels[:, :, 3] = np.arange(60)[None] >= 30
    pixels[:, :, 3] *= 255
    (tmp_path / "a.png").write_bytes(encoded(pixels))
    source = Source("a.png", tmp_path / "a.png")
    whole = cases.load(source)
    assert whole[0, :, 0].tolist() == [255] * 30 + [0] * 30
    monkeypatch.setattr(cases, "_LONGEST_SIDE", 20)
    assert np.array_equal(cases.load(source), whole[10:30, 20:40])


def test_a_broken_photo_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"nothing")
    with pytest.raises(BadPhoto, match=r"^a\.png: "):
        cases.load(Source("a.png", tmp_path / "a.png"))


def test_squeezed_is_jpeg_with_halved_colour() -> None:
    pixels = photo("coffee", 160)
    better, worse = (cases.squeeze(pixels, quality) for quality in (80, 40))
    assert psnr(pixels, better, data_range=255) > psnr(pixels, worse, data_range=255) + 1
    assert np.array_equal(worse, cases.squeeze(pixels, 40))
    file = Image.open(io.BytesIO(cases.jpeg(pixels, 40)))
    assert file.format == "JPEG"
    assert [layer[1:3] for layer in file.layer] == [(2, 2), (1, 1), (1, 1)]  # type: ignore[attr-defined]


# -- measures ----------------------------------------------------------------------------


def test_luma_is_that_of_the_studio() -> None:
    colours = np.array([[(0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 0, 255)]], np.uint8)
    assert np.allclose(measure.studio_luma(colours), [[16, 235, 81.481, 40.966]], atol=1e-3)


def test_psnr_and_ssim_are_the_usual_ones_inside_the_border() -> None:
    truth = photo("chelsea", 120)
    made = np.clip(
        truth.astype(int) + np.random.default_rng(0).integers(-9, 9, truth.shape), 0, 255
    )
    made = made.astype(np.uint8)
    decibels, similarity = measure.compare(truth, made, 3)
    first, second = (
        (each.astype(float) @ (65.481, 128.553, 24.966) / 255 + 16)[3:-3, 3:-3]
        for each in (truth, made)
    )
    assert decibels == pytest.approx(peak_signal_noise_ratio(first, second, data_range=255))
    usual = structural_similarity(
        first, second, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )  # fmt: skip
    assert similarity == pytest.approx(usual, abs=1e-5)
    made[:3] = made[:, -3:] = 0
    assert measure.compare(truth, made, 3) == (decibels, similarity)
    assert measure.compare(truth, truth, 2) == (100.0, pytest.approx(1))


def test_every_case_is_measured_in_every_way(folder: Path) -> None:
    engines = Engines()
    engines.register_upscaler("blocks", lambda scale, _: FakeUpscaler("blocks", scale, nearest))
    measure.begin(engines, ("lanczos", "blocks"))
    result = measure.measure(Source("coffee.png", folder / "coffee.png"))
    scores = {(each.way, each.scale, each.quality): each for each in result.scores}
    assert len(scores) == len(result.scores) == 3 * (len(SCALES) + 5 * len(SQUEEZED_SCALES))
    for scale in SCALES:
        plain = scores[BICUBIC, scale, None]
        assert scores["blocks", scale, None].psnr < plain.psnr < scores["lanczos", scale, None].psnr
    for scale in SQUEEZED_SCALES:
        rising = [scores[BICUBIC, scale, quality].psnr for quality in QUALITIES]
        assert rising == sorted(rising)
        assert rising[-1] < scores[BICUBIC, scale, None].psnr

    pixels = photo("coffee", 200)
    height, width = (side // 4 * 4 for side in pixels.shape[:2])
    truth = pixels[:height, :width]
    small = bicubic(truth, height // 4, width // 4)
    expected = measure.compare(truth, bicubic(small, height, width), 4)
    assert (scores[BICUBIC, 4, None].psnr, scores[BICUBIC, 4, None].ssim) == expected
    assert measure.measure(Source("coffee.png", folder / "coffee.png")) == result


def test_an_engine_with_characters_is_tried_with_the_decided_one_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(scale: int, character: str) -> FakeUpscaler:
        engine = FakeUpscaler("two", scale, nearest if character == "photo" else cubic)
        engine.spec = replace(engine.spec, model_id=f"two-{character}")
        return engine

    engines = Engines()
    engines.register_upscaler("two", make)
    measure.begin(engines, ("two", "lanczos"))
    monkeypatch.setattr(measure, "decided_character", lambda small, scale: "clean")
    result = measure.measure(Source("coffee.png", folder / "coffee.png"))
    scores = {(each.way, each.scale, each.quality): each.psnr for each in result.scores}
    assert {way for way, _, _ in scores} == {BICUBIC, "lanczos", "two", "two as decided"}
    for scale in SCALES:
        assert scores["two as decided", scale, None] == scores["two", scale, None]
    for scale in SQUEEZED_SCALES:
        assert scores["two as decided", scale, 80] > scores["two", scale, 80]


def test_what_is_decided_is_what_the_line_decides() -> None:
    squeezed = cases.squeeze(photo("coffee", 400), 20)
    assert measure.decided_character(squeezed, 2) == "photo"


def test_a_thumbnail_has_no_scores(folder: Path) -> None:
    measure.begin(Engines(), ("lanczos",))
    result = measure.measure(Source("chelsea.png", folder / "chelsea.png"))
    assert result == PhotoResult("chelsea.png", ())


def test_an_unknown_engine_is_an_error(folder: Path) -> None:
    measure.begin(Engines(), ("nothing",))
    with pytest.raises(EngineUnavailable, match="nothing"):
        measure.measure(Source("coffee.png", folder / "coffee.png"))


def test_a_lost_worker_costs_its_photo(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def losing(
        work: Callable[[Any], Any], items: Any, *, initializer: Any, initargs: Any, **_: object
    ) -> Iterator[Done[Any, Any]]:
        initializer(*initargs)
        first, *others = reversed(items)
        yield Done(first, loss=Loss("worker_died", "it died"))
        yield from (Done(each, result=work(each)) for each in others)

    monkeypatch.setattr(run, "supervise", losing)
    ticks: list[int] = []
    sources = find_sources(folder, None)
    bench = run.bench_upscale(sources, ("lanczos",), 1, 0, lambda: ticks.append(1))
    assert [each.name for each in bench.photos] == ["astronaut.png", "chelsea.png"]
    assert bench.lost == {"worker_died": 1}
    assert len(ticks) == run.steps(sources, ("lanczos",), 0) == 3


# -- the clock ---------------------------------------------------------------------------


def test_own_engine_is_timed_beside_its_rivals() -> None:
    asked = clock.timings(("lanczos", "sr"), 5)
    assert len(set(asked)) == len(asked)
    small = {(each.way, each.precision) for each in asked if each.width == 640}
    both = {(way, each) for way in ("sr", "compact", "span") for each in ("auto", "float32")}
    assert small == {("bicubic", "auto"), ("lanczos", "auto"), *both}
    large = [each for each in asked if each.width != 640]
    assert [(each.way, each.precision, each.rounds) for each in large] == [("sr", "auto", 1)]
    assert 16 * large[0].width * large[0].height > 50e6
    assert [each.way for each in clock.timings(("lanczos",), 5)] == ["bicubic", "lanczos"]


@pytest.mark.parametrize("way", [BICUBIC, "lanczos"])
def test_a_reading_is_of_the_whole_passage(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Pixels] = []

    def keep(pixels: Pixels) -> bytes:
        made.append(pixels)
        return b""

    monkeypatch.setattr(clock, "encode_lossless", keep)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MKL_NUM_THREADS", "1")
    path = tmp_path / "photo.jpg"
    path.write_bytes(cases.jpeg(photo("coffee", 80), 90))
    reading = clock.read_one(Timing(way, "auto", 80, 53, 3), path, threads=1)
    assert len(made) == 1 + 3
    height, width = decode(path.read_bytes()).pixels.shape[:2]
    assert {each.shape for each in made} == {(4 * height, 4 * width, 3)}
    assert reading.computed == "float32"
    assert 0 < reading.decode_s < reading.total_s
    assert 0 < reading.enlarge_s < reading.total_s
    assert 20 < reading.start_mb <= reading.peak_mb


def test_the_clock_is_read_in_a_fresh_process(folder: Path) -> None:
    source = Source("coffee.png", folder / "coffee.png")
    ticks: list[int] = []
    asked = [Timing(BICUBIC, "auto", 64, 48, 1)]
    (reading,) = clock.read_clock(source, asked, 1, lambda: ticks.append(1))
    assert reading.timing == asked[0]
    assert reading.total_s > 0
    assert len(ticks) == 1


def test_a_process_that_dies_is_an_error_for_people() -> None:
    with pytest.raises(ImgflowError, match="died") as caught:
        clock._fresh(os._exit, 3)
    assert caught.value.code == "worker_died"


# -- networks ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", rivals.RIVALS)
def test_rivals_enlarge_and_see_no_farther_than_they_say(name: str) -> None:
    torch.manual_seed(0)
    rival = rivals.RIVALS[name](2, torch.float32)
    reach = rival.spec.receptive
    side = 2 * reach + 5
    tile = np.random.default_rng(0).random((side, side + 1, 3)).astype(np.float32)
    changed = tile.copy()
    changed[-1] = 0
    first, second = rival.enlarge(tile), rival.enlarge(changed)
    assert first.shape == (2 * side, 2 * (side + 1), 3)
    assert first.dtype == np.float32
    assert not np.array_equal(first, second)
    far = 2 * (side - 1 - reach)
    assert np.array_equal(first[:far], second[:far])


def test_the_merged_network_computes_the_same() -> None:
    from spandrel.architectures.SPAN import SPAN

    torch.manual_seed(0)
    network = SPAN(num_in_ch=3, num_out_ch=3, feature_channels=8, upscale=2).eval()
    planes = torch.rand(1, 3, 12, 10)
    with torch.inference_mode():
        before = network(planes)
        after = rivals._merged(network)(planes)
    assert torch.allclose(before, after, rtol=1e-4, atol=1e-4 * float(before.abs().max()))


def test_flops_are_counted_from_the_convolutions() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1, stride=2, groups=2)
    )
    with gpu.counted_flops(network) as counted:
        network(torch.rand(2, 3, 10, 12))
    assert counted == [2 * (2 * 8 * 10 * 12) * (3 * 9), 2 * (2 * 4 * 5 * 6) * 4]
    network(torch.rand(2, 3, 10, 12))
    assert len(counted) == 2


def test_a_device_is_read_per_photo() -> None:
    one, two = (gpu.read_network(torch.device("cpu"), n, (16, 8), 0.01) for n in (1, 2))
    assert one.flops_per_image == two.flops_per_image > 0
    assert (one.batch, two.batch) == (1, 2)
    assert one.images_per_s > 0
    assert one.tflops == pytest.approx(one.images_per_s * one.flops_per_image / 1e12)


# -- the report --------------------------------------------------------------------------


def made_bench() -> UpscaleBench:
    """Two photos: the engine wins 1 dB on the first, and loses 0.5 dB on the second."""
    photos = [PhotoResult("small.png", ())]
    for name, gain in (("one.png", 1.0), ("two.png", -0.5)):
        conditions = [(scale, None) for scale in SCALES]
        conditions += [(scale, quality) for scale in SQUEEZED_SCALES for quality in QUALITIES]  # type: ignore[misc]
        scores = []
        for scale, quality in conditions:
            base = 40.0 - 2 * scale + gain
            scores.append(Score(BICUBIC, scale, quality, base, 0.9))
            scores.append(Score("mine", scale, quality, base + gain, 0.9 + gain / 100))
        photos.append(PhotoResult(name, tuple(scores)))
    timing = Timing("sr", "auto", 640, 480, 5)
    reading = Reading(timing, "bfloat16", 0.01, 0.5, 0.06, 0.57, 2.0, 100.0, 800.0)
    return UpscaleBench(photos, [reading], [GpuReading("a card", 8, 100.0, 10**11)])


def printed(figures: dict[str, Any]) -> str:
    out = Console(file=io.StringIO(), width=80)
    for part in tables(figures):
        out.print(part)
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def test_gains_are_over_bicubic_of_the_same_photo() -> None:
    figures = summary(made_bench(), peak_tflops=20)
    assert figures["photos"] == 2
    assert figures["too_small"] == ["small.png"]
    row = figures["clean"]["x3"]["mine"]
    assert (row["psnr_mean"], row["psnr_median"]) == (34.5, 34.5)
    assert (row["psnr_gain_mean"], row["psnr_gain_worst"]) == (0.25, -0.5)
    assert row["ssim_gain_mean"] == 0.0025
    squeezed = figures["squeezed"]["x4"]["mine"]
    assert squeezed["cases"] == 2 * len(QUALITIES)
    assert squeezed["not_worse"] == 0.5
    assert squeezed["psnr_gain_worst"] == -0.5
    assert squeezed["gain_by_quality"] == {str(quality): 0.25 for quality in QUALITIES}
    assert figures["gpu"][0]["tflops"] == 10
    assert figures["gpu"][0]["share_of_peak"] == 0.5
    assert figures["speed"][0]["total_s"] == 0.57
    assert json.loads(json.dumps(figures)) == figures


def test_tables_fit_a_terminal() -> None:
    text = printed(summary(made_bench(), peak_tflops=20))
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    for part in ("small.png", "x4 mine", "+0.25", "-0.50", "4.9 MP", "800", "(50% of the peak)"):
        assert part in text


def test_what_was_not_measured_is_said() -> None:
    bench = made_bench()
    bench.gpu = []
    assert "no GPU here: not measured" in printed(summary(bench))
    bench.readings = []
    assert "GPU" not in printed(summary(bench))
    bench.lost["timed_out"] = 2
    assert "2 timed_out" in printed(summary(bench))


def test_the_command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "supervise", at_once)
    arguments = ["upscale", str(folder), "--engine", "lanczos", "--rounds", "0", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    figures = json.loads(result.stdout.splitlines()[-1])
    assert figures["photos"] == 2
    assert figures["too_small"] == ["chelsea.png"]
    assert set(figures["clean"]["x2"]) == {"bicubic", "lanczos"}
    assert figures["clean"]["x2"]["lanczos"]["psnr_gain_mean"] > 0
