"""The labelled cases of a task, each with all sequences on one stored grid, and the table from label values to classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainpretrain.cohorts import corpus, splits
from brainpretrain.errors import UserError
from brainpretrain.preprocess import stored

_LISTED = 40  # label values in a message
IGNORED = 255  # class of a voxel that is used neither in training nor in scoring


@dataclass(frozen=True)
class Case:
    """One subject and session of a task: one row of the table of stored volumes per sequence, in the task's order."""

    name: str
    subject: str
    session: str
    rows: tuple[Mapping[str, Any], ...]
    folder: Path

    @property
    def labelled(self) -> Mapping[str, Any]:
        """The row with the label: that of the first sequence that has one."""
        return next(row for row in self.rows if row["label_file"])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along x, y, z of the stored grid."""
        return tuple(int(n) for n in self.rows[0]["shape"].split())  # type: ignore[return-value]

    def image(self, box: tuple[slice, ...] | None = None) -> np.ndarray:
        """Float16 (c, x, y, z), or the part of it inside `box`."""
        from brainpretrain.preprocess import frames  # here, since `evaluate` reads no stored volume and need not load Blosc2

        return np.stack([frames.load(self.folder, row, box) for row in self.rows])

    def label(self, lookup: np.ndarray, box: tuple[slice, ...] | None = None) -> np.ndarray:
        """Classes uint8 (x, y, z): 0 background, then the task's classes in order, `IGNORED`."""
        from brainpretrain.preprocess import frames  # as above

        return lookup[frames.load_label(self.folder, self.labelled, box)]


def labelled_cases(
    table: pd.DataFrame, folder: Path, sequences: Sequence[str], subsets: Sequence[str] = ()
) -> dict[str, list[Case]]:
    """Complete labelled cases by subject: every sequence accepted and stored on one grid, one of them with a label.

    Args:
        table: the stored volumes of the data set.
        folder: the folder that the table's `file` column is relative to.
        sequences: the task's sequences.
        subsets: those that the volumes are taken from; all if empty.

    Raises:
        UserError: a session has several volumes of one sequence; the sequences of a case are on different grids; or two
            patients have the same image, so that one could train and the other be scored.
    """
    by_subject: dict[str, list[Case]] = {}
    usable = table[(table["status"] == "ok") & table["sequence"].isin(sequences)]
    usable = usable[usable["subset"].isin(subsets)] if subsets else usable
    for (subject, session), group in usable.groupby(["subject", "session"], sort=True):
        if (group["label_file"] != "").any():
            splits.refuse_several(group, folder)
        by_sequence = {row["sequence"]: row for row in group.to_dict("records")}
        rows = tuple(by_sequence[sequence] for sequence in sequences if sequence in by_sequence)
        if len(rows) < len(sequences) or not any(row["label_file"] for row in rows):
            continue
        if len({row["geometry"] for row in rows}) > 1:
            raise UserError(
                f"the sequences {' '.join(sequences)} of one case are stored on different grids or crops",
                where=rows[0]["volume"],
                fix=f"give the task a preprocess recipe with 'session: [{', '.join(sequences)}]', which stores them in one box,"
                " and with 'align: header', rigid or affine if they are on different grids",
            )
        name = f"{subject}_{session}" if session else str(subject)
        by_subject.setdefault(str(subject), []).append(Case(name, str(subject), str(session), rows, folder))
    _refuse_copies(by_subject, folder)
    return by_subject


def _refuse_copies(by_subject: Mapping[str, Sequence[Case]], folder: Path) -> None:
    rows = [row for cases in by_subject.values() for case in cases for row in case.rows]
    if rows and (groups := corpus.copies(pd.DataFrame(rows).assign(dataset=""))):
        pairs = "; ".join(" = ".join(name.removeprefix("/") for name in names) for names in groups)
        fix = "leave out all but one, or name them as one patient (`aliases` of the data set's module, `patient` in a table)"
        raise UserError(f"the same image under several names, voxel for voxel: {pairs}", where=folder, fix=fix)


def cohort_cases(
    volumes: Path,
    sequences: Sequence[str],
    fold: Mapping[str, Any],
    fixed: Mapping[str, Any],
    n_train: str,
    cohort: str,
    tell: Callable[[str], None] = print,
) -> list[Case]:
    """The cases of one cohort of a fold, in the order of its subjects.

    Args:
        volumes: table of the stored volumes of the data set.
        sequences: the task's sequences.
        fold: what `splits.fold` returned.
        fixed: what `splits.split` (for `test`) or `splits.ood` (for other cohorts) returned; empty for `val`.
        n_train: number of labelled cases that the model was trained on, or 'all'.
        cohort: 'val', 'test', 'ood' or one of the task's `cohorts`.
        tell: called with a message that names the subjects without a usable case, if there are any.

    Raises:
        UserError: the table is missing or damaged, the cohort is empty, or as `labelled_cases`.
    """
    subsets = (fold if cohort == "val" else fixed).get("subsets", [])
    by_subject = labelled_cases(*stored.read_stored(volumes), sequences, subsets)
    names = splits.named_subjects(fold, cohort, fixed)
    if unusable := sorted(set(names) - set(by_subject)):
        tell(f"{len(unusable)} of {len(names)} subjects have no usable case (see the rejected volumes): {' '.join(unusable)}")
    subjects = splits.cohort_subjects(fold, set(by_subject), n_train, cohort, fixed)
    return [case for subject in subjects for case in by_subject[subject]]


