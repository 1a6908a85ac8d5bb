"""Result tables from scores alone: means over folds, intervals, paired tests, ranks, and what was published.

Here are the numbers, in the units of scores.tsv (Dice in 0..1, mm); `grids` shows them to readers. The same scores
always give the same bytes. docs/statistics.md explains each number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from brainpretrain import statistics
from brainpretrain.errors import UserError, nearest
from brainpretrain.statistics import Cases

ARM = ["backbone", "init", "recipe", "n_train"]
RUN = ["task", "cohort", *ARM, "fold"]
KEYS = [*RUN, "volume", "label"]
EMPTY = ["both_empty", "reference_empty", "prediction_empty"]
TEXTS = [*KEYS, "subject", "status"]
ALL = "all columns"  # stands in a rank table for the mean over its columns
UNKNOWN = "unknown"

Row = Mapping[str, Any]
Spec = Mapping[str, Any]
Overlaps = Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Metric:
    """What a column of scores.tsv means. Printed: value x `scale`. `magnitude`: the sign is dropped before anything else."""

    title: str
    scale: float
    unit: str
    higher: bool
    low: float
    high: float
    magnitude: bool = False


METRICS = {
    "dice": Metric("Dice", 100, "x 100", True, 0, 1),
    "nsd": Metric("NSD", 100, "x 100", True, 0, 1),
    "hd95_mm": Metric("HD95", 1, "mm", False, 0, math.inf),
    "volume_error": Metric("Volume error, absolute", 100, "%", False, -1, math.inf, magnitude=True),
    "lesion_f1": Metric("Lesion F1", 100, "x 100", True, 0, 1),
    "dice_with_background": Metric("Dice with background", 100, "x 100", True, 0, 1),
}


def metric_of(spec: Spec) -> Metric:
    """The metric that a table shows: `spec["metric"]`, else Dice.

    Raises:
        UserError: no such metric.
    """
    name = spec.get("metric", "dice")
    if name not in METRICS:
        raise UserError(f"no metric '{name}'", where=f"table {spec['name']}: metric", fix=nearest(name, list(METRICS)))
    return METRICS[name]


# --- scores


def check(scores: pd.DataFrame, metric: str = "dice") -> pd.DataFrame:
    """The scores in a fixed order, with keys as text and metrics as numbers in their units or NaN.

    Raises:
        UserError: a column is missing; a score is no number or out of range; a Dice is undefined although no mask is
            empty; a case and label of a run is scored twice.
    """
    missing = [name for name in dict.fromkeys([*TEXTS, "dice", metric]) if name not in scores.columns]
    if missing:
        problem = f"the scores lack the columns {', '.join(missing)}"
        raise UserError(problem, where="scores.tsv", fix="run the evaluation again")
    scores = scores.astype(dict.fromkeys(TEXTS, str))
    numbers = {}
    for name, found in METRICS.items():
        if name in scores.columns:
            numbers[name] = pd.to_numeric(scores[name], errors="coerce")
            unreadable = numbers[name].isna() & scores[name].notna() & ~scores[name].isin(["nan", ""])
            _refuse(scores[unreadable], f"the {found.title} is no number", name)
            outside = (numbers[name] < found.low) | (numbers[name] > found.high) | np.isinf(numbers[name])
            _refuse(scores[outside], f"the {found.title} is outside {found.low:g}..{found.high:g}", name)
    undefined = numbers["dice"].isna() & ~scores["status"].isin(EMPTY)
    _refuse(scores[undefined], "the Dice is undefined, but no mask is empty", "dice")
    _refuse(scores[scores.duplicated(KEYS)], "scored more than once", "dice")
    return scores.assign(**numbers).sort_values(KEYS, ignore_index=True)


def _refuse(bad: pd.DataFrame, problem: str, metric: str) -> None:
    if len(bad):
        first = " ".join(f"{name}={bad.iloc[0][name]}" for name in [*KEYS, metric])
        where, fix = f"scores.tsv: {first}", "run the evaluation of this run again"
        raise UserError(f"{problem} ({len(bad)} rows)", where=where, fix=fix)


def of_table(scores: pd.DataFrame, spec: Spec) -> pd.DataFrame:
    """The scores of the arms and columns of a table, out of those of a study."""
    if absent := {*ARM, "task", "cohort"} - set(scores.columns):
        problem = f"the scores lack the columns {', '.join(sorted(absent))}"
        raise UserError(problem, where="scores.tsv", fix="run the evaluation again")
    cells = [(c["task"], c["cohort"], *(str(row[name]) for name in ARM)) for row in spec["rows"] for c in spec["columns"]]
    keys = pd.MultiIndex.from_frame(scores[["task", "cohort", *ARM]].astype(str))
    return scores[keys.isin(cells)]


def _arms(scores: pd.DataFrame, spec: Spec) -> dict[tuple, pd.DataFrame]:
    """The scores of each arm on each column, those of the table's metric as `value`."""
    name, metric = spec.get("metric", "dice"), metric_of(spec)
    scores = check(of_table(scores, spec), name)
    values = scores[name].abs() if metric.magnitude else scores[name]
    return dict(iter(scores.assign(value=values).groupby(["task", "cohort", *ARM])))


