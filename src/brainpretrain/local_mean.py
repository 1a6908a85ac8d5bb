"""Whether a pretraining reconstructs hidden voxels better than the mean of the visible voxels around them."""

from __future__ import annotations

import csv
from pathlib import Path

COLUMNS = ("val_loss_hidden", "val_loss_mean")


def errors(log: Path) -> tuple[float, float] | None:
    """Validation error at hidden voxels of the network, and of the local mean, in the last validation.

    Args:
        log: log.csv of a pretraining.

    Returns:
        None if there is no such file, or it does not have both: a pretext without masked voxels.
    """
    if not log.exists():
        return None
    with open(log, newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if all(row.get(name) for name in COLUMNS)]
    return (float(rows[-1][COLUMNS[0]]), float(rows[-1][COLUMNS[1]])) if rows else None


def warning(log: Path, name: str) -> str:
    """A line on a pretraining that ends no better than the local mean, for readers; '' if it is better, or that is unknown.

    Args:
        log: its log.csv.
        name: of the pretraining.
    """
    found = errors(log)
    if found is None or found[0] < found[1]:
        return ""
    return (
        f"The pretraining {name} ends no better than the local mean: validation error at hidden voxels {found[0]:.4f}, of the"
        f" mean of the visible voxels around {found[1]:.4f}. What starts from it says little about pretraining."
    )
