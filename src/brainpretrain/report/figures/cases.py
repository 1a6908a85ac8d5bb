"""Every case from training from scratch to the pretrained arm."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import pandas as pd

from brainpretrain.plan.table_spec import TableSpec
from brainpretrain.report import pairs
from brainpretrain.report.figures.canvas import DARK, GREEN, RED, figure_at, panels, write_message
from brainpretrain.report.metrics import score_words
from brainpretrain.report.numbers import signed
from brainpretrain.report.pairs import Pair

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_PAIRS = 11


def draw(scores: pd.DataFrame, spec: TableSpec, path: Path | str) -> None:
    """Draws every case from the baseline to the pretrained arm: a panel per column of the table, a pair of points per row.

    The score of a case, by the table's metric, is the mean over labels, then over the folds that both arms have scored.

    Args:
        scores, spec: as for `results.build`; the first 11 rows that have a baseline are drawn.
        path: .png or .svg.
    """
    scaled, compared, columns = pairs.scaled(scores, spec), pairs.compared(spec), spec.columns
    rows = compared[:MAX_PAIRS]
    panel_px = max(340, 60 + 130 * len(rows))
    across = min(len(columns), max(1, 1500 // panel_px))
    down = -(-len(columns) // across)
    with figure_at(path, max(560, 60 + across * panel_px), min(880, 60 + 400 * down)) as figure:
        axes = panels(figure, len(columns), across, sharex=bool(rows), sharey=True)
        for lowest in axes[-across:]:
            lowest.tick_params(labelbottom=True)
        for panel, column in zip(axes, columns, strict=True):
            _draw_pairs(panel, [pairs.pair(scaled, column, base, row, spec) for base, row in rows])
            panel.set_title(f"{column.title} ({column.cohort})", loc="left")
        low, high = pairs.limits(scaled["value"], spec)
        axes[0].set_ylim(low, high + 0.2 * (high - low))
        figure.supylabel(f"{score_words(spec)} of a case", fontsize=10)
        if rows:
            _explain_lines(figure, left_out=len(compared) - len(rows))


def _draw_pairs(axes: Axes, drawn: Sequence[Pair]) -> None:
    if not drawn:
        write_message(axes, "the table has no row to compare")
        return
    for i, pair in enumerate(drawn):
        text = "runs missing"
        if len(pair.values):
            _draw_pair(axes, [2 * i, 2 * i + 1], pair)
            text = f"mean {signed(pair.change / 100)}\n{int(pair.better.sum())} of {len(pair.values)} better"
        axes.text(2 * i + 0.5, 0.99, text, ha="center", va="top", fontsize=9, transform=axes.get_xaxis_transform())
    names = [f"{fill(pair.base.title, 20)}\n→ {fill(pair.arm.title, 18)}" for pair in drawn]
    axes.set_xticks([2 * i + 0.5 for i in range(len(drawn))], names, fontsize=8)
    axes.set_xlim(-0.5, 2 * len(drawn) - 0.5)
    axes.grid(axis="x", visible=False)


def _draw_pair(axes: Axes, x: Sequence[float], pair: Pair) -> None:
    """A thin line per case from the baseline's score to the arm's; a thick line for their means."""
    for chosen, colour, style in ((pair.better, GREEN, "-"), (~pair.better, RED, (0, (4, 1.5)))):
        for line in axes.plot(x, pair.values[chosen].T, color=colour, linestyle=style, linewidth=0.8, alpha=0.45):
            line.set_rasterized(len(pair.values) > 100)  # or the file grows with the cohort
    axes.plot(x, pair.means, color=DARK, linewidth=2.5, marker="o", markersize=6)


def _explain_lines(figure: Figure, left_out: int) -> None:
    from matplotlib.lines import Line2D

    lines = [
        Line2D([], [], color=GREEN, linewidth=1),
        Line2D([], [], color=RED, linewidth=1, linestyle=(0, (4, 1.5))),
        Line2D([], [], color=DARK, linewidth=2.5, marker="o"),
    ]
    names = ["better", "not better", "mean of cases"]
    if left_out:
        lines.append(Line2D([], [], linestyle=""))
        names.append(f"rows of the table not drawn: {left_out}")
    figure.legend(lines, names, loc="outside lower right", ncols=4)
