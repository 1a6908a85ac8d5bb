"""Result tables from scores alone: means over folds, intervals, paired tests, ranks, and published values.

This module holds the numbers, in the units of scores.tsv (Dice in 0..1, mm); `layouts` shows them to readers. The same scores
always give the same bytes. docs/statistics.md explains each number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from brainpretrain.errors import UserError
from brainpretrain.plan.table_spec import EXTERNAL, ColumnSpec, RowSpec, TableSpec, read_fold_name
from brainpretrain.report import comparison, statistics
from brainpretrain.report.comparison import Scored, check_same_cases
from brainpretrain.report.metrics import METRICS, metric_of
from brainpretrain.report.statistics import Cases

ARM = ["backbone", "init", "recipe", "n_train"]
RUN = ["task", "cohort", *ARM, "fold"]
KEYS = [*RUN, "volume", "label"]
EMPTY = ["both_empty", "reference_empty", "prediction_empty"]
TEXTS = [*KEYS, "subject", "status"]
ALL = "all columns"  # in a table of ranks: the mean over its columns
UNKNOWN = "unknown"

Overlaps = Mapping[str, pd.DataFrame | None]


# --- scores


def check(scores: pd.DataFrame, metric: str = "dice") -> pd.DataFrame:
    """The scores in a fixed order, with keys as text, and metrics as numbers in their units or NaN.

    Raises:
        UserError: a column is missing; a score is no number or out of range; a Dice is undefined although no mask is
            empty; a case and label of a run is scored twice.
    """
    _check_columns(scores, dict.fromkeys([*TEXTS, "dice", metric]))
    scores = scores.astype(dict.fromkeys(TEXTS, str)).astype(dict.fromkeys(TEXTS, object))  # objects are compared faster
    numbers = {}
    for name, metric_info in METRICS.items():
        if name in scores.columns:
            numbers[name] = pd.to_numeric(scores[name], errors="coerce")
            unreadable = numbers[name].isna() & scores[name].notna() & ~scores[name].isin(["nan", ""])
            _refuse(scores[unreadable], f"the {metric_info.title} is no number", name)
            outside = (numbers[name] < metric_info.low) | (numbers[name] > metric_info.high) | np.isinf(numbers[name])
            _refuse(scores[outside], f"the {metric_info.title} is outside {metric_info.low:g}..{metric_info.high:g}", name)
    undefined = numbers["dice"].isna() & ~scores["status"].isin(EMPTY)
    _refuse(scores[undefined], "the Dice is undefined, but no mask is empty", "dice")
    _refuse(scores[scores.duplicated(KEYS)], "scored more than once", "dice")
    return scores.assign(**numbers).sort_values(KEYS, ignore_index=True)


def _check_columns(scores: pd.DataFrame, names: Mapping[str, Any] | Sequence[str]) -> None:
    if missing := [name for name in names if name not in scores.columns]:
        problem = f"the scores lack the columns {', '.join(missing)}"
        raise UserError(problem, where="scores.tsv", fix="run the evaluation again")


def _refuse(bad: pd.DataFrame, problem: str, metric: str) -> None:
    if len(bad):
        first = " ".join(f"{name}={bad.iloc[0][name]}" for name in [*KEYS, metric])
        where, fix = f"scores.tsv: {first}", "run the evaluation of this run again"
        raise UserError(f"{problem} ({len(bad)} rows)", where=where, fix=fix)


def of_table(scores: pd.DataFrame, spec: TableSpec) -> pd.DataFrame:
    """The scores of the arms and columns of a table, selected from all scores of a study.

    Raises:
        UserError: a column that names the run is missing.
    """
    names = ["task", "cohort", *ARM]
    _check_columns(scores, sorted(names))
    cells = [_cell_key(row, column) for row in spec.rows for column in spec.columns]
    return _in_all_folds(scores[pd.MultiIndex.from_frame(scores[names].astype(str)).isin(cells)], spec)


def _in_all_folds(scores: pd.DataFrame, spec: TableSpec) -> pd.DataFrame:
    """The scores, with those of other programs in every fold and seed of the table, since no training changes them.

    They are scored in one fold, or in the cohort `val`, whose cases each fold chooses, once in each.
    """
    external = scores["backbone"].astype(str) == EXTERNAL
    if not external.any():
        return scores
    once, fold = scores[external], scores.loc[external, "fold"].astype(str)
    of_val = (once["cohort"] == "val").to_numpy()
    parts = [scores[~external]]
    for name in spec.fold_names:
        own = str(read_fold_name(name)[0])
        parts.append(once[~of_val | (fold == own).to_numpy()].assign(fold=name))
    return pd.concat(parts, ignore_index=True)


def _cell_key(row: RowSpec, column: ColumnSpec) -> tuple[str, ...]:
    """task, cohort and arm of a cell, as in scores.tsv."""
    return (column.task, column.cohort, *row.arm)


def _checked(scores: pd.DataFrame, spec: TableSpec) -> pd.DataFrame:
    return check(of_table(scores, spec), spec.metric)


def _valued(checked: pd.DataFrame, spec: TableSpec) -> pd.DataFrame:
    values = checked[spec.metric]
    return checked.assign(value=values.abs() if metric_of(spec).magnitude else values)


def valued(scores: pd.DataFrame, spec: TableSpec) -> pd.DataFrame:
    """The checked scores of a table's arms and columns, with the table's metric as `value`, without sign if it is a magnitude.

    Raises:
        UserError: bad scores (see `check`).
    """
    return _valued(_checked(scores, spec), spec)


def fold_scores(values: pd.DataFrame) -> pd.Series:
    """Mean over labels of the mean over cases, for each run and cohort (index `RUN`). `values`: see `valued`."""
    return values.groupby([*RUN, "label"])["value"].mean().groupby(RUN).mean().dropna()


def of_draws(by_training: np.ndarray, spec: TableSpec) -> np.ndarray:
    """Values of all trainings of an arm, in the order of `TableSpec.fold_names`, as the mean over the seeds of each fold."""
    return by_training.reshape(len(spec.folds), -1).mean(1)


def sd_of_draws(by_training: np.ndarray, spec: TableSpec, row: RowSpec) -> float:
    """Sample SD (n - 1) over the folds of the means over seeds; NaN for a single fold, and for another program."""
    draws = of_draws(by_training, spec)
    return float(draws.std(ddof=1)) if len(draws) > 1 and not row.external else float("nan")


def case_scores(values: pd.DataFrame, column: str = "value") -> pd.DataFrame:
    """Mean over labels for each run and case: columns of the run, volume, and `column` (NaN if undefined)."""
    return values.groupby([*RUN, "volume"], as_index=False)[column].mean()


def _scored(checked: pd.DataFrame, spec: TableSpec) -> list[list[Scored]]:
    """The cells of a table from the scores of its arms: a list per column, from the first row to the last."""
    kept = _valued(checked, spec)[checked["fold"].isin(spec.fold_names)]
    arms = dict(iter(kept.groupby(["task", "cohort", *ARM])))
    keys = [[_cell_key(row, column) for row in spec.rows] for column in spec.columns]
    return [[_cell_scored(arms.get(key, kept.head(0)), spec) for key in column] for column in keys]


def _cell_scored(rows: pd.DataFrame, spec: TableSpec) -> Scored:
    cases = cases_of(rows, spec.fold_names, sorted(set(rows["label"])))
    by_fold = statistics.fold_scores(cases.totals.sum(0), cases.counts.sum(0))
    by_subject = statistics.mean(statistics.fold_scores(cases.totals, cases.counts), -1)
    samples = np.array([])
    if len(cases.subjects) > 1 and not np.isnan(by_fold).any():  # the spread of a single subject is unknown
        samples = statistics.resampled(cases, spec.bootstrap.resamples, spec.bootstrap.seed)
    return Scored(rows, cases, of_draws(by_fold, spec), by_fold, by_subject, samples)


def cases_of(scored: pd.DataFrame, folds: list[str], labels: list[str]) -> Cases:
    """Sums and counts of the defined scores of one arm, by subject (sorted), fold and label."""
    subject, subjects = pd.factorize(scored["subject"], sort=True)
    fold, label = pd.Index(folds).get_indexer(scored["fold"]), pd.Index(labels).get_indexer(scored["label"])
    shape = (len(subjects), len(folds), len(labels))
    flat, size = (subject * len(folds) + fold) * len(labels) + label, math.prod(shape)
    value = scored["value"].to_numpy(dtype=float)
    defined = ~np.isnan(value)
    totals = np.bincount(flat[defined], value[defined], minlength=size).reshape(shape)
    counts = np.bincount(flat[defined], minlength=size).reshape(shape).astype(float)
    return Cases(tuple(map(str, subjects)), totals, counts)


# --- results


def build(scores: pd.DataFrame, spec: TableSpec, overlaps: Overlaps | None = None) -> pd.DataFrame:
    """The cells of a result table, a line each, in the order of the spec.

    The score of a fold is the mean over labels of the mean over cases, without undefined scores. The value of a cell is
    the mean over folds of the fold scores, if every fold of the spec is scored, and its SD is the sample SD (n - 1); with
    several seeds, a fold is the mean over its seeds. Its delta is the difference to the baseline (see
    `TableSpec.baseline_of`) in the same column.

    Args:
        scores: a row per run, cohort, case and label, as the evaluation writes them; other runs may be among them.
        spec: the table.
        overlaps: by corpus, the audit of its subjects (overlap.tsv); None for a corpus whose audit is not available.

    Returns:
        row, column (titles), task, cohort, backbone, init, recipe, n_train, metric, folds (scored), folds_expected,
        cases, subjects, label_scores, left_out (of these), both_empty, reference_empty, prediction_empty (of the
        others), value, sd, low, high (crossed interval of value), models_low, models_high (bootstrap interval, the trained
        models as given), baseline (title of the row compared with, or ''), and what `comparison.compared` and
        `comparison.corrected` return,
        published, published_sd, differs (how the run differs from the published protocol), shared (subjects scored and
        pretrained on, or 'unknown'), look (further subjects who may be, by the overlap audit).
        Values are in the units of scores.tsv; NaN is unknown.

    Raises:
        UserError: bad scores (see `check`), or two arms to compare are not scored on the same cases.
    """
    checked = _checked(scores, spec)
    return _results(_scored(checked, spec), spec, overlaps or {})


def _results(cells: list[list[Scored]], spec: TableSpec, overlaps: Overlaps) -> pd.DataFrame:
    columns = [_column(scored, column, spec, overlaps) for scored, column in zip(cells, spec.columns, strict=True)]
    return _rounded(pd.DataFrame([column[i] for i in range(len(spec.rows)) for column in columns]))


def _column(cells: list[Scored], column: ColumnSpec, spec: TableSpec, overlaps: Overlaps) -> list[dict[str, Any]]:
    """The lines of one column, from the first row to the last, with Holm's correction over them."""
    lines = []
    for row, cell in zip(spec.rows, cells, strict=True):
        line = _names(row, column) | {"metric": spec.metric} | _summary(cell, spec, row, not column.kfold)
        base = spec.baseline_of(row)
        other = cells[spec.rows.index(base)] if base else None
        line |= comparison.compared(row, cell, base, other, spec, not column.kfold)
        audited = {"shared": _shared_subjects(row, column, cell.rows, overlaps), "look": _to_look_at(row, column, overlaps)}
        lines.append(line | _published(row, column, spec) | audited)
    return comparison.corrected(lines)


