"""Pseudo-Dice during the fine-tunings of a table: a panel per task, a line per row, a band over its folds and seeds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import pandas as pd

from brainpretrain.plan.runs import Arm
from brainpretrain.plan.table_spec import TableSpec
from brainpretrain.report.figures.canvas import MAX_ROWS, SEQUENCE_COLOURS, figure_at, panels, write_message

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(logs: Mapping[str, pd.DataFrame], runs: Mapping[str, Mapping[str, Any]], spec: TableSpec, path: Path | str) -> None:
    """Draws the validations of all trainings of a table.

    A line is the mean over the trainings that reached a step, its band the SD (n - 1) over them; a dot is the validation whose
    weights are the model of one training.

    Args:
        logs: log of each fine-tuning with step and val_dice, by its path below the study.
        runs: run.json of the same.
        spec: the table.
        path: .svg or .png.
    """
    tasks = {column.task: column.title for column in reversed(spec.columns)}
    tasks = {task: tasks[task] for task in dict.fromkeys(column.task for column in spec.columns)}
    rows = [row for row in spec.rows if row.watched][:MAX_ROWS]
    looks = {row.arm: {"color": SEQUENCE_COLOURS[i % 9], "linestyle": ("-", "--", ":")[i // 9]} for i, row in enumerate(rows)}
    across = min(len(tasks), 3)
    down = -(-len(tasks) // across)
    size = min(1600, 120 + 470 * across), min(900, 110 + 370 * down + 20 * -(-len(rows) // 3))
    with figure_at(path, *size) as figure:
        axes = panels(figure, len(tasks), across)
        for panel, (task, title) in zip(axes, tasks.items(), strict=True):
            lines = [_draw_row(panel, Arm(task, *row.arm).path, spec, logs, runs, looks[row.arm]) for row in rows]
            if not any(lines):
                write_message(panel, "no validation")
            panel.set_title(title, loc="left")
        for lowest in axes[-across:]:
            lowest.set_xlabel("step")
        figure.supylabel("pseudo-Dice x 100 in validation", fontsize=10)
        _explain(figure, rows, looks)


def _draw_row(
    axes: Axes,
    arm: str,
    spec: TableSpec,
    logs: Mapping[str, pd.DataFrame],
    runs: Mapping[str, Mapping[str, Any]],
    look: Mapping[str, str],
) -> bool:
    """The trainings of one row in one task; False if none was validated."""
    names = [f"{arm}/fold{fold}" for fold in spec.fold_names if "val_dice" in logs.get(f"{arm}/fold{fold}", ())]
    if not names:
        return False
    curves = pd.concat([logs[name][["step", "val_dice"]].dropna() for name in names])
    found = 100 * curves.groupby("step")["val_dice"].agg(["mean", "std"])
    spread = found["std"].fillna(0)
    axes.fill_between(found.index, found["mean"] - spread, found["mean"] + spread, color=look["color"], alpha=0.15, linewidth=0)
    axes.plot(found.index, found["mean"], linewidth=1.8, **look)
    for name in names:
        said = runs.get(name, {}).get("validation") or {}
        if said.get("pseudo_dice") is not None:
            axes.scatter(said["selected_step"], 100 * said["pseudo_dice"], s=22, color=look["color"], zorder=3)
    return True


def _explain(figure: Any, rows: list, looks: Mapping[tuple, Mapping[str, str]]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], linewidth=1.8, **looks[row.arm]) for row in rows]
    handles.append(Line2D([], [], linestyle="none", marker="o", markersize=5, color="#444444"))
    names = [*(fill(row.title, 46) for row in rows), "weights of the model of one training"]
    figure.legend(handles, names, loc="outside lower left", ncols=3 if figure.get_figwidth() > 8 else 2, fontsize=9)
