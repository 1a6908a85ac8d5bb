"""Cost and score of the arms of a table: hours and peak memory of their trainings (AMAES Figure 1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from brainpretrain.errors import UserError
from brainpretrain.plan.runs import Arm
from brainpretrain.plan.table_spec import ColumnSpec, RowSpec, TableSpec
from brainpretrain.report import results
from brainpretrain.report.results import ARM
from brainpretrain.words import duration

PATH = re.compile(
    r"(?:^|/)(?P<run>pretrain/[^/]+/[^/]+/[^/]+|finetune/(?P<task>[^/]+)/[^/]+/[^/]+/[^/]+/n(?P<n_train>[^/]+)/fold\d+(?:-seed\d+)?)/run\.json$"
)
CANDIDATE = re.compile(r"(?P<arm>finetune/[^/]+/[^/]+/[^/]+/[^/]+)_lr\d+/n(?P<n_train>\d+)/fold(?P<fold>\d+)(?:-seed\d+)?")
COLUMNS = [
    "number", "row", "column", "task", "cohort", *ARM, "folds", "folds_expected", "score", "score_sd",
    "hours", "pretrain_hours", "tuning_hours", "finetune_hours",
    "memory_gb", "pretrain_memory_gb", "finetune_memory_gb", "devices", "hardware",
    "pretrained_elsewhere",
]  # fmt: skip


def by_place(runs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Folder of a training below its study -> content of its run.json, with the task and n_train of that folder.

    The seconds of a fine-tuning include those of its validations.

    Args:
        runs: path of a run.json -> its content.

    Raises:
        UserError: a path does not belong to a training of a study.
    """
    by_folder = {}
    for path, run in runs.items():
        place = PATH.search(path)
        if not place:
            fix = "give files below a study's pretrain/ or finetune/"
            raise UserError("not the run.json of a training in a study", where=path, fix=fix)
        spent = {"seconds": run["seconds"] + run.get("validation_seconds", 0)} if "seconds" in run else {}
        by_folder[place["run"]] = dict(run) | spent | {"task": place["task"], "n_train": place["n_train"]}
    return by_folder


