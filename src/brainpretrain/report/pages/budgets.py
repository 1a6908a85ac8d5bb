"""The page of the score over the number of labelled subjects: the figure, the matched budgets and the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from brainpretrain.plan.table_spec import TableSpec
from brainpretrain.report.metrics import metric_of
from brainpretrain.report.pages.html import folds_missing, inline, number, render, table


def page(points: pd.DataFrame, matches: pd.DataFrame, spec: TableSpec, svg: str, resamples: int) -> str:
    """The figure of `figures.budgets`, the budgets that match full supervision, and the numbers.

    Args:
        points, matches: what `report.budgets.curves` and `report.budgets.matched` returned.
        spec: the table.
        svg: the figure.
        resamples: number of bootstrap resamples.
    """
    scale = metric_of(spec).scale
    matched = [_match(match, scale) for match in matches.to_dict("records")]
    numbers = [_point(point, scale) for point in points.to_dict("records")]
    return render(
        "budgets",
        title=f"{spec.title}: label budgets",
        figure=inline(svg),
        matched=table(["Data", "Model", "Matched at (subjects)", "Full supervision"], matched) if matched else None,
        numbers=table(["Data", "Model", "n_train", "Subjects", "Score", "SD", "Folds"], numbers, numeric=(2, 3, 4, 5)),
        resamples=f"{resamples:,}",
        has_val=(points["cohort"] == "val").any(),
    )


def _match(match: Mapping[str, Any], scale: float) -> list[str]:
    subjects = f"{'all ' if match['full_n_train'] == 'all' else ''}{match['full_subjects']:g} subjects"
    full = f"{match['baseline']}, {subjects}: {number(scale * match['full_score'], '.2f')}"
    return [f"{match['column']} ({match['cohort']})", match["row"], match["words"], full]


def _point(point: Mapping[str, Any], scale: float) -> list[str]:
    return [
        f"{point['column']} ({point['cohort']})",
        point["row"],
        point["n_train"],
        f"{point['subjects']:g}",
        folds_missing(point) if pd.isna(point["mean"]) else f"{scale * point['mean']:.2f}",
        number(scale * point["sd"], ".2f"),
        ", ".join(number(scale * float(value or "nan"), ".2f") for value in point["fold_scores"].split(" ")),
    ]
