"""Records as Dagster events. The one place that touches a private class of Dagster's."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    # Without this target, automation never takes a logged check as passed.
    AssetCheckEvaluationTargetMaterializationData,
)

from imgflow.defs.checks import CHECKS, CheckResult, check_result
from imgflow.defs.eventlog import RECORD_TAG
from imgflow.defs.naming import PLAIN, Part
from imgflow.lineage.events import RECORD_DIGITS
from imgflow.lineage.record import Record, Version
from imgflow.store.keys import ImageKey
from imgflow.store.store import Store


@dataclass(frozen=True, slots=True)
class Stored:
    """A materialization in the event log: what later versions and checks point at."""

    data_version: str
    target: AssetCheckEvaluationTargetMaterializationData


def report(
    context: dg.AssetExecutionContext,
    record: Record,
    store: Store,
    upstream: Mapping[Version, Stored],
    code_version: str,
    part: Part = PLAIN,
) -> Generator[dg.AssetMaterialization, None, Stored | None]:
    """A version's materialization, unless it stopped, and once that is stored, its checks.

    upstream: the image's earlier versions. code_version: the asset's. Returns the stored
    materialization.
    """
    stored = None
    if not record.verdict.stops:
        yield materialization(record, store, upstream, code_version, part)
        stored = latest(context.instance, record.version, record.key, part)
    checks, asset = context.selected_asset_check_keys, dg.AssetKey(part.path(record.version))
    for name in CHECKS[record.version]:
        result = check_result(record, name)
        if result is not None and dg.AssetCheckKey(asset, name) in checks:
            context.log_event(_evaluation(record, name, result, asset, stored))
    return stored


def materialization(
    record: Record,
    store: Store,
    upstream: Mapping[Version, Stored],
    code_version: str,
    part: Part = PLAIN,
) -> dg.AssetMaterialization:
    """The event for a version that was made, or found made.

    Dagster tells stale versions by the tags: what each input was, which event said so, and the
    asset's code version. A record has the code version of its image's own route instead. One more
    tag says which record the event is of: the audit holds the two against each other.
    """
    tags = {
        "dagster/data_version": record.data_version,
        "dagster/data_version_is_user_provided": "true",
        "dagster/code_version": code_version,
    }
    sha256 = store.record_sha256(record.catalog, ImageKey(record.key), record.version)
    if sha256:
        tags[RECORD_TAG] = sha256[:RECORD_DIGITS]
    for version, stored in upstream.items():
        asset = "/".join(part.path(version))
        tags[f"dagster/input_data_version/{asset}"] = stored.data_version
        tags[f"dagster/input_event_pointer/{asset}"] = str(stored.target.storage_id)
    return dg.AssetMaterialization(
        asset_key=part.path(record.version),
        partition=record.key,
        description=_summary(record),
        metadata=_metadata(record, store),
        tags=tags,
    )


def latest(
    instance: dg.DagsterInstance, version: Version, key: str, part: Part = PLAIN
) -> Stored | None:
    """The latest materialization of an image's version."""
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey(part.path(version)), asset_partitions=[key]),
        limit=1,
    ).records
    if not records:
        return None
    (found,) = records
    event = found.asset_materialization
    tags = event.tags if event is not None else None
    return Stored(
        data_version=(tags or {}).get("dagster/data_version", ""),
        target=AssetCheckEvaluationTargetMaterializationData(
            storage_id=found.storage_id,
            run_id=found.event_log_entry.run_id,
            timestamp=found.event_log_entry.timestamp,
        ),
    )


def _evaluation(
    record: Record, name: str, result: CheckResult, asset: dg.AssetKey, stored: Stored | None
) -> dg.AssetCheckEvaluation:
    metadata: dict[str, float] = {}
    if result.value is not None:
        metadata["value"] = result.value
    if result.threshold is not None:
        metadata["threshold"] = result.threshold
    return dg.AssetCheckEvaluation(
        asset_key=asset,
        check_name=name,
        passed=result.passed,
        severity=dg.AssetCheckSeverity.WARN if result.warning else dg.AssetCheckSeverity.ERROR,
        description=result.description,
        metadata=metadata,
        partition=record.key,
        target_materialization_data=stored.target if stored else None,
    )


def _summary(record: Record) -> str:
    done = [operation.name for operation in record.operations]
    what = ", ".join(done) if done else "; ".join(record.notes)
    return f"{record.verdict}: {what}" if what else str(record.verdict)


def _metadata(record: Record, store: Store) -> dict[str, dg.MetadataValue]:
    """What a person wants to know at a glance; the record has the rest."""
    metadata: dict[str, dg.MetadataValue] = {
        "verdict": dg.MetadataValue.text(str(record.verdict)),
        "seconds": dg.MetadataValue.float(record.seconds),
    }
    if record.synthetic:
        made = record.generation or {}
        metadata["synthetic"] = dg.MetadataValue.text(
            f"made by {made.get('model_id') or 'an unknown model'}, seed {made.get('seed')}, "
            f"prompt: {made.get('prompt') or 'unknown'}"
        )
    if record.notes:
        metadata["notes"] = dg.MetadataValue.text("; ".join(record.notes))
    for operation in record.operations:
        if operation.engine is not None:
            engine = operation.engine
            weights = f", weights {engine.weights_sha256}" if engine.weights_sha256 else ""
            metadata["model"] = dg.MetadataValue.text(engine.model_id + weights)
        if operation.seed is not None:
            metadata["seed"] = dg.MetadataValue.int(operation.seed)
        if operation.prompt:
            metadata["prompt"] = dg.MetadataValue.text(operation.prompt)
        if operation.regions:
            texts = ", ".join(region.text for region in operation.regions)
            metadata["text removed"] = dg.MetadataValue.text(texts)
        if operation.mask is not None:
            metadata["mask"] = dg.MetadataValue.path(store.location(operation.mask))
    for name, value in record.measures.items():
        metadata[name] = dg.MetadataValue.float(value)
    if record.output is not None and not record.renditions:
        metadata["picture"] = dg.MetadataValue.path(store.location(record.output))
        if record.output.width and record.output.height:
            size = f"{record.output.width} x {record.output.height}"
            metadata["size"] = dg.MetadataValue.text(size)
    for rendition in record.renditions:
        published = store.published_location(record.catalog, rendition.path)
        metadata[rendition.name] = dg.MetadataValue.path(published)
    return metadata