def _names(row: RowSpec, column: ColumnSpec) -> dict[str, Any]:
    of_column = {"column": column.title, "task": column.task, "cohort": column.cohort}
    return {"row": row.title} | of_column | dict(zip(ARM, row.arm, strict=True))


def _summary(cell: Scored, spec: TableSpec, row: RowSpec, are_draws: bool) -> dict[str, Any]:
    kept = cell.rows[cell.rows["value"].notna()]
    folds = cell.by_fold[~np.isnan(cell.by_fold)]
    models = statistics.interval(cell.samples, spec.bootstrap.confidence)
    low, high = comparison.value_interval(cell, spec, row, are_draws)
    return {
        "folds": len(folds),
        "folds_expected": len(spec.fold_names),
        "cases": cell.rows["volume"].nunique(),
        "subjects": len(cell.subjects),
        "label_scores": len(cell.rows),
        "left_out": len(cell.rows) - len(kept),
        **{status: int((kept["status"] == status).sum()) for status in EMPTY},
        "value": cell.value,
        "sd": sd_of_draws(cell.by_fold, spec, row),
        "low": low,
        "high": high,
        "models_low": models[0],
        "models_high": models[1],
    }


# --- published values, and subjects that a corpus shares with a cohort


def _published(row: RowSpec, column: ColumnSpec, spec: TableSpec) -> dict[str, Any]:
    """The published value of a cell, converted from printed units to those of scores.tsv."""
    scale = metric_of(spec).scale
    for cell in spec.published.cells if spec.published else ():
        if cell.recipe not in (None, row.recipe):
            continue
        if (cell.backbone, cell.init, cell.n_train, cell.column) == (row.backbone, row.init, row.n_train, column.title):
            sd = cell.sd / scale if cell.sd is not None else float("nan")
            return {"published": cell.value / scale, "published_sd": sd, "differs": cell.differs}
    return {"published": float("nan"), "published_sd": float("nan"), "differs": ""}


