"""What was measured of engines: a table, a picture of quality against time, and which to use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

from rich.table import Table

from imgflow.bench.engines.measure import TASKS, Reading, Task

# How much HaarPSI an engine for the many may lose against the best.
_NEARLY = 0.01
_WORDS: dict[Task, str] = {"filler": "fills", "upscaler": "enlargement"}
_FIELDS: dict[Task, tuple[str, str]] = {
    "filler": ("inpaint", "fill"),
    "upscaler": ("upscale", "engine"),
}
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 720, 420, 70, 50


def table(readings: Sequence[Reading], task: Task) -> Table:
    """One row an engine, the best first."""
    titles = ("engine", "PSNR dB", "SSIM", "HaarPSI", "LPIPS", "s/MP", "peak MB", "cost")
    made = Table(title=_WORDS[task])
    for title in titles:
        made.add_column(title, no_wrap=True)
    for each in ranked(readings, task):
        made.add_row(
            each.name,
            f"{each.psnr:.2f}",
            f"{each.ssim:.4f}",
            f"{each.haarpsi:.4f}",
            "-" if each.lpips is None else f"{each.lpips:.4f}",
            f"{each.seconds:.3g}",
            f"{each.peak_mb:.0f}",
            f"{each.cost:g}" if each.cost else "",
        )
    return made


def ranked(readings: Sequence[Reading], task: Task) -> list[Reading]:
    found = [each for each in readings if each.task == task and not each.problem]
    return sorted(found, key=lambda each: (-each.haarpsi, each.seconds))


def recommendation(readings: Sequence[Reading]) -> str:
    """A piece of policy: the fastest that is nearly as good for the many, the best for the few."""
    many: list[str] = []
    few: list[str] = []
    for task in TASKS:
        found = ranked(readings, task)
        if not found:
            continue
        best = found[0]
        light = min(
            (each for each in found if each.haarpsi >= best.haarpsi - _NEARLY),
            key=lambda each: each.seconds,
        )
        part, field = _FIELDS[task]
        many.append(f"{part}: {{{field}: {light.name}}}")
        if best.name != light.name:
            few.append(f"{part}: {{{field}: {best.name}}}")
    lines = list(many)
    if few:
        lines += [
            "routes:",
            f"  - {{name: best, when: {{criticality: high}}, set: {{{', '.join(few)}}}}}",
        ]
    return "\n".join(lines)


def plot(readings: Sequence[Reading]) -> str:
    """An SVG of HaarPSI against seconds per megapixel, one panel a task; colours by task."""
    panels = [task for task in TASKS if ranked(readings, task)]
    height = _HEIGHT * max(len(panels), 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for number, task in enumerate(panels):
        parts.append(f'<g transform="translate(0 {number * _HEIGHT})">')
        parts += _panel(ranked(readings, task), _WORDS[task])
        parts.append("</g>")
    return "\n".join([*parts, "</svg>", ""])


def _panel(found: Sequence[Reading], title: str) -> list[str]:
    slow = [math.log10(max(each.seconds, 1e-6)) for each in found]
    low, high = math.floor(min(slow)), max(math.ceil(max(slow)), math.floor(min(slow)) + 1)
    worst, best = min(each.haarpsi for each in found), max(each.haarpsi for each in found)
    room = max((best - worst) * 0.15, 0.01)
    worst, best = worst - room, best + room
    right, top = _WIDTH - 120, 40

    def x(value: float) -> float:
        return _LEFT + (value - low) / (high - low) * (right - _LEFT)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (value - worst) / (best - worst) * (_HEIGHT - _BOTTOM - top)

    floor = _HEIGHT - _BOTTOM
    parts = [
        f'<text x="{_LEFT}" y="24" font-size="15">{escape(title)}</text>',
        f'<path d="M{_LEFT} {top}V{floor}H{right}" fill="none" stroke="#888"/>',
        f'<text x="{(_LEFT + right) / 2:.0f}" y="{floor + 38}" text-anchor="middle">'
        "seconds per megapixel</text>",
        f'<text x="16" y="{(top + floor) / 2:.0f}" text-anchor="middle" '
        f'transform="rotate(-90 16 {(top + floor) / 2:.0f})">HaarPSI</text>',
    ]
    for power in range(low, high + 1):
        parts.append(
            f'<path d="M{x(power):.1f} {top}V{floor}" stroke="#eee"/>'
            f'<text x="{x(power):.1f}" y="{floor + 18}" text-anchor="middle">{10.0**power:g}</text>'
        )
    for step in range(5):
        value = worst + (best - worst) * step / 4
        parts.append(
            f'<text x="{_LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.3f}</text>'
        )
    for each, when in zip(found, slow, strict=True):
        across, down = x(when), y(each.haarpsi)
        parts.append(
            f'<circle cx="{across:.1f}" cy="{down:.1f}" r="5" fill="#1f6feb"/>'
            f'<text x="{across + 9:.1f}" y="{down + 4:.1f}">{escape(each.name)}</text>'
        )
    return parts
