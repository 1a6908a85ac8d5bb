"""The ranks of a table's rows, with their intervals over resampled subjects."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import pandas as pd

from brainpretrain.plan.table_spec import TableSpec
from brainpretrain.report.figures.canvas import BLUE, DARK, figure_at
from brainpretrain.report.metrics import metric_of
from brainpretrain.report.results import ALL
from brainpretrain.words import count

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW_PX, FRAME_PX, LEGEND_PX, MAX_PX, WIDTH_PX = 30, 80, 50, 900, 900
MARKERS = ["s", "^", "v", "D", "P", "X", "<", ">", "p", "h"]


def draw(ranks: pd.DataFrame, spec: TableSpec, path: Path | str) -> None:
    """Draws a panel for each n_train, the best row on top.

    A dot is the mean rank, its line the bootstrap interval over subjects; small markers are the ranks in single columns.

    Args:
        ranks: what `results.rank` returned.
        spec: the table.
        path: .svg or .png; at most 900 px high.
    """
    overall = ranks[(ranks["column"] == ALL) & ranks["rank"].notna()]
    panels = [group.sort_values("rank", kind="stable") for _, group in overall.groupby("n_train", sort=False)]
    rows = sum(len(panel) for panel in panels)
    height = min(MAX_PX, max(1, len(panels)) * FRAME_PX + rows * ROW_PX + LEGEND_PX)
    with figure_at(path, WIDTH_PX, height) as figure:
        figure.suptitle(fill(f"{spec.title}: ranks by {metric_of(spec).title}", 90), fontsize=11)
        if not panels:
            figure.text(0.5, 0.4, "no row is scored in all folds of all columns", ha="center")
            return
        ratios = [len(panel) + 1 for panel in panels]
        for axes, panel in zip(figure.subplots(len(panels), 1, squeeze=False, height_ratios=ratios)[:, 0], panels, strict=True):
            _draw_panel(axes, panel, ranks, spec, heading=len(panels) > 1)
        if len(spec.columns) > 1:
            figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=9)


def _draw_panel(axes: Axes, panel: pd.DataFrame, ranks: pd.DataFrame, spec: TableSpec, heading: bool) -> None:
    places = range(len(panel))
    axes.hlines(places, panel["low"], panel["high"], color=BLUE, linewidth=3, alpha=0.45)
    axes.plot(panel["rank"], places, "o", color=BLUE, markersize=8, label="mean" if len(spec.columns) > 1 else "rank")
    if len(spec.columns) > 1:
        for marker, column in zip(cycle(MARKERS), spec.columns, strict=False):
            in_column = ranks[(ranks["column"] == column.title) & (ranks["n_train"] == panel["n_train"].iloc[0])]
            by_row = in_column.set_index(["backbone", "init", "recipe"])["rank"]
            values = [by_row[key] for key in panel[["backbone", "init", "recipe"]].itertuples(index=False, name=None)]
            axes.plot(values, places, marker, color=DARK, markersize=5, fillstyle="none", label=column.title)
    for place, first in zip(places, panel["first"], strict=True):
        axes.annotate(f"first in {100 * first:.0f} %", (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=9)
    axes.set_yticks(places, [fill(row, 40) for row in panel["row"]])
    axes.set_ylim(len(panel) - 0.4, -0.6)
    axes.set_xlim(0.8, max(2, len(panel)) + 0.2)
    axes.set_xticks(range(1, max(2, len(panel)) + 1, 1 + len(panel) // 20))
    confidence = f"{100 * spec.bootstrap.confidence:g} %"
    axes.set_xlabel(f"rank, 1 is best; line: {confidence} interval, bootstrap over subjects")
    if heading:
        n = panel["n_train"].iloc[0]
        axes.set_title(count(int(n), "training case") if n.isdigit() else "all training cases", loc="left")