def _shared_subjects(row: RowSpec, column: ColumnSpec, scored: pd.DataFrame, overlaps: Overlaps) -> int | str:
    """Number of subjects of the cell's cohort that its corpus holds, by the audit; `UNKNOWN` if there is no audit.

    An audit without a column `cohort` names the subjects of all cohorts of a task; then only those scored here count.
    """
    if row.corpus not in overlaps:
        return 0
    audit = overlaps[row.corpus]
    if audit is None:
        return UNKNOWN
    of_task = audit[audit["task"] == column.task]
    if "cohort" in audit.columns:
        return int(of_task.loc[of_task["cohort"] == column.cohort, "shared"].astype(int).sum())
    return len(set(" ".join(of_task["subjects"].astype(str)).split()) & set(scored["subject"]))


def _to_look_at(row: RowSpec, column: ColumnSpec, overlaps: Overlaps) -> int:
    """Number of subjects of the cell's cohort who may be in its corpus; the audit asks a person to look at their images."""
    audit = overlaps.get(row.corpus)
    if audit is None or "look" not in audit.columns:
        return 0
    rows = audit[(audit["task"] == column.task) & (audit["cohort"] == column.cohort)]
    return int(rows["look"].astype(int).sum())


# --- by label, by metric


def per_label(scores: pd.DataFrame, spec: TableSpec) -> pd.DataFrame:
    """Mean over cases for each label, fold and arm of the spec that is scored.

    Returns:
        row, column (titles), task, cohort, backbone, init, recipe, n_train, fold, label, cases, left_out (of
        these), value (of the table's metric, or NaN where no case has a defined score).

    Raises:
        UserError: bad scores (see `check`).
    """
    checked = _checked(scores, spec)
    return _labels(_scored(checked, spec), spec)


