"""Label budgets: the score of each arm over the number of labelled subjects, and the budget that matches full supervision.

This module computes the numbers; `figures.budgets` draws them. The same scores and seed always give the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from brainpretrain.config.sections import Bootstrap
from brainpretrain.errors import UserError
from brainpretrain.plan.table_spec import ColumnSpec, RowSpec, TableSpec
from brainpretrain.report import results
from brainpretrain.report.metrics import metric_of
from brainpretrain.report.results import ARM

FAMILY = ["backbone", "init", "recipe"]  # the arms of one curve differ in n_train only
CURVE_COLUMNS = [
    "row", "column", "task", "cohort", *FAMILY, "n_train", "subjects", "folds", "folds_expected", "mean", "sd", "fold_scores",
]  # fmt: skip
MATCH_COLUMNS = [
    "row", "column", "task", "cohort", *FAMILY, "baseline", "full_n_train", "full_subjects", "full_score", "smallest", "largest",
    "matched", "low", "high", "reached_share", "words",
]  # fmt: skip


def budget(n_train: str, counted: Mapping[str, float], task: str) -> float:
    """Number of labelled training subjects of an n_train; for 'all', the number that the trainings of this task recorded.

    Raises:
        UserError: n_train is 'all', and no training of the task recorded the number.
    """
    if n_train != "all":
        return float(n_train)
    if task not in counted:
        problem = f"the number of subjects of n_train 'all' is not known for task '{task}'"
        raise UserError(problem, where="run.json", fix="give --runs")
    return counted[task]


def counted_subjects(runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Task -> training subjects of n_train 'all', mean over its runs (folds of a task may differ by some).

    Args:
        runs: parts of run.json with task, n_train, train_subjects, validation.
    """
    by_task: dict[str, list[int]] = {}
    for run in runs:
        if str(run["n_train"]) == "all":
            validation = run.get("validation") or {}  # of these subjects, too, the labels are used
            by_task.setdefault(run["task"], []).append(len(run["train_subjects"]) + len(validation.get("subjects", [])))
    return {task: float(np.mean(counts)) for task, counts in by_task.items()}


def curves(scores: pd.DataFrame, spec: TableSpec, counted: Mapping[str, float]) -> pd.DataFrame:
    """A line per column of the table, arm and budget, budgets ascending.

    Args:
        scores: as for `results.build`.
        spec: the table; the scores are those of its metric.
        counted: task -> subjects of n_train 'all' (see `counted_subjects`).

    Returns:
        row (title without the budget), column, task, cohort, backbone, init, recipe, n_train, subjects, folds,
        folds_expected, mean and sd (n - 1) over folds, fold_scores (blank-separated, in the order of the folds). mean and sd are
        NaN where a fold is missing.
    """
    by_run = results.fold_scores(results.valued(scores, spec))
    lines = [
        _point(by_run, column, row, spec) | {"subjects": budget(row.n_train, counted, column.task)}
        for column in spec.columns
        for row in spec.rows
    ]
    frame = pd.DataFrame(lines, columns=CURVE_COLUMNS)
    order = {title: i for i, title in enumerate(dict.fromkeys(frame["row"]))}
    places = frame.assign(c=_rank(frame["column"]), r=frame["row"].map(order)).sort_values(["c", "r", "subjects"], kind="stable")
    return places[CURVE_COLUMNS].round({"mean": 6, "sd": 6}).reset_index(drop=True)


def _rank(names: pd.Series) -> pd.Series:
    return names.map({name: i for i, name in enumerate(dict.fromkeys(names))})


def title_of(row: RowSpec) -> str:
    """A row's title without the budget that the plan appends to it."""
    return re.sub(rf",? n={re.escape(row.n_train)}(?=,|$)", "", row.title)


def _point(by_run: pd.Series, column: ColumnSpec, row: RowSpec, spec: TableSpec) -> dict[str, Any]:
    by_fold = [by_run.get((column.task, column.cohort, *row.arm, fold), np.nan) for fold in spec.fold_names]
    scored = [value for value in by_fold if not np.isnan(value)]
    complete = len(scored) == len(by_fold)
    return {
        "row": title_of(row),
        "column": column.title,
        "task": column.task,
        "cohort": column.cohort,
        **dict(zip(ARM, row.arm, strict=True)),
        "folds": len(scored),
        "folds_expected": len(by_fold),
        "mean": np.mean(scored) if complete else np.nan,
        "sd": results.sd_of_draws(np.array(by_fold), spec, row) if complete else np.nan,
        "fold_scores": " ".join("" if np.isnan(value) else f"{value:.6f}" for value in by_fold),
    }


