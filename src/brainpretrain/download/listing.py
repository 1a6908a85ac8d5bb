"""All data sets at a glance: access, licence, counts, and what of them is in place."""

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
PLACE = 30  # columns of 'in place' for which the licence gives way


def listing(places: Mapping[str, tuple[Dataset, Path]]) -> list[dict[str, Any]]:
    """A row per data set, by name.

    Args:
        places: by name, the description and the folder of the raw files.

    Returns:
        dataset, title, access, licence, licence_url, redistribution, page, citation, expected and brains45k (counts, or
        None where there are none), root, present (absent, partial, present, or problem), volumes and subjects (found),
        problem (what is wrong with the files, first line).
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
    """What is in place, in a few words."""
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
    """The rows of `listing` for a terminal of so many columns: the licence gives way first, then what is in place wraps."""
    cells = [_cells(row) for row in rows]
    needed = [max(map(len, column)) for column in zip(TITLES, *cells, strict=True)]
    *fixed, place, _ = needed
    spare = width - sum(fixed) - min(place, PLACE) - 2 * (len(TITLES) - 1)
    found = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for title, at_least in zip(TITLES[:5], fixed, strict=True):
        found.add_column(title, no_wrap=True, min_width=at_least, justify="left" if title in TITLES[:2] else "right")
    found.add_column("in place", overflow="fold", min_width=len("in place"))
    found.add_column("licence", no_wrap=True, overflow="ellipsis", max_width=max(spare, len("licence")))
    for row in cells:
        found.add_row(*row)
    return found


def _cells(row: Mapping[str, Any]) -> list[str]:
    expected, paper = row["expected"] or {}, row["brains45k"] or {}
    counts = (expected.get("subjects"), expected.get("volumes"), paper.get("volumes"))
    numbers = [f"{count:,}" if count else "" for count in counts]
    return [row["dataset"], row["access"], *numbers, status(row), row["licence"]]


def markdown(names: Iterable[str]) -> str:
    """The table of docs/data_access.md, made from the modules."""
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
