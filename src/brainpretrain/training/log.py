"""Reads log.csv, which the callback `Trace` writes; docs/training.md lists its columns. Imports no torch."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd

from brainpretrain.errors import UserError


def read_log(path: Path) -> list[dict[str, str]]:
    """The rows as text; none if the file does not exist. A row that a kill cut short is left out."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if None not in row.values() and row["step"].isdigit()]
    for row in rows:
        row.pop(None, None)  # an earlier version wrote columns that its header did not have
    return rows


def read_curves(path: Path) -> pd.DataFrame:
    """The rows as numbers, NaN for an empty cell.

    Raises:
        UserError: the file is missing or has no row yet.
    """
    if not path.exists():
        raise UserError("file not found", where=path, fix="run the training")
    rows = read_log(path)
    if not rows:
        raise UserError("the log has no row", where=path, fix="let the training run for at least one epoch")
    return pd.DataFrame(rows).apply(pd.to_numeric, errors="coerce")
