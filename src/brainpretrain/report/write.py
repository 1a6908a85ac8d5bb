"""Writes all files of one table of results."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from brainpretrain.plan.table_spec import TableSpec
from brainpretrain.report import layouts, printers, results
from brainpretrain.report.figures import ranks
from brainpretrain.report.grid import Grid
from brainpretrain.report.results import Overlaps

LAYOUTS = {
    "results": layouts.results_grid,
    "labels": layouts.per_label_grid,
    "metrics": layouts.per_metric_grid,
    "ranks": layouts.rank_grid,
}


def write_table(folder: Path | str, scores: pd.DataFrame, spec: TableSpec, overlaps: Overlaps) -> Grid:
    """Writes the results, scores by label, results by metric and ranks of one table, and the figure of the ranks.

    The files are <name>, <name>_labels, <name>_metrics and <name>_ranks as .tsv, .md, .tex, .html and .txt, and <name>_ranks.svg
    and .png. The same scores always give the same bytes.

    Args:
        scores, spec, overlaps: as for `results.build`.

    Returns:
        The results as they are shown.

    Raises:
        UserError: as `results.everything`.
    """
    folder = Path(folder)
    frames = results.everything(scores, spec, overlaps)
    grids = {part: layout(frames[part], spec) for part, layout in LAYOUTS.items()}
    for part, grid in grids.items():
        name = spec.name if part == "results" else f"{spec.name}_{part}"
        for suffix in printers.SUFFIXES:
            printers.write(folder / (name + suffix), frames[part], grid)
    for suffix in (".svg", ".png"):
        ranks.draw(frames["ranks"], spec, folder / f"{spec.name}_ranks{suffix}")
    return grids["results"]
