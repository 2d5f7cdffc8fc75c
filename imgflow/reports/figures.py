"""The figures of the quality report, from the lineage table."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

from imgflow.reports.table import METRICS

_STOPS = ("needs_review", "quarantined", "retired")
_BINS = 24


@dataclass(frozen=True, slots=True)
class Distribution:
    """Values of a gate over all photos that it was measured on.

    edges: of the bars, one more than there are; counts: photos a bar. failed: how many versions
    this gate has stopped or would have.
    """

    version: str
    gate: str
    count: int
    failed: int
    median: float
    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EngineFigures:
    """What one model did. passed: share of its versions with no failed gate, 0..1. psnr: the
    median over them, in dB; None where that was not measured. seconds: the median. cost: the sum;
    None where it cost nothing."""

    model: str
    versions: int
    passed: float
    psnr: float | None
    seconds: float
    cost: float | None


@dataclass(frozen=True, slots=True)
class Day:
    """What became of photos of which the last version was made on a day (UTC)."""

    day: str
    published: int
    stopped: int
    other: int


@dataclass(frozen=True, slots=True)
class Figures:
    """verdicts: photos by what became of them. automatic: share of all photos (retired ones left
    out) that is published and of which no person has decided anything, 0..1."""

    images: int
    verdicts: tuple[tuple[str, int], ...]
    automatic: float
    reasons: tuple[tuple[str, str, int], ...]
    distributions: tuple[Distribution, ...]
    engines: tuple[EngineFigures, ...]
    days: tuple[Day, ...]
    seconds: float
    cost: float | None


def figures(table: pd.DataFrame) -> Figures:
    """The figures of a catalog."""
    last = frontier(table)
    verdicts = last["verdict"].astype(str).value_counts()
    decided = set(table.loc[table["decisions"].map(len) > 0, "key"])
    live = last[last["verdict"].astype(str) != "retired"]
    done = live["verdict"].astype(str).isin(["published", "accepted_with_artifacts"])
    automatic = (done & ~live["key"].isin(decided)).mean() if len(live) else 0.0
    waiting = last[last["verdict"].astype(str).isin(_STOPS[:2])]
    reasons = Counter(
        zip(waiting["version"].astype(str), waiting["reason"].astype(str), strict=True)
    )
    cost = table["cost"].dropna()
    return Figures(
        images=len(last),
        verdicts=tuple((str(name), int(count)) for name, count in verdicts.items()),
        automatic=float(automatic),
        reasons=tuple((*place, count) for place, count in reasons.most_common()),
        distributions=tuple(_distributions(table)),
        engines=tuple(_engines(table)),
        days=tuple(_days(last)),
        seconds=float(table["seconds"].sum()),
        cost=float(cost.sum()) if len(cost) else None,
    )


def frontier(table: pd.DataFrame) -> pd.DataFrame:
    """One row a photo: the version where it stopped, or else its last one. Rows of a photo stand
    in the order of the line."""
    stops = table["verdict"].astype(str).isin(_STOPS)
    stopped = table[stops].drop_duplicates("key", keep="first")
    others = table[~table["key"].isin(stopped["key"])].drop_duplicates("key", keep="last")
    return pd.concat([stopped, others]).sort_values("key")


def _distributions(table: pd.DataFrame) -> list[Distribution]:
    found = []
    versions = table["version"].astype(str)
    for version in dict.fromkeys(versions):
        rows = table[versions == version]
        for gate in METRICS:
            values = rows[gate].dropna().astype(float)
            if values.empty:
                continue
            counts, edges = _histogram(values)
            failed = rows["gates_failed"].map(lambda names, gate=gate: gate in names)
            found.append(
                Distribution(
                    version=version,
                    gate=gate,
                    count=len(values),
                    failed=int(failed.sum()),
                    median=float(values.median()),
                    edges=edges,
                    counts=counts,
                )
            )
    return found


def _histogram(values: pd.Series) -> tuple[tuple[int, ...], tuple[float, ...]]:
    counts, edges = np.histogram(values.to_numpy(float), bins=_BINS)
    return tuple(int(each) for each in counts), tuple(float(each) for each in edges)


def _engines(table: pd.DataFrame) -> list[EngineFigures]:
    worked = table[table["models"].map(len) > 0]
    if worked.empty:
        return []
    each = worked.assign(model=worked["models"].map(lambda names: list(dict.fromkeys(names))))
    each = each.explode("model")
    found = []
    for model, rows in each.groupby(each["model"].astype(str)):
        psnr, cost = rows["psnr"].dropna(), rows["cost"].dropna()
        found.append(
            EngineFigures(
                model=str(model),
                versions=len(rows),
                passed=float((rows["gates_failed"].map(len) == 0).mean()),
                psnr=float(psnr.median()) if len(psnr) else None,
                seconds=float(rows["seconds"].median()),
                cost=float(cost.sum()) if len(cost) else None,
            )
        )
    return sorted(found, key=lambda one: -one.versions)


def _days(last: pd.DataFrame) -> list[Day]:
    days = pd.to_datetime(last["started_at"], utc=True).dt.strftime("%Y-%m-%d")
    verdict = last["verdict"].astype(str)
    kinds = verdict.map(
        lambda name: (
            "published"
            if name in ("published", "accepted_with_artifacts")
            else "stopped"
            if name in _STOPS[:2]
            else "other"
        )
    )
    counted = pd.crosstab(days.to_numpy(), kinds.to_numpy())
    return [
        Day(str(day), *(int(counts.get(kind, 0)) for kind in ("published", "stopped", "other")))
        for day, counts in counted.sort_index().iterrows()
    ]
