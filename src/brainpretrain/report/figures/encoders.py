"""CKA of the features of each encoder before and after fine-tuning, over its levels."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from brainpretrain.plan.table_spec import TableSpec
from brainpretrain.report.figures.canvas import MAX_ROWS, SEQUENCE_COLOURS, figure_at, panels, write_message


def draw(lines: pd.DataFrame, spec: TableSpec, path: Path | str) -> None:
    """Draws a panel per task and a curve per row: CKA over the stride of the level, with its SD over folds.

    Args:
        lines: what `report.encoders.build` returned; the first 24 rows are drawn.
        spec: the table.
        path: .svg or .png.
    """
    tasks = {column.task: column.title for column in spec.columns}
    across = min(3, len(tasks))
    down = -(-len(tasks) // across)
    shown = list(dict.fromkeys(lines["row"]))[:MAX_ROWS]
    with figure_at(path, 300 + 360 * across, min(900, max(90 + 330 * down, 120 + 21 * len(shown)))) as figure:
        handles = {}
        for axes, (task, title) in zip(panels(figure, len(tasks), across), tasks.items(), strict=True):
            of_task = lines[lines["task"] == task]
            if of_task.empty:
                write_message(axes, "runs missing")
                continue
            for number, row in enumerate(shown):
                levels = of_task[of_task["row"] == row]
                style = "--" if (levels["init"] == spec.baseline).all() else "-"
                handles[row] = axes.errorbar(
                    levels["stride"], levels["cka"], yerr=levels["cka_sd"].fillna(0), marker="o", capsize=3, linestyle=style,
                    color=SEQUENCE_COLOURS[number % len(SEQUENCE_COLOURS)],
                )  # fmt: skip
            strides = sorted(set(of_task["stride"]))
            axes.set_xscale("log", base=2)
            axes.set_xticks(strides, [str(stride) for stride in strides])
            axes.minorticks_off()
            axes.set_ylim(min(-0.05, of_task["cka"].min() - 0.05), 1.05)
            axes.set_title(title, loc="left")
            axes.set_xlabel("stride of the level")
            axes.set_ylabel("CKA before and after fine-tuning")
        if handles:
            figure.legend(list(handles.values()), list(handles), loc="outside right upper", fontsize=9)
