"""Label budgets: the score of each arm over the number of labelled subjects, and the budget that matches full supervision.

Numbers only; `figures.budgets` draws them. The same scores and seed always give the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from brainpretrain.errors import UserError
from brainpretrain.report import results as tables
from brainpretrain.report.results import Row, Spec

FAMILY = ["backbone", "init", "recipe"]  # what an arm keeps when its budget changes
CURVE_COLUMNS = [
    "row", "column", "task", "cohort", *FAMILY, "n_train", "subjects", "folds", "folds_expected", "mean", "sd", "fold_scores",
]  # fmt: skip
MATCH_COLUMNS = [
    "row", "column", "task", "cohort", *FAMILY, "baseline", "full_n_train", "full_subjects", "full_score", "smallest", "largest",
    "matched", "low", "high", "reached_share", "words",
]  # fmt: skip


def budget(n_train: str, counted: Mapping[str, float], task: str) -> float:
    """Labelled training subjects of an n_train; of 'all' as many as the trainings of this task counted.

    Raises:
        UserError: 'all', and no training of the task says how many that were.
    """
    if n_train != "all":
        return float(n_train)
    if task not in counted:
        raise UserError(f"how many subjects n_train 'all' is for task '{task}' is not known", where="run.json", fix="give --runs")
    return counted[task]


def counted_subjects(runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Task -> training subjects of n_train 'all', mean over its runs (folds of a task may differ by some).

    Args:
        runs: parts of run.json with task, n_train, train_subjects.
    """
    found: dict[str, list[int]] = {}
    for run in runs:
        if str(run["n_train"]) == "all":
            found.setdefault(run["task"], []).append(len(run["train_subjects"]))
    return {task: float(np.mean(counts)) for task, counts in found.items()}


def curves(scores: pd.DataFrame, spec: Spec, counted: Mapping[str, float]) -> pd.DataFrame:
    """A line per column of the table, arm and budget, budgets ascending.

    Args:
        scores: as for `tables.build`.
        spec: the table; its `metric` (default dice) is what is averaged.
        counted: task -> subjects of n_train 'all' (see `counted_subjects`).

    Returns:
        row (title without the budget), column, task, cohort, backbone, init, recipe, n_train, subjects, folds,
        folds_expected, mean and sd (n - 1) over folds, fold_scores (blank-separated, in the order of the folds). mean and sd are
        NaN where a fold is missing.
    """
    by_run = tables.fold_scores(tables.valued(scores, spec))
    lines = [
        _point(by_run, column, row, spec) | {"subjects": budget(str(row["n_train"]), counted, column["task"])}
        for column in spec["columns"]
        for row in spec["rows"]
    ]
    frame = pd.DataFrame(lines, columns=CURVE_COLUMNS)
    order = {title: i for i, title in enumerate(dict.fromkeys(frame["row"]))}
    places = frame.assign(c=_rank(frame["column"]), r=frame["row"].map(order)).sort_values(["c", "r", "subjects"], kind="stable")
    return places[CURVE_COLUMNS].round({"mean": 6, "sd": 6}).reset_index(drop=True)


def _rank(names: pd.Series) -> pd.Series:
    return names.map({name: i for i, name in enumerate(dict.fromkeys(names))})


def title_of(row: Row) -> str:
    """A row's title without the budget that the plan appends to it."""
    return re.sub(rf",? n={re.escape(str(row['n_train']))}(?=,|$)", "", row["title"])


def _point(by_run: pd.Series, column: Row, row: Row, spec: Spec) -> dict[str, Any]:
    key = (column["task"], column["cohort"], *(str(row[name]) for name in tables.ARM))
    found = [by_run.get((*key, str(fold)), np.nan) for fold in spec["folds"]]
    known = [value for value in found if not np.isnan(value)]
    complete = len(known) == len(spec["folds"])
    return {
        "row": title_of(row),
        "column": column["title"],
        "task": column["task"],
        "cohort": column["cohort"],
        **{name: row[name] for name in FAMILY},
        "n_train": str(row["n_train"]),
        "folds": len(known),
        "folds_expected": len(spec["folds"]),
        "mean": np.mean(known) if complete else np.nan,
        "sd": np.std(known, ddof=1) if complete and len(known) > 1 else np.nan,
        "fold_scores": " ".join("" if np.isnan(value) else f"{value:.6f}" for value in found),
    }


# --- the budget that matches full supervision


