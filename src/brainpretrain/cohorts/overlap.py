"""Audits: who of a corpus is scored too, what a corpus is made of, and under which licences a study works."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from brainpretrain.errors import UserError

OVERLAP_COLUMNS = ["task", "cohort", "dataset", "evaluated", "shared", "by_name", "by_content", "subjects"]
IMAGE = ["how", "correlation", "volume", "corpus_volume"]  # of two volumes that show the same
PAIR_COLUMNS = ["task", "cohort", "dataset", "subject", "corpus_dataset", "corpus_subject", "name", "volumes", *IMAGE]
_LISTED = 20  # names in a message; the rest is counted


@dataclass(frozen=True)
class Cohort:
    """Subjects of a data set that some fold of a task scores.

    `copies`: what `fingerprints.copies` found of them, with a column `corpus_dataset`.
    """

    task: str
    name: str
    dataset: str
    subjects: set[str]
    copies: pd.DataFrame


def cohort_subjects(cohort: str, whole: Mapping[str, Any]) -> set[str]:
    """Who may be scored, from what `split` or `ood` returned: the cohort `val` of some fold may hold any subject of the pool."""
    return set(whole["pool" if cohort == "val" else cohort])


def shared_subjects(
    corpus: pd.DataFrame, cohorts: Iterable[Cohort], indexes: Mapping[str, pd.DataFrame]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Subjects that are in a corpus and are scored too, by name and by image.

    By name: the same subject or patient of the same data set; of another data set only if one of the two modules declares the
    name as an alias, since plain names such as `sub-01` occur in many.

    Args:
        corpus: dataset, volume and subject.
        indexes: of every data set of corpus and cohorts: volume, subject, and `patient` where the index has it.

    Returns:
        A row per cohort with OVERLAP_COLUMNS (`subjects`: those shared, separated by blanks; `by_content` counts all that
        were found by an image, under whatever name), and a row per pair of subjects with PAIR_COLUMNS (`name` is 'same',
        'alias' or ''; `volumes` counts pairs of equal images, `how` and what follows is the nearest of them).
    """
    known = _Names(corpus, indexes)
    summary, pairs = [], []
    for cohort in cohorts:
        found = sorted([*_by_name(cohort, known), *_by_content(cohort, known)], key=lambda pair: pair["subject"])
        merged = _merged(found)
        by_name = {pair["subject"] for pair in merged if pair["name"]}
        by_content = {pair["subject"] for pair in merged if pair["volumes"]}
        whose = {"task": cohort.task, "cohort": cohort.name, "dataset": cohort.dataset}
        counts = {"evaluated": len(cohort.subjects), "by_name": len(by_name), "by_content": len(by_content)}
        shared = sorted(by_name | by_content)
        summary.append(whose | counts | {"shared": len(shared), "subjects": " ".join(shared)})
        pairs += [whose | pair for pair in merged]
    return pd.DataFrame(summary, columns=OVERLAP_COLUMNS), pd.DataFrame(pairs, columns=PAIR_COLUMNS)


class _Names:
    """Who is who: subjects and patients of a corpus and of the data sets that are scored."""

    def __init__(self, corpus: pd.DataFrame, indexes: Mapping[str, pd.DataFrame]) -> None:
        self.patients = {name: patients(index) for name, index in indexes.items()}
        self.subject_of = {name: dict(zip(index["volume"], index["subject"], strict=True)) for name, index in indexes.items()}
        self.by_patient: dict[str, set[tuple[str, str]]] = {}
        for dataset, subject in sorted(set(zip(corpus["dataset"], corpus["subject"], strict=True))):
            self.by_patient.setdefault(self.patient(dataset, subject), set()).add((dataset, subject))

    def patient(self, dataset: str, subject: str) -> str:
        return self.patients.get(dataset, {}).get(subject, subject)


def patients(index: pd.DataFrame) -> dict[str, str]:
    """Subject to patient: equal, but where the index knows that one patient has several names."""
    column = "patient" if "patient" in index.columns else "subject"  # an earlier version wrote none
    return {subject: patient or subject for subject, patient in zip(index["subject"], index[column], strict=True)}


