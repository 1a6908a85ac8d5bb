"""A name is a file: `unet` is `backbones/unet.py`. No registry, no list to keep."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from brainpretrain.errors import UserError, nearest


def names(folder: str) -> list[str]:
    """Modules of the sub-package `folder` that have a `build`; nothing is imported."""
    files = (Path(__file__).parent / folder).glob("[a-z]*.py")
    return sorted(path.stem for path in files if "\ndef build(" in path.read_text(encoding="utf-8"))


def module(folder: str, name: str) -> ModuleType:
    """Imports `brainpretrain.<folder>.<name>`.

    Raises:
        UserError: there is no such file; names the nearest one.
    """
    known = names(folder)
    if name not in known:
        raise UserError(f"there is no {folder}/{name}.py", where=name, fix=nearest(name, known))
    return importlib.import_module(f"brainpretrain.{folder}.{name}")


def check_options(function: Callable, options: Mapping[str, Any], where: str) -> None:
    """Compares `options` with the keyword-only parameters of `function`.

    Raises:
        UserError: an option is unknown or missing; names the nearest one.
    """
    keywords = {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    for name in options:
        if name not in keywords:
            raise UserError(
                f"unknown option '{name}'", where=where, fix=nearest(name, list(keywords)) if keywords else "remove it"
            )
    missing = [name for name, found in keywords.items() if found.default is found.empty and name not in options]
    if missing:
        raise UserError(f"missing options: {', '.join(missing)}", where=where, fix="give them in the config entry")
