"""A name is a file: `datasets/<name>.py` describes the data set `<name>` in its `DATASET`.

The templates for a user's own data are in `own/` (`bids`, `csv`, `nnunet`); each has a function `describe` that takes options.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brainpretrain.datasets.base import Dataset
from brainpretrain.errors import UserError, nearest

TEMPLATES = ("bids", "csv", "nnunet")


def names() -> list[str]:
    """All data sets that have a module."""
    return sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py") if path.stem != "base")


@functools.cache  # asked for once per job of a plan
def load(name: str) -> Dataset:
    """The description of one data set.

    Raises:
        UserError: there is no such module; names the nearest one.
    """
    if name not in names():
        raise UserError(f"no data set '{name}'", where="datasets", fix=nearest(name, [*names(), *TEMPLATES]))
    return importlib.import_module(f"{__name__}.{name}").DATASET


def describe(module: str, options: Mapping[str, Any]) -> Dataset:
    """The description of a data set that may be the user's own.

    Args:
        module: a name of `names()`, or one of TEMPLATES.
        options: what a template needs to know. Of another module they are its own affair (`generate` of an embedded one).

    Raises:
        UserError: no such module, or options that do not fit the template.
    """
    if module in TEMPLATES:
        return importlib.import_module(f"{__name__}.own.{module}").describe(**options)
    return load(module)
