"""The line of a key in a YAML file, for messages."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from brainpretrain.errors import UserError

_WHERE = re.compile(r"(?P<file>[^:\n]+\.ya?ml)(?:: (?P<keys>[^:\n]+))?")
F = TypeVar("F", bound=Callable[..., Any])


def line_of(path: Path | str, keys: Sequence[str | int]) -> int | None:
    """The line (from 1) of the deepest of nested keys that a file has; None if it cannot be read or has none of them.

    Args:
        keys: names of mappings and numbers of lists, from the top of the file.
    """
    from brainpretrain.config.reading import _Loader  # `reading` explains its own errors with this file

    try:
        node = yaml.compose(Path(path).read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, UserError):
        return None
    line = None
    for key in keys:
        found = _child(node, key)
        if found is None:
            break
        node, line = found
    return line


def _child(node: yaml.Node | None, key: str | int) -> tuple[yaml.Node, int] | None:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if name.value == str(key):
                return value, name.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode) and str(key).isdigit() and int(key) < len(node.value):
        item = node.value[int(key)]
        return item, item.start_mark.line + 1
    return None


def place(where: str) -> tuple[str, list[str]] | None:
    """File and keys of a place such as 'config/tasks.yaml: tasks.wmh.labels'; None if it names no YAML file."""
    match = _WHERE.fullmatch(where.split(", ")[0])
    return (match["file"], (match["keys"] or "").split(".") if match["keys"] else []) if match else None


def names_lines(function: F) -> F:
    """Adds file and line to the place of an error that a function raises: 'study.yaml: tables.main.rows.0, line 12'.

    A place without a file, such as 'tables.main', is looked up if the first argument of the function is a config.
    """

    @functools.wraps(function)
    def wrapped(*args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        except UserError as error:
            where = _with_line(_with_file(error.where, getattr(args[0], "files", None) if args else None))
            if where == error.where:
                raise
            raise type(error)(error.problem, where=where, fix=error.fix) from error

    return wrapped  # type: ignore[return-value]


def _with_file(where: str, files: Mapping[str, Mapping[str, str]] | None) -> str:
    """'tables.main.rows' as 'config/tables.yaml: tables.main.rows', if the entry is known."""
    section, _, rest = where.partition(".")
    file = (files or {}).get(section, {}).get(rest.split(".")[0])
    return f"{file}: {where}" if file else where


def _with_line(where: str) -> str:
    known = place(where)
    line = line_of(known[0], known[1]) if known and known[1] else None
    return f"{where}, line {line}" if line and ", " not in where else where