def on_both_sides(split: Mapping[str, Any]) -> list[str]:
    """The patients who are in pool and test set of a split under two names; no fold trains on them."""
    patient = split.get("patients", {})  # an earlier version wrote none
    pool, test = ({patient[subject] for subject in split[part] if subject in patient} for part in ("pool", "test"))
    return sorted(pool & test)


def _by_name(cohort: Cohort, known: _Names) -> Iterator[dict[str, Any]]:
    for subject in cohort.subjects:
        patient = known.patient(cohort.dataset, subject)
        for dataset, other in known.by_patient.get(patient, ()):
            same = dataset == cohort.dataset and other == subject
            if dataset == cohort.dataset or not subject == other == patient:
                yield _pair(subject, dataset, other) | {"name": "same" if same else "alias"}


def _by_content(cohort: Cohort, known: _Names) -> Iterator[dict[str, Any]]:
    for row in cohort.copies.to_dict("records"):
        subject = known.subject_of[cohort.dataset][row["volume"]]
        dataset = row["corpus_dataset"]
        if subject in cohort.subjects:
            pair = _pair(subject, dataset, known.subject_of[dataset][row["corpus_volume"]])
            image = {key: row[key] for key in IMAGE}
            yield pair | {"volumes": 1} | image


def _pair(subject: str, dataset: str, other: str) -> dict[str, Any]:
    empty = {"name": "", "volumes": 0, "how": "", "correlation": np.nan, "volume": "", "corpus_volume": ""}
    return {"subject": subject, "corpus_dataset": dataset, "corpus_subject": other} | empty


def _merged(found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per pair of subjects: the name, the number of equal images, and the nearest of them."""
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for pair in found:
        key = (pair["subject"], pair["corpus_dataset"], pair["corpus_subject"])
        kept = rows.setdefault(key, pair)
        if kept is pair:
            continue
        nearer = pair if not kept["volumes"] or pair["correlation"] > kept["correlation"] else kept
        image = {key: nearer[key] for key in IMAGE}
        kept |= image | {"name": kept["name"] or pair["name"], "volumes": kept["volumes"] + pair["volumes"]}
    return [rows[key] for key in sorted(rows)]


def check_protocol(shared: pd.DataFrame, pairs: pd.DataFrame, protocol: str) -> None:
    """Accepts a corpus of the protocol `amaes` as it is, and a `strict` one that shares nobody with a cohort.

    Raises:
        UserError: a strict corpus shares subjects; it names them, and what of the corpus they are.
    """
    rows = shared[shared["shared"] > 0]
    if protocol != "strict" or rows.empty:
        return
    lines = []
    for row in rows.itertuples():
        mine = pairs[(pairs["task"] == row.task) & (pairs["cohort"] == row.cohort) & (pairs["dataset"] == row.dataset)]
        lines.append(f"{row.shared} of {row.evaluated} subjects of task {row.task}, cohort {row.cohort} ({row.dataset}):")
        lines += [f"  {_told(pair)}" for pair in mine[:_LISTED].itertuples()]
        lines += [f"  and {len(mine) - _LISTED} more"] if len(mine) > _LISTED else []
    raise UserError(
        "subjects that will be scored are in the pretraining corpus:\n  " + "\n  ".join(lines),
        fix="choose other subsets, use 'pool_of', name them in 'exclude' of the source, or state 'protocol: amaes' in the corpus",
    )


def _told(pair: Any) -> str:
    """One pair of subjects in a line."""
    who = f"{pair.subject} is {pair.corpus_subject} of {pair.corpus_dataset}"
    if pair.name:
        return f"{who} ({'by name' if pair.name == 'same' else 'one patient under two names'})"
    words = {"exact": "equal voxels", "near": "the same image", "mirrored": "the same image, mirrored"}[pair.how]
    return f"{who} ({words}: {pair.volume} and {pair.corpus_volume}, correlation {pair.correlation:.3f})"
