"""The figures of `imgflow bench text`: one summary of plain values, and tables of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.table import Table
from scipy.stats import beta  # type: ignore[import-untyped]

from imgflow.bench.text.bad import BAD
from imgflow.bench.text.results import (
    CLASSICAL,
    Attempt,
    Nearness,
    OverlayResult,
    PlainResult,
    TextBench,
)
from imgflow.synthesis.overlays import KINDS

WAYS: dict[str, Callable[[OverlayResult], Attempt]] = {
    "automatic line": lambda result: result.line,
    "one-shot command": lambda result: result.once,
}
_REASONS = 6
_DASH = "\N{EN DASH}"


def summary(bench: TextBench) -> dict[str, Any]:
    """All figures, as JSON values."""
    overlays, plain = bench.overlays, bench.plain
    return {
        "overlay_cases": len(overlays),
        "plain_cases": len(plain),
        "lost": dict(bench.lost),
        "invisible": sum(each.invisible for each in overlays),
        "ways": {name: _way(overlays, pick) for name, pick in WAYS.items()},
        "rivals": _rivals(overlays),
        "plain": {name: _plain(group) for name, group in _plain_groups(plain).items()},
        "plain_stopped_because": _commonest(each.why for each in plain if each.stopped),
        "gates": _gates(overlays),
        "bad_engines": {
            name: _bad_engine([each.bad[name] for each in overlays], overlays) for name in BAD
        },
        "seconds": asdict(bench.seconds) if bench.seconds else None,
    }


def upper_bound(count: int, total: int) -> float:
    """The share that, with 95 % confidence, is not exceeded (Clopper, Pearson 1934; one-sided)."""
    return 1.0 if count >= total else float(beta.ppf(0.95, count + 1, total - count))


# -- figures -----------------------------------------------------------------------------


def _way(
    results: Sequence[OverlayResult], pick: Callable[[OverlayResult], Attempt]
) -> dict[str, Any]:
    groups: dict[str, list[OverlayResult]] = {
        kind: [each for each in results if each.kind == kind] for kind in KINDS
    }
    groups["opaque"] = [each for each in results if each.opaque]
    groups["translucent"] = [each for each in results if not each.opaque]
    groups["all"] = list(results)
    rows = {name: _cleaning(group, pick) for name, group in groups.items() if group}
    if groups["chrome"]:
        rows["chrome's text"] = _cleaning(groups["chrome"], pick, lines=True)
    stopped = [each for each in results if pick(each).stopped]
    came_out = [each for each in results if not pick(each).stopped]
    slipped = [each for each in came_out if not each.good(pick(each))]
    return {
        "by_kind": rows,
        "stopped_because": _commonest(pick(each).why for each in stopped),
        "slipped_because": _commonest(each.fault(pick(each)) for each in slipped),
        "changed_elsewhere": _share(came_out, lambda each: pick(each).elsewhere),
    }


def _cleaning(
    results: Sequence[OverlayResult],
    pick: Callable[[OverlayResult], Attempt],
    *,
    lines: bool = False,
) -> dict[str, Any]:
    """Shares of all cases; nearness before and after of those that came out."""
    came_out = [each for each in results if not pick(each).stopped]
    good = [each for each in came_out if each.good(pick(each), lines=lines)]
    return {
        "cases": len(results),
        "cleaned": len(good) / len(results),
        "stopped": 1 - len(came_out) / len(results),
        "slipped": (len(came_out) - len(good)) / len(results),
        "legible": _share(results, lambda each: each.legible),
        "before": _nearness([each.before for each in came_out], lines=lines),
        "after": _nearness([pick(each).nearness for each in came_out], lines=lines),
    }


def _nearness(found: Sequence[Nearness], *, lines: bool = False) -> dict[str, Any]:
    decibels = [each.lines_psnr if lines else each.psnr for each in found]
    return {
        "psnr_median": _percentile(decibels, 50),
        "psnr_p5": _percentile(decibels, 5),
        "ssim_median": _percentile([each.ssim for each in found], 50),
        "ssim_p5": _percentile([each.ssim for each in found], 5),
        "haarpsi_median": _percentile([each.haarpsi for each in found], 50),
        "haarpsi_p5": _percentile([each.haarpsi for each in found], 5),
    }


def _rivals(results: Sequence[OverlayResult]) -> dict[str, Any]:
    """The line's repairs, published or rejected, against other fills on the same cases."""
    made = [each for each in results if each.line.made and each.fills]
    rows = {"telea on OCR boxes": _against(made, [[each.boxes] for each in made])}
    for name in CLASSICAL:
        rows[f"{name}, same mask"] = _against(made, [[each.fills[name]] for each in made])
    best = _against(made, [list(each.fills.values()) for each in made])
    return {**rows, "best of the three": best}