def _in_folds(arms: Mapping[tuple, pd.DataFrame], row: Row, column: Row, spec: Spec) -> pd.DataFrame:
    """The scores of one cell in the folds that the table asks for."""
    nothing = pd.DataFrame({name: [] for name in TEXTS} | {"value": pd.Series([], dtype=float)})
    scored = arms.get((column["task"], column["cohort"], *(str(row[name]) for name in ARM)), nothing)
    return scored[scored["fold"].isin(_folds(spec))]


def _folds(spec: Spec) -> list[str]:
    return [str(fold) for fold in spec["folds"]]


def cases_of(scored: pd.DataFrame, folds: list[str], labels: list[str]) -> Cases:
    """Sums and numbers of the defined scores of one arm, by subject (sorted), fold and label."""
    subjects, s = np.unique(scored["subject"].to_numpy(dtype=str), return_inverse=True)
    shape = (len(subjects), len(folds), len(labels))
    place = (s, pd.Index(folds).get_indexer(scored["fold"]), pd.Index(labels).get_indexer(scored["label"]))
    flat, size = np.ravel_multi_index(place, shape) if len(s) else np.array([], int), math.prod(shape)
    value = scored["value"].to_numpy(dtype=float)
    defined = ~np.isnan(value)
    totals = np.bincount(flat[defined], value[defined], minlength=size).reshape(shape)
    counts = np.bincount(flat[defined], minlength=size).reshape(shape).astype(float)
    return Cases(tuple(map(str, subjects)), totals, counts)


def case_scores(scores: pd.DataFrame, metric: str = "dice") -> pd.DataFrame:
    """Mean over labels by run and case: columns of the run, volume, and the metric (NaN if undefined)."""
    return scores.groupby([*RUN, "volume"], as_index=False)[metric].mean()


# --- results


def build(scores: pd.DataFrame, spec: Spec, overlaps: Overlaps | None = None) -> pd.DataFrame:
    """The cells of a result table, a line each, in the order of the spec.

    The score of a fold is the mean over labels of the mean over cases, without undefined scores. A cell is
    the mean and the sample SD (n - 1) over folds of the fold scores, if every fold of the spec is scored.
    Its delta is the difference to the baseline row (see `baseline_row`) in the same column.

    Args:
        scores: a row per run, cohort, case and label, as the evaluation writes them; other runs may be among them.
        spec: name, title, folds, columns [{title, task, cohort}],
            rows [{title, backbone, init, recipe, n_train}], baseline (an init), statistics {resamples, confidence, seed},
            and if need be metric, published {cells: [{backbone, init, n_train, column, value, sd, differs}]} in printed
            units, transductive (corpora that may share subjects with a cohort).
        overlaps: by corpus, the audit of its subjects (overlap.tsv).

    Returns:
        row, column (titles), task, cohort, backbone, init, recipe, n_train, metric, folds (scored), folds_expected,
        cases, subjects, label_scores, left_out (of these), both_empty, reference_empty, prediction_empty (of the
        others), value, sd, low, high (bootstrap interval of value), baseline (title of the row compared with, or ''),
        delta, delta_low, delta_high, pairs, zeros (of these), p, tests (in the column), p_holm, smallest_p, biserial, dz,
        published, published_sd, differs (how what ran differs from it), shared (subjects scored and pretrained on, or
        'unknown').
        Values are in the units of scores.tsv; NaN is unknown.

    Raises:
        UserError: bad scores (see `check`), an unknown metric, or two arms to compare are not scored on the same cases.
    """
    arms = _arms(scores, spec)
    columns = [_column_cells(arms, column, spec, overlaps or {}) for column in spec["columns"]]
    return _rounded(pd.DataFrame([column[i] for i in range(len(spec["rows"])) for column in columns]))