def arms(scores: pd.DataFrame, spec: TableSpec, runs: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Cost and score of every cell of a table.

    Args:
        scores: as for `results.build`.
        spec: the table; its metric is the score.
        runs: what `by_place` returned; read are seconds (of all attempts), peak_memory_gb (of a process), hardware, devices.

    Returns:
        number (of the row, from 1), row, column, task, cohort, backbone, init, recipe, n_train, folds, folds_expected, score and
        score_sd (n - 1) over folds, hours = pretrain_hours + tuning_hours (all candidates of the learning rate, mean over
        folds) + finetune_hours (mean over folds, and with those of the arms that it
        goes on from; wall clock), memory_gb = the larger of pretrain_memory_gb and
        finetune_memory_gb (largest fold), devices, hardware, pretrained_elsewhere (True for a released encoder, whose hours are
        unknown and not counted). NaN where a run or a fold is missing.
    """
    by_run = results.fold_scores(results.valued(scores, spec))
    lines = [
        {"number": number} | _scored(by_run, column, row, spec) | _cost(column, row, spec, runs)
        for column in spec.columns
        for number, row in enumerate(spec.rows, start=1)
    ]
    digits = dict.fromkeys(("score", "score_sd", "hours", "pretrain_hours", "tuning_hours", "finetune_hours"), 6)
    return pd.DataFrame(lines, columns=COLUMNS).round(digits)


def _scored(by_run: pd.Series, column: ColumnSpec, row: RowSpec, spec: TableSpec) -> dict[str, Any]:
    keys = [(column.task, column.cohort, *row.arm, fold) for fold in spec.fold_names]
    by_fold = [by_run[key] for key in keys if key in by_run.index]
    complete = len(by_fold) == len(keys)
    return {
        "row": row.title,
        "column": column.title,
        "task": column.task,
        "cohort": column.cohort,
        **dict(zip(ARM, row.arm, strict=True)),
        "folds": len(by_fold),
        "folds_expected": len(keys),
        "score": np.mean(by_fold) if complete else np.nan,
        "score_sd": results.sd_of_draws(np.array(by_fold), spec, row) if complete else np.nan,
    }


def _cost(column: ColumnSpec, row: RowSpec, spec: TableSpec, runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    arm = Arm(column.task, *row.arm)
    by_arm = [[runs.get(f"{one.path}/fold{fold}") for fold in spec.fold_names] for one in arm.chain]
    folds = [run for of_arm in by_arm for run in of_arm]
    finetunings = [run for run in folds if run]
    seconds = [[run["seconds"] for run in of_arm if run] for of_arm in by_arm]
    pretraining = runs.get(arm.pretraining.path) if arm.pretraining else None
    elsewhere = arm.pretraining is None and arm.start != spec.baseline and not arm.external
    complete = len(finetunings) == len(folds) and (pretraining is not None or not arm.pretraining)
    without = 0.0 if not (arm.pretraining or elsewhere or arm.external) else np.nan
    cost = {
        "pretrain_hours": pretraining["seconds"] / 3600 if pretraining else without,
        "tuning_hours": sum(_tuning_hours(one, spec, runs) for one in arm.chain),
        "finetune_hours": sum(float(np.mean(of_arm)) / 3600 if of_arm else np.nan for of_arm in seconds),
        "pretrain_memory_gb": pretraining["peak_memory_gb"] if pretraining else np.nan,
        "finetune_memory_gb": max((run["peak_memory_gb"] for run in finetunings), default=np.nan),
    }
    memory = [value for name, value in cost.items() if name.endswith("_gb") and not np.isnan(value)]
    hours = cost["finetune_hours"] + cost["tuning_hours"] + (0 if elsewhere else cost["pretrain_hours"])
    finished = [run for run in (pretraining, *finetunings) if run]
    return cost | {
        "hours": hours if complete else np.nan,
        "memory_gb": max(memory) if complete and memory else np.nan,
        "devices": max((int(run.get("devices", 1)) for run in finished), default=np.nan),
        "hardware": "; ".join(dict.fromkeys(str(run["hardware"]) for run in finished if run.get("hardware"))),
        "pretrained_elsewhere": elsewhere,
    }


def _tuning_hours(arm: Arm, spec: TableSpec, runs: Mapping[str, Mapping[str, Any]]) -> float:
    """Hours of the candidates (`plan.tuning`) from which the learning rate of one training of an arm is chosen, mean over folds.

    They are those of the arm's n_train, for 'all' those of the largest number; 0 if there are none.
    """
    shown = {row.recipe for row in spec.rows}
    seconds: dict[int, dict[str, float]] = {}
    for place, run in runs.items():
        found = CANDIDATE.fullmatch(place)
        if found and found["arm"] == arm.path.rpartition("/n")[0] and place.split("/")[4] not in shown:
            by_fold = seconds.setdefault(int(found["n_train"]), {})
            by_fold[found["fold"]] = by_fold.get(found["fold"], 0.0) + run["seconds"]
    chosen_at = max(seconds, default=0) if arm.n_train == "all" else int(arm.n_train)
    return float(np.mean(list(seconds[chosen_at].values()))) / 3600 if chosen_at in seconds else 0.0


def pretraining_hours(spec: TableSpec, runs: Mapping[str, Mapping[str, Any]]) -> list[float]:
    """Hours by the clock of the pretraining of each row of a table: 0 from scratch, NaN if missing or made elsewhere.

    Args:
        runs: what `by_place` returned.
    """
    return [_cost(spec.columns[0], row, spec, runs)["pretrain_hours"] for row in spec.rows]


def training_hours(spec: TableSpec, runs: Mapping[str, Mapping[str, Any]]) -> list[list[float]]:
    """Device hours of the last fine-tuning of each row (hours by the clock times devices, mean over folds), by column.

    For a row that goes on from another one they are what it adds to that one. NaN if a run is missing.

    Args:
        runs: what `by_place` returned.
    """
    found = []
    for row in spec.rows:
        arms = [Arm(column.task, *row.arm) for column in spec.columns]
        of_arms = [[runs.get(f"{arm.path}/fold{fold}") for fold in spec.fold_names] for arm in arms]
        found.append(
            [
                sum(run["seconds"] * run.get("devices", 1) for run in of_arm) / len(of_arm) / 3600 if all(of_arm) else np.nan
                for of_arm in of_arms
            ]
        )
    return found


def pretraining_time(cell: Mapping[str, Any]) -> str:
    """Duration of the pretraining in a row of `arms`: '30 h 00 min', 'none', 'not known', or '–' if runs are missing."""
    if cell["pretrained_elsewhere"]:
        return "not known"
    return "none" if cell["pretrain_hours"] == 0 else shown_hours(cell["pretrain_hours"])


def shown_hours(hours: float) -> str:
    """Hours as '2 h 00 min', NaN as '–'."""
    return "–" if np.isnan(hours) else duration(3600 * hours)
