"""The labelled cases of a fine-tuning: those of its target, and those of the sources of its task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainpretrain.cohorts import sources, splits
from brainpretrain.cohorts.cases import Case, background_values, label_lookup, labelled_cases, source_lookup
from brainpretrain.config.runs import FinetuneRun, TrainingSource
from brainpretrain.errors import UserError
from brainpretrain.preprocess import stored


@dataclass(frozen=True)
class Labelled:
    """Cases that train.

    Attributes:
        cases, lookups: the cases, and for each the table from values of its label file to classes.
        parts: numbers of the cases of the target and of each source, if patches are drawn from them in turn; else empty.
        subjects: of the target.
        source_subjects: by data set, those of the sources; empty without sources.
        background: label values that count as background, as text; '' if there are none.
        watched, watched_cases: subjects of the target, and their cases, on which the training is validated.
    """

    cases: list[Case]
    lookups: list[np.ndarray]
    parts: list[list[int]]
    subjects: list[str]
    source_subjects: dict[str, list[str]]
    background: str
    watched: list[str]
    watched_cases: list[Case]


def gather(
    table: pd.DataFrame, folder: Path, fold: Mapping[str, Any], run: FinetuneRun, volumes: Mapping[str, Path] | None = None
) -> Labelled:
    """The cases that train: the first `n_train` subjects of the fold's order, and those of each source of the run.

    Args:
        table: the stored volumes of the target.
        folder: that the table is relative to.
        fold: what `splits.fold` returned, with `sources` if the run has any.
        run: the fine-tuning.
        volumes: by data set, the table of the stored volumes of each source.

    Raises:
        UserError: too few subjects; a class whose values no case of a pool has; or nothing to train on.
    """
    task = run.task
    by_subject = labelled_cases(table, folder, task.sequences, fold.get("subsets", []))
    subjects, watched = _subjects(fold, set(by_subject), run)
    pool = [case for subject in fold["order"] for case in by_subject.get(subject, [])]
    texts = [background_values(pool, task.labels, task.ignore)] if pool else []
    groups = [[case for subject in subjects for case in by_subject[subject]]]
    lookups = [label_lookup(task.labels, task.ignore)] * len(groups[0])
    used: dict[str, list[str]] = {}
    for source, drawn in zip(run.sources, fold.get("sources", []) if run.sources else [], strict=True):
        names, cases, text = _of_source(source, drawn, task.sequences, len(subjects), volumes or {})
        used[source.dataset] = used.get(source.dataset, []) + names
        groups.append(cases)
        lookups += [source_lookup(source.labels, source.ignore)] * len(cases)
        texts.append(f"{source.dataset}: {text}" if text else "")
    every = [case for cases in groups for case in cases]
    if not every:
        raise UserError("there is no case to train on", where=run.name, fix="raise n_train, or use the sources of the task")
    parts = _parts(groups) if run.recipe.mixing == "balanced" and run.sources else []
    watched_cases = [case for subject in watched for case in by_subject[subject]]
    return Labelled(every, lookups, parts, subjects, used, "; ".join(filter(None, texts)), watched, watched_cases)


def _subjects(fold: Mapping[str, Any], usable: set[str], run: FinetuneRun) -> tuple[list[str], list[str]]:
    """The subjects of the target that train, and those that the training is validated on."""
    rule, n_train = run.recipe.validation, str(run.n_train)
    if rule is None:
        return splits.training_subjects(fold, usable, n_train), []
    return splits.validation_subjects(fold, usable, n_train, rule.number, rule.taken_from)


def _of_source(
    source: TrainingSource, drawn: Mapping[str, Any], sequences: list[str], n_target: int, volumes: Mapping[str, Path]
) -> tuple[list[str], list[Case], str]:
    """Subjects and cases of a source, and the label values of its pool that count as background."""
    if source.dataset not in volumes or drawn["dataset"] != source.dataset:
        problem = f"the split is of the source '{drawn['dataset']}', the run of '{source.dataset}'"
        problem = problem if source.dataset in volumes else f"no stored volumes are given for the source '{source.dataset}'"
        raise UserError(problem, where="--sources", fix=f"--sources {source.dataset}=volumes.tsv, and the split of this task")
    by_subject = labelled_cases(*stored.read_stored(volumes[source.dataset]), sequences, drawn["subsets"])
    names = sources.training_subjects(drawn["order"], set(by_subject), source.n, n_target, f"source {source.dataset}")
    pool = [case for subject in drawn["order"] for case in by_subject.get(subject, [])]
    present = {name: values for name, values in source.labels.items() if values}
    text = background_values(pool, present, source.ignore)
    if len(present) < len(source.labels):
        text = ""  # what is not named is ignored, since it may be one of the absent classes
    return names, [case for name in names for case in by_subject[name]], text


def _parts(groups: list[list[Case]]) -> list[list[int]]:
    """Numbers of the cases of each group that has any."""
    starts = np.cumsum([0, *map(len, groups)])
    return [list(range(start, start + len(group))) for start, group in zip(starts.tolist(), groups, strict=False) if group]
