"""A photo's lineage in words: from its original to each published file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from imgflow.lineage.record import GateResult, ObjectRef, Operation, Record, Version


def story(records: Mapping[Version, Record]) -> Iterator[str]:
    """Lines of text, each version's beginning with its name. Hashes stand there in full."""
    first = next((records[version] for version in Version if version in records), None)
    if first is None:
        return
    rights = ", ".join(f"{name} {text}" for name, text in first.rights.items() if text)
    yield f"original    {first.original_sha256 or 'none'}" + (f"  {rights}" if rights else "")
    for name, sha256 in first.attachments.items():
        yield f"  {'manifest' if name == '/manifest' else name}  {sha256}"
    for version in Version:
        if version in records:
            yield from _version(records[version])


def _version(record: Record) -> Iterator[str]:
    made = record.started_at.astimezone().isoformat(" ", "seconds")
    output = "" if record.renditions or record.output is None else f"  {_picture(record.output)}"
    yield f"{record.version!s:<11} {record.verdict}{output}"
    yield (
        f"  {made}, {record.seconds:.2f} s, run {record.run_id}, imgflow {record.imgflow_version}, "
        f"code {record.code_version}"
    )
    routes = f", routes {', '.join(record.routes)}" if record.routes else ""
    yield f"  policy {record.policy_sha256}{routes}"
    for operation in record.operations:
        yield from _operation(operation)
    if record.gates:
        yield f"  gates: {'; '.join(map(_gate, record.gates))}"
    if record.reason is not None:
        yield f"  stopped: {record.reason.message} ({record.reason.code})"
    if record.rejected is not None:
        yield f"  rejected {_picture(record.rejected)}"
    for note in record.notes:
        yield f"  note: {note}"
    for decision in record.decisions:
        at = decision.at.astimezone().isoformat(" ", "seconds")
        comment = f": {decision.comment}" if decision.comment else ""
        yield f"  {decision.person} decided '{decision.action}' at {at}{comment}"
    if record.synthetic:
        yield f"  synthetic, variant {record.variant}"
    for rendition in record.renditions:
        yield f"  {rendition.name}  {_picture(rendition.object)}  {rendition.path}"


def _picture(ref: ObjectRef) -> str:
    size = f"  {ref.width} x {ref.height}" if ref.width and ref.height else ""
    return f"{ref.sha256}{size}"


def _operation(operation: Operation) -> Iterator[str]:
    engine = operation.engine
    by = ""
    if engine is not None:
        weights = f"weights {engine.weights_sha256}" if engine.weights_sha256 else "no weights"
        by = f" by {engine.name} ({engine.model_id}, {weights})"
    where = f", on {operation.device}" if operation.device != "cpu" else ""
    remote = f", at {operation.endpoint}" if operation.endpoint else ""
    cost = f", cost {operation.cost:g}" if operation.cost is not None else ""
    yield f"  {operation.name}{by}, asked by {operation.requested_by}{where}{remote}{cost}"
    if operation.seed is not None:
        yield f"    seed {operation.seed}"
    for name, prompt in (("prompt", operation.prompt), ("not", operation.negative_prompt)):
        if prompt:
            yield f"    {name}: {prompt}"
    if operation.mask is not None:
        yield f"    mask {operation.mask.sha256}"
    if operation.regions:
        yield "    text: " + ", ".join(repr(region.text) for region in operation.regions)
    if operation.parameters:
        yield f"    {_words(operation.parameters)}"
    if operation.tile_plan:
        yield f"    tiles: {_words(operation.tile_plan)}"


def _words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _gate(gate: GateResult) -> str:
    if gate.passed is None:
        return f"{gate.name} not evaluated"
    value = "" if gate.value is None else f" {gate.value:g}"
    limit = "" if gate.threshold is None else f" (limit {gate.threshold:g})"
    return f"{gate.name}{value}{limit} {'passed' if gate.passed else 'failed'}"