# --- the budget that matches full supervision


def matched(scores: pd.DataFrame, spec: TableSpec, points: pd.DataFrame, bootstrap: Bootstrap) -> pd.DataFrame:
    """The budget at which each arm is as good as the baseline with all labels.

    Full supervision is the baseline arm (the table's `baseline` init, same backbone) at its largest budget. The matched budget
    is where the arm's mean first reaches that score; between two budgets it is interpolated in the logarithm of the budget.
    Nothing is extrapolated: at the smallest budget it is "at most", beyond the largest "not reached". The interval is that of a
    percentile bootstrap: each resample draws folds and subjects with replacement, and computes all curves and the target.

    Args:
        scores, spec: as for `curves`.
        points: what `curves` returned.
        bootstrap: its resamples, confidence and seed.

    Returns:
        a line per column and arm that has a baseline: row, column, task, cohort, backbone, init, recipe, baseline (title),
        full_n_train, full_subjects, full_score, smallest and largest (subjects of its scored budgets), matched (subjects; inf:
        not reached, NaN: not known), low, high (the interval, inf likewise), reached_share of the resamples, words.
    """
    values = results.valued(scores, spec)
    sign = 1 if metric_of(spec).higher else -1
    scored = points[points["mean"].notna()]
    lines = []
    for (task, cohort), of_column in points.groupby(["task", "cohort"], sort=False):
        complete = scored[(scored["task"] == task) & (scored["cohort"] == cohort)]
        cohort_values = values[(values["task"] == task) & (values["cohort"] == cohort)]
        draws = _draws(cohort_values, complete, spec, bootstrap)
        for key, arm in of_column.groupby(FAMILY, sort=False):
            base = _baseline(of_column, key, spec)
            if base is not None:
                lines.append(_match(arm, base, complete, draws, sign, bootstrap.confidence))
    frame = pd.DataFrame(lines, columns=MATCH_COLUMNS)
    return frame.round({"full_score": 6, "matched": 2, "low": 2, "high": 2, "reached_share": 4})


def _baseline(of_column: pd.DataFrame, key: tuple, spec: TableSpec) -> pd.DataFrame | None:
    """The baseline arm of the same backbone that has most labels; among several, that of the same recipe, else the first."""
    same = of_column[(of_column["backbone"] == key[0]) & (of_column["init"] == spec.baseline)]
    if same.empty:
        return None
    same = same[same["recipe"].isin(same.loc[same["subjects"] == same["subjects"].max(), "recipe"])]
    recipe = key[2] if (same["recipe"] == key[2]).any() else same["recipe"].iloc[0]
    return same[same["recipe"] == recipe]


def _draws(values: pd.DataFrame, complete: pd.DataFrame, spec: TableSpec, bootstrap: Bootstrap) -> dict:
    """(backbone, init, recipe, n_train) -> mean over folds, (1 + resamples,): as scored, then in each resample."""
    rng = np.random.default_rng(bootstrap.seed)
    folds = spec.fold_names
    subjects, labels = sorted(values["subject"].unique()), sorted(values["label"].unique())
    n, many = bootstrap.resamples, len(subjects)
    weights = np.vstack([np.ones(many), rng.multinomial(many, np.full(many, 1 / many), n)]) if many else np.ones((n + 1, 0))
    draws, seeds = len(spec.folds), len(spec.seeds) or 1
    fold_weights = np.vstack([np.ones(draws), rng.multinomial(draws, np.full(draws, 1 / draws), n)]).repeat(seeds, 1)
    arms = dict(iter(values.dropna(subset="value").groupby(ARM)))
    means_of = {}
    for key in complete[ARM].itertuples(index=False, name=None):
        sums, counts = _tensor(arms[key], folds, labels, subjects)
        means = _ratio(np.tensordot(weights, sums, (1, 0)), np.tensordot(weights, counts, (1, 0)))  # resample, fold, label
        defined = ~np.isnan(means)
        by_fold = _ratio(np.where(defined, means, 0).sum(2), defined.sum(2))
        defined = ~np.isnan(by_fold)
        means_of[key] = _ratio((np.where(defined, by_fold, 0) * fold_weights).sum(1), (defined * fold_weights).sum(1))
    return means_of


