"""An arm against its baseline in one column of a table: difference, intervals, tests, and what more draws would show."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from brainpretrain.errors import UserError
from brainpretrain.plan.table_spec import RowSpec, TableSpec
from brainpretrain.report import crossed, power, statistics
from brainpretrain.report.metrics import metric_of
from brainpretrain.report.statistics import Cases

P_VALUES = ("p", "p_holm", "p_margin", "p_margin_holm", "models_p", "models_p_holm", "models_smallest_p")
NAN = float("nan")


@dataclass(frozen=True)
class Scored:
    """The scores behind a cell of a table.

    Attributes:
        rows: its rows of scores.tsv, with the table's metric as `value`.
        cases: the same as sums and counts.
        draws: the score of each fold, the mean over its seeds; NaN where a training is missing.
        by_fold: the score of each training, NaN where it is missing.
        by_subject: for each subject, the mean over trainings of the mean over labels.
        samples: the value of the cell in each bootstrap sample; empty if the cell is not complete.
    """

    rows: pd.DataFrame
    cases: Cases
    draws: np.ndarray
    by_fold: np.ndarray
    by_subject: np.ndarray
    samples: np.ndarray

    @property
    def subjects(self) -> tuple[str, ...]:
        """Sorted."""
        return self.cases.subjects

    @property
    def value(self) -> float:
        """Mean over the folds; NaN if a training is missing."""
        return float(self.by_fold.mean())


def by_draw(by_training: np.ndarray, spec: TableSpec) -> np.ndarray:
    """Values of trainings (trainings, subjects) as means over the seeds of each draw (draws, subjects)."""
    return by_training.reshape(len(spec.folds), -1, by_training.shape[-1]).mean(1)


def value_interval(cell: Scored, spec: TableSpec, row: RowSpec, are_draws: bool) -> tuple[float, float]:
    """The crossed interval of the value of a cell, within the range of the metric; NaN with fewer than three draws.

    Args:
        are_draws: False if the folds are a cross-validation, whose spread tells too little of another training's.
    """
    if math.isnan(cell.value):
        return NAN, NAN
    per_subject = by_draw(crossed.contributions(cell.cases, cell.cases.counts.sum(-1) > 0), spec)
    found = crossed.fixed(per_subject) if row.external else crossed.estimate(per_subject, are_draws)
    ends = found.interval(spec.bootstrap.confidence)
    metric = metric_of(spec)
    low, high = (0.0 if metric.magnitude else metric.low), metric.high
    return min(max(ends[0], low), high), min(max(ends[1], low), high)


def compared(
    row: RowSpec, cell: Scored, base: RowSpec | None, other: Scored | None, spec: TableSpec, are_draws: bool = True
) -> dict[str, Any]:
    """The difference to the baseline, with what is known of another training and of these trained models.

    Args:
        row, cell: of the arm.
        base, other: row and scores of its baseline, if it has one.
        spec: the table.
        are_draws: False if the folds are a cross-validation, which tells nothing of another training; `draws` is then 0.

    Returns:
        baseline (title), delta; draws, delta_low, delta_high (crossed interval), df, p (its t test), p_margin (two one-sided
        tests of the table's margin), sd_draw, sd_subject, sd_rest (of the difference), visible (the difference that 80 % of such
        studies would find); of these trained models: models_delta_low, models_delta_high (bootstrap over subjects, the same
        in both arms), models_p, models_smallest_p, biserial, dz (signed-rank test), pairs (subjects), zeros (of these), and
        unpaired (scores defined in only one arm). NaN where it is not known.

    Raises:
        UserError: the two arms are not scored on the same cases.
    """
    line: dict[str, Any] = {"baseline": base.title if base else "", "delta": NAN, "unpaired": 0}
    found, differences, models = crossed.estimate(np.zeros((0, 0))), np.array([]), (NAN, NAN)
    if base and other:
        check_same_cases(cell.rows, other.rows, row.title, base.title)
        line["delta"] = cell.value - other.value
        if not math.isnan(line["delta"]):
            per_subject, untrained = _per_subject(cell, other, spec), row.external and base.external
            found = crossed.fixed(per_subject) if untrained else crossed.estimate(per_subject, are_draws)
            models = statistics.interval(cell.samples - other.samples, spec.bootstrap.confidence)
            differences = _paired(cell.rows, other.rows)
            one_arm = cell.rows["value"].isna().to_numpy() != other.rows["value"].isna().to_numpy()
            line["unpaired"] = int(one_arm.sum())
    low, high = found.interval(spec.bootstrap.confidence)
    line |= {"draws": found.draws, "delta_low": low, "delta_high": high, "df": found.df, "p": found.p, "p_margin": NAN}
    if spec.margin is not None:
        line["p_margin"] = found.p_equivalent(spec.margin / metric_of(spec).scale)
    line |= _spread(found, spec)
    test = statistics.signed_rank(differences)
    line |= {"models_delta_low": models[0], "models_delta_high": models[1]}
    line |= {"models_p": test.p, "models_smallest_p": test.smallest_p}
    return line | {name: getattr(test, name) for name in ("biserial", "dz", "pairs", "zeros")}


def _per_subject(cell: Scored, other: Scored, spec: TableSpec) -> np.ndarray:
    """What each subject contributes to the difference of each draw: (draws, subjects), NaN where a draw does not score it."""
    scored = (cell.cases.counts + other.cases.counts).sum(-1) > 0
    return by_draw(crossed.contributions(cell.cases, scored) - crossed.contributions(other.cases, scored), spec)


def _spread(found: crossed.Estimate, spec: TableSpec) -> dict[str, float]:
    """Standard deviations of the difference, and the difference that such a study can see."""
    parts = found.components
    if parts is None:
        return dict.fromkeys(("sd_draw", "sd_subject", "sd_rest", "visible"), NAN)
    visible = power.visible(found.variance, found.df, 1 - spec.bootstrap.confidence)
    sds = {f"sd_{name}": math.sqrt(getattr(parts, name)) for name in ("draw", "subject", "rest")}
    return sds | {"visible": visible}


def corrected(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines of a column with Holm's correction over them: `tests` (their number) and a column `_holm` of each p."""
    tests = sum(not math.isnan(line["p"]) for line in lines)
    columns = {
        f"{name}_holm": statistics.holm(np.array([line[name] for line in lines])) for name in ("p", "p_margin", "models_p")
    }
    return [line | {"tests": tests} | {name: p[i] for name, p in columns.items()} for i, line in enumerate(lines)]


