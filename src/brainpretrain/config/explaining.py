"""Validation of plain data, with every error in words: the key, the value found, and the nearest valid key."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from brainpretrain.config.sections import NAME
from brainpretrain.errors import UserError, nearest

_NOT_A_NUMBER = {
    "float_parsing": "{!r} is not a number; write it as 0.5 or 1.0e-4",
    "int_parsing": "{!r} is not a whole number; write it as 1000",
}


def validate(model: type[BaseModel], content: Any, where: str) -> Any:
    """A pydantic model from plain data.

    Raises:
        UserError: lists all errors that pydantic finds.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise UserError(
            "\n".join(_explain(model, problem) for problem in error.errors()), where=where, fix="correct the keys named above"
        ) from error


def _explain(model: type[BaseModel], problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        word = str(problem["loc"][-1])
        return f"{key}: unknown key; {nearest(word, [k for k in _keys_at(model, problem['loc'][:-1]) if k != word])}"
    if problem["type"] == "missing":
        return f"{key}: missing"
    if problem["type"] in _NOT_A_NUMBER:
        return f"{key}: {_NOT_A_NUMBER[problem['type']].format(problem['input'])}"
    if problem["type"] == "string_pattern_mismatch" and problem["ctx"]["pattern"] == NAME:
        key = key.removesuffix(".[key]")
        return f"{key}: {problem['input']!r} becomes a part of paths; write it with small letters (a to z), digits and _"
    # the input of an error about a whole entry would be too long to show
    value = "" if isinstance(problem["input"], dict) else f" (found {problem['input']!r})"
    return f"{f'{key}: ' if key else ''}{problem['msg'].removeprefix('Value error, ')}{value}"


def _keys_at(model: type[BaseModel], path: tuple) -> list[str]:
    """Valid keys of the mapping at `path` inside `model`, for the hint after an unknown key."""
    schema = model.model_json_schema()
    nodes = [schema]
    for part in path:
        children = [_child(node, part) for node in _alternatives(nodes, schema)]
        nodes = [child for child in children if child] or nodes  # the tag of a union is in the path, but is not a key
    return [key for node in _alternatives(nodes, schema) for key in node.get("properties", {})]


def _alternatives(nodes: list[dict], schema: dict) -> list[dict]:
    """The nodes with references followed and unions opened."""
    followed = [_deref(node, schema) for node in nodes]
    return [
        alternative
        for node in followed
        for alternative in (node, *(_deref(choice, schema) for choice in node.get("anyOf", []) + node.get("oneOf", [])))
    ]


def _child(node: dict, part: str | int) -> dict | None:
    return node.get("items") if isinstance(part, int) else node.get("properties", {}).get(part)


def _deref(node: dict, schema: dict) -> dict:
    return schema["$defs"][node["$ref"].rsplit("/", 1)[-1]] if "$ref" in node else node
