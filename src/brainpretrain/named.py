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
    """Names of the modules of the sub-package `folder` that define `build`; none is imported."""
    files = (Path(__file__).parent / folder).glob("[a-z]*.py")
    return sorted(path.stem for path in files if "\ndef build(" in path.read_text(encoding="utf-8"))


def module(folder: str, name: str) -> ModuleType:
    """Imports `brainpretrain.<folder>.<name>`.

    Raises:
        UserError: there is no such file; the message names the most similar one.
    """
    valid = names(folder)
    if name not in valid:
        raise UserError(f"there is no {folder}/{name}.py", where=name, fix=nearest(name, valid))
    return importlib.import_module(f"brainpretrain.{folder}.{name}")


def check_options(function: Callable, options: Mapping[str, Any], where: str) -> None:
    """Checks that `options` fit the keyword-only parameters of `function`.

    Raises:
        UserError: an option is unknown or missing; the message names the most similar parameter.
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
    missing = [name for name, word in keywords.items() if word.default is word.empty and name not in options]
    if missing:
        raise UserError(f"missing options: {', '.join(missing)}", where=where, fix="give them in the config entry")