def _against(made: Sequence[OverlayResult], rivals: Sequence[Sequence[Nearness]]) -> dict[str, Any]:
    """rivals: of each case; each measure is taken of the one that is best at it."""
    row: dict[str, Any] = {"cases": len(made)}
    for name in ("psnr", "ssim", "haarpsi"):
        own = [getattr(each.line.nearness, name) for each in made]
        other = [max(getattr(rival, name) for rival in each) for each in rivals]
        advantage = [mine - theirs for mine, theirs in zip(own, other, strict=True)]
        row |= {
            name: _percentile(other, 50),
            f"line_{name}": _percentile(own, 50),
            f"{name}_advantage": _percentile(advantage, 50),
            f"{name}_advantage_p5": _percentile(advantage, 5),
        }
    return row


def _plain_groups(results: Sequence[PlainResult]) -> dict[str, list[PlainResult]]:
    return {
        "text printed on surfaces": [each for each in results if each.what == "surface"],
        "studio shots of packaging": [each for each in results if each.what == "studio"],
        "photos as they are": [each for each in results if each.what == "photo"],
        "of all: OCR reads text": [each for each in results if each.legible],
        "all": list(results),
    }


def _plain(results: Sequence[PlainResult]) -> dict[str, Any]:
    changed = sum(each.changed > 0 for each in results)
    return {
        "cases": len(results),
        "altered": changed,
        "altered_share": changed / len(results) if results else None,
        "altered_upper_95": upper_bound(changed, len(results)),
        "stopped": _share(results, lambda each: each.stopped),
    }


def _gates(results: Sequence[OverlayResult]) -> dict[str, Any]:
    """Gates of the automatic line as a test for damage, over the repairs that it made."""
    made = [each for each in results if each.line.made]
    counts = Counter((each.line.stopped, not each.good(each.line)) for each in made)
    caught, missed = counts[True, True], counts[False, True]
    alarm, passed = counts[True, False], counts[False, False]
    return {
        "passed_good": passed,
        "passed_damaged": missed,
        "failed_good": alarm,
        "failed_damaged": caught,
        "precision": caught / (caught + alarm) if caught + alarm else None,
        "recall": caught / (caught + missed) if caught + missed else None,
    }


def _bad_engine(attempts: Sequence[Attempt], results: Sequence[OverlayResult]) -> dict[str, Any]:
    damaged = [
        attempt
        for attempt, each in zip(attempts, results, strict=True)
        if attempt.made and not each.good(attempt)
    ]
    return {
        "repairs": sum(attempt.made for attempt in attempts),
        "damaged": len(damaged),
        "damaged_stopped": _share(damaged, lambda attempt: attempt.stopped),
    }


def _commonest(reasons: Iterable[str]) -> list[tuple[str, int]]:
    return Counter(reasons).most_common(_REASONS)


def _share(results: Sequence[Any], test: Callable[[Any], bool]) -> float | None:
    return sum(test(each) for each in results) / len(results) if results else None


def _percentile(values: Sequence[float], rank: float) -> float | None:
    return round(float(np.percentile(values, rank)), 4) if values else None


# -- tables ------------------------------------------------------------------------------


