"""The score over the strength of what makes images worse: a panel per degradation, a line per row."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import pandas as pd

from brainpretrain.plan.table_spec import TableSpec
from brainpretrain.report.figures.canvas import MAX_ROWS, SEQUENCE_COLOURS, figure_at, panels, write_message
from brainpretrain.report.metrics import metric_of, score_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = "os^Dv<>ph"
STRENGTHS = {
    "thick_slices": "thickness of a slice, mm",
    "motion": "largest movement, mm and degrees",
    "bias_field": "logarithm of the largest gain",
    "noise": "standard deviation of the noise",
    "missing_sequence": "",
}


def draw(points: pd.DataFrame, spec: TableSpec, path: Path | str) -> None:
    """Draws the curves; a line is the mean over draws, its bars the SD over draws.

    Rows are moved aside a little, so that bars stay apart; strength 0 is the images as they are.

    Args:
        points: what `report.robustness.curves` returned.
        spec: the table.
        path: .svg (with the numbers as tooltips) or .png.
    """
    curves, rows = list(dict.fromkeys(points["curve"])), list(dict.fromkeys(points["row"]))[:MAX_ROWS]
    looks: dict[str, dict[str, Any]] = {
        row: {"color": SEQUENCE_COLOURS[i % 9], "marker": MARKERS[i % 9], "linestyle": ("-", "--", ":")[i // 9]}
        for i, row in enumerate(rows)
    }
    scale = metric_of(spec).scale
    points = points[points["row"].isin(rows)].assign(mean=lambda p: scale * p["mean"], sd=lambda p: scale * p["sd"])
    across = min(len(curves), 3)
    down = -(-len(curves) // across)
    tooltips = {_gid(point, curves, rows): _tooltip(point) for point in points.to_dict("records")}
    size_px = min(1600, 120 + 400 * across), min(900, 110 + 330 * down + 20 * -(-len(rows) // 3))
    with figure_at(path, *size_px, tooltips) as figure:
        for axes, curve in zip(panels(figure, len(curves), across, sharey=True), curves, strict=True):
            _draw_curve(axes, points[points["curve"] == curve], looks, (curves, rows))
            axes.set_title(fill(curve, 44), loc="left")
        figure.supylabel(score_words(spec), fontsize=10)
        from matplotlib.lines import Line2D

        handles = [Line2D([], [], linewidth=1.8, markersize=6, **look) for look in looks.values()]
        figure.legend(handles, [fill(row, 46) for row in rows], loc="outside lower left", ncols=min(3, across + 1), fontsize=9)


def _draw_curve(axes: Axes, points: pd.DataFrame, looks: dict[str, dict[str, Any]], order: tuple[list[str], list[str]]) -> None:
    scored = points.dropna(subset="mean")
    if scored.empty:
        write_message(axes, "runs missing")
        return
    aside = float(points["strength"].max()) / 60
    for number, (row, arm) in enumerate(scored.groupby("row", sort=False)):
        x = arm["strength"] + aside * (number - (len(looks) - 1) / 2)
        axes.errorbar(x, arm["mean"], arm["sd"].fillna(0), color=looks[str(row)]["color"], linewidth=0, elinewidth=1.2, alpha=0.6)
        axes.plot(x, arm["mean"], linewidth=1.6, color=looks[str(row)]["color"], linestyle=looks[str(row)]["linestyle"])
        for place, point in zip(x, arm.to_dict("records"), strict=True):
            style = {"color": looks[str(row)]["color"], "marker": looks[str(row)]["marker"]}
            axes.scatter(place, point["mean"], s=28, zorder=3, gid=_gid(point, *order), **style)
    strengths = sorted(set(points["strength"]))
    missing = set(points["kind"]) == {"missing_sequence"}
    names = ["all", f"without {points['sequence'].iloc[0]}"] if missing else [f"{value:g}" for value in strengths]
    axes.set_xticks(strengths, names)
    axes.set_xlabel(STRENGTHS[points["kind"].iloc[0]])


def _gid(point: Any, curves: list[str], rows: list[str]) -> str:
    return f"robustness-{curves.index(point['curve'])}-{rows.index(point['row'])}-{point['strength']:g}"


def _tooltip(point: Any) -> str:
    spread = f" ± {point['sd']:.2f}" if pd.notna(point["sd"]) else ""
    return f"{point['row']}\n{point['curve']}, {point['strength']:g}\n{point['mean']:.2f}{spread}"
