"""Verifies that a data set is in place, or makes it where the project itself is the source."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brainpretrain.datasets.base import EXTENSIONS, Dataset
from brainpretrain.download.index import scan
from brainpretrain.errors import UserError
from brainpretrain.named import check_options

LISTED = 10  # of the files that nothing uses, how many are named


def fetch(dataset: Dataset, root: Path | str, **options: Any) -> dict[str, Any]:
    """Makes an embedded data set; of any other verifies that it is in place, and converts NRRD.

    Args:
        dataset: what to look for.
        root: folder of its files.
        options: arguments of the module's `generate`, for an embedded data set.

    Returns:
        dataset (name), root (absolute), layout (name of the one found), volumes (count), subjects (count),
        unexpected_files (count of files that are neither image nor label), unexpected (the first of them, volumes
        before other files), left_out (count of images that the data set's selection of series excludes), dangling (links
        to nothing), note (how many of the expected subjects and volumes, where fewer are in place; else '').

    Raises:
        NotInPlace: no file fits; says where to get the data and which files to put where.
        UserError: options that do not fit, a volume twice, a label or a sequence missing.
    """
    if dataset.access == "embedded":
        generate = importlib.import_module(f"brainpretrain.datasets.{dataset.name}").generate
        check_options(generate, options, where=f"datasets.{dataset.name}.options")
        generate(root, **options)
    elif options:
        problem = f"'{dataset.name}' takes no options, found: {', '.join(options)}"
        raise UserError(problem, where=f"datasets.{dataset.name}.options", fix="remove them")
    if dataset.source_format == "nrrd":
        from brainpretrain.download.nrrd import convert_tree

        convert_tree(root, image=dataset.convert)
    found = scan(dataset, root)
    unexpected = sorted(found.unexpected, key=lambda path: not path.endswith(EXTENSIONS))
    counts = {"volumes": len(found.rows), "subjects": len({row["subject"] for row in found.rows})}
    return {
        "dataset": dataset.name,
        "root": str(Path(root).absolute()),
        "layout": found.layout,
        **counts,
        "unexpected_files": len(unexpected),
        "unexpected": unexpected[:LISTED],
        "left_out": len(found.left_out),
        "dangling": found.dangling,
        "note": shortfall(counts, dataset.expected),
    }


def shortfall(counts: Mapping[str, int], expected: Mapping[str, int] | None) -> str:
    """'found N of expected M' for the kinds of which fewer than expected are in place; '' if there are none."""
    fewer = [(kind, total) for kind, total in (expected or {}).items() if counts[kind] < total]
    return ", ".join(f"found {counts[kind]:,} of expected {total:,} {kind}" for kind, total in fewer)
