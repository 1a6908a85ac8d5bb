"""Verifies that a data set is in place, or makes it where the project itself is the source."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainpretrain.datasets.base import Dataset, index, scan
from brainpretrain.errors import UserError
from brainpretrain.named import check_options

if TYPE_CHECKING:
    import pandas as pd


def fetch(dataset: Dataset, root: Path | str, **options: Any) -> dict[str, Any]:
    """Makes an embedded data set; of any other verifies that it is in place.

    Args:
        dataset: what to look for.
        root: folder of its files.
        options: arguments of the module's `generate`, for an embedded data set.

    Returns:
        dataset (name), root (absolute), layout (name of the one found), volumes (count), subjects (count),
        unexpected_files (count of files that are neither image nor label), left_out (count of images that the
        data set's selection of series excludes).

    Raises:
        NotInPlace: no file fits; says where to get the data and which files to put where.
        UserError: options that do not fit, a volume twice, a label missing.
    """
    if dataset.access == "embedded":
        generate = importlib.import_module(f"{__package__}.{dataset.name}").generate
        check_options(generate, options, where=f"datasets.{dataset.name}.options")
        generate(root, **options)
    elif options:
        problem = f"'{dataset.name}' takes no options, found: {', '.join(options)}"
        raise UserError(problem, where=f"datasets.{dataset.name}.options", fix="remove them")
    found = scan(dataset, root)
    return {
        "dataset": dataset.name,
        "root": str(Path(root).absolute()),
        "layout": found.layout,
        "volumes": len(found.rows),
        "subjects": len({row["subject"] for row in found.rows}),
        "unexpected_files": len(found.unexpected),
        "left_out": len(found.left_out),
    }


def check_index(dataset: Dataset, root: Path | str, known: pd.DataFrame) -> None:
    """Compares the files under `root` with an index made earlier, perhaps at another place.

    Raises:
        UserError: volumes came, went, or changed in size; says how many and names one.
    """
    columns = ["volume", "path", "label", "source_bytes"]
    found = {tuple(str(row[name]) for name in columns) for row in index(dataset, root)}
    before = set(known[columns].itertuples(index=False, name=None))
    if found != before:
        example = min(found ^ before)[0]
        raise UserError(
            f"the files of '{dataset.name}' are not those of the index: {len(found - before)} new or changed,"
            f" {len(before - found)} gone or changed, '{example}' for one",
            where=root,
            fix="to take them up, run with `--forcerun index`; else set data_root back",
        )
