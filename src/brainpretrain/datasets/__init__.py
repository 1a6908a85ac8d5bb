"""A name is a file: `datasets/<name>.py` describes the data set `<name>` in its `DATASET`."""

from __future__ import annotations

import importlib
from pathlib import Path

from brainpretrain.datasets.base import Dataset
from brainpretrain.errors import UserError, nearest

_HELPERS = ("base", "fetch")


def names() -> list[str]:
    """All data sets that have a module."""
    return sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py") if path.stem not in _HELPERS)


def load(name: str) -> Dataset:
    """The description of one data set.

    Raises:
        UserError: there is no such module; names the nearest one.
    """
    if name not in names():
        raise UserError(f"no data set '{name}'", where="datasets", fix=nearest(name, names()))
    return importlib.import_module(f"{__name__}.{name}").DATASET
