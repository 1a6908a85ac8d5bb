"""A table of paths as a data set, described by options in `datasets:` of the config."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path
from typing import Any

from brainpretrain.datasets.base import Dataset, Layout, NotInPlace, Row, Scan, as_on_disk, duplicates, refuse, volume_id
from brainpretrain.datasets.own.options import Options, dataset, parse
from brainpretrain.errors import UserError, nearest

NEEDED = ("subject", "sequence", "path")
OPTIONAL = ("patient", "session", "run", "subset", "site", "label", "channel")


class Csv(Options):
    """`file`: the table, relative to the folder of the data set. It is UTF-8, with the columns NEEDED and OPTIONAL separated by
    commas, semicolons or tabs."""

    file: str


def describe(**options: Any) -> Dataset:
    """The data set that a table describes. Paths in the table are relative to the folder of the data set.

    Raises:
        UserError: the options do not fit.
    """
    settings = parse(Csv, options)
    return dataset(
        "csv",
        settings,
        title=f"table {settings.file}",
        layouts=(Layout("table", (), (settings.file,)),),
        lister=partial(_list, file=settings.file),
    )


def _list(dataset: Dataset, root: Path, file: str) -> Scan:
    """The volumes of the table. One error lists all problems with its lines."""
    table = root / file
    if not table.is_file():
        raise NotInPlace(
            f"the table '{file}' of the data set does not exist", where=table, fix="put it there, or correct 'file:'"
        )
    rows, problems = [], []
    for number, line in _lines(table):
        if line.pop(None, None):
            problems.append(f"line {number}: more fields than columns (a value that holds the separator needs quotes)")
        row = {key: (value or "").strip() for key, value in line.items()}
        row |= {name: as_on_disk(root, row[name]) for name in ("path", "label") if row.get(name)}
        problems += [f"line {number}: {problem}" for problem in _problems(root, row)]
        rows.append(_row(row))
    problems += [f"{line} (give them a 'run')" for line in duplicates(rows)]
    refuse(dataset.name, table, problems, [], fix="correct these lines of the table")
    return Scan("table", sorted(rows, key=lambda row: row["volume"]), [], [])


def separator(first: str) -> str:
    """The separator of the columns in the first line of a table."""
    return next((mark for mark in "\t;" if mark in first), ",")


def _lines(table: Path) -> list[tuple[int, dict[Any, Any]]]:
    """The number and the values of each line; the key None holds surplus fields."""
    try:
        with open(table, newline="", encoding="utf-8-sig") as stream:
            first = stream.readline()
            stream.seek(0)
            reader = csv.DictReader(stream, delimiter=separator(first))
            columns = list(reader.fieldnames or [])
            lines = [(reader.line_num, line) for line in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"the table cannot be read: {error}", where=table, fix="save it as UTF-8") from error
    for name in columns:
        if name not in (*NEEDED, *OPTIONAL):
            raise UserError(f"unknown column '{name}'", where=table, fix=nearest(name or "", [*NEEDED, *OPTIONAL]))
    if missing := [name for name in NEEDED if name not in columns]:
        raise UserError(f"the table lacks the columns {', '.join(missing)}", where=table, fix=f"needed: {', '.join(NEEDED)}")
    if not lines:
        raise UserError("the table has no rows", where=table, fix="list the volumes")
    return lines


def _problems(root: Path, row: dict[str, str]) -> list[str]:
    problems = [f"no {name}" for name in NEEDED if not row[name]]
    for name in ("path", "label"):
        path = row.get(name, "")
        if path and Path(path).is_absolute():
            problems.append(f"{path} is absolute: give it relative to the folder of the data set")
        elif path and not (root / path).is_file():
            problems.append(f"{name} missing: {path}")
    if not row.get("channel", "").isdigit() and row.get("channel"):
        problems.append(f"channel '{row['channel']}' is not a number")
    return problems


def _row(row: dict[str, str]) -> Row:
    subject, session, label = row["subject"], row.get("session", ""), row.get("label", "")
    return {
        "volume": volume_id(subject, session, row.get("run", ""), row["sequence"]),
        "subject": subject,
        "patient": row.get("patient") or subject,
        "session": session,
        "sequence": row["sequence"],
        "subset": row.get("subset") or ("train" if label else "unlabelled"),
        "site": row.get("site", ""),
        "path": row["path"],
        "label": label,
        "channel": row.get("channel", ""),
    }
