"""Entries of several files become one catalogue, and `like:` starts an entry from another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from brainpretrain.errors import UserError, nearest

# true of one entry alone, so neither `like:` nor a study's own version inherits it
_NOT_INHERITED = ("note", "expected")

# their results lie next to the studies, under the name of the entry, so no study may change them
_SHARED = ("datasets", "preprocess", "weights")

# options of a choice: another method, architecture or decoder starts without the options of the former one
_OPTIONS_OF = {"method": ("options",), "architecture": ("options",), "decoder": ("decoder_options",)}


class Catalogue:
    """The raw entries of all files, by section and name, with the file that defines each.

    Args:
        sections: the sections that a file may hold.
    """

    def __init__(self, sections: Any) -> None:
        self.entries: dict[str, dict[str, Any]] = {section: {} for section in sections}
        self.files: dict[tuple[str, str], Path] = {}

    def where(self, section: str, name: str) -> str:
        """File and key of an entry, for messages."""
        return f"{self.files[section, name]}: {section}.{name}"

    def add(self, section: str, content: Any, path: Path) -> None:
        """Adds one section of a file.

        Raises:
            UserError: not a mapping; an entry whose name is not text; an entry that another file defines (but a study
                may change an entry that it starts from, by `like:` and the entry's own name).
        """
        if not isinstance(content, dict):
            raise UserError(f"'{section}' must map names to entries", where=path, fix="write '  name: {...}' below it")
        entries = self.entries[section]
        for name, entry in content.items():
            if not isinstance(name, str):
                raise UserError(f"'{section}' has an entry called {name!r}", where=path, fix="names are text; put it in quotes")
            if name in entries:
                if section in _SHARED or not isinstance(entry, dict) or entry.get("like") != name:
                    change = "" if section in _SHARED else f"; or, to change it for this study, add the key 'like: {name}'"
                    raise UserError(
                        f"'{section}.{name}' is defined in {self.files[section, name]} and again here",
                        where=path,
                        fix=f"give it another name and start it with 'like: {name}'{change}",
                    )
                entry = _changed(entries[name], entry)
            entries[name], self.files[section, name] = entry, path

    def resolve(self, section: str, name: str, chain: tuple[str, ...] = ()) -> dict[str, Any]:
        """An entry with all that it inherits by `like:`, except the fields that are never inherited (`note`, `expected`).

        Raises:
            UserError: not a mapping; `like:` names no entry of the section, or goes in a circle.
        """
        where, entries = self.where(section, name), self.entries[section]
        if name in chain:
            raise UserError(f"'like' goes in a circle: {' -> '.join((*chain, name))}", where=where, fix="remove one 'like'")
        entry = entries[name]
        if not isinstance(entry, dict):
            raise UserError("an entry must be a mapping", where=where, fix="write 'key: value' lines")
        own = {key: value for key, value in entry.items() if key != "like"}
        if "like" not in entry:
            return own
        parent = entry["like"]
        if not isinstance(parent, str) or parent not in entries:
            raise UserError(f"'like: {parent}' names no entry of '{section}'", where=where, fix=nearest(parent, list(entries)))
        return merge(_inheritable(self.resolve(section, parent, (*chain, name))), own)


def _changed(entry: Any, changes: dict[str, Any]) -> Any:
    """A catalogue entry with the changes of a study, which names the entry itself in `like:`."""
    if not isinstance(entry, dict):
        return entry  # `resolve` refuses it
    return merge(_inheritable(entry), {key: value for key, value in changes.items() if key != "like"})


def _inheritable(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in _NOT_INHERITED}


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes`, mapping by mapping; a list, a scalar and the labels of a task are replaced.

    If `changes` makes another choice (`name`, `method`, `architecture`, `decoder`), the options of the former choice go.
    """
    if "name" in changes and changes["name"] != base.get("name"):
        return dict(changes)
    dropped = {
        key for choice, keys in _OPTIONS_OF.items() if choice in changes and changes[choice] != base.get(choice) for key in keys
    }
    merged = {key: value for key, value in base.items() if key not in dropped}
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict) and key != "labels"
        merged[key] = merge(merged[key], value) if both else value
    return merged
