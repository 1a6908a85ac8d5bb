"""The score over the number of labelled training subjects, and the number at which an arm matches full supervision."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from brainpretrain.plan.table_spec import TableSpec
from brainpretrain.report.figures.canvas import DARK, GREY, MAX_ROWS, SEQUENCE_COLOURS, figure_at, panels, write_message
from brainpretrain.report.metrics import metric_of, score_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "os^Dv<>ph"


def draw(points: pd.DataFrame, matches: pd.DataFrame, spec: TableSpec, path: Path | str) -> None:
    """Draws the score over the number of labelled subjects: a panel per column, a line per arm.

    A line is the mean over folds, its band the SD over folds. Dotted: the baseline with all labels; a mark on it shows where
    an arm reaches it, with the bootstrap interval.

    Args:
        points, matches: what `report.budgets.curves` and `report.budgets.matched` returned.
        spec: the table.
        path: .svg (with the numbers as tooltips) or .png.
    """
    columns, rows = spec.columns, list(dict.fromkeys(points["row"]))[:MAX_ROWS]
    looks = {
        row: {"color": SEQUENCE_COLOURS[i % 9], "marker": MARKERS[i % 9], "linestyle": ("-", "--", ":")[i // 9]}
        for i, row in enumerate(rows)
    }
    points, matches = _drawn(points, matches, looks, metric_of(spec).scale)
    across = min(len(columns), 3)
    down = -(-len(columns) // across)
    size_px = min(1600, 120 + 470 * across), min(900, 110 + 370 * down + 20 * -(-len(rows) // 3))
    tooltips = {_gid(point, looks): _tooltip(point) for point in points.to_dict("records")}
    with figure_at(path, *size_px, tooltips) as figure:
        axes = panels(figure, len(columns), across)
        for panel, column in zip(axes, columns, strict=True):
            in_column = [
                frame[(frame["task"] == column.task) & (frame["cohort"] == column.cohort)] for frame in (points, matches)
            ]
            _draw_column(panel, *in_column, looks)
            panel.set_title(f"{column.title} ({column.cohort})", loc="left")
        for lowest in axes[-across:]:
            lowest.set_xlabel("labelled training subjects")
        figure.supylabel(score_words(spec), fontsize=10)
        _explain_lines(figure, looks)


def _drawn(
    points: pd.DataFrame, matches: pd.DataFrame, looks: Mapping[str, Mapping[str, Any]], scale: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Points that are scored and belong to a drawn row, and matches that have a target, on the scale that tables show."""
    points = points[points["mean"].notna() & points["row"].isin(list(looks))]
    points = points.assign(mean=scale * points["mean"], sd=scale * points["sd"])
    matches = matches.dropna(subset="full_score")
    return points, matches.assign(full_score=scale * matches["full_score"])


def _gid(point: Mapping[str, Any], looks: Mapping[str, Mapping[str, Any]]) -> str:
    return f"budget-{point['task']}-{point['cohort']}-{list(looks).index(point['row'])}-{point['n_train']}"


def _tooltip(point: Mapping[str, Any]) -> str:
    spread = f" ± {point['sd']:.2f}" if pd.notna(point["sd"]) else ""
    return f"{point['row']}\nn_train {point['n_train']} ({point['subjects']:g} subjects)\n{point['mean']:.2f}{spread}"


def _draw_column(axes: Axes, points: pd.DataFrame, matches: pd.DataFrame, looks: Mapping[str, Mapping[str, Any]]) -> None:
    if points.empty:
        write_message(axes, "runs missing")
        return
    for row, arm in points.groupby("row", sort=False):
        mean, sd = arm["mean"], arm["sd"].fillna(0)
        axes.fill_between(arm["subjects"], mean - sd, mean + sd, color=looks[row]["color"], alpha=0.15, linewidth=0)
        axes.plot(arm["subjects"], mean, linewidth=1.8, markersize=0, **looks[row] | {"marker": None})
        style = {"color": looks[row]["color"], "marker": looks[row]["marker"]}
        for point in arm.to_dict("records"):
            axes.scatter(point["subjects"], point["mean"], s=34, zorder=3, gid=_gid(point, looks), **style)
    _draw_matches(axes, matches, looks)
    _name_budgets(axes, points)


def _draw_matches(axes: Axes, matches: pd.DataFrame, looks: Mapping[str, Mapping[str, Any]]) -> None:
    for score in dict.fromkeys(matches["full_score"]):
        axes.axhline(score, color=DARK, linestyle=(0, (1, 1.5)), linewidth=1.2, zorder=1)
    reached = matches[np.isfinite(matches["matched"].astype(float)) & matches["row"].isin(list(looks))]
    for match in reached.to_dict("records"):
        ends = [match["low"], min(match["high"], match["largest"])]
        style = {"color": looks[match["row"]]["color"], "zorder": 4}
        axes.plot(ends, [match["full_score"]] * 2, linewidth=3, alpha=0.5, **style)
        axes.scatter(match["matched"], match["full_score"], s=90, marker="|", linewidth=2.5, **style)


def _name_budgets(axes: Axes, points: pd.DataFrame) -> None:
    """A tick for every budget, on a logarithmic axis, which is linear from 0 to the smallest number if there is a 0."""
    budgets = points.drop_duplicates("subjects").sort_values("subjects")
    smallest = budgets.loc[budgets["subjects"] > 0, "subjects"].min()
    if budgets["subjects"].min() == 0:
        axes.set_xscale("symlog", linthresh=1 if np.isnan(smallest) else smallest)
    else:
        axes.set_xscale("log")
    axes.minorticks_off()
    names = [
        f"all\n({subjects:g})" if n == "all" else n for n, subjects in zip(budgets["n_train"], budgets["subjects"], strict=True)
    ]
    axes.set_xticks(budgets["subjects"], names)
    low = budgets["subjects"].min()
    axes.set_xlim(
        low / 1.15 if low else -0.1 * (1 if np.isnan(smallest) else smallest), max(budgets["subjects"].max() * 1.15, 0.5)
    )


def _explain_lines(figure: Figure, looks: Mapping[str, Mapping[str, Any]]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], linewidth=1.8, markersize=6, **look) for look in looks.values()]
    handles.append(Line2D([], [], color=DARK, linestyle=(0, (1, 1.5)), linewidth=1.2))
    handles.append(Line2D([], [], color=GREY, marker="|", markersize=10, markeredgewidth=2.5, linewidth=3, alpha=0.7))
    names = [fill(row, 46) for row in looks]
    names += ["baseline with all labels", "where an arm reaches it, with interval"]
    figure.legend(handles, names, loc="outside lower left", ncols=3 if figure.get_figwidth() > 8 else 2, fontsize=9)
