"""Cross-validation: the subjects of a task in k parts, each scored once, by the fold that trains on the other parts."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from brainpretrain.errors import UserError


def drawn(patients: Mapping[str, str], k: int, seed: int, sites: Mapping[str, str] | None = None) -> list[list[str]]:
    """k parts of nearly equal size, each sorted; the subjects of a patient are in one part.

    Without sites and shared patients they are those of scikit-learn's KFold over the sorted names, so that seed 12345 gives
    nnU-Net's; else those of its StratifiedGroupKFold.

    Args:
        patients: subject to patient.
        k: number of parts, 2 or more.
        seed: of the draw.
        sites: site of each subject; every part then has the sites in proportion, as far as that is possible.

    Raises:
        UserError: there are fewer patients than parts, or a part would be empty.
    """
    names = sorted(patients)
    groups = [patients[name] for name in names]
    if len(set(groups)) < k:
        problem = f"{len(set(groups))} patients cannot be cut into {k} parts"
        raise UserError(problem, where="split", fix=f"lower k to {len(set(groups))} or less, or add subjects")
    from sklearn.model_selection import KFold, StratifiedGroupKFold  # here, as in `splits.holdout`

    if not sites and len(set(groups)) == len(names):
        cuts = list(KFold(k, shuffle=True, random_state=seed).split(names))
    else:
        strata = [sites[name] if sites else "" for name in names]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a site may have fewer subjects than there are parts
            cuts = list(StratifiedGroupKFold(k, shuffle=True, random_state=seed).split(names, strata, groups))
    parts = [sorted(names[place] for place in scored) for _, scored in cuts]
    if not all(parts):
        raise UserError(f"a part of {k} would be empty", where="split", fix="lower k, or remove 'stratify'")
    return parts


def given(content: Any, rows: pd.DataFrame, patients: Mapping[str, str], k: int, where: object) -> list[list[str]]:
    """The parts that a file in the format of nnU-Net's splits_final.json gives.

    Args:
        content: a list of {"train": names, "val": names}; a name is that of a subject, of a volume, or <subject>_<session>.
        rows: of the index, with the labelled volumes of the task.
        patients: subject to patient, for all subjects of the task.
        k: number of folds that the task states.
        where: the file, for messages.

    Raises:
        UserError: another form or number of folds, unknown names, a subject that is scored never or twice, or a subject or
            patient that trains in the fold that scores it.
    """
    if not isinstance(content, list) or not all(isinstance(fold, dict) and {"train", "val"} <= set(fold) for fold in content):
        raise UserError("not a list of folds with 'train' and 'val'", where=where, fix="give nnU-Net's splits_final.json")
    if len(content) != k:
        raise UserError(f"{len(content)} folds are given, and the task states k: {k}", where=where, fix=f"k: {len(content)}")
    subject_of = _subjects_by_name(rows)
    names = [str(name) for fold in content for part in ("train", "val") for name in fold[part]]
    if unknown := sorted(set(names) - set(subject_of)):
        problem = f"{len(unknown)} names are no labelled cases of the task, {unknown[0]} for one"
        raise UserError(problem, where=where, fix=f"use names such as {' '.join(sorted(patients)[:2])}")
    folds = [({subject_of[str(n)] for n in fold["train"]}, {subject_of[str(n)] for n in fold["val"]}) for fold in content]
    for number, (train, val) in enumerate(folds):
        if both := {patients[name] for name in train} & {patients[name] for name in val}:
            problem = f"fold {number} trains on a subject or patient that it scores: {' '.join(sorted(both)[:5])}"
            raise UserError(problem, where=where, fix="keep all cases of a subject, and all names of a patient, on one side")
    times = Counter(name for _, val in folds for name in val)
    if odd := sorted(name for name in patients if times[name] != 1):
        problem = f"{len(odd)} subjects are not scored exactly once, {odd[0]} ({times[odd[0]]} times) for one"
        raise UserError(problem, where=where, fix="name every labelled subject of the task in one 'val', or let the task draw")
    if short := [number for number, (train, val) in enumerate(folds) if train != set(patients) - val]:
        problem = f"fold {short[0]} does not train on all subjects that it does not score"
        raise UserError(problem, where=where, fix="name them in its 'train'; for fewer, give n_train a number")
    return [sorted(val) for _, val in folds]


def _subjects_by_name(rows: pd.DataFrame) -> dict[str, str]:
    """The subject that a name in a given file means."""
    known = {}
    for row in rows.to_dict("records"):
        session = f"{row['subject']}_{row['session']}" if row.get("session") else row["subject"]
        known |= {name: row["subject"] for name in (row.get("volume", session), session)}
    return known | {subject: subject for subject in rows["subject"]}


def as_nnunet(parts: Sequence[Sequence[str]]) -> list[dict[str, list[str]]]:
    """The parts in the format of nnU-Net's splits_final.json, with subjects as names."""
    names = sorted(name for part in parts for name in part)
    return [{"train": [name for name in names if name not in set(part)], "val": list(part)} for part in parts]
