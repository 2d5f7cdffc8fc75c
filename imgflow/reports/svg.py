"""Plots as SVG inside of the page: text that is read out, colours of the page, no library."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from imgflow.reports.figures import Day, Distribution

_WIDTH, _HEIGHT = 320, 110
_FLOOR = 18  # below the bars: where the numbers stand
_GAP = 1.0


def histogram(found: Distribution) -> str:
    """How a gate's values are distributed."""
    bars = _columns([(count,) for count in found.counts], ["calm"])
    first, last = found.edges[0], found.edges[-1]
    median = _x(found.median, first, last)
    line = f'<line class="median" x1="{median:.1f}" x2="{median:.1f}" y1="0" y2="{_HEIGHT}"/>'
    title = (
        f"{found.gate} of {found.count} {found.version} versions: median {found.median:.4g}, "
        f"{first:.4g} to {last:.4g}"
    )
    return _svg(title, bars + line + _ends(f"{first:.4g}", f"{last:.4g}"))


def over_time(days: Sequence[Day]) -> str:
    """What became of photos, day by day."""
    stacks = [(day.published, day.stopped, day.other) for day in days]
    bars = _columns(stacks, ["good", "bad", "calm"], [day.day for day in days])
    title = f"Photos by day, {days[0].day} to {days[-1].day}: published, stopped, other"
    return _svg(title, bars + _ends(days[0].day, days[-1].day if len(days) > 1 else ""))


def _columns(
    stacks: Sequence[Sequence[int]], tones: Sequence[str], names: Sequence[str] = ()
) -> str:
    """Columns beside each other, each of one part or several above each other."""
    tallest = max((sum(stack) for stack in stacks), default=0) or 1
    step = _WIDTH / max(len(stacks), 1)
    width = min(max(step - _GAP, 1.0), 48.0)
    parts = []
    for at, stack in enumerate(stacks):
        top = float(_HEIGHT)
        for tone, count in zip(tones, stack, strict=True):
            height = count / tallest * _HEIGHT
            top -= height
            name = f"<title>{escape(names[at])}: {count}</title>" if names else ""
            if count:
                parts.append(
                    f'<rect class="{tone}" x="{at * step:.1f}" y="{top:.1f}" '
                    f'width="{width:.1f}" height="{height:.1f}">{name}</rect>'
                )
    return "".join(parts)


def _x(value: float, first: float, last: float) -> float:
    return (value - first) / (last - first) * _WIDTH if last > first else _WIDTH / 2


def _ends(first: str, last: str) -> str:
    y = _HEIGHT + _FLOOR - 4
    return (
        f'<text x="0" y="{y}">{escape(first)}</text>'
        f'<text x="{_WIDTH}" y="{y}" text-anchor="end">{escape(last)}</text>'
    )


def _svg(title: str, content: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + _FLOOR}" role="img" '
        f'aria-label="{escape(title)}"><title>{escape(title)}</title>{content}</svg>'
    )