def _tensor(rows: pd.DataFrame, folds: list[str], labels: list[str], subjects: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of defined values, each (subject, fold, label), so that a subject is drawn with all its sessions."""
    axes = {"subject": subjects, "fold": folds, "label": labels}
    places = [pd.Index(names).get_indexer(rows[name]) for name, names in axes.items()]
    inside = places[1] >= 0
    sums, counts = np.zeros((2, len(subjects), len(folds), len(labels)))
    where = tuple(place[inside] for place in places)
    np.add.at(sums, where, rows["value"].to_numpy()[inside])
    np.add.at(counts, where, 1)
    return sums, counts


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    return np.divide(top, bottom, out=np.full(np.shape(top), np.nan), where=bottom > 0)


def reach(subjects: Sequence[float], values: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Number of subjects at which each curve first reaches its target, interpolated in log(subjects); inf if it does not.

    Between 0 and the smallest number it is interpolated in the number itself.

    Args:
        subjects: ascending budgets (b,).
        values: a curve per line (n, b), more is better, NaN where undefined.
        target: (n,).
    """
    there = values >= target[:, None] - 1e-9
    first = there.argmax(1)
    before = np.maximum(first - 1, 0)
    line = np.arange(len(values))
    low, high = values[line, before], values[line, first]
    share = np.where(first == 0, 1.0, _ratio(target - low, high - low))
    sizes, share = np.asarray(subjects, float), np.nan_to_num(share, nan=1.0).clip(0, 1)
    place = np.log(np.maximum(sizes, np.finfo(float).tiny))
    crossing = np.exp(place[before] + share * (place[first] - place[before]))
    from_zero = sizes[before] == 0
    crossing = np.where(from_zero, share * sizes[first], crossing)
    return np.where(there.any(1), crossing.round(9), np.inf)


def _match(arm: pd.DataFrame, base: pd.DataFrame, complete: pd.DataFrame, draws: Mapping, sign: int, confidence: float) -> dict:
    """One line of `matched`."""
    first, full = arm.iloc[0], base.sort_values("subjects", kind="stable").iloc[-1]
    line = {name: first[name] for name in ("row", "column", "task", "cohort", *FAMILY)}
    line |= {"baseline": full["row"], "full_n_train": full["n_train"]}
    line |= {"full_subjects": full["subjects"], "full_score": full["mean"]}
    scored = arm[arm.index.isin(complete.index)].drop_duplicates("subjects", keep="last")
    if full.name not in complete.index:
        return line | {"words": f"not known: {full['row']} with n={full['n_train']} is not scored in every fold"}
    if scored.empty:
        return line | {"words": "not known: no budget is scored in every fold"}
    sizes = scored["subjects"].tolist()
    values = sign * np.stack([draws[key] for key in scored[ARM].itertuples(index=False, name=None)], axis=1)
    budgets = reach(sizes, values, sign * draws[tuple(full[ARM])])
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = np.quantile(budgets[1:], tails, method="inverted_cdf")
    share = float(np.isfinite(budgets[1:]).mean())
    line |= {"smallest": sizes[0], "largest": sizes[-1], "matched": budgets[0], "low": low, "high": high, "reached_share": share}
    return line | {"words": _words(budgets[0], low, high, share, sizes, confidence)}


def _words(matched: float, low: float, high: float, share: float, sizes: Sequence[float], confidence: float) -> str:
    """'17 (95 % interval 12 to 31)', 'at most 10 ...', 'not reached with 40 ...'."""

    def shown(subjects: float) -> str:
        if not np.isfinite(subjects):
            return f"more than {sizes[-1]:.0f}"
        return f"at most {sizes[0]:.0f}" if subjects <= sizes[0] else f"{subjects:.0f}"

    ends = dict.fromkeys((shown(low), shown(high)))
    interval = f"{100 * confidence:g} % interval {' to '.join(ends)}"
    if not np.isfinite(matched):
        return f"not reached with {sizes[-1]:.0f}; reached in {100 * share:.0f} % of resamples"
    return f"{shown(matched)} ({interval})"
