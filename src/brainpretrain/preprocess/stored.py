"""The table of a data set's stored volumes (volumes.tsv), as later stages read it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from brainpretrain.errors import UserError
from brainpretrain.files import is_cut, read_tsv


def read_stored(path: Path) -> tuple[pd.DataFrame, Path]:
    """The table of stored volumes, and the folder that its column `file` is relative to.

    Raises:
        UserError: the table is missing or damaged; the message names the command that repairs it.
    """
    try:
        table = read_tsv(path)
        problem = "the table is cut" if is_cut(path) else ""
    except UserError as error:
        problem = error.problem
    if problem:
        raise UserError(problem, where=path, fix=f"brainpretrain repair {shlex.quote(str(path.parent))}")
    return table, path.parent


def read_stored_of(paths: Iterable[tuple[str, Path | str]], data: Path) -> dict[str, pd.DataFrame]:
    """Tables of stored volumes by data set, with the column `file` relative to the folder `data`.

    Args:
        paths: names of data sets and their tables; the tables of a name that occurs twice are joined.
        data: a folder above all tables.

    Raises:
        UserError: a table is missing or damaged.
    """
    parts: dict[str, list[pd.DataFrame]] = {}
    for name, path in paths:
        table, folder = read_stored(Path(path))
        table["file"] = [str((folder / file).relative_to(data)) if file else "" for file in table["file"]]
        parts.setdefault(name, []).append(table)
    return {name: pd.concat(tables, ignore_index=True) for name, tables in parts.items()}
