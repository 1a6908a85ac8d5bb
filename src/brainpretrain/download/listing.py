"""The table of all data sets: access, licence, counts, and how many volumes are in place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from brainpretrain import datasets
from brainpretrain.datasets.base import Dataset, NotInPlace
from brainpretrain.download.index import scan
from brainpretrain.errors import UserError

TITLES = ("data set", "access", "subjects", "volumes", "BRAINS-45K", "in place", "licence")
PLACE = 30  # minimum width of 'in place' before the licence is shortened


def listing(places: Mapping[str, tuple[Dataset, Path]]) -> list[dict[str, Any]]:
    """One row per data set, sorted by name.

    Args:
        places: the description and the folder of the raw files, by name of the data set.

    Returns:
        Rows with dataset, title, access, licence, licence_url, redistribution, page, citation, expected and brains45k (counts, or
        None), root, present ('absent', 'partial', 'present' or 'problem'), volumes and subjects (counts of the files in place),
        and problem (the first line of the error, if any).
    """
    return [_row(name, *places[name]) for name in sorted(places)]


def _row(name: str, dataset: Dataset, root: Path) -> dict[str, Any]:
    row = {
        "dataset": name,
        **{key: getattr(dataset, key) for key in ("title", "access", "licence", "licence_url", "redistribution", "page")},
        "citation": dataset.citation,
        "expected": dict(dataset.expected) if dataset.expected else None,
        "brains45k": dict(dataset.brains45k) if dataset.brains45k else None,
        "root": str(root),
        "present": "absent",
        "volumes": 0,
        "subjects": 0,
        "problem": "",
    }
    try:
        rows = scan(dataset, root).rows if root.is_dir() else []
    except NotInPlace:
        rows = []
    except UserError as error:
        return row | {"present": "problem", "problem": " ".join(error.problem.split("\n  ")[:2])}
    if not rows:
        return row
    complete = len(rows) >= (dataset.expected or {}).get("volumes", 0)
    subjects = len({row["subject"] for row in rows})
    return row | {"present": "present" if complete else "partial", "volumes": len(rows), "subjects": subjects}


def status(row: Mapping[str, Any]) -> str:
    """The column 'in place' of a row."""
    match row["present"]:
        case "partial":
            return f"partial: {row['volumes']:,} of {row['expected']['volumes']:,} volumes"
        case "present":
            return f"present: {row['volumes']:,} volumes"
        case "problem":
            return f"problem: {row['problem']}"
        case _:
            return "absent"


def table(rows: list[dict[str, Any]], width: int) -> Table:
    """The rows of `listing` for a terminal of `width` columns. The licence is shortened first, then 'in place' is wrapped."""
    cells = [_cells(row) for row in rows]
    needed = [max(map(len, column)) for column in zip(TITLES, *cells, strict=True)]
    *fixed, place, _ = needed
    spare = width - sum(fixed) - min(place, PLACE) - 2 * (len(TITLES) - 1)
    grid = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for title, min_width in zip(TITLES[:5], fixed, strict=True):
        grid.add_column(title, no_wrap=True, min_width=min_width, justify="left" if title in TITLES[:2] else "right")
    grid.add_column("in place", overflow="fold", min_width=len("in place"))
    grid.add_column("licence", no_wrap=True, overflow="ellipsis", max_width=max(spare, len("licence")))
    for row in cells:
        grid.add_row(*row)
    return grid


def _cells(row: Mapping[str, Any]) -> list[str]:
    expected, paper = row["expected"] or {}, row["brains45k"] or {}
    counts = (expected.get("subjects"), expected.get("volumes"), paper.get("volumes"))
    numbers = [f"{count:,}" if count else "" for count in counts]
    return [row["dataset"], row["access"], *numbers, status(row), row["licence"]]


def markdown(names: Iterable[str]) -> str:
    """The table of docs/download.md, from the modules of the data sets."""
    lines = [
        "| data set | what | access | volumes | BRAINS-45K | place, for instance | licence |",
        "|---|---|---|---:|---:|---|---|",
    ]
    for name in names:
        dataset = datasets.load(name)
        expected = f"{dataset.expected['volumes']:,}" if dataset.expected else "not stated"
        paper = f"{dataset.brains45k['volumes']:,}" if dataset.brains45k else ""
        layouts = "; ".join(f"`{layout.examples[0]}`" for layout in dataset.layouts)
        shared = "" if dataset.redistribution else "; no redistribution"
        lines.append(
            f"| `{name}` | [{dataset.title}]({dataset.page}) | {dataset.access} | {expected} | {paper} | {layouts} |"
            f" [{dataset.licence}]({dataset.licence_url}){shared} |"
        )
    return "\n".join(lines) + "\n"
