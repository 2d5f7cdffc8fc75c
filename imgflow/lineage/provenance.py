"""What a file may say of how its picture came to be, from the records of its versions."""

from __future__ import annotations

from collections.abc import Sequence

from imgflow.imaging.xmp import Provenance, ProvenanceStep
from imgflow.lineage.record import Record

PLAIN = "digitalCapture"
ENHANCED = "algorithmicallyEnhanced"
COMPOSITE = "compositeWithTrainedAlgorithmicMedia"
SYNTHETIC = "trainedAlgorithmicMedia"
# From what somebody saw to what a model made up; a picture never becomes more real.
_INVENTED = (PLAIN, ENHANCED, COMPOSITE, SYNTHETIC)


def provenance_of(records: Sequence[Record], stated: str = "") -> Provenance:
    """How a picture came to be.

    records: of the versions up to it, in the order of the line. stated: the DigitalSourceType
    that the original's own metadata states; empty if none.
    """
    operations = [operation for record in records for operation in record.operations]
    steps = _generated(records) + tuple(
        ProvenanceStep(
            name=operation.name,
            model=operation.engine.model_id if operation.engine else "",
            weights=(operation.engine.weights_sha256 or "") if operation.engine else "",
            seed=operation.seed,
            prompt=operation.prompt or "",
        )
        for operation in operations
    )
    last = records[-1] if records else None
    return Provenance(
        source_type=_source_type(records, steps, stated),
        original_sha256=(last.original_sha256 or "") if last else "",
        source_sha256=last.output.sha256 if last and last.output else "",
        steps=steps,
    )


def _generated(records: Sequence[Record]) -> tuple[ProvenanceStep, ...]:
    """What made a picture that no camera has taken, as far as it says so."""
    told = records[0].generation if records else None
    if told is None:
        return ()
    step = ProvenanceStep(
        name="generate",
        model=told.get("model_id") or "",
        weights=told.get("weights_sha256") or "",
        seed=told.get("seed"),
        prompt=told.get("prompt") or "",
    )
    return (step,)


def _source_type(records: Sequence[Record], steps: Sequence[ProvenanceStep], stated: str) -> str:
    """The term that claims least for the picture, of what was stated and what was done."""
    if any(record.synthetic for record in records):
        done = SYNTHETIC
    elif any(step.weights for step in steps):
        done = COMPOSITE
    else:
        done = ENHANCED if steps else PLAIN
    if not stated:
        return done
    if stated not in _INVENTED:  # another term: kept while nothing was made up
        return stated if done == PLAIN else done
    return max(done, stated, key=_INVENTED.index)