def _column_cells(arms: Mapping[tuple, pd.DataFrame], column: Row, spec: Spec, overlaps: Overlaps) -> list[dict[str, Any]]:
    """The cells of one column, from the first row to the last, with Holm's correction over them."""
    cells = [_cell(arms, row, column, spec, overlaps) for row in spec["rows"]]
    p = np.array([cell["p"] for cell in cells])
    number = int((~np.isnan(p)).sum())
    for cell, corrected in zip(cells, statistics.holm(p), strict=True):
        cell |= {"tests": number, "p_holm": corrected}
    return cells


def _cell(arms: Mapping[tuple, pd.DataFrame], row: Row, column: Row, spec: Spec, overlaps: Overlaps) -> dict[str, Any]:
    scored = _in_folds(arms, row, column, spec)
    cell = _names(row, column) | {"metric": spec.get("metric", "dice")} | _summary(scored, spec)
    cell |= _compared(arms, row, column, spec, cell)
    return cell | _published(row, column, spec) | {"shared": _shared_subjects(row, column, scored, spec, overlaps)}


def _names(row: Row, column: Row) -> dict[str, Any]:
    of_column = {"column": column["title"], "task": column["task"], "cohort": column["cohort"]}
    return {"row": row["title"]} | of_column | {name: str(row[name]) for name in ARM}


def _summary(scored: pd.DataFrame, spec: Spec) -> dict[str, Any]:
    kept = scored[scored["value"].notna()]
    cases = cases_of(scored, _folds(spec), sorted(scored["label"].unique()))
    by_fold = statistics.fold_scores(cases.totals.sum(0), cases.counts.sum(0))
    folds = by_fold[~np.isnan(by_fold)]
    complete = len(folds) == len(spec["folds"])
    samples = _resampled(cases, spec) if complete else np.array([])
    low, high = statistics.interval(samples, spec["statistics"]["confidence"])
    return {
        "folds": len(folds),
        "folds_expected": len(spec["folds"]),
        "cases": scored["volume"].nunique(),
        "subjects": len(cases.subjects),
        "label_scores": len(scored),
        "left_out": len(scored) - len(kept),
        **{status: int((kept["status"] == status).sum()) for status in EMPTY},
        "value": folds.mean() if complete else float("nan"),
        "sd": folds.std(ddof=1) if complete and len(folds) > 1 else float("nan"),
        "low": low,
        "high": high,
    }


def _resampled(cases: Cases, spec: Spec) -> np.ndarray:
    """Bootstrap samples of a cell; none for a single subject, whose spread nobody knows."""
    if len(cases.subjects) < 2:
        return np.array([])
    return statistics.resampled(cases, spec["statistics"]["resamples"], spec["statistics"]["seed"])


# --- comparison with the baseline


def baseline_row(row: Row, spec: Spec) -> Row | None:
    """The row that `row` is compared with: init `spec["baseline"]`, the same backbone and n_train.

    Among several the one with the same recipe, else the first, since both arms may have a recipe of their own.
    None for a baseline itself and where the spec has no such row.
    """
    if row["init"] == spec["baseline"]:
        return None
    same = [
        other
        for other in spec["rows"]
        if other["init"] == spec["baseline"]
        and other["backbone"] == row["backbone"]
        and str(other["n_train"]) == str(row["n_train"])
    ]
    return next((other for other in same if other["recipe"] == row["recipe"]), same[0] if same else None)


