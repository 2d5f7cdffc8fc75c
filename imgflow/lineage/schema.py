"""The JSON Schema of records, for programs that read them without imgflow."""

from __future__ import annotations

from typing import Any

from imgflow.lineage.record import SCHEMA_VERSION, Record


def record_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a record as it is written."""
    schema = Record.model_json_schema(mode="serialization")
    schema["properties"]["seal"] = {
        "description": "sha256 of the text before it, closed with a line break and a brace",
        "pattern": "^[0-9a-f]{64}$",
        "title": "Seal",
        "type": "string",
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:imgflow:record:{SCHEMA_VERSION}",
        **schema,
        "title": f"imgflow record, version {SCHEMA_VERSION}",
        "required": [*schema["required"], "seal"],
    }
