"""Hours and memory of the trainings of each arm against its score (AMAES Figure 1)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from brainpretrain.plan.table_spec import TableSpec
from brainpretrain.report.costs import pretraining_time
from brainpretrain.report.figures.canvas import GREY, MAX_ROWS, SEQUENCE_COLOURS, figure_at, panels, write_message
from brainpretrain.report.metrics import metric_of, score_words
from brainpretrain.words import duration

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(arms: pd.DataFrame, spec: TableSpec, path: Path | str) -> None:
    """Draws hours of training against the score, the area of a bubble is the memory: a panel per column of the table.

    A line leads from the baseline to each arm that is compared with it. Hollow bubbles are trained from scratch.

    Args:
        arms: what `report.costs.arms` returned; the first 24 rows are drawn.
        spec: the table, as for `results.build`.
        path: .svg (with the numbers as tooltips) or .png.
    """
    left_out = max(0, arms["number"].max() - MAX_ROWS)
    arms = arms[arms["number"] <= MAX_ROWS]
    scored, unit = _scored(arms, metric_of(spec).scale)
    columns, largest_gb = spec.columns, scored["memory_gb"].max()
    across = min(len(columns), 3 if len(columns) <= 9 else 4)
    down = -(-len(columns) // across)
    colours = dict(zip(dict.fromkeys(arms["backbone"]), SEQUENCE_COLOURS * 3, strict=False))
    tooltips = {_gid(cell): _tooltip(cell, spec) for cell in scored.to_dict("records")}
    size_px = min(1600, 300 + 350 * across), min(900, max(90 + 330 * down, 150 + 21 * arms["number"].nunique()))
    with figure_at(path, *size_px, tooltips) as figure:
        for axes, column in zip(panels(figure, len(columns), across), columns, strict=True):
            cells = scored[(scored["task"] == column.task) & (scored["cohort"] == column.cohort)]
            _draw_column(axes, cells, spec, colours, largest_gb)
            axes.set_title(f"{column.title} ({column.cohort})", loc="left")
        figure.supylabel(score_words(spec), fontsize=10)
        tuned = ", choice of the learning rate" if scored["tuning_hours"].any() else ""
        figure.supxlabel(f"{unit} of pretraining{tuned} and fine-tuning", fontsize=10)
        _explain_bubbles(figure, arms, largest_gb, colours, left_out)


def _scored(arms: pd.DataFrame, scale: float) -> tuple[pd.DataFrame, str]:
    """The arms that can be drawn, with `time` in the unit that reads best, `shown` and `spread` (scaled score and SD)."""
    scored = arms.dropna(subset=["hours", "score", "memory_gb"])
    unit, per_hour = _time_unit(scored["hours"].max())
    return scored.assign(time=per_hour * scored["hours"], shown=scale * scored["score"], spread=scale * scored["score_sd"]), unit


def _time_unit(most_hours: float) -> tuple[str, int]:
    """The unit that reads best, and how many of it are an hour."""
    if most_hours < 1 / 30:
        return "seconds", 3600
    return ("minutes", 60) if most_hours < 2 else ("hours", 1)


def _gid(cell: Mapping[str, Any]) -> str:
    return f"cost-{cell['task']}-{cell['cohort']}-{cell['number']}"


def _tooltip(cell: Mapping[str, Any], spec: TableSpec) -> str:
    tuned = f" learning rate {duration(3600 * cell['tuning_hours'])}," if cell["tuning_hours"] else ""
    lines = [
        f"{cell['number']}  {cell['row']}",
        f"{score_words(spec)}: {cell['shown']:.2f}" + (f" ± {cell['spread']:.2f}" if pd.notna(cell["spread"]) else ""),
        f"pretraining {pretraining_time(cell)},{tuned} fine-tuning {duration(3600 * cell['finetune_hours'])}",
        f"peak memory {cell['memory_gb']:.2f} GB",
        cell["hardware"],
    ]
    return "\n".join(filter(None, lines))


def _draw_column(axes: Axes, cells: pd.DataFrame, spec: TableSpec, colours: Mapping[str, str], largest_gb: float) -> None:
    if cells.empty:
        write_message(axes, "runs missing")
        return
    by_number = {cell["number"]: cell for cell in cells.to_dict("records")}
    for number, cell in by_number.items():
        base = spec.baseline_of(spec.rows[number - 1])
        other = by_number.get(spec.rows.index(base) + 1) if base else None
        if other:
            axes.plot([other["time"], cell["time"]], [other["shown"], cell["shown"]], color=GREY, linewidth=1, zorder=1)
    for cell in by_number.values():
        _draw_bubble(axes, cell, colours[cell["backbone"]], 900 * cell["memory_gb"] / largest_gb, cell["init"] == spec.baseline)
    _scale_time(axes, cells["time"])
    axes.margins(0.2)


def _draw_bubble(axes: Axes, cell: Mapping[str, Any], colour: str, area: float, hollow: bool) -> None:
    from matplotlib.patheffects import withStroke

    place, face = (cell["time"], cell["shown"]), "white" if hollow else colour
    axes.scatter(*place, s=area, facecolor=face, edgecolor=colour, alpha=0.75, linewidth=2, zorder=2, gid=_gid(cell))
    text = axes.annotate(str(cell["number"]), place, (0, 0), textcoords="offset points", ha="center", va="center", fontsize=9)
    text.set(path_effects=[withStroke(linewidth=2.5, foreground="white")], zorder=3)


def _scale_time(axes: Axes, times: pd.Series) -> None:
    """A logarithmic axis where times differ by more than a factor of 5."""
    if times.min() > 0 and times.max() > 5 * times.min():
        axes.set_xscale("log")
        axes.minorticks_off()
        axes.set_xlim(times.min() / 1.8, times.max() * 1.8)
        axes.set_xticks(_round_ticks(times.min() / 1.5, times.max() * 1.5))
    axes.xaxis.set_major_formatter("{x:g}")


def _round_ticks(low: float, high: float) -> list[float]:
    """The numbers 1, 2, 5, 10 ... between two positive numbers, or the powers of ten alone if those are more than seven."""
    ticks = [step * 10.0**power for power in range(-6, 7) for step in (1, 2, 5)]
    inside = [tick for tick in ticks if low <= tick <= high]
    tens = [tick for tick in inside if round(np.log10(tick), 6) == round(np.log10(tick))]
    return inside if len(inside) <= 7 else tens


def _explain_bubbles(figure: Figure, arms: pd.DataFrame, largest_gb: float, colours: Mapping[str, str], left_out: int) -> None:
    from matplotlib.lines import Line2D

    handles, names = [], []
    for cell in arms.drop_duplicates("number").to_dict("records"):
        style = {"marker": "o", "linestyle": "", "color": colours[cell["backbone"]], "markersize": 7, "markeredgewidth": 1.8}
        handles.append(Line2D([], [], fillstyle="none" if cell["init"] == "scratch" else "full", **style))
        names.append(f"{cell['number']}  {fill(cell['row'], 34)}" + (" *" if cell["pretrained_elsewhere"] else ""))
    notes = [f"area: peak memory, largest {largest_gb:.3g} GB"] if pd.notna(largest_gb) else []
    notes += ["* hours of the pretraining not known"] if arms["pretrained_elsewhere"].any() else []
    notes += [f"rows of the table not drawn: {left_out}"] if left_out else []
    handles += [Line2D([], [], linestyle="") for _ in notes]
    names += notes
    figure.legend(handles, names, loc="outside right upper", fontsize=9, labelspacing=0.35)
