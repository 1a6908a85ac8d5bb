"""Curves of degradation: the score of each arm over the strength of what makes the images of a cohort worse.

This module computes the numbers; `figures.robustness` draws them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from brainpretrain.plan.table_spec import ColumnSpec, RowSpec, TableSpec
from brainpretrain.report import results
from brainpretrain.report.results import ARM

COLUMNS = ["curve", "task", "of", "kind", "sequence", "cohort", "strength", "row", *ARM, "mean", "sd", "fall", "fall_sd"]


def curves(scores: pd.DataFrame, spec: TableSpec) -> pd.DataFrame:
    """A line per curve, strength and row of the table; strengths ascend from 0, the images as they are.

    Args:
        scores: as for `results.build`.
        spec: the table; the scores are those of its metric.

    Returns:
        curve (task, cohort and kind in words), task, of (the cohort that was degraded), kind, sequence (that is missing),
        cohort, strength (1 for a missing sequence), row (title), arm; mean and sd (n - 1) over draws; fall and fall_sd: score
        of the images as they are less this one, in each draw. NaN where trainings are missing, or a column of the images as
        they are.
    """
    by_run = results.fold_scores(results.valued(scores, spec))
    lines: list[dict[str, Any]] = []
    for column in spec.columns:
        if column.degraded:
            whole = column.model_copy(update={"cohort": column.degraded.of, "degraded": None})
            for row in spec.rows:
                draws = [_draws(by_run, one, row, spec) for one in (whole, column)]
                lines += [_line(column, row, draws[0], draws[0], 0.0), _line(column, row, draws[0], draws[1], None)]
    frame = pd.DataFrame(lines, columns=COLUMNS).drop_duplicates(["curve", "strength", *ARM], keep="first")
    order = [frame[name].map({value: i for i, value in enumerate(dict.fromkeys(frame[name]))}) for name in ("curve", "row")]
    places = frame.assign(c=order[0], r=order[1]).sort_values(["c", "r", "strength"], kind="stable")
    return places[COLUMNS].round(6).reset_index(drop=True)


def _draws(by_run: pd.Series, column: ColumnSpec, row: RowSpec, spec: TableSpec) -> np.ndarray:
    """The score of each draw, the mean over its seeds; NaN where a training is missing."""
    values = [by_run.get((column.task, column.cohort, *row.arm, fold), np.nan) for fold in spec.fold_names]
    return results.of_draws(np.array(values), spec)


def _line(column: ColumnSpec, row: RowSpec, whole: np.ndarray, worse: np.ndarray, strength: float | None) -> dict[str, Any]:
    """A point of a curve; `strength` 0 is the point of the images as they are."""
    how = column.degraded
    assert how is not None
    words = f"{column.task}, {how.of}: {how.kind.replace('_', ' ')}" + (f" {how.sequence}" if how.sequence else "")
    given = (how.strength or 1.0) if strength is None else strength
    arm = dict(zip(ARM, row.arm, strict=True))
    place = {"curve": words, "task": column.task, "of": how.of, "kind": how.kind, "sequence": how.sequence or ""}
    cohort = how.of if strength == 0 else column.cohort
    fall = whole - worse
    numbers = {"mean": worse.mean(), "sd": _sd(worse), "fall": fall.mean(), "fall_sd": _sd(fall)}
    return place | {"cohort": cohort, "strength": given, "row": row.title, **arm, **numbers}


def _sd(draws: np.ndarray) -> float:
    return float(draws.std(ddof=1)) if len(draws) > 1 else float("nan")