def _compared(arms: Mapping[tuple, pd.DataFrame], row: Row, column: Row, spec: Spec, cell: Row) -> dict[str, Any]:
    """Delta to the baseline with its bootstrap interval, and the paired test over subjects."""
    nan = float("nan")
    base = baseline_row(row, spec)
    found: dict[str, Any] = {"baseline": base["title"] if base else "", "delta": nan, "delta_low": nan, "delta_high": nan}
    differences = np.array([])
    if base:
        scored, other = _in_folds(arms, row, column, spec), _in_folds(arms, base, column, spec)
        _check_same_cases(scored, other, {**cell, **found})
        difference, samples = _difference(scored, other, spec)
        found["delta"] = difference
        if not math.isnan(difference):
            found["delta_low"], found["delta_high"] = statistics.interval(samples, spec["statistics"]["confidence"])
            differences = _paired(scored, other)
    test = statistics.signed_rank(differences)
    return found | {name: getattr(test, name) for name in ("pairs", "zeros", "p", "smallest_p", "biserial", "dz")}


def _difference(scored: pd.DataFrame, other: pd.DataFrame, spec: Spec) -> tuple[float, np.ndarray]:
    """Cell less baseline, and the same in each bootstrap sample, both arms with the same subjects drawn."""
    labels = sorted({*scored["label"], *other["label"]})
    both = [cases_of(frame, _folds(spec), labels) for frame in (scored, other)]
    values = [statistics.fold_scores(cases.totals.sum(0), cases.counts.sum(0)).mean() for cases in both]
    if np.isnan(values).any():
        return float("nan"), np.array([])
    samples = [_resampled(cases, spec) for cases in both]
    return float(values[0] - values[1]), samples[0] - samples[1]


def _paired(scored: pd.DataFrame, other: pd.DataFrame) -> np.ndarray:
    """A difference for each subject: mean over labels, then over its sessions and folds. Undefined scores pair with nothing."""
    keys = ["subject", "fold", "volume", "label"]
    pairs = scored.merge(other, on=keys, suffixes=("", "_base"))
    difference = (pairs["value"] - pairs["value_base"]).groupby([pairs[key] for key in keys[:3]]).mean()
    return difference.groupby("subject").mean().dropna().to_numpy()


def _check_same_cases(scored: pd.DataFrame, other: pd.DataFrame, cell: Row) -> None:
    """Refuses a delta between different cases. A fold that only one of the arms has is not compared."""
    folds = set(scored["fold"]) & set(other["fold"])
    keys = ["fold", "volume", "label"]
    cases = [set(frame[keys].itertuples(index=False, name=None)) for frame in (scored, other)]
    odd = sorted(case for case in cases[0] ^ cases[1] if case[0] in folds)
    if odd:
        fold, volume, label = odd[0]
        raise UserError(
            f"'{cell['row']}' and '{cell['baseline']}' are not scored on the same cases ({len(odd)} differ)",
            where=f"scores.tsv: {cell['task']} {cell['cohort']} {fold=} {volume=} {label=}",
            fix="run the prediction and the evaluation of both arms again",
        )


# --- what was published, and what a corpus shares with a cohort


def _published(row: Row, column: Row, spec: Spec) -> dict[str, Any]:
    """The published value of a cell, from printed units to those of scores.tsv."""
    scale = metric_of(spec).scale
    key = (row["backbone"], row["init"], str(row["n_train"]), column["title"])
    for cell in (spec.get("published") or {}).get("cells", ()):
        if (cell["backbone"], cell["init"], str(cell["n_train"]), cell["column"]) == key:
            value, sd = cell["value"] / scale, cell["sd"] / scale if cell["sd"] is not None else float("nan")
            return {"published": value, "published_sd": sd, "differs": cell["differs"]}
    return {"published": float("nan"), "published_sd": float("nan"), "differs": ""}


def corpus_of(row: Row) -> str:
    """The corpus that the encoder of a row was pretrained on in this study, or ''."""
    return row["init"].split("-on-")[1] if "-on-" in row["init"] else ""


