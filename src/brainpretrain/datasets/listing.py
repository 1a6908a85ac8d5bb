"""All data sets at a glance: access, licence, counts, and what of them is in place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from brainpretrain import datasets
from brainpretrain.datasets.base import Dataset, NotInPlace, scan
from brainpretrain.errors import UserError


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
