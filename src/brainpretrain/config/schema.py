"""JSON schema of the files under `config/`, for editors: `config/schema.json`, written by the command `schema`."""

from __future__ import annotations

from typing import Any

from brainpretrain.config.sections import SECTIONS, Settings, Study


def json_schema() -> dict[str, Any]:
    """One schema for all files. Entries may be partial, since `like:` completes them."""
    definitions: dict[str, Any] = {}
    properties: dict[str, Any] = {}
    for section, model in SECTIONS.items():
        entry = model.model_json_schema(ref_template="#/$defs/{model}")
        definitions |= entry.pop("$defs", {})
        entry.pop("required", None)
        entry.setdefault("properties", {})["like"] = {"type": "string", "description": "start from this entry"}
        definitions[f"{section}_entry"] = entry
        properties[section] = {"type": "object", "additionalProperties": {"$ref": f"#/$defs/{section}_entry"}}
    for head in (Settings, Study):
        schema = head.model_json_schema(ref_template="#/$defs/{model}")
        definitions |= schema.pop("$defs", {})
        properties |= schema["properties"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "brainpretrain config",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "$defs": definitions,
    }
