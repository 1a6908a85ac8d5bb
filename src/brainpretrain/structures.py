"""The label values of published schemes by structure: `datasets/structures.tsv`, which says where they are from."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from brainpretrain.errors import UserError, nearest

TABLE = Path(__file__).parent / "datasets" / "structures.tsv"
COLUMNS = ("structure33", "structure4")
SCHEMES = ("freesurfer", "muse", "neurite35", "synthseg")  # synthseg: the values of freesurfer that SynthSeg gives


@lru_cache(maxsize=1)
def rows() -> tuple[dict[str, str], ...]:
    """The lines of the table: scheme, value, name, manual, dlmuse, synthseg, structure4, structure33."""
    lines = (line for line in TABLE.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    return tuple(csv.DictReader(lines, delimiter="\t"))


def names(scheme: str) -> dict[int, str]:
    """The values of a scheme and their names."""
    return {int(row["value"]): row["name"] for row in _of(scheme)}


def values(scheme: str, classes: Iterable[str], where: str) -> dict[str, list[int]]:
    """The values of a scheme for classes whose names are structures of the table: 'hippocampus_L', 'csf'.

    Args:
        scheme: one of `SCHEMES`.
        classes: all among the 33 structures, or all among the 4.
        where: the place that names the scheme, for messages.

    Raises:
        UserError: a class is no structure of the table, or the scheme has no value for it.
    """
    classes = list(classes)
    known = {column: {row[column] for row in rows()} - {"", "no side"} for column in COLUMNS}
    column = next((column for column in COLUMNS if set(classes) <= known[column]), "")
    if not column:
        odd = min(([name for name in classes if name not in known[column]] for column in COLUMNS), key=len)
        problem = f"the scheme '{scheme}' names structures, and the task's class '{odd[0]}' is none of them"
        fix = f"{nearest(odd[0], sorted(known['structure33'] | known['structure4']))} Or give labels: {{{odd[0]}: [value, ...]}}"
        raise UserError(problem, where=where, fix=fix)
    found = {name: [int(row["value"]) for row in _of(scheme) if row[column] == name] for name in classes}
    if lacking := [name for name, group in found.items() if not group]:
        raise UserError(
            f"the scheme '{scheme}' has no value for {', '.join(lacking)}: scored as it is, the program would get 0 there",
            where=where,
            fix="score a task on the labels that both have, without these classes (their values in its `ignore`)",
        )
    return found


def _of(scheme: str) -> list[dict[str, str]]:
    if scheme == "synthseg":
        return [row for row in rows() if row["scheme"] == "freesurfer" and row["synthseg"]]
    return [row for row in rows() if row["scheme"] == scheme]
