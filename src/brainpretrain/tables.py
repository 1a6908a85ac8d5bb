"""Result tables from scores alone: mean and SD over folds, deltas to the baseline, Dice per label.

Here are the numbers, Dice in 0..1; `grids` shows them to readers. The same scores always give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from brainpretrain.errors import UserError

ARM = ["backbone", "init", "recipe", "n_train"]
RUN = ["task", "cohort", *ARM, "fold"]
KEYS = [*RUN, "volume", "label"]
EMPTY = ["both_empty", "reference_empty", "prediction_empty"]
TEXTS = [*KEYS, "status"]

Row = Mapping[str, Any]
Spec = Mapping[str, Any]


def check(scores: pd.DataFrame) -> pd.DataFrame:
    """The scores in a fixed order, with keys as text and Dice as numbers in 0..1 or NaN.

    Raises:
        UserError: a column is missing; a Dice is no number, outside 0..1, or undefined although no mask is
            empty; a case and label of a run is scored twice.
    """
    missing = [name for name in [*TEXTS, "dice"] if name not in scores.columns]
    if missing:
        problem = f"the scores lack the columns {', '.join(missing)}"
        raise UserError(problem, where="scores.tsv", fix="run the evaluation again")
    scores = scores.astype(dict.fromkeys(TEXTS, str))
    dice = pd.to_numeric(scores["dice"], errors="coerce")
    unreadable = dice.isna() & scores["dice"].notna() & ~scores["dice"].isin(["nan", ""])
    _refuse(scores[unreadable], "the Dice is no number")
    _refuse(scores[(dice < 0) | (dice > 1)], "the Dice is outside 0..1")
    undefined = dice.isna() & ~scores["status"].isin(EMPTY)
    _refuse(scores[undefined], "the Dice is undefined, but no mask is empty")
    _refuse(scores[scores.duplicated(KEYS)], "scored more than once")
    return scores.assign(dice=dice).sort_values(KEYS, ignore_index=True)


def _refuse(bad: pd.DataFrame, problem: str) -> None:
    if len(bad):
        first = " ".join(f"{name}={bad.iloc[0][name]}" for name in [*KEYS, "dice"])
        where, fix = f"scores.tsv: {first}", "run the evaluation of this run again"
        raise UserError(f"{problem} ({len(bad)} rows)", where=where, fix=fix)


def build(scores: pd.DataFrame, spec: Spec) -> pd.DataFrame:
    """The cells of a result table, a line each, in the order of the spec.

    The score of a fold is the mean over labels of the mean over cases, without undefined Dice. A cell is
    the mean and the sample SD (n - 1) over folds of the fold scores, if every fold of the spec is scored.
    Its delta is the difference to the baseline row (see `baseline_row`) in the same column.

    Args:
        scores: a row per run, cohort, case and label, as the evaluation writes them.
        spec: name, title, folds, columns [{title, task, cohort}],
            rows [{title, backbone, init, recipe, n_train}], baseline (an init).

    Returns:
        row, column (titles), task, cohort, backbone, init, recipe, n_train, folds (scored), folds_expected,
        cases, label_scores, left_out (of these), both_empty, reference_empty, prediction_empty (of the
        others), dice, dice_sd (0..1 or NaN), baseline (title of the row compared with, or ''), delta.

    Raises:
        UserError: bad scores (see `check`), or two arms to compare are not scored on the same cases.
    """
    arms = _arms(check(scores))
    cells = []
    for row in spec["rows"]:
        base = baseline_row(row, spec)
        for column in spec["columns"]:
            scored = _in_folds(arms, row, column, spec)
            cell = _names(row, column) | _summary(scored, spec)
            cell |= {"baseline": base["title"] if base else "", "delta": float("nan")}
            if base:
                other = _in_folds(arms, base, column, spec)
                _check_same_cases(scored, other, cell)
                cell["delta"] = cell["dice"] - _summary(other, spec)["dice"]
            cells.append(cell)
    return _rounded(pd.DataFrame(cells))


def per_label(scores: pd.DataFrame, spec: Spec) -> pd.DataFrame:
    """Mean Dice over cases for each label, fold and arm of the spec that is scored.

    Returns:
        row, column (titles), task, cohort, backbone, init, recipe, n_train, fold, label, cases, left_out (of
        these), dice (0..1, or NaN where no case has a defined Dice).

    Raises:
        UserError: bad scores (see `check`).
    """
    arms = _arms(check(scores))
    lines = []
    for column in spec["columns"]:
        for row in spec["rows"]:
            scored = _in_folds(arms, row, column, spec)
            for (label, fold), group in scored.groupby(["label", "fold"]):
                dice = group["dice"]
                line = _names(row, column) | {"fold": fold, "label": label, "cases": len(dice)}
                lines.append(line | {"left_out": int(dice.isna().sum()), "dice": dice.mean()})
    columns = ["row", "column", *RUN, "label", "cases", "left_out", "dice"]
    return _rounded(pd.DataFrame(lines, columns=columns))


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


def case_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean Dice over labels by run and case: columns of the run, volume, dice (NaN if undefined)."""
    return scores.groupby([*RUN, "volume"], as_index=False)["dice"].mean()


def _arms(scores: pd.DataFrame) -> dict[tuple, pd.DataFrame]:
    return dict(iter(scores.groupby(["task", "cohort", *ARM])))


def _in_folds(arms: Mapping[tuple, pd.DataFrame], row: Row, column: Row, spec: Spec) -> pd.DataFrame:
    """The scores of one cell in the folds that the table asks for."""
    nothing = pd.DataFrame({name: [] for name in TEXTS} | {"dice": pd.Series([], dtype=float)})
    scored = arms.get((column["task"], column["cohort"], *(str(row[name]) for name in ARM)), nothing)
    return scored[scored["fold"].isin([str(fold) for fold in spec["folds"]])]


def _names(row: Row, column: Row) -> dict[str, Any]:
    titles = {"row": row["title"], "column": column["title"]}
    names = {"task": column["task"], "cohort": column["cohort"]} | {name: str(row[name]) for name in ARM}
    return titles | names


def _summary(scored: pd.DataFrame, spec: Spec) -> dict[str, Any]:
    fold_scores = scored.groupby(["fold", "label"])["dice"].mean().groupby("fold").mean().dropna()
    complete = len(fold_scores) == len(spec["folds"])
    kept = scored[scored["dice"].notna()]
    return {
        "folds": len(fold_scores),
        "folds_expected": len(spec["folds"]),
        "cases": scored["volume"].nunique(),
        "label_scores": len(scored),
        "left_out": len(scored) - len(kept),
        **{status: int((kept["status"] == status).sum()) for status in EMPTY},
        "dice": fold_scores.mean() if complete else float("nan"),
        "dice_sd": fold_scores.std(ddof=1) if complete else float("nan"),
    }


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


def _rounded(frame: pd.DataFrame) -> pd.DataFrame:
    """Six decimals: finer than any difference that matters, coarser than what platforms differ in."""
    return frame.round({"dice": 6, "dice_sd": 6, "delta": 6})