def _labels(cells: list[list[Scored]], spec: TableSpec) -> pd.DataFrame:
    lines = []
    for column, scored in zip(spec.columns, cells, strict=True):
        for row, cell in zip(spec.rows, scored, strict=True):
            for (label, fold), value in cell.rows.groupby(["label", "fold"])["value"]:
                line = _names(row, column) | {"fold": fold, "label": label, "cases": len(value)}
                lines.append(line | {"left_out": int(value.isna().sum()), "value": value.mean()})
    columns = ["row", "column", *RUN, "label", "cases", "left_out", "value"]
    return _rounded(pd.DataFrame(lines, columns=columns))


@dataclass(frozen=True)
class LabelScores:
    """The scores of one label of an arm in one column of a table, in the units of scores.tsv.

    Attributes:
        by_fold: mean over cases in each fold of the spec; NaN where it is missing.
        mean, sd: over the folds (n - 1); NaN if a fold is missing.
        delta: difference of `mean` to that of the baseline; NaN if there is none.
    """

    by_fold: tuple[float, ...]
    mean: float
    sd: float
    delta: float


def label_scores(labels: pd.DataFrame, column: ColumnSpec, label: str, spec: TableSpec) -> list[LabelScores]:
    """The scores of one label in one column, a line per row of the spec.

    Args:
        labels: see `per_label`.
    """
    here = (labels["task"] == column.task) & (labels["cohort"] == column.cohort) & (labels["label"] == label)
    arms = dict(iter(labels[here].groupby(ARM)))
    nothing = labels.head(0)
    values = [arms.get(row.arm, nothing).set_index("fold")["value"].reindex(spec.fold_names) for row in spec.rows]
    means = [float(series.mean(skipna=False)) for series in values]
    lines = []
    for row, series, mean in zip(spec.rows, values, means, strict=True):
        base = spec.baseline_of(row)
        delta = mean - means[spec.rows.index(base)] if base else float("nan")
        lines.append(LabelScores(tuple(series), mean, sd_of_draws(series.to_numpy(), spec, row), delta))
    return lines


