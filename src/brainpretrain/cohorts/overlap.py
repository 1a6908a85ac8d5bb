"""The overlap audit: subjects that are both in a pretraining corpus and in a cohort, found by name or by image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from brainpretrain.cohorts import splits
from brainpretrain.errors import UserError

COUNTS = ["evaluated", "shared", "by_name", "by_content", "look", "without_brain"]
OVERLAP_COLUMNS = ["task", "cohort", "dataset", *COUNTS, "subjects", "look_subjects"]
IMAGE = ["how", "correlation", "volume", "corpus_volume", "level"]  # columns about a pair of volumes that show one image or brain
PAIR_COLUMNS = ["task", "cohort", "dataset", "subject", "corpus_dataset", "corpus_subject", "name", "volumes", *IMAGE]
WORDS = {
    "exact": "equal voxels",
    "near": "the same image",
    "mirrored": "the same image, mirrored",
    "brain": "the same brain",
    "brain, mirrored": "the same brain, mirrored",
}
_LISTED = 20  # pairs in a message; the rest is counted


@dataclass(frozen=True)
class Cohort:
    """Subjects of a data set that a fold of a task scores.

    Attributes:
        task, name: of the cohort.
        dataset: data set of the subjects.
        subjects: names of the subjects.
        copies: the result of `copies.in_corpus` for their volumes.
        without_brain: number of their volumes in which no whole brain was found.
    """

    task: str
    name: str
    dataset: str
    subjects: set[str]
    copies: pd.DataFrame
    without_brain: int = 0


def cohort_subjects(cohort: str, subjects: Mapping[str, Any]) -> set[str]:
    """The subjects of a cohort over all folds: every subject of the pool may be in the cohort `val` of a fold.

    Args:
        subjects: the result of `splits.split`, or of `splits.ood` for cohorts of other subsets or data sets.
    """
    return set(subjects["pool" if cohort == "val" else cohort])


def shared_subjects(
    corpus: pd.DataFrame,
    cohorts: Iterable[Cohort],
    indexes: Mapping[str, pd.DataFrame],
    persons: Mapping[str, Mapping[str, str]] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Subjects that are in a corpus and in a cohort, by name and by image.

    By name: the same subject or patient of the same data set. In another data set an equal name counts only if the module of
    one of the two declares it as an alias, since names such as `sub-01` occur in many data sets.

    Args:
        corpus: dataset, volume and subject.
        indexes: by data set of corpus and cohorts: volume, subject, and `patient` if the index has it.
        persons: by data set, subject to a name of the person that several data sets share (`Dataset.persons`).

    Returns:
        A row per cohort with OVERLAP_COLUMNS (`subjects`: the shared ones, separated by blanks; `by_content`: the number found
        by an image, whatever their names; `look`, `look_subjects`: those who are not shared, but may be), and a row per pair of
        subjects with PAIR_COLUMNS (`name`: 'same', 'alias' or ''; `volumes`: pairs of equal images or brains; the columns IMAGE
        describe the pair with the highest level and correlation).
    """
    names = _Names(corpus, indexes, persons or {})
    summary, pairs = [], []
    for cohort in cohorts:
        merged = _merged([*_by_name(cohort, names), *_by_content(cohort, names)])
        by_name = {pair["subject"] for pair in merged if pair["name"]}
        by_content = {pair["subject"] for pair in merged if pair["volumes"] and pair["level"] == "same"}
        look = sorted({pair["subject"] for pair in merged} - by_name - by_content)
        columns = {"task": cohort.task, "cohort": cohort.name, "dataset": cohort.dataset}
        counts = {"evaluated": len(cohort.subjects), "by_name": len(by_name), "by_content": len(by_content)}
        shared = sorted(by_name | by_content)
        subjects = {"subjects": " ".join(shared), "look": len(look), "look_subjects": " ".join(look)}
        subjects |= {"without_brain": cohort.without_brain}
        summary.append(columns | counts | {"shared": len(shared)} | subjects)
        pairs += [columns | pair for pair in merged]
    return pd.DataFrame(summary, columns=OVERLAP_COLUMNS), pd.DataFrame(pairs, columns=PAIR_COLUMNS)


class _Names:
    """Subjects, patients and volumes by name, of a corpus and of the data sets of its cohorts."""

    def __init__(
        self, corpus: pd.DataFrame, indexes: Mapping[str, pd.DataFrame], persons: Mapping[str, Mapping[str, str]]
    ) -> None:
        self.persons = persons
        self.patients = {
            name: dict(zip(index["subject"], splits.patients(index), strict=True)) for name, index in indexes.items()
        }  # by data set, subject to patient
        self.subject_of = {name: dict(zip(index["volume"], index["subject"], strict=True)) for name, index in indexes.items()}
        self.by_patient: dict[str, set[tuple[str, str]]] = {}
        self.by_person: dict[str, set[tuple[str, str]]] = {}
        for dataset, subject in sorted(set(zip(corpus["dataset"], corpus["subject"], strict=True))):
            self.by_patient.setdefault(self.patient(dataset, subject), set()).add((dataset, subject))
            if person := self.person(dataset, subject):
                self.by_person.setdefault(person, set()).add((dataset, subject))

    def patient(self, dataset: str, subject: str) -> str:
        return self.patients.get(dataset, {}).get(subject, subject)

    def person(self, dataset: str, subject: str) -> str:
        """The name of the person in several data sets, by the module or as declared patient; or ''."""
        known, patient = self.persons.get(dataset, {}), self.patient(dataset, subject)
        return known.get(subject) or known.get(patient) or (patient if patient != subject else "")