def _shared_subjects(row: Row, column: Row, scored: pd.DataFrame, spec: Spec, overlaps: Overlaps) -> int | str:
    """Subjects of the cell's cohort that its corpus holds, by the audit; `UNKNOWN` if a transductive corpus has none here.

    A strict corpus shares none, or its audit would have failed. An audit without a column `cohort` names the subjects of
    all cohorts of a task; then those that are scored here count.
    """
    audit = overlaps.get(corpus_of(row))
    if audit is None:
        return UNKNOWN if corpus_of(row) in spec.get("transductive", ()) else 0
    mine = audit[audit["task"] == column["task"]]
    if "cohort" in audit.columns:
        return int(mine.loc[mine["cohort"] == column["cohort"], "shared"].astype(int).sum())
    return len(set(" ".join(mine["subjects"].astype(str)).split()) & set(scored["subject"]))


# --- by label, by metric


def per_label(scores: pd.DataFrame, spec: Spec) -> pd.DataFrame:
    """Mean over cases for each label, fold and arm of the spec that is scored.

    Returns:
        row, column (titles), task, cohort, backbone, init, recipe, n_train, fold, label, cases, left_out (of
        these), value (of the table's metric, or NaN where no case has a defined score).

    Raises:
        UserError: bad scores (see `check`).
    """
    arms = _arms(scores, spec)
    lines = []
    for column in spec["columns"]:
        for row in spec["rows"]:
            scored = _in_folds(arms, row, column, spec)
            for (label, fold), group in scored.groupby(["label", "fold"]):
                value = group["value"]
                line = _names(row, column) | {"fold": fold, "label": label, "cases": len(value)}
                lines.append(line | {"left_out": int(value.isna().sum()), "value": value.mean()})
    columns = ["row", "column", *RUN, "label", "cases", "left_out", "value"]
    return _rounded(pd.DataFrame(lines, columns=columns))


def metrics_scored(scores: pd.DataFrame, spec: Spec) -> list[str]:
    """The metrics that the runs of a table were scored by, in the order of `METRICS`."""
    mine = of_table(scores, spec)
    return [name for name in METRICS if name in mine.columns and pd.to_numeric(mine[name], errors="coerce").notna().any()]


def per_metric(scores: pd.DataFrame, spec: Spec) -> pd.DataFrame:
    """The cells of `build` for every metric that the runs of the table were scored by, one metric below the other."""
    plain = {key: value for key, value in spec.items() if key != "published"}
    parts = [build(scores, plain | {"metric": name}) for name in metrics_scored(scores, spec)]
    drop = ["published", "published_sd", "differs", "shared"]
    return (pd.concat(parts, ignore_index=True) if parts else build(scores, plain).head(0)).drop(columns=drop)


# --- ranks


def rank(scores: pd.DataFrame, spec: Spec) -> pd.DataFrame:
    """Ranks of the rows among those of the same n_train, in each column and on average over the columns.

    Ranked are the rows that are scored completely in every column. Ties share their mean rank.

    Returns:
        row, backbone, init, recipe, n_train, column (title, or `ALL`: the mean over columns), rows_ranked, rank (rows by the value of the cell,
        then the mean over columns), low, high (bootstrap over subjects, intervals of rank), first (share of bootstrap
        samples in which the row comes first), tau (mean Kendall tau of these samples with the ranking), case_rank (rows
        by subject, then the mean over subjects and over columns), columns_low, columns_high (bootstrap over columns, of
        `ALL`). NaN for rows that are not ranked.

    Raises:
        UserError: bad scores (see `check`), or two rows that are ranked are not scored on the same cases.
    """
    arms = _arms(scores, spec)
    lines = []
    for n_train in dict.fromkeys(str(row["n_train"]) for row in spec["rows"]):
        rows = [row for row in spec["rows"] if str(row["n_train"]) == n_train]
        ranked = [row for row in rows if all(_complete(_in_folds(arms, row, c, spec), spec) for c in spec["columns"])]
        lines += _rank_lines(arms, ranked, spec)
        lines += [_arm_names(row) | {"column": ALL} for row in rows if row not in ranked]
    names = ["row", *ARM, "column", "rows_ranked", "rank", "low", "high", "first", "tau", "case_rank"]
    return _rounded(pd.DataFrame(lines, columns=[*names, "columns_low", "columns_high"]))