def everything(scores: pd.DataFrame, spec: TableSpec, overlaps: Overlaps | None = None) -> dict[str, pd.DataFrame]:
    """All frames of a table from one pass over the scores: results (see `build`), labels (`per_label`), ranks (`rank`),
    and metrics: the results for every metric by which the runs were scored, one below the other.
    """
    checked = _checked(scores, spec)
    cells = _scored(checked, spec)
    results = _results(cells, spec, overlaps or {})
    by_metric = []
    for name in METRICS:
        if name in checked.columns and checked[name].notna().any():
            other = spec.with_metric(name)
            by_metric.append(results if name == spec.metric else _results(_scored(checked, other), other, {}))
    metrics = pd.concat(by_metric or [results], ignore_index=True)
    metrics = metrics.drop(columns=["published", "published_sd", "differs", "shared", "look"])
    return {"results": results, "labels": _labels(cells, spec), "metrics": metrics, "ranks": _ranks(cells, spec)}


# --- ranks


def rank(scores: pd.DataFrame, spec: TableSpec) -> pd.DataFrame:
    """Ranks of the rows among those of the same n_train, in each column and on average over the columns.

    Only rows that are scored completely in every column are ranked. Ties share their mean rank.

    Returns:
        row, backbone, init, recipe, n_train, column (title, or `ALL`: the mean over columns), rows_ranked,
        rank (rows by the value of the cell, then the mean over columns), low, high (intervals of rank, bootstrap over
        subjects), first (share of bootstrap samples in which the row comes first), tau (mean Kendall tau of these samples
        with the ranking), case_rank (rows by subject, then the mean over subjects and over columns), columns_low,
        columns_high (bootstrap over columns, of `ALL`). NaN for rows that are not ranked.

    Raises:
        UserError: bad scores (see `check`), or two ranked rows are not scored on the same cases.
    """
    checked = _checked(scores, spec)
    return _ranks(_scored(checked, spec), spec)


