"""The page of hours, memory and score of each arm: the figure and its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from brainpretrain.plan.table_spec import TableSpec
from brainpretrain.report.costs import pretraining_time, shown_hours
from brainpretrain.report.metrics import metric_of
from brainpretrain.report.pages.html import MISSING, folds_missing, inline, number, render, table

HEADER = [
    "No.", "Model", "Data", "Score", "SD", "Time", "Pretraining", "Choice of the learning rate", "Fine-tuning",
    "Memory (GB)", "Devices", "Hardware",
]  # fmt: skip


def page(arms: pd.DataFrame, spec: TableSpec, svg: str) -> str:
    """The figure of `figures.costs` and its numbers.

    Args:
        arms: what `report.costs.arms` returned.
        spec: the table.
        svg: the figure.
    """
    scale = metric_of(spec).scale
    return render(
        "costs",
        title=f"{spec.title}: what it costs and what it brings",
        figure=inline(svg),
        numbers=table(HEADER, [_row(cell, scale) for cell in arms.to_dict("records")], numeric=(0, *range(3, 11))),
        several_machines=arms["hardware"].nunique() > 1,
    )


def _row(cell: Mapping[str, Any], scale: float) -> list[Any]:
    return [
        cell["number"],
        cell["row"],
        f"{cell['column']} ({cell['cohort']})",
        folds_missing(cell) if pd.isna(cell["score"]) else f"{scale * cell['score']:.2f}",
        number(scale * cell["score_sd"], ".2f"),
        shown_hours(cell["hours"]),
        pretraining_time(cell),
        shown_hours(cell["tuning_hours"]) if cell["tuning_hours"] else "none",
        shown_hours(cell["finetune_hours"]),
        number(cell["memory_gb"], ".2f"),
        number(cell["devices"], ".0f"),
        cell["hardware"] or MISSING,
    ]