def on_both_sides(split: Mapping[str, Any]) -> list[str]:
    """Patients who are in the pool and in the test set of a split under two names; no fold trains on them."""
    if "parts" in split:  # a cross-validation scores everybody, and the names of a patient are in one part
        return []
    patient = split.get("patients", {})  # splits of an earlier version have no such key
    pool, test = ({patient[subject] for subject in split[part] if subject in patient} for part in ("pool", "test"))
    return sorted(pool & test)


def _by_name(cohort: Cohort, names: _Names) -> Iterator[dict[str, Any]]:
    for subject in cohort.subjects:
        patient = names.patient(cohort.dataset, subject)
        for dataset, other in names.by_patient.get(patient, ()):
            same = dataset == cohort.dataset and other == subject
            if dataset == cohort.dataset or not subject == other == patient:
                yield _pair(subject, dataset, other) | {"name": "same" if same else "alias"}
        for dataset, other in names.by_person.get(names.person(cohort.dataset, subject), ()):
            if dataset != cohort.dataset or names.patient(dataset, other) != patient:
                yield _pair(subject, dataset, other) | {"name": "alias"}


def _by_content(cohort: Cohort, names: _Names) -> Iterator[dict[str, Any]]:
    for row in cohort.copies.to_dict("records"):
        subject = names.subject_of[cohort.dataset][row["volume"]]
        dataset = row["corpus_dataset"]
        if subject in cohort.subjects:
            pair = _pair(subject, dataset, names.subject_of[dataset][row["corpus_volume"]])
            image = {key: row[key] for key in IMAGE}
            yield pair | {"volumes": 1} | image


def _pair(subject: str, dataset: str, other: str) -> dict[str, Any]:
    empty = {"name": "", "volumes": 0, "how": "", "correlation": np.nan, "volume": "", "corpus_volume": "", "level": ""}
    return {"subject": subject, "corpus_dataset": dataset, "corpus_subject": other} | empty


def _merged(pairs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per pair of subjects: the name, the number of equal images, and the most similar of them."""
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for pair in sorted(pairs, key=lambda pair: pair["subject"]):
        key = (pair["subject"], pair["corpus_dataset"], pair["corpus_subject"])
        kept = rows.setdefault(key, pair)
        if kept is pair:
            continue
        nearer = pair if not kept["volumes"] or _rank(pair) > _rank(kept) else kept
        image = {key: nearer[key] for key in IMAGE}
        kept |= image | {"name": kept["name"] or pair["name"], "volumes": kept["volumes"] + pair["volumes"]}
    return [rows[key] for key in sorted(rows)]


def _rank(pair: Mapping[str, Any]) -> tuple[bool, float]:
    return pair["level"] == "same", -1.0 if np.isnan(pair["correlation"]) else pair["correlation"]


def check_protocol(shared: pd.DataFrame, pairs: pd.DataFrame, protocol: str, what: str = "the pretraining corpus") -> None:
    """Refuses a corpus of the protocol `strict` that shares a subject with a cohort; `amaes` allows it.

    Args:
        shared, pairs: the result of `shared_subjects`.
        what: the corpus in words, or the sources of a task.

    Raises:
        UserError: listing the shared subjects, and the subjects of the corpus that they are equal to.
    """
    rows = shared[shared["shared"] > 0]
    if protocol != "strict" or rows.empty:
        return
    lines = []
    for row in rows.itertuples():
        matches = pairs[(pairs["task"] == row.task) & (pairs["cohort"] == row.cohort) & (pairs["dataset"] == row.dataset)]
        matches = matches[matches["subject"].isin(row.subjects.split(" ")) & (matches["level"] != "look")]
        lines.append(f"{row.shared} of {row.evaluated} subjects of task {row.task}, cohort {row.cohort} ({row.dataset}):")
        lines += [f"  {_line(pair)}" for pair in matches[:_LISTED].itertuples()]
        lines += [f"  and {len(matches) - _LISTED} more"] if len(matches) > _LISTED else []
    choices = "choose other subsets, use 'pool_of', name them in 'exclude' of the source, or state 'protocol: amaes'"
    if what != "the pretraining corpus":
        choices = "choose other subsets, or name them in 'exclude' of the source"
    raise UserError(
        f"subjects that will be scored are in {what}:\n  " + "\n  ".join(lines),
        fix=f"{choices}\n    the sources without them:\n    {excluded(pairs)}",
    )


def _line(pair: Any) -> str:
    """A pair of subjects in a line of the message."""
    text = f"{pair.subject} is {pair.corpus_subject} of {pair.corpus_dataset}"
    if pair.name:
        return f"{text} ({'by name' if pair.name == 'same' else 'one patient under two names'})"
    words = WORDS[pair.how] + (": look at them" if pair.level == "look" else "")
    return f"{text} ({words}: {pair.volume} and {pair.corpus_volume}, correlation {pair.correlation:.3f})"


def excluded(pairs: pd.DataFrame) -> str:
    """The lines that keep the shared subjects out of a corpus, as the key `exclude` of each source."""
    shared = pairs[(pairs["name"] != "") | (pairs["level"] == "same")]
    lines = []
    for dataset, rows in shared.groupby("corpus_dataset"):
        subjects = ", ".join(sorted(set(rows["corpus_subject"])))
        lines.append(f"- {{dataset: {dataset}, exclude: [{subjects}]}}")
    return "\n    ".join(lines)