def _arm_names(row: Row) -> dict[str, str]:
    return {"row": row["title"]} | {name: str(row[name]) for name in ARM}


def _complete(scored: pd.DataFrame, spec: Spec) -> bool:
    return scored.loc[scored["value"].notna(), "fold"].nunique() == len(spec["folds"])


def _rank_lines(arms: Mapping[tuple, pd.DataFrame], rows: list[Row], spec: Spec) -> Iterator[dict[str, Any]]:
    if not rows:
        return
    options, higher = spec["statistics"], metric_of(spec).higher
    columns = [_ranked_column(arms, rows, column, spec) for column in spec["columns"]]
    found = np.array([statistics.ranks(values, higher) for values, _, _ in columns])  # (columns, rows)
    drawn = np.array([statistics.ranks(samples, higher) for _, samples, _ in columns])  # (columns, resamples, rows)
    by_case = np.array([case_ranks for _, _, case_ranks in columns])
    over_columns = statistics.draws(len(columns), options["resamples"], options["seed"]) @ found / len(columns)
    spread = statistics.stability(found.mean(0), over_columns, options["confidence"])
    titles = [column["title"] for column in spec["columns"]]
    for title, order, orders, case_rank in [
        *zip(titles, found, drawn, by_case, strict=True),
        (ALL, found.mean(0), drawn.mean(0), by_case.mean(0)),
    ]:
        stable = statistics.stability(order, orders, options["confidence"])
        for i, row in enumerate(rows):
            line = _arm_names(row) | {"column": title, "rows_ranked": len(rows), "rank": order[i]}
            line |= {"low": stable.low[i], "high": stable.high[i], "first": stable.first[i], "tau": stable.tau}
            several = title == ALL and len(columns) > 1
            line |= {"columns_low": spread.low[i], "columns_high": spread.high[i]} if several else {}
            yield line | {"case_rank": case_rank[i]}


def _ranked_column(
    arms: Mapping[tuple, pd.DataFrame], rows: list[Row], column: Row, spec: Spec
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each row in one column: its value, its bootstrap samples (resamples, rows), its mean rank over subjects."""
    frames = [_in_folds(arms, row, column, spec) for row in rows]
    labels = sorted({label for frame in frames for label in frame["label"]})
    for row, frame in zip(rows[1:], frames[1:], strict=True):
        _check_same_cases(frame, frames[0], _names(row, column) | {"baseline": rows[0]["title"]})
    arrays = [cases_of(frame, _folds(spec), labels) for frame in frames]
    values = [statistics.fold_scores(cases.totals.sum(0), cases.counts.sum(0)).mean() for cases in arrays]
    options = spec["statistics"]
    samples = [statistics.resampled(cases, options["resamples"], options["seed"]) for cases in arrays]
    subjects = np.stack([statistics.mean(statistics.fold_scores(c.totals, c.counts), -1) for c in arrays], -1)
    defined = subjects[~np.isnan(subjects).any(-1)]
    higher = metric_of(spec).higher
    by_case = statistics.ranks(_settled(defined), higher).mean(0) if len(defined) else np.full(len(rows), np.nan)
    drawn = np.stack(samples, -1)
    empty = np.isnan(drawn).any(-1)  # a sample without any defined score says nothing of ranks
    return _settled(np.array(values)), _settled(np.where(empty[:, None], np.array(values), drawn)), by_case


def _settled(values: np.ndarray) -> np.ndarray:
    """Without the last digits, in which equal sums may differ."""
    return np.round(values, 9)


def _rounded(frame: pd.DataFrame) -> pd.DataFrame:
    """Six decimals: finer than any difference that matters, coarser than what platforms differ in. p keeps six digits."""
    p = [name for name in ("p", "p_holm", "smallest_p") if name in frame.columns]
    others = frame.select_dtypes("float").columns.difference(p)
    digits = {name: frame[name].map(lambda value: float(f"{value:.6g}")) for name in p}
    return frame.assign(**digits).round(dict.fromkeys(others, 6))
