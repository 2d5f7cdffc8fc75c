"""The figures of `imgflow bench upscale`: one summary of plain values, and tables of it."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from imgflow.bench.upscale.cases import LEAST_SIDE, QUALITIES, SCALES, SQUEEZED_SCALES
from imgflow.bench.upscale.clock import NEURAL, SCALE
from imgflow.bench.upscale.results import (
    BICUBIC,
    GpuReading,
    PhotoResult,
    Reading,
    Score,
    UpscaleBench,
)

# A score, and that of bicubic on the same photo.
Pair = tuple[Score, Score]


def summary(bench: UpscaleBench, *, peak_tflops: float | None = None) -> dict[str, Any]:
    """All figures, as JSON values. peak_tflops: what the graphics card can do at most."""
    measured = [photo for photo in bench.photos if photo.scores]
    pairs = _pairs(measured)
    return {
        "photos": len(measured),
        "too_small": [photo.name for photo in bench.photos if not photo.scores],
        "lost": dict(bench.lost),
        "clean": {f"x{scale}": _clean(pairs, scale) for scale in SCALES},
        "squeezed": {f"x{scale}": _squeezed(pairs, scale) for scale in SQUEEZED_SCALES},
        "speed": [_reading(each) for each in bench.readings],
        "gpu": [_gpu(each, peak_tflops) for each in bench.gpu],
    }


# -- figures -----------------------------------------------------------------------------


def _pairs(photos: Sequence[PhotoResult]) -> list[Pair]:
    found = []
    for photo in photos:
        plain = {(each.scale, each.quality): each for each in photo.scores if each.way == BICUBIC}
        found += [(each, plain[each.scale, each.quality]) for each in photo.scores]
    return found


def _clean(pairs: Sequence[Pair], scale: int) -> dict[str, Any]:
    """Of photos that were reduced and nothing else, by way."""
    groups = _by_way(pair for pair in pairs if pair[0].scale == scale and pair[0].quality is None)
    return {way: _nearness(group) for way, group in groups.items()}


def _nearness(group: Sequence[Pair]) -> dict[str, Any]:
    row: dict[str, Any] = {"cases": len(group)}
    for name in ("psnr", "ssim"):
        values = [getattr(score, name) for score, _ in group]
        gains = [getattr(score, name) - getattr(plain, name) for score, plain in group]
        row[f"{name}_median"] = _rounded(statistics.median(values))
        row[f"{name}_mean"] = _rounded(statistics.fmean(values))
        row[f"{name}_gain_median"] = _rounded(statistics.median(gains))
        row[f"{name}_gain_mean"] = _rounded(statistics.fmean(gains))
        row[f"{name}_gain_worst"] = _rounded(min(gains))
    return row


def _squeezed(pairs: Sequence[Pair], scale: int) -> dict[str, Any]:
    """Of photos that were reduced and squeezed by JPEG, by way."""
    chosen = [pair for pair in pairs if pair[0].scale == scale and pair[0].quality is not None]
    return {
        way: {
            **_nearness(group),
            "not_worse": sum(score.psnr >= plain.psnr for score, plain in group) / len(group),
            "gain_by_quality": {
                str(quality): _rounded(
                    statistics.fmean(
                        score.psnr - plain.psnr
                        for score, plain in group
                        if score.quality == quality
                    )
                )
                for quality in QUALITIES
            },
        }
        for way, group in _by_way(chosen).items()
    }


def _by_way(pairs: Iterator[Pair] | Sequence[Pair]) -> dict[str, list[Pair]]:
    groups: dict[str, list[Pair]] = defaultdict(list)
    for score, plain in pairs:
        groups[score.way].append((score, plain))
    return groups


def _reading(reading: Reading) -> dict[str, Any]:
    values = asdict(reading)
    timing = values.pop("timing")
    times = {
        name: _rounded(each) if isinstance(each, float) else each for name, each in values.items()
    }
    return {**timing, **times}


def _gpu(reading: GpuReading, peak_tflops: float | None) -> dict[str, Any]:
    return {
        **asdict(reading),
        "tflops": _rounded(reading.tflops),
        "share_of_peak": _rounded(reading.tflops / peak_tflops) if peak_tflops else None,
    }


def _rounded(value: float) -> float:
    return round(value, 4)


# -- tables ------------------------------------------------------------------------------


def tables(found: dict[str, Any]) -> Iterator[Table | str]:
    """What the command prints of a summary."""
    yield f"{found['photos']} photos"
    if found["too_small"]:
        yield (
            f"left out, for they have less than {LEAST_SIDE} pixels a side: "
            f"{', '.join(found['too_small'])}"
        )
    if found["lost"]:
        lost = "; ".join(f"{count} {code}" for code, count in found["lost"].items())
        yield f"[red]lost[/red]: {lost}"
    if found["photos"]:
        yield _clean_table(found["clean"])
        yield _squeezed_table(found["squeezed"])
    if found["speed"]:
        yield _speed_table(found["speed"])
        yield from _gpu_lines(found["gpu"])


def _clean_table(scales: dict[str, Any]) -> Table:
    table = Table(
        "", "PSNR median", "mean", "gain", "worst gain", "SSIM median", "mean", "gain",
        title="reduced photos enlarged: luma; gain over bicubic, mean and worst",
    )  # fmt: skip
    for scale, ways in scales.items():
        for way, row in ways.items():
            plain = way == BICUBIC
            table.add_row(
                f"{scale} {way}",
                f"{row['psnr_median']:.2f}",
                f"{row['psnr_mean']:.2f}",
                _DASH if plain else f"{row['psnr_gain_mean']:+.2f}",
                _DASH if plain else f"{row['psnr_gain_worst']:+.2f}",
                f"{row['ssim_median']:.4f}",
                f"{row['ssim_mean']:.4f}",
                _DASH if plain else f"{row['ssim_gain_mean']:+.4f}",
            )
    return table


_DASH = "\N{EN DASH}"


def _squeezed_table(scales: dict[str, Any]) -> Table:
    table = Table(
        "", "gain", "not worse", "worst", *(f"at {quality}" for quality in QUALITIES),
        title="reduced and squeezed by JPEG: PSNR gained over bicubic of the same, by quality",
    )  # fmt: skip
    for scale, ways in scales.items():
        for way, row in ways.items():
            if way == BICUBIC:
                continue
            table.add_row(
                f"{scale} {way}",
                f"{row['psnr_gain_mean']:+.2f}",
                f"{row['not_worse']:.0%}",
                f"{row['psnr_gain_worst']:+.2f}",
                *(f"{gain:+.2f}" for gain in row["gain_by_quality"].values()),
            )
    return table


def _speed_table(readings: Sequence[dict[str, Any]]) -> Table:
    table = Table(
        "", "computed in", "to", "decode", "enlarge", "encode", "in all", "peak",
        title="JPEG file to lossless bytes at x4, two threads: median seconds, MB",
    )  # fmt: skip
    for each in readings:
        # Of rivals and plain methods, the time alone is comparable.
        peak = f"{each['peak_mb']:.0f}" if each["way"] == NEURAL else _DASH
        megapixels = SCALE**2 * each["width"] * each["height"] / 1e6
        table.add_row(
            each["way"],
            each["computed"],
            f"{megapixels:.1f} MP",
            *(f"{each[f'{part}_s']:.3f}" for part in ("decode", "enlarge", "encode", "total")),
            peak,
        )
    return table


def _gpu_lines(readings: Sequence[dict[str, Any]]) -> Iterator[str]:
    if not readings:
        yield "no GPU here: not measured"
    for each in readings:
        share = each["share_of_peak"]
        yield (
            f"{each['device']}, the network alone, {each['batch']} at once: "
            f"{each['images_per_s']:.1f} photos of 640 x 480 a second at x4, "
            f"{each['tflops']:.1f} TFLOP/s" + (f" ({share:.0%} of the peak)" if share else "")
        )
