"""A name is a file: `datasets/<name>.py` describes the data set `<name>` in its `DATASET`.

The templates for a user's own data are the files of `own/`; each has a function `describe` that takes options.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brainpretrain.datasets.base import Dataset
from brainpretrain.errors import UserError, nearest

_FOLDER = Path(__file__).parent
TEMPLATES = tuple(sorted(path.stem for path in (_FOLDER / "own").glob("[a-z]*.py") if path.stem != "options"))


def names() -> list[str]:
    """The names of all data sets that have a module."""
    return sorted(path.stem for path in _FOLDER.glob("[a-z]*.py") if path.stem != "base")


@functools.cache  # a plan calls it once per job
def load(name: str) -> Dataset:
    """The description of one data set.

    Raises:
        UserError: there is no such module; the message names the nearest one.
    """
    if name not in names():
        raise UserError(f"no data set '{name}'", where="datasets", fix=nearest(name, [*names(), *TEMPLATES]))
    return importlib.import_module(f"{__name__}.{name}").DATASET


def describe(module: str, options: Mapping[str, Any]) -> Dataset:
    """The description of a data set, which may be the user's own.

    Args:
        module: a name of `names()`, or one of TEMPLATES.
        options: arguments of a template. They do not change the description of any other module; an embedded data set passes its
            options to `generate`.

    Raises:
        UserError: there is no such module, or the options do not fit the template.
    """
    if module in TEMPLATES:
        return importlib.import_module(f"{__name__}.own.{module}").describe(**options)
    return load(module)