def background_values(cases: Sequence[Case], labels: Mapping[str, Sequence[int]], ignore: Sequence[int]) -> str:
    """The label values of these cases that count as background although they are not 0, as text; '' if there are none.

    A task on some of the structures of a data set leaves the others unnamed, so this is a remark and no error.

    Args:
        cases: of the pool of a task.
        labels, ignore: of the task.

    Raises:
        UserError: no case has a value of one of the classes.
    """
    counts, absent, unnamed = _compared(cases, labels, ignore)
    if absent:
        raise UserError(
            f"no case of the training pool has the label value of {absent}",
            where="labels of the task",
            fix=f"use the values of the label files, correct or remove the class: {_counted(counts, len(cases)) or 'only 0'}",
        )
    return _counted(unnamed, len(cases))


def reference_values(cases: Sequence[Case], task: Mapping[str, Any], cohort: str) -> str:
    """As `background_values`, for a cohort of another data set, whose files need not hold every class.

    Args:
        cases: of the cohort.
        task: with `labels` and `ignore`, or those of the cohort's label files in `reference`.
        cohort: its name.

    Raises:
        UserError: no case has a value of one of the classes, but values that the cohort does not name.
    """
    reference = task.get("reference", task)
    _, absent, unnamed = _compared(cases, reference["labels"], reference["ignore"])
    if absent and unnamed:
        raise UserError(
            f"no case of the cohort '{cohort}' has the label value of {absent}; they have {_counted(unnamed, len(cases))}, which"
            " would count as background",
            where=f"labels of the cohort '{cohort}'",
            fix=f"give '{cohort}' its own labels, with the values of its label files; under ignore, those that are no class",
        )
    return _counted(unnamed, len(cases))


def _compared(
    cases: Sequence[Case], labels: Mapping[str, Sequence[int]], ignore: Sequence[int]
) -> tuple[Counter[int], str, dict[int, int]]:
    """The number of cases by label value, the classes of which no case has a value, and the values that nothing names."""
    counts = Counter(value for case in cases for value in _values_of(case) if value)
    absent = (f"'{name}' ({' '.join(map(str, values))})" for name, values in labels.items() if not set(values) & set(counts))
    named = {*ignore, *(value for values in labels.values() for value in values)}
    return counts, ", ".join(absent), {value: n for value, n in counts.items() if value not in named}


def _values_of(case: Case) -> list[int]:
    """The values of a stored label, from the table, or from the label if a table of an earlier version lacks them."""
    if words := str(case.labelled.get("label_values", "")).split():
        return [int(word) for word in words]
    from brainpretrain.preprocess import frames  # as above

    return [int(value) for value in np.unique(frames.load_label(case.folder, case.labelled))]


def _counted(counts: Mapping[int, int], n_cases: int) -> str:
    """Label values with the number of cases that hold them; the first 40."""
    parts = [f"{value} in {n} of {n_cases} cases" for value, n in sorted(counts.items())]
    return ", ".join(parts[:_LISTED]) + (f" and {len(parts) - _LISTED} more" if len(parts) > _LISTED else "")


def reference_lookup(task: Mapping[str, Any]) -> np.ndarray:
    """`label_lookup` for the label files of a cohort: with the values of `reference` if the task has this key, else its own."""
    reference = task.get("reference", task)
    return label_lookup({name: reference["labels"][name] for name in task["labels"]}, reference["ignore"])


def label_lookup(labels: Mapping[str, Sequence[int]], ignore: Sequence[int]) -> np.ndarray:
    """Table from label-file values (0 .. 65535) to classes: uint8, background 0, `IGNORED` for ignored values."""
    lookup = np.zeros(65536, np.uint8)
    for number, values in enumerate(labels.values(), start=1):
        lookup[list(values)] = number
    lookup[list(ignore)] = IGNORED
    return lookup


def source_lookup(labels: Mapping[str, Sequence[int]], ignore: Sequence[int]) -> np.ndarray:
    """`label_lookup` for a source. If a class has no values there, all that is not named is ignored: it may be that class."""
    lookup = label_lookup(labels, ignore)
    if not all(labels.values()):
        lookup[lookup == 0] = IGNORED
    return lookup


def side_pairs(labels: Mapping[str, Sequence[int]], left_right: Sequence[Sequence[str]]) -> list[tuple[int, int]]:
    """Numbers of the classes that change places where an image is mirrored along x.

    Args:
        labels: of the task; class 1 is the first.
        left_right: pairs of class names.
    """
    number = {name: index for index, name in enumerate(labels, start=1)}
    return [(number[left], number[right]) for left, right in left_right]