def tables(found: dict[str, Any]) -> Iterator[Table | str]:
    """What the command prints of a summary."""
    yield (
        f"{found['overlay_cases']} cases with an overlay ({found['invisible']} that nobody would "
        f"see were drawn again), {found['plain_cases']} without"
    )
    if found["lost"]:
        yield f"[red]lost[/red]: {_listed(found['lost'].items())}"
    for name, way in found["ways"].items():
        yield _cleaning_table(name, way["by_kind"])
        yield _nearness_table(name, way["by_kind"])
        yield (
            f"to a person: {_listed(way['stopped_because'])}\n"
            f"slipped through: {_listed(way['slipped_because'])}\n"
            f"of what came out, pixels far from the overlay changed: "
            f"{_percent(way['changed_elsewhere'])}"
        )
    yield _rivals_table(found["rivals"])
    yield _plain_table(found["plain"])
    yield f"to a person: {_listed(found['plain_stopped_because'])}"
    yield _gates_table(found["gates"])
    for name, bad in found["bad_engines"].items():
        yield (
            f"{name}: {bad['repairs']} repairs, {bad['damaged']} damaged, of those "
            f"{_percent(bad['damaged_stopped'])} stopped"
        )
    if found["seconds"]:
        yield _seconds_line(found["seconds"])


def _cleaning_table(name: str, rows: dict[str, Any]) -> Table:
    table = Table("", "cases", "OCR reads", "cleaned", "to a person", "slipped", title=name)
    shares = ("legible", "cleaned", "stopped", "slipped")
    for kind, row in rows.items():
        table.add_row(kind, str(row["cases"]), *(_percent(row[share]) for share in shares))
    return table


def _nearness_table(name: str, rows: dict[str, Any]) -> Table:
    title = (
        f"{name}: the region before, and after where a picture came out: median (5th percentile)"
    )
    table = Table("", "PSNR before", "after", "SSIM", "HaarPSI", title=title)
    for kind, row in rows.items():
        before, after = row["before"], row["after"]
        table.add_row(
            kind,
            *(
                f"{_number(each['psnr_median'], 1)} ({_number(each['psnr_p5'], 1)})"
                for each in (before, after)
            ),
            *(
                f"{_number(before[median], 3)} {_ARROW} {_number(after[median], 3)}"
                for median in ("ssim_median", "haarpsi_median")
            ),
        )
    return table


_ARROW = "\N{RIGHTWARDS ARROW}"


def _rivals_table(rows: dict[str, Any]) -> Table:
    table = Table(
        "", "PSNR", "the line's", "ahead (p5)", "SSIM ahead", "HaarPSI ahead",
        title="the line's repairs, published or rejected, against other fills: medians",
    )  # fmt: skip
    for name, row in rows.items():
        table.add_row(
            f"{name} ({row['cases']})",
            *(_number(row[each], 1) for each in ("psnr", "line_psnr")),
            f"{_number(row['psnr_advantage'], 1)} ({_number(row['psnr_advantage_p5'], 1)})",
            *(_number(row[each], 3) for each in ("ssim_advantage", "haarpsi_advantage")),
        )
    return table


def _plain_table(rows: dict[str, Any]) -> Table:
    table = Table(
        "automatic line", "cases", "altered", "share", "95 % bound", "to a person",
        title="photos without an overlay",
    )  # fmt: skip
    for name, row in rows.items():
        shares = (row["altered_share"], row["altered_upper_95"], row["stopped"])
        table.add_row(name, str(row["cases"]), str(row["altered"]), *map(_percent, shares))
    return table


def _gates_table(found: dict[str, Any]) -> Table:
    share = f"precision {_percent(found['precision'])}, recall {_percent(found['recall'])}"
    table = Table("repairs", "good", "damaged", title=f"gates of the automatic line: {share}")
    for fate in ("passed", "failed"):
        table.add_row(fate, str(found[f"{fate}_good"]), str(found[f"{fate}_damaged"]))
    return table


def _seconds_line(seconds: dict[str, Any]) -> str:
    kinds = ", ".join(f"{kind} {value:.2f}" for kind, value in seconds["by_kind"].items())
    return (
        f"seconds per 1024 x 768 photo, one thread, median of {seconds['photos']}: "
        f"{seconds['without']:.2f} without an overlay, {seconds['with_text']:.2f} with "
        f"({kinds}; {seconds['repaired']} repaired)"
    )


def _listed(counts: Iterable[tuple[str, int]]) -> str:
    return "; ".join(f"{count} {reason}" for reason, count in counts) or "none"


def _percent(share: float | None) -> str:
    return _DASH if share is None else f"{share:.1%}"


def _number(value: float | None, digits: int) -> str:
    return _DASH if value is None or math.isnan(value) else f"{value:.{digits}f}"