def _ranks(cells: list[list[Scored]], spec: TableSpec) -> pd.DataFrame:
    lines: list[dict[str, Any]] = []
    for n_train in dict.fromkeys(row.n_train for row in spec.rows):
        group = [i for i, row in enumerate(spec.rows) if row.n_train == n_train]
        ranked = [i for i in group if all(len(column[i].samples) for column in cells)]
        if ranked:
            lines += _rank_lines([spec.rows[i] for i in ranked], [[column[i] for i in ranked] for column in cells], spec)
        lines += [_arm_names(spec.rows[i]) | {"column": ALL} for i in group if i not in ranked]
    names = ["row", *ARM, "column", "rows_ranked", "rank", "low", "high", "first", "tau", "case_rank"]
    return _rounded(pd.DataFrame(lines, columns=[*names, "columns_low", "columns_high"]))


def _arm_names(row: RowSpec) -> dict[str, str]:
    return {"row": row.title} | dict(zip(ARM, row.arm, strict=True))


def _rank_lines(rows: list[RowSpec], cells: list[list[Scored]], spec: TableSpec) -> Iterator[dict[str, Any]]:
    """The lines of the ranked rows: those of each column, then those of the mean over columns."""
    options, higher = spec.bootstrap, metric_of(spec).higher
    for column in cells:
        for row, cell in zip(rows[1:], column[1:], strict=True):
            check_same_cases(cell.rows, column[0].rows, row.title, rows[0].title)
    ranks = np.array([statistics.ranks(_settled([cell.value for cell in column]), higher) for column in cells])
    drawn = np.array([_drawn_ranks(column, higher) for column in cells])  # (columns, resamples, rows)
    by_case = np.array([_case_ranks(column, higher) for column in cells])
    over_columns = statistics.draws(len(cells), options.resamples, options.seed) @ ranks / len(cells)
    spread = statistics.stability(ranks.mean(0), over_columns, options.confidence)
    parts = [*zip([column.title for column in spec.columns], ranks, drawn, by_case, strict=True)]
    for title, order, orders, case_rank in [*parts, (ALL, ranks.mean(0), drawn.mean(0), by_case.mean(0))]:
        stable = statistics.stability(order, orders, options.confidence)
        for i, row in enumerate(rows):
            line = _arm_names(row) | {"column": title, "rows_ranked": len(rows), "rank": order[i], "case_rank": case_rank[i]}
            line |= {"low": stable.low[i], "high": stable.high[i], "first": stable.first[i], "tau": stable.tau}
            several = title == ALL and len(cells) > 1
            yield line | ({"columns_low": spread.low[i], "columns_high": spread.high[i]} if several else {})


def _drawn_ranks(column: list[Scored], higher: bool) -> np.ndarray:
    """Ranks of the rows in each bootstrap sample, (resamples, rows); all are equal in a sample without a defined score."""
    drawn = _settled(np.stack([cell.samples for cell in column], -1))
    drawn[np.isnan(drawn).any(-1)] = 0
    return statistics.ranks(drawn, higher)


def _case_ranks(column: list[Scored], higher: bool) -> np.ndarray:
    """Mean rank of each row over the subjects for which all rows have a defined score; NaN if there is none."""
    subjects = np.stack([cell.by_subject for cell in column], -1)
    defined = _settled(subjects[~np.isnan(subjects).any(-1)])
    return statistics.ranks(defined, higher).mean(0) if len(defined) else np.full(len(column), np.nan)


def _settled(values: ArrayLike) -> np.ndarray:
    """Rounded to nine decimals, so that sums that differ only by rounding errors are equal."""
    return np.round(np.asarray(values, float), 9)


def _rounded(frame: pd.DataFrame) -> pd.DataFrame:
    """Six decimals: finer than any difference that matters, coarser than differences between platforms. p keeps six digits."""
    p = [name for name in comparison.P_VALUES if name in frame.columns]
    others = frame.select_dtypes("float").columns.difference(p)
    digits = {name: frame[name].map(lambda value: float(f"{value:.6g}")) for name in p}
    return frame.assign(**digits).round(dict.fromkeys(others, 6))
