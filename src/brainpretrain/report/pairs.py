"""Every case of a cohort in two arms: the baseline of a row of a table, and the row itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from brainpretrain.plan.table_spec import ColumnSpec, RowSpec, TableSpec
from brainpretrain.report import results
from brainpretrain.report.metrics import metric_of


@dataclass(frozen=True)
class Pair:
    """Scores of the same cases in both arms, on the scale that tables show; empty where runs are missing.

    Args:
        values: a row per volume with columns base and arm.
        better: True for each volume whose score is better in the arm.
    """

    base: RowSpec
    arm: RowSpec
    values: pd.DataFrame
    better: pd.Series

    @property
    def means(self) -> pd.Series:
        """Mean over cases of base and arm."""
        return self.values.mean()

    @property
    def change(self) -> float:
        """Mean over cases of arm minus base."""
        return float((self.values["arm"] - self.values["base"]).mean())


def scaled(scores: pd.DataFrame, spec: TableSpec) -> pd.DataFrame:
    """Score of each case by the table's metric, on the scale that tables show: `value` is the mean over labels.

    Args:
        scores, spec: as for `results.build`.
    """
    cases = results.case_scores(results.valued(scores, spec)).dropna(subset="value")
    return cases.assign(value=cases["value"] * metric_of(spec).scale)


def compared(spec: TableSpec) -> list[tuple[RowSpec, RowSpec]]:
    """Baseline and row for each row of the table that has a baseline."""
    rows = ((spec.baseline_of(row), row) for row in spec.rows)
    return [(base, row) for base, row in rows if base]


def pair(cases: pd.DataFrame, column: ColumnSpec, base: RowSpec, arm: RowSpec, spec: TableSpec) -> Pair:
    """The cases that both arms have scored in a column; a case is the mean over the folds that both arms have.

    Args:
        cases: what `scaled` returned.
        base, arm: an entry of `compared`.
    """
    cases = cases[(cases["task"] == column.task) & (cases["cohort"] == column.cohort)]
    cases = cases[cases["fold"].isin(spec.fold_names)]
    arms = {}
    for name, row in (("base", base), ("arm", arm)):
        of_row = (cases[results.ARM] == list(row.arm)).all(axis=1)
        arms[name] = cases[of_row].set_index(["volume", "fold"])["value"]
    values = pd.concat(arms, axis=1, join="inner").groupby("volume").mean()
    higher = metric_of(spec).higher
    better = values["arm"] > values["base"] if higher else values["arm"] < values["base"]
    return Pair(base, arm, values, better)


def limits(values: Sequence[float] | pd.Series, spec: TableSpec) -> tuple[float, float]:
    """Ends of the axis for scaled values of the table's metric: a share ends at 100, any other metric begins at 0."""
    if not len(values):
        return 0.0, 100.0
    if metric_of(spec).high == 1:
        return 10 * min(min(values) // 10, 9), 100.0
    return 0.0, max(values) or 1.0
