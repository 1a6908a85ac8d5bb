"""Small hand-made scores and tables, in the formats of the evaluation and the plan."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from brainpretrain.plan.table_spec import TableSpec

PRETRAINED = "amaes-on-ixi"


def score(dice: float | str, status: str = "ok", **changes: Any) -> dict[str, str]:
    """A row of scores.tsv as it is read: everything text."""
    row = {
        "study": "demo",
        "task": "hippocampus",
        "cohort": "test",
        "backbone": "unet_b",
        "init": "scratch",
        "recipe": "amaes",
        "n_train": "20",
        "fold": "0",
        "volume": "sub-1",
        "session": "",
        "label": "anterior",
        "true_positives": "1",
        "false_positives": "1",
        "false_negatives": "1",
        "reference_voxels": "2",
        "predicted_voxels": "2",
    }
    row |= {"dice": str(dice), "status": status} | {name: str(value) for name, value in changes.items()}
    return {"subject": row["volume"].removeprefix("sub-")} | row


def scores(values: dict[tuple[str, str, str, str], float | str], **changes: Any) -> pd.DataFrame:
    """(init, fold, volume, label) -> Dice; 'nan' means that both masks are empty."""
    rows = []
    for (init, fold, volume, label), dice in values.items():
        status = "both_empty" if dice == "nan" else "ok"
        rows.append(score(dice, status, init=init, fold=fold, volume=volume, label=label, **changes))
    return pd.DataFrame(rows)


def two_arms() -> pd.DataFrame:
    """Two folds, two cases, two labels, scratch and pretrained; one Dice of fold 0 is undefined in both arms.

    Scratch: fold 0 = mean(0.5 = mean(0.4, 0.6), 0.8 = mean(0.8)) = 0.65, fold 1 = 0.7. Pretrained: 0.1 more.
    """
    scratch = {
        ("0", "sub-1", "anterior"): 0.4,
        ("0", "sub-2", "anterior"): 0.6,
        ("0", "sub-1", "posterior"): 0.8,
        ("0", "sub-2", "posterior"): "nan",
        ("1", "sub-1", "anterior"): 0.7,
        ("1", "sub-2", "anterior"): 0.7,
        ("1", "sub-1", "posterior"): 0.7,
        ("1", "sub-2", "posterior"): 0.7,
    }
    values: dict[tuple[str, str, str, str], float | str] = {}
    for key, dice in scratch.items():
        values["scratch", *key] = dice
        values[PRETRAINED, *key] = dice if dice == "nan" else round(float(dice) + 0.1, 2)
    return scores(values)


def row(title: str, init: str, **changes: Any) -> dict[str, Any]:
    return {"title": title, "backbone": "unet_b", "init": init, "recipe": "amaes", "n_train": "20"} | changes


def spec(**changes: Any) -> TableSpec:
    content = {
        "name": "demo",
        "title": "Demo",
        "folds": [0, 1],
        "columns": [{"title": "Hippocampus", "task": "hippocampus", "cohort": "test"}],
        "rows": [row("U-Net scratch", "scratch"), row("U-Net AMAES", PRETRAINED)],
        "baseline": "scratch",
        "bootstrap": {"resamples": 200, "confidence": 0.95, "seed": 0},
    }
    return TableSpec.read(content | changes)


BUDGETS = {"10": 0.70, "20": 0.74, "40": 0.78, "all": 0.80}  # Dice from scratch


def budget_spec(**changes: Any) -> TableSpec:
    """Scratch and AMAES with 10, 20, 40 and all labelled subjects."""
    arms = (("scratch", "scratch"), ("AMAES", PRETRAINED))
    rows = [row(f"{title}, n={n}", init, n_train=n) for title, init in arms for n in BUDGETS]
    return spec(**{"rows": rows, "name": "budget", "title": "Budgets"} | changes)


def budget_scores(gain: float = 0.04, spread: float = 0.02, folds: int = 2, subjects: int = 8, seed: int = 0) -> pd.DataFrame:
    """Dice of `BUDGETS` from scratch and `gain` more when pretrained; `spread` is the SD over cases, shared in part by the arms."""
    rng = np.random.default_rng(seed)
    easy = rng.normal(0, spread, subjects)
    rows = []
    for init, more in (("scratch", 0.0), (PRETRAINED, gain)):
        for n_train, dice in BUDGETS.items():
            for fold in range(folds):
                values = (dice + more + easy + rng.normal(0, spread / 2, subjects)).clip(0, 1)
                names = {"init": init, "n_train": n_train, "fold": fold}
                rows += [score(round(v, 6), volume=f"sub-{i}", subject=i, **names) for i, v in enumerate(values)]
    return pd.DataFrame(rows)


def runs() -> dict[str, dict[str, Any]]:
    """run.json of the trainings behind `two_arms`, by place."""
    by_place: dict[str, dict[str, Any]] = {}
    for init in ("scratch", PRETRAINED):
        for fold, hours in ((0, 1), (1, 3)):
            cost = {"seconds": 3600.0 * hours, "peak_memory_gb": 7.0 + fold, "devices": 1, "hardware": "RTX"}
            by_place[f"finetune/hippocampus/unet_b/{init}/amaes/n20/fold{fold}"] = cost
    by_place["pretrain/ixi/amaes/unet_b"] = {"seconds": 30 * 3600.0, "peak_memory_gb": 40.0, "devices": 2, "hardware": "H100"}
    return by_place


def degraded_spec() -> TableSpec:
    how = {"of": "test", "kind": "motion"}
    columns = [{"title": "as it is", "task": "hippocampus", "cohort": "test"}]
    for cohort, strength in (("moved_9", 9), ("moved_3", 3)):
        columns.append({"title": cohort, "task": "hippocampus", "cohort": cohort, "degraded": how | {"strength": strength}})
    blind = {"of": "test", "kind": "missing_sequence", "sequence": "FLAIR"}
    columns.append({"title": "blind", "task": "hippocampus", "cohort": "blind", "degraded": blind})
    return spec(columns=columns)


def degraded_scores() -> pd.DataFrame:
    """Of `two_arms`: with movements of 3, all scores of the pretrained arm fall by 0.1, those of scratch by 0.2; 9 was not run."""
    whole = two_arms()
    falls = whole["init"].map({"scratch": 0.2, PRETRAINED: 0.1})
    worse = whole.assign(
        cohort="moved_3", dice=[str(float(dice) - fall) for dice, fall in zip(whole["dice"], falls, strict=True)]
    )
    return pd.concat([whole, worse, worse.assign(cohort="blind")], ignore_index=True)
