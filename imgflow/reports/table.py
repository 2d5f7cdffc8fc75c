"""The lineage table: one row for each version of each photo, as Parquet with typed columns.

It is rebuilt incrementally: rows whose record's file has not been replaced are taken over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from imgflow.errors import StoreError
from imgflow.files import replacing
from imgflow.lineage.record import GateResult, Record, Version
from imgflow.store.store import Store

METRICS = (
    "psnr", "ssim", "haarpsi", "edge_continuity", "gain", "halo", "edge_fidelity",
    "artifact_rate",
)  # fmt: skip
"""Gates with a column of their own."""

_WORDS = pa.dictionary(pa.int32(), pa.string())  # few values that repeat
_TEXTS = pa.list_(pa.string())
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("version", _WORDS),
        ("verdict", _WORDS),
        ("reason", _WORDS),  # why it stopped: a code
        ("message", pa.string()),
        ("original_sha256", pa.string()),
        ("input_sha256", pa.string()),
        ("output_sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("size", pa.int64()),  # bytes of the output, or of all renditions
        ("operations", _TEXTS),
        ("models", _TEXTS),
        ("weights", _TEXTS),
        ("masks", _TEXTS),
        ("seeds", pa.list_(pa.int64())),
        ("prompts", _TEXTS),
        ("requested_by", _TEXTS),
        ("cost", pa.float64()),
        *((metric, pa.float64()) for metric in METRICS),  # the worst, where there are several
        ("gates_failed", _TEXTS),
        ("renditions", pa.int32()),
        ("decisions", _TEXTS),  # who decided what
        ("started_at", pa.timestamp("us", tz="UTC")),
        ("seconds", pa.float64()),
        ("run_id", _WORDS),
        ("imgflow_version", _WORDS),
        ("code_version", _WORDS),
        ("policy_sha256", _WORDS),
        ("routes", _TEXTS),
        ("asset_type", _WORDS),
        ("category", _WORDS),
        ("criticality", _WORDS),
        ("device", _WORDS),
        ("synthetic", pa.bool_()),
        ("variant", pa.int32()),
        ("digest", pa.string()),  # sha256 of the key: where the record lies
        ("stamp", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A table that was brought up to date. unreadable: records that are none (any more)."""

    path: Path
    rows: int
    images: int
    read: int
    removed: int
    unreadable: int


def rebuild(store: Store, catalog: str, path: Path) -> Rebuilt:
    """Bring the table of a catalog up to date with its records. Raises ImgflowError."""
    before = _read(path)
    stamps = {(digest, str(each)): stamp for digest, each, stamp in store.record_stamps(catalog)}
    known = _stamps_of(before)
    kept = before.filter(
        pa.array([stamps.get(place) == stamp for place, stamp in known.items()], pa.bool_())
    )
    changed = {place for place, stamp in stamps.items() if known.get(place) != stamp}
    new = list(_rows(store, catalog, changed, stamps))
    table = pa.concat_tables([kept, pa.Table.from_pylist(new, SCHEMA)]).unify_dictionaries()
    table = _sorted(table)
    with replacing(path) as partial:
        pq.write_table(table, partial, compression="zstd")
    return Rebuilt(
        path=path,
        rows=table.num_rows,
        images=pc.count_distinct(table["digest"]).as_py(),
        read=len(new),
        removed=len(set(known) - set(stamps)),
        unreadable=len(changed) - len(new),
    )


def read_table(path: Path) -> pd.DataFrame:
    """The table as pandas has it, its columns typed by Arrow."""
    return pd.read_parquet(path, dtype_backend="pyarrow")


def _read(path: Path) -> pa.Table:
    """The table as it was; empty where there is none, or one of another imgflow."""
    try:
        found = pq.read_table(path)
    except (FileNotFoundError, pa.ArrowInvalid):
        return SCHEMA.empty_table()
    return found if found.schema.equals(SCHEMA) else SCHEMA.empty_table()


def _stamps_of(table: pa.Table) -> dict[tuple[str, str], str]:
    columns = (table[name].to_pylist() for name in ("digest", "version", "stamp"))
    return {(digest, version): stamp for digest, version, stamp in zip(*columns, strict=True)}


def _sorted(table: pa.Table) -> pa.Table:
    order = {str(version): at for at, version in enumerate(Version)}
    at = pa.array([order[each] for each in table["version"].to_pylist()], pa.int8())
    keys = pa.table({"key": table["key"], "at": at})
    return table.take(pc.sort_indices(keys, [("key", "ascending"), ("at", "ascending")]))


def _rows(
    store: Store,
    catalog: str,
    changed: set[tuple[str, str]],
    stamps: Mapping[tuple[str, str], str],
) -> Iterator[dict[str, Any]]:
    for digest in sorted({digest for digest, _ in changed}):
        for files in store.image_files(catalog, digest):
            for version, text in files.current.items():
                place = digest, str(version)
                if place not in changed:
                    continue
                try:
                    record = Record.from_json(text)
                except (ValueError, StoreError):
                    continue  # the audit tells of those
                yield {**row(record), "digest": digest, "stamp": stamps[place]}


def row(record: Record) -> dict[str, Any]:
    """A record's row, without where it lies."""
    engines = [each.engine for each in record.operations if each.engine]
    output = record.output
    costs = [each.cost for each in record.operations if each.cost is not None]
    # Where nothing was repaired, a detector may have been paid all the same.
    cost = record.measures.get("cost", sum(costs) if costs else None)
    refs = [each.object for each in record.renditions] or ([output] if output else [])
    devices = sorted({each.device for each in record.operations})
    return {
        "key": record.key,
        "version": str(record.version),
        "verdict": str(record.verdict),
        "reason": record.reason.code if record.reason else None,
        "message": record.reason.message if record.reason else None,
        "original_sha256": record.original_sha256,
        "input_sha256": record.input.sha256 if record.input else None,
        "output_sha256": output.sha256 if output else None,
        "width": output.width if output else None,
        "height": output.height if output else None,
        "size": sum(each.size for each in refs) if refs else None,
        "operations": [each.name for each in record.operations],
        "models": [each.model_id for each in engines],
        "weights": [each.weights_sha256 or "" for each in engines],
        "masks": [each.mask.sha256 for each in record.operations if each.mask],
        "seeds": [each.seed for each in record.operations if each.seed is not None],
        "prompts": [each.prompt for each in record.operations if each.prompt],
        "requested_by": [each.requested_by for each in record.operations],
        "cost": cost,
        **{metric: _worst(record.gates, metric) for metric in METRICS},
        "gates_failed": [each.name for each in record.gates if each.passed is False],
        "renditions": len(record.renditions),
        "decisions": [f"{each.person}: {each.action}" for each in record.decisions],
        "started_at": record.started_at,
        "seconds": record.seconds,
        "run_id": record.run_id,
        "imgflow_version": record.imgflow_version,
        "code_version": record.code_version,
        "policy_sha256": record.policy_sha256,
        "routes": record.routes,
        **{name: record.traits.get(name, "") for name in ("asset_type", "category", "criticality")},
        "device": "+".join(devices) or None,
        "synthetic": record.synthetic,
        "variant": record.variant,
    }


def _worst(gates: list[GateResult], name: str) -> float | None:
    """Of several results the one that is farthest on the wrong side of its limit."""
    found = [each for each in gates if each.name == name and each.value is not None]
    if not found:
        return None
    falls = name in ("edge_continuity", "halo", "artifact_rate")  # the higher, the worse
    values = [each.value for each in found if each.value is not None]
    return max(values) if falls else min(values)
