"""Where the photos of a catalog are, and why some of them wait."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any

from imgflow.lineage.record import ObjectRef, Reason, Record, Verdict, Version


@dataclass(frozen=True, slots=True)
class Waiting:
    """A photo that stopped.

    still_published: files that were published before are in place all the same.
    last_good: the last version before it stopped; empty if there is none.
    picture: where the picture lies that the photo stopped with: of that version, or else the
    archived original. rejected: where what a gate refused lies. log: the traceback of a crash, or
    what a worker that was lost has left. Empty if there is none.
    """

    key: str
    version: str
    verdict: str
    code: str
    message: str
    hint: str
    still_published: bool = False
    last_good: str = ""
    picture: str = ""
    rejected: str = ""
    log: str = ""


@dataclass(slots=True)
class Overview:
    """counts: photos by the last version that they reached and its verdict, in the line's order.

    waiting: sorted by key.
    """

    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    waiting: list[Waiting] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        counts = [
            {"version": version, "verdict": verdict, "photos": count}
            for (version, verdict), count in self.counts.items()
        ]
        return {"counts": counts, "waiting": [asdict(each) for each in self.waiting]}


def overview(records: Iterable[Record], location: Callable[[ObjectRef], str]) -> Overview:
    """The overview of a catalog's records, which come image by image in the order of the line.

    location: where a person can open an object, as the store says.
    """
    result = Overview()
    for _, group in groupby(records, key=lambda record: record.key):
        image = list(group)
        last = _frontier(image)
        place = str(last.version), str(last.verdict)
        result.counts[place] = result.counts.get(place, 0) + 1
        waits = last.verdict.stops and last.verdict is not Verdict.RETIRED
        if waits and last.reason is not None:
            result.waiting.append(_waiting(image, last, last.reason, location))
    order = {str(version): at for at, version in enumerate(Version)}
    ordered = sorted(result.counts.items(), key=lambda item: (order[item[0][0]], item[0][1]))
    result.counts = dict(ordered)
    result.waiting.sort(key=lambda each: each.key)
    return result


def _waiting(
    image: list[Record], last: Record, reason: Reason, location: Callable[[ObjectRef], str]
) -> Waiting:
    """Why and where an image waits; `last` is where it stopped."""
    before = image[: image.index(last)]
    picture = before[-1].output if before else last.input
    return Waiting(
        key=last.key,
        version=str(last.version),
        verdict=str(last.verdict),
        code=reason.code,
        message=reason.message,
        hint=reason.hint,
        still_published=any(record.renditions for record in image),
        last_good=str(before[-1].version) if before else "",
        picture=location(picture) if picture else "",
        rejected=location(last.rejected) if last.rejected else "",
        log=reason.traceback,
    )


def _frontier(records: list[Record]) -> Record:
    """The version where a photo stopped, or else its last one."""
    return next((record for record in records if record.verdict.stops), records[-1])
