"""Fixtures of other programs, run through this project's code: `brainpretrain parity FOLDER`.

A fixture is a JSON file with what a method does in words, inputs by formula, and expected figures. Each file of this folder that
defines `check` is one kind of fixture:

- `reads(content) -> bool`: whether a fixture, as read from JSON, is of this kind,
- `check(content) -> Iterator[Line]`: a line for each group of figures; with a second parameter, `draw`, if it draws.

Chance alone puts one in some thousand comparisons of draws off. So a group of draws that is off is drawn once more, and is off
if it is off twice.

Sizes, formulas, cases and figures are read from the fixture; no number of a fixture is in the code.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from brainpretrain.errors import UserError, first_line
from brainpretrain.parity.compare import Line


def kinds() -> list[str]:
    """Kinds of fixtures: the files of this folder with a function `check`."""
    files = Path(__file__).parent.glob("[a-z]*.py")
    return sorted(path.stem for path in files if "\ndef check(" in path.read_text(encoding="utf-8"))


def kind_of(content: Mapping[str, Any]) -> ModuleType | None:
    """The module that reads a fixture; None if there is none."""
    modules = (importlib.import_module(f"brainpretrain.parity.{name}") for name in kinds())
    return next((module for module in modules if module.reads(content)), None)


def lines(path: Path) -> Iterator[Line] | None:
    """The lines of one fixture; None if no module reads files of its kind.

    Raises:
        UserError: the file is no JSON object. A fixture that its module cannot run gives a line that is off.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"not a fixture: {first_line(error)}", where=path, fix="give a folder of JSON fixtures") from error
    module = kind_of(content) if isinstance(content, dict) else None
    return None if module is None else _guarded(module, content)


def _guarded(module: ModuleType, content: Mapping[str, Any]) -> Iterator[Line]:
    """Lines up to an error, which is a line that is off, so that other fixtures are still run."""
    again: dict[str, Line] | None = None
    try:
        for line in module.check(content):
            if line.drawn and not line.passes and "draw" in inspect.signature(module.check).parameters:
                again = again or {other.name: other for other in module.check(content, draw=1)}
                line = again.get(line.name, line)
            yield line
    except Exception as error:  # of any kind: a fixture is input, and one that cannot be run must not hide the others
        yield Line(f"cannot be run: {type(error).__name__}: {first_line(error)}", float("nan"), 0.0)


def fixtures(folder: Path) -> list[Path]:
    """JSON files of a folder, by name.

    Raises:
        UserError: there is no such folder, or no JSON file in it.
    """
    found = sorted(folder.glob("*.json"))
    if not found:
        raise UserError("no fixture here", where=folder, fix="give a folder of JSON fixtures")
    return found
