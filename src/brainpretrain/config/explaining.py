"""Validation of plain data, with every error in words: the key, the value found, and the nearest valid key."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from brainpretrain.config import placing
from brainpretrain.config.sections import NAME
from brainpretrain.errors import UserError, nearest

# pydantic's kinds of errors in words; the value is put in
_WORDS = {
    "float_parsing": "{!r} is not a number; write it as 0.5 or 1.0e-4",
    "float_type": "{!r} is not a number; write it as 0.5 or 1.0e-4",
    "int_parsing": "{!r} is not a whole number; write it as 1000",
    "int_type": "{!r} is not a whole number; write it as 1000",
    "int_from_float": "{!r} is not a whole number; write it as 1000",
    "list_type": "{!r} is not a list; write it in brackets, as [a, b], or as lines that begin with '- '",
    "string_type": "{!r} is not text; put it in quotes",
    "dict_type": "{!r} is not a mapping; write 'key: value' lines below it, or {{key: value}}",
    "model_type": "{!r} is not a mapping; write 'key: value' lines below it, or {{key: value}}",
    "model_attributes_type": "{!r} is not a mapping; write 'key: value' lines below it, or {{key: value}}",
    "bool_parsing": "{!r} is neither true nor false",
    "bool_type": "{!r} is neither true nor false",
}
LONGEST = 60  # characters of a value that a message shows


def validate(model: type[BaseModel], content: Any, where: str) -> Any:
    """A pydantic model from plain data.

    Args:
        where: the place of the data; of a YAML file and its keys as in `placing.place`, each error gets its line.

    Raises:
        UserError: lists all errors that pydantic finds.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        lines = [f"{_explain(model, problem)}{_line(where, problem['loc'])}" for problem in error.errors()]
        raise UserError("\n".join(dict.fromkeys(lines)), where=where, fix="correct the keys named above") from error


def _line(where: str, keys: tuple) -> str:
    """' (line 12)' of a problem in a YAML file; '' elsewhere."""
    known = placing.place(where)
    line = placing.line_of(known[0], [*known[1], *keys]) if known else None
    return f" (line {line})" if line else ""


def _explain(model: type[BaseModel], problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        word = str(problem["loc"][-1])
        return f"{key}: unknown key; {nearest(word, [k for k in _keys_at(model, problem['loc'][:-1]) if k != word])}"
    if problem["type"] == "missing":
        return f"{key}: missing"
    if problem["type"] in _WORDS and not (isinstance(problem["input"], dict | list) and len(repr(problem["input"])) > LONGEST):
        return f"{key}: {_WORDS[problem['type']].format(problem['input'])}"
    if problem["type"] == "string_pattern_mismatch" and problem["ctx"]["pattern"] == NAME:
        key = key.removesuffix(".[key]")
        return f"{key}: {problem['input']!r} becomes a part of paths; write it with small letters (a to z), digits and _"
    # the input of an error about a whole entry would be too long to show
    value = "" if isinstance(problem["input"], dict) else f" (found {problem['input']!r})"
    said = problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    return f"{f'{key}: ' if key else ''}{said}{value}"


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