def _paired(rows: pd.DataFrame, other: pd.DataFrame) -> np.ndarray:
    """A difference for each subject: mean over labels, then over its sessions and folds, of the scores defined in both arms.

    Both frames have the same cases in the same order (see `results.check` and `check_same_cases`).
    """
    difference = pd.Series(rows["value"].to_numpy() - other["value"].to_numpy())
    by_volume = difference.groupby([rows[key].to_numpy() for key in ("subject", "fold", "volume")]).mean()
    return by_volume.groupby(level=0).mean().dropna().to_numpy()


def check_same_cases(rows: pd.DataFrame, other: pd.DataFrame, title: str, base: str) -> None:
    """Refuses a comparison of different cases. A fold that is scored in only one of the arms is not compared."""
    keys = ["fold", "volume", "label"]
    if rows[keys].to_numpy().tolist() == other[keys].to_numpy().tolist():
        return
    folds = set(rows["fold"]) & set(other["fold"])
    cases = [set(frame[keys].itertuples(index=False, name=None)) for frame in (rows, other)]
    odd = sorted(case for case in cases[0] ^ cases[1] if case[0] in folds)
    if odd:
        (fold, volume, label), run = odd[0], (rows if len(rows) else other).iloc[0]
        raise UserError(
            f"'{title}' and '{base}' are not scored on the same cases ({len(odd)} differ)",
            where=f"scores.tsv: {run['task']} {run['cohort']} {fold=} {volume=} {label=}",
            fix="run the prediction and the evaluation of both arms again",
        )