def matched(scores: pd.DataFrame, spec: Spec, points: pd.DataFrame, bootstrap: Mapping[str, Any]) -> pd.DataFrame:
    """The budget at which each arm is as good as the baseline with all labels.

    Full supervision is the baseline arm (the table's `baseline` init, same backbone) at its largest budget. The matched budget
    is where the arm's mean first reaches that score, between two budgets by interpolation in the logarithm of the budget.
    Nothing is extrapolated: at the smallest budget it is "at most", beyond the largest "not reached". The interval is a
    percentile bootstrap: each resample draws folds and subjects with replacement, and computes all curves and the target.

    Args:
        scores, spec: as for `curves`.
        points: what `curves` returned.
        bootstrap: resamples, confidence (0..1), seed.

    Returns:
        a line per column and arm that has a baseline: row, column, task, cohort, backbone, init, recipe, baseline (title),
        full_n_train, full_subjects, full_score, smallest and largest (subjects of its scored budgets), matched (subjects; inf:
        not reached, NaN: not known), low, high (the interval, inf likewise), reached_share of the resamples, words.
    """
    values = tables.valued(scores, spec)
    sign = 1 if tables.metric_of(spec).higher else -1
    scored = points[points["mean"].notna()]
    lines = []
    for (task, cohort), of_column in points.groupby(["task", "cohort"], sort=False):
        complete = scored[(scored["task"] == task) & (scored["cohort"] == cohort)]
        cohort_values = values[(values["task"] == task) & (values["cohort"] == cohort)]
        draws = _draws(cohort_values, complete, spec, bootstrap)
        for key, arm in of_column.groupby(FAMILY, sort=False):
            base = _baseline(of_column, key, spec)
            if base is not None:
                lines.append(_match(arm, base, complete, draws, sign, bootstrap["confidence"]))
    frame = pd.DataFrame(lines, columns=MATCH_COLUMNS)
    return frame.round({"full_score": 6, "matched": 2, "low": 2, "high": 2, "reached_share": 4})


def _baseline(of_column: pd.DataFrame, key: tuple, spec: Spec) -> pd.DataFrame | None:
    """The baseline arm of the same backbone: of the same recipe if there is one, else the first."""
    same = of_column[(of_column["backbone"] == key[0]) & (of_column["init"] == spec["baseline"])]
    if same.empty:
        return None
    recipe = key[2] if (same["recipe"] == key[2]).any() else same["recipe"].iloc[0]
    return same[same["recipe"] == recipe]


def _draws(values: pd.DataFrame, complete: pd.DataFrame, spec: Spec, bootstrap: Mapping[str, Any]) -> dict:
    """Budgets as keys (backbone, init, recipe, n_train) -> mean over folds: first as scored, then of each resample."""
    rng = np.random.default_rng(bootstrap["seed"])
    folds = [str(fold) for fold in spec["folds"]]
    subjects, labels = sorted(values["subject"].unique()), sorted(values["label"].unique())
    n, many = bootstrap["resamples"], len(subjects)
    weights = np.vstack([np.ones(many), rng.multinomial(many, np.full(many, 1 / many), n)]) if many else np.ones((n + 1, 0))
    fold_weights = np.vstack([np.ones(len(folds)), rng.multinomial(len(folds), np.full(len(folds), 1 / len(folds)), n)])
    arms = dict(iter(values.dropna(subset="value").groupby(tables.ARM)))
    found = {}
    for key in complete[tables.ARM].itertuples(index=False, name=None):
        sums, counts = _tensor(arms[key], folds, labels, subjects)
        means = _ratio(np.tensordot(weights, sums, (1, 0)), np.tensordot(weights, counts, (1, 0)))  # resample, fold, label
        known = ~np.isnan(means)
        by_fold = _ratio(np.where(known, means, 0).sum(2), known.sum(2))
        known = ~np.isnan(by_fold)
        found[key] = _ratio((np.where(known, by_fold, 0) * fold_weights).sum(1), (known * fold_weights).sum(1))
    return found


def _tensor(rows: pd.DataFrame, folds: list[str], labels: list[str], subjects: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of defined values (subject, fold, label): a subject's sessions stay together when it is drawn."""
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
    """Where each curve first reaches its target, by interpolation in log(subjects); inf if nowhere.

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
    place = np.log(np.asarray(subjects, float))
    found = np.exp(place[before] + np.nan_to_num(share, nan=1.0).clip(0, 1) * (place[first] - place[before]))
    return np.where(there.any(1), found.round(9), np.inf)


def _match(arm: pd.DataFrame, base: pd.DataFrame, complete: pd.DataFrame, draws: Mapping, sign: int, confidence: float) -> dict:
    """One line of `matched`."""
    first, full = arm.iloc[0], base.sort_values("subjects", kind="stable").iloc[-1]
    line = {name: first[name] for name in ("row", "column", "task", "cohort", *FAMILY)}
    line |= {"baseline": full["row"], "full_n_train": full["n_train"]}
    line |= {"full_subjects": full["subjects"], "full_score": full["mean"]}
    mine = arm[arm.index.isin(complete.index)].drop_duplicates("subjects", keep="last")
    if full.name not in complete.index:
        return line | {"words": f"not known: {full['row']} with n={full['n_train']} is not scored in every fold"}
    if mine.empty:
        return line | {"words": "not known: no budget is scored in every fold"}
    sizes = mine["subjects"].tolist()
    values = sign * np.stack([draws[key] for key in mine[tables.ARM].itertuples(index=False, name=None)], axis=1)
    found = reach(sizes, values, sign * draws[tuple(full[tables.ARM])])
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = np.quantile(found[1:], tails, method="inverted_cdf")
    share = float(np.isfinite(found[1:]).mean())
    line |= {"smallest": sizes[0], "largest": sizes[-1], "matched": found[0], "low": low, "high": high, "reached_share": share}
    return line | {"words": _words(found[0], low, high, share, sizes, confidence)}


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
