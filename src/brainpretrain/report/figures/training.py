"""Curves of a training: loss with its baselines, validation Dice, learning rate, throughput, waiting, memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from brainpretrain.report.figures import learning_rates
from brainpretrain.report.figures.canvas import BLUE, DARK, GREEN, GREY, ORANGE, SEQUENCE_COLOURS, figure_at, write_message

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_POINTS = 400
PARTS_PER_LINE = 3
SMALL_PANELS = [  # column, title, scale
    ("lr", "Learning rate", 1),
    ("patches_per_s", "Patches per second", 1),
    ("data_wait", "Time waiting for data (%)", 100),
    ("peak_memory_gb", "Peak memory (GB)", 1),
]
LOSSES = [  # column, label, colour, line style, width
    ("loss_zero", "predicting zero (training)", GREY, (0, (1, 1.5)), 1.2),
    ("val_loss_zero", "predicting zero (validation)", GREY, "-.", 1.5),
    ("loss_mean", "predicting the local mean (training)", GREEN, (0, (1, 1.5)), 1.2),
    ("val_loss_mean", "predicting the local mean (validation)", GREEN, "-.", 1.5),
    ("loss_majority", "predicting the shares of the classes (training)", GREY, (0, (1, 1.5)), 1.2),
    ("val_loss_majority", "predicting the shares of the classes (validation)", GREY, "-.", 1.5),
    ("loss_dice", "Dice part (training)", GREEN, "-.", 1.5),
    ("loss_ce", "cross-entropy part (training)", GREY, (0, (1, 1.5)), 1.5),
    ("loss", "training loss", BLUE, "-", 1.8),
    ("val_loss", "validation loss", ORANGE, "--", 2.0),
]
CLASS_DICE = "val_dice_"
ELSEWHERE = {  # columns that are drawn in another panel, or not over steps
    *("step", "epoch", "seconds", "val_dice", "loss_hidden", "val_loss_hidden"),
    *(column for column, *_ in (*SMALL_PANELS, *LOSSES)),
}


def loss_curves(log: pd.DataFrame, path: Path | str, title: str = "", schedule: pd.DataFrame | None = None) -> None:
    """Draws loss with its trivial baselines, validation Dice, learning rate, throughput, waiting and memory over steps.

    Where loss_hidden is logged, loss_hidden and val_loss_hidden are drawn as the loss, since the baselines are
    computed at hidden voxels too. Every other column of the log, such as the parts of a loss (AMAES Figure 3: rotation and
    contrast of SwinUNETR) or an accuracy, has a panel of its own, with training and validation.

    Args:
        log: what `read_curves` returned: step and any of loss, val_loss, loss_hidden, val_loss_hidden, loss_zero, loss_mean,
            val_loss_zero, val_loss_mean, loss_dice, loss_ce, val_dice and val_dice_<class> (0..1), lr, patches_per_s,
            data_wait (0..1), peak_memory_gb; further columns `<name>` and `val_<name>` by the pretext.
        path: .svg or .png.
        title: above the figure.
        schedule: planned learning rates (schedule.tsv), drawn behind the logged ones, with what is frozen.
    """
    log, rows_per_point = _thinned(log)
    note = f"each point is the mean of {rows_per_point} lines of the log" if rows_per_point > 1 else ""
    parts = _parts(log)
    lines = -(-len(parts) // PARTS_PER_LINE)
    with figure_at(path, 1100, 620 + 220 * lines) as figure:
        figure.suptitle("\n".join(filter(None, [title, note])), x=0.01, ha="left")
        upper, lower = figure.subfigures(2, 1, height_ratios=[620, 220 * lines]) if parts else (figure, None)
        if lower is not None:
            _draw_parts(lower, log, parts, lines)
        left, right = upper.subfigures(1, 2, width_ratios=[2, 1])
        if _is_logged(log, "val_dice"):
            loss, dice = left.subplots(2, 1, height_ratios=[2, 1], sharex=True)
            _draw_dice(dice, log)
        else:
            loss = left.subplots()
        _draw_loss(loss, log)
        left.supxlabel("step", fontsize=10)
        _draw_small_panels(right, log, schedule)


def _draw_dice(axes: Axes, log: pd.DataFrame) -> None:
    """Mean over classes, and a thin line for each class if there are few."""
    classes = [column for column in log if column.startswith(CLASS_DICE) and _is_logged(log, column)]
    for column, colour in zip(classes if len(classes) <= len(SEQUENCE_COLOURS) else [], SEQUENCE_COLOURS, strict=False):
        label = column.removeprefix(CLASS_DICE)
        _draw_series(axes, log, column, 100, colour, label=label, linewidth=0.9, linestyle=":")
    _draw_series(axes, log, "val_dice", 100, DARK if classes else BLUE, label="mean")
    axes.set_title("Validation Dice x 100", loc="left")
    if classes:
        axes.legend(fontsize=8, ncols=3)


def _thinned(log: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """At most MAX_POINTS rows, each the mean of equally many consecutive rows, so that a long log stays a small file."""
    rows_per_point = -(-len(log) // MAX_POINTS)
    if rows_per_point <= 1:
        return log, 1
    return log.groupby(np.arange(len(log)) // rows_per_point).mean(), rows_per_point


def _parts(log: pd.DataFrame) -> list[str]:
    """Names of what the log has besides the columns of the other panels, each once for training and validation."""
    names = dict.fromkeys(
        column.removeprefix("val_") for column in log if column not in ELSEWHERE and not column.startswith(CLASS_DICE)
    )
    return [name for name in names if _is_logged(log, name) or _is_logged(log, f"val_{name}")]


def _draw_parts(figure: Figure, log: pd.DataFrame, parts: list[str], lines: int) -> None:
    """A panel for each part, PARTS_PER_LINE in a line."""
    panels = figure.subplots(lines, PARTS_PER_LINE, squeeze=False).flat
    for name, axes in zip(parts, panels, strict=False):
        for column, label, colour, style in ((name, "training", BLUE, "-"), (f"val_{name}", "validation", ORANGE, "--")):
            if _is_logged(log, column):
                _draw_series(axes, log, column, 1, colour, label=label, linestyle=style, linewidth=1.5)
        axes.set_title(name.replace("_", " "), loc="left", fontsize=10)
        axes.legend(frameon=False, fontsize=8)
    for axes in list(panels):
        axes.set_axis_off()


def _is_logged(log: pd.DataFrame, column: str) -> bool:
    return column in log and bool(log[column].notna().any())


def _draw_small_panels(figure: Figure, log: pd.DataFrame, schedule: pd.DataFrame | None) -> None:
    logged = [panel for panel in SMALL_PANELS if _is_logged(log, panel[0])]
    if not logged:
        return
    for axes, (column, title, scale) in zip(figure.subplots(len(logged), squeeze=False)[:, 0], logged, strict=True):
        _draw_series(axes, log, column, scale, DARK)
        axes.set_title(title, loc="left", fontsize=10)
        top = log[column].max()
        if column == "lr" and schedule is not None:
            _draw_planned(axes, schedule)
            top = max(top, schedule["lr"].max())
        axes.set_ylim(0, 1.1 * scale * top or 1)
        axes.yaxis.set_major_formatter("{x:g}")
    figure.supxlabel("step", fontsize=10)


def _draw_planned(axes: Axes, schedule: pd.DataFrame) -> None:
    """The planned learning rate as a line behind the logged one, which becomes dots: a log may have too few rows for a curve."""
    axes.lines[0].set(linestyle="none", marker=".", markersize=4)
    shades = learning_rates.draw_curve(axes, schedule, color=BLUE, linewidth=1, zorder=1)
    if shades:
        axes.legend(list(shades.values()), list(shades), loc="upper right", fontsize=8)


def _draw_loss(axes: Axes, log: pd.DataFrame) -> None:
    from matplotlib.ticker import LogLocator

    title = "Loss"
    if _is_logged(log, "loss_hidden"):
        title = "Loss at hidden voxels"
        log = log.drop(columns=["loss", "val_loss"], errors="ignore")
        log = log.rename(columns={"loss_hidden": "loss", "val_loss_hidden": "val_loss"})
    values = []
    for column, label, colour, style, width in LOSSES:
        if _is_logged(log, column):
            _draw_series(axes, log, column, 1, colour, label=label, linestyle=style, linewidth=width)
            values.append(log[column].replace([np.inf, -np.inf], np.nan).dropna())
    axes.set_title(title, loc="left")
    if not values:
        write_message(axes, "no loss was logged")
        return
    axes.legend(frameon=True, framealpha=0.9, edgecolor="none")
    finite = pd.concat(values)
    if len(finite) and finite.min() > 0 and finite.max() > 20 * finite.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=[1, 2, 5]))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()


def _draw_series(axes: Axes, log: pd.DataFrame, column: str, scale: float, colour: str, **style: Any) -> None:
    """One column over steps; few points of a validation are marked, and so is a single point."""
    points = log[["step", column]].dropna()
    marker = "o" if len(points) <= (30 if column in ("val_loss", "val_dice") else 1) else None
    axes.plot(points["step"], scale * points[column], color=colour, marker=marker, markersize=3.5, **style)
    axes.set_xlim(left=0)
