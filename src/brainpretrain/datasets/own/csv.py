"""A table of paths as a data set, described by options in `datasets:` of the config."""

from __future__ import annotations

import csv
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

from brainpretrain.datasets.base import (
    EXTENSIONS,
    Dataset,
    Layout,
    NotInPlace,
    Row,
    Scan,
    as_on_disk,
    duplicates,
    nfc,
    refuse,
    same_names,
    some,
    volume_id,
)
from brainpretrain.datasets.own.options import Options, dataset, parse
from brainpretrain.errors import UserError, nearest
from brainpretrain.words import count

NEEDED = ("subject", "sequence", "path")
OPTIONAL = ("patient", "session", "run", "subset", "site", "label", "channel")
LISTED = 5  # largest number of volumes in several lines that a message lists


class Csv(Options):
    """`file`: the table, relative to the folder of the data set. It is UTF-8, with the columns NEEDED and OPTIONAL separated by
    commas, semicolons or tabs."""

    file: str


def describe(**options: Any) -> Dataset:
    """The data set that a table describes. Paths in the table are absolute, or relative to the folder of the data set.

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
    """The volumes of the table. One error lists all problems, each kind with the number of its lines."""
    table = root / file
    if not table.is_file():
        raise NotInPlace(
            f"the table '{file}' of the data set does not exist", where=table, fix="put it there, or correct 'file:'"
        )
    rows, problems = [], []
    for number, line in _lines(table):
        surplus = line.pop(None, None)
        row = {key: _cell(root, key, value or "") for key, value in line.items()}
        problems += [(number, *problem) for problem in _problems(root, row)]
        if surplus:
            problems.append((number, "more fields than columns (a value that holds the separator needs quotes)", ""))
        rows.append(_row(row))
    lines = _by_kind(problems)
    lines += [f"{line} (give them a 'run')" for line in duplicates(rows)[:LISTED]]
    lines += [f"... and {count(more, 'more volume')} in several lines"] if (more := len(duplicates(rows)) - LISTED) > 0 else []
    lines += same_names(rows)
    refuse(dataset.name, table, lines, [], fix=f"correct these lines of the table; relative paths begin in {root}")
    return Scan("table", sorted(rows, key=lambda row: row["volume"]), [], [])


def _cell(root: Path, column: str, value: str) -> str:
    """A value of the table; an absolute path below `root` becomes relative, so that the folder can move."""
    value = value.strip()
    if column not in ("path", "label"):
        return nfc(value)
    if value and Path(value).is_absolute():
        for folder in (root.absolute(), root.resolve()):
            if Path(value).is_relative_to(folder):
                value = Path(value).relative_to(folder).as_posix()
    return as_on_disk(root, value)


def _by_kind(problems: list[tuple[int, str, str]]) -> list[str]:
    """One line for each kind of problem, with the number of lines of the table and the first of them."""
    kinds: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for number, kind, detail in problems:
        kinds[kind].append((number, detail))
    lines = []
    for kind, cases in kinds.items():
        if not cases[1:]:
            number, detail = cases[0]
            lines.append(f"line {number}: {kind}" + (f": {detail}" if detail else ""))
        else:
            named = [f"line {number}" + (f": {detail}" if detail else "") for number, detail in cases]
            lines.append(f"{kind}, in {len(cases):,} lines: {some(named)}")
    return lines


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


def _problems(root: Path, row: dict[str, str]) -> list[tuple[str, str]]:
    """What is wrong with a line: kinds of problems, each with the value."""
    problems = [(f"no {name}", "") for name in NEEDED if not row[name]]
    for name in ("path", "label"):
        path = row.get(name, "")
        if path and not (root / path).is_file():
            problems.append((f"{name} missing", path))
        elif path and not path.lower().endswith(EXTENSIONS):
            problems.append((f"{name} is no NIfTI file", path))
    if not row.get("channel", "").isdigit() and row.get("channel"):
        problems.append(("the channel is not a number", row["channel"]))
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
