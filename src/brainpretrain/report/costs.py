"""What an arm costs and what it brings: hours and memory of its trainings beside its score (AMAES Figure 1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from brainpretrain.errors import UserError
from brainpretrain.plan.tables import Arm
from brainpretrain.report import results as tables
from brainpretrain.report.results import Row, Spec
from brainpretrain.words import duration

PATH = re.compile(
    r"(?:^|/)(?P<run>pretrain/[^/]+/[^/]+/[^/]+|finetune/(?P<task>[^/]+)/[^/]+/[^/]+/[^/]+/n(?P<n_train>[^/]+)/fold\d+)/run\.json$"
)
COLUMNS = [
    "number", "row", "column", "task", "cohort", *tables.ARM, "folds", "folds_expected", "score", "score_sd",
    "hours", "pretrain_hours", "finetune_hours", "memory_gb", "pretrain_memory_gb", "finetune_memory_gb", "devices", "hardware",
    "pretrained_elsewhere",
]  # fmt: skip


def by_place(runs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """run.json by the place of its training below the study, with the task and n_train that the place names.

    Args:
        runs: path of a run.json -> its content.

    Raises:
        UserError: a path is not that of a training of a study.
    """
    found = {}
    for path, run in runs.items():
        place = PATH.search(path)
        if not place:
            fix = "give files below a study's pretrain/ or finetune/"
            raise UserError("not the place of a training", where=path, fix=fix)
        found[place["run"]] = dict(run) | {"task": place["task"], "n_train": place["n_train"]}
    return found


def arms(scores: pd.DataFrame, spec: Spec, runs: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Cost and score of every cell of a table.

    Args:
        scores: as for `tables.build`.
        spec: the table; `metric` (default dice) is the score.
        runs: what `by_place` returned: seconds over all attempts, peak_memory_gb of a process, hardware, devices.

    Returns:
        number (of the row, from 1), row, column, task, cohort, backbone, init, recipe, n_train, folds, folds_expected, score and
        score_sd (n - 1) over folds, hours = pretrain_hours + finetune_hours (mean over folds; wall clock), memory_gb = the
        larger of pretrain_memory_gb and finetune_memory_gb (largest fold), devices, hardware, pretrained_elsewhere (the hours
        of a released encoder are not known and not counted). NaN where a run or a fold is missing.
    """
    by_run = tables.fold_scores(tables.valued(scores, spec))
    lines = [
        {"number": number} | _scored(by_run, column, row, spec) | _cost(column, row, spec, runs)
        for column in spec["columns"]
        for number, row in enumerate(spec["rows"], start=1)
    ]
    digits = dict.fromkeys(("score", "score_sd", "hours", "pretrain_hours", "finetune_hours"), 6)
    return pd.DataFrame(lines, columns=COLUMNS).round(digits)


def _scored(by_run: pd.Series, column: Row, row: Row, spec: Spec) -> dict[str, Any]:
    key = (column["task"], column["cohort"], *(str(row[name]) for name in tables.ARM))
    known = [by_run[*key, str(fold)] for fold in spec["folds"] if (*key, str(fold)) in by_run.index]
    complete = len(known) == len(spec["folds"])
    return {
        "row": row["title"],
        "column": column["title"],
        "task": column["task"],
        "cohort": column["cohort"],
        **{name: str(row[name]) for name in tables.ARM},
        "folds": len(known),
        "folds_expected": len(spec["folds"]),
        "score": np.mean(known) if complete else np.nan,
        "score_sd": np.std(known, ddof=1) if complete and len(known) > 1 else np.nan,
    }


def _cost(column: Row, row: Row, spec: Spec, runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    arm = Arm(column["task"], *(str(row[name]) for name in tables.ARM))
    folds = [runs.get(f"{arm.path}/fold{fold}") for fold in spec["folds"]]
    tuned = [run for run in folds if run]
    before = runs.get(arm.pretraining.path) if arm.pretraining else None
    elsewhere = arm.pretraining is None and arm.init != spec["baseline"]
    whole = len(tuned) == len(folds) and (before is not None or not arm.pretraining)
    cost = {
        "pretrain_hours": before["seconds"] / 3600 if before else 0.0 if not arm.pretraining and not elsewhere else np.nan,
        "finetune_hours": float(np.mean([run["seconds"] for run in tuned])) / 3600 if tuned else np.nan,
        "pretrain_memory_gb": before["peak_memory_gb"] if before else np.nan,
        "finetune_memory_gb": max((run["peak_memory_gb"] for run in tuned), default=np.nan),
    }
    memory = [value for name, value in cost.items() if name.endswith("_gb") and not np.isnan(value)]
    hours = cost["finetune_hours"] + (0 if elsewhere else cost["pretrain_hours"])
    known = [run for run in (before, *tuned) if run]
    return cost | {
        "hours": hours if whole else np.nan,
        "memory_gb": max(memory) if whole and memory else np.nan,
        "devices": max((int(run.get("devices", 1)) for run in known), default=np.nan),
        "hardware": "; ".join(dict.fromkeys(str(run["hardware"]) for run in known if run.get("hardware"))),
        "pretrained_elsewhere": elsewhere,
    }


def pretraining_time(cell: Mapping[str, Any]) -> str:
    """Duration of the pretraining in a row of `arms`: '30 h 00 min', 'none', 'not known', or '–' if runs are missing."""
    if cell["pretrained_elsewhere"]:
        return "not known"
    return "none" if cell["pretrain_hours"] == 0 else shown_hours(cell["pretrain_hours"])


def shown_hours(hours: float) -> str:
    """Hours as '2 h 00 min', NaN as '–'."""
    return "–" if np.isnan(hours) else duration(3600 * hours)
