"""Verifies that the files of a data set are in place; generates an embedded data set."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brainpretrain.datasets.base import EXTENSIONS, Dataset, Scan
from brainpretrain.download.index import scan
from brainpretrain.errors import UserError
from brainpretrain.named import check_options

LISTED = 10  # number of unused files that the result names


def fetch(dataset: Dataset, root: Path | str, **options: Any) -> dict[str, Any]:
    """Generates an embedded data set. For any other, verifies that its files are in place, converts NRRD files, and makes label
    files that the release does not have.

    Args:
        dataset: the description of the data set.
        root: folder of its files.
        options: arguments of the module's `generate`, for an embedded data set.

    Returns:
        The content of `source.json`:

        - dataset (name), root (absolute path), layout (name of the layout that fits)
        - volumes and subjects: counts
        - unexpected_files: number of files that are neither image nor label; unexpected: the first of them, volumes first
        - left_out: number of images that the data set's selection of series excludes
        - dangling: broken links
        - note: the numbers of subjects and volumes if fewer than expected are in place, else ''
        - remarks: on labels that were made, only if there are any

    Raises:
        NotInPlace: no file fits a layout; the message says where to get the data and where to put the files.
        UserError: the options do not fit, a volume appears twice, or a label or a sequence is missing.
    """
    if dataset.access == "embedded":
        generate = importlib.import_module(f"brainpretrain.datasets.{dataset.name}").generate
        check_options(generate, options, where=f"datasets.{dataset.name}.options")
        generate(root, **options)
    elif options:
        problem = f"'{dataset.name}' takes no options, found: {', '.join(options)}"
        raise UserError(problem, where=f"datasets.{dataset.name}.options", fix="remove them")
    if dataset.source_format in ("nrrd", "analyze"):
        from brainpretrain.download.convert import NRRD, PAIR, convert_tree

        convert_tree(root, image=dataset.convert, formats=NRRD if dataset.source_format == "nrrd" else PAIR)
    remarks = _make_labels(dataset, Path(root))
    for remark in remarks:
        print(f"{dataset.name}: {remark}", flush=True)
    return describe(dataset, root, scan(dataset, root)) | ({"remarks": remarks} if remarks else {})


def _make_labels(dataset: Dataset, root: Path) -> list[str]:
    """Makes the label files that the release has in another form; remarks on what they lack."""
    if dataset.structures:
        from brainpretrain.download import structures

        values = {name: value for value, name in dataset.labels.items()}
        return structures.remarks(structures.merge_tree(root, dataset.structures, values))
    if dataset.contours:
        from brainpretrain.download import contours

        return contours.draw_tree(root, dataset.contours)
    return []


def describe(dataset: Dataset, root: Path | str, files: Scan) -> dict[str, Any]:
    """What `fetch` returns, from the files that are in place."""
    unexpected = sorted(files.unexpected, key=lambda path: not path.endswith(EXTENSIONS))
    counts = {"volumes": len(files.rows), "subjects": len({row["subject"] for row in files.rows})}
    return {
        "dataset": dataset.name,
        "root": str(Path(root).absolute()),
        "layout": files.layout,
        **counts,
        "unexpected_files": len(unexpected),
        "unexpected": unexpected[:LISTED],
        "left_out": len(files.left_out),
        "dangling": files.dangling,
        "note": shortfall(counts, dataset.expected),
    }


def shortfall(counts: Mapping[str, int], expected: Mapping[str, int] | None) -> str:
    """'found N of expected M' for `volumes` and `subjects`, where fewer than expected are in place; else ''."""
    fewer = [(kind, total) for kind, total in (expected or {}).items() if counts[kind] < total]
    return ", ".join(f"found {counts[kind]:,} of expected {total:,} {kind}" for kind, total in fewer)
