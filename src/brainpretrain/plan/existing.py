"""What files that exist already show to be impossible: the index of a data set, the split of a task, stored volumes."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainpretrain.cohorts import filters, splits
from brainpretrain.errors import UserError
from brainpretrain.files import read_json, read_tsv
from brainpretrain.plan import specs
from brainpretrain.plan.runs import Plan

if TYPE_CHECKING:
    import pandas as pd


def check_split(
    plan: Plan, task: str, subjects: Path, index: Path, listed: Callable[[], tuple[pd.DataFrame, object] | None] = lambda: None
) -> None:
    """Refuses a study for which the split of a task is too small. Without a split of this seed, the one to come is judged.

    Args:
        plan: of the study.
        task: name of the task.
        subjects: its split, which may not exist yet.
        index: of its data set, which may not exist yet.
        listed: called without split and index; the rows that the index will have, and where they come from, if that is known.

    Raises:
        UserError: too few subjects; no subject has a sequence of the task.
    """
    rule = specs.task_split(plan.config, task)["split"]
    made = read_json(subjects) if subjects.exists() else {}
    given = Path(file) if (file := plan.config.tasks[task].split.file) else None
    if made and _drawn_as(made) == _drawn_as({"draw": rule.get("kind"), **rule, "parts": range(rule.get("k", 0))}):
        splits.check_sizes(made, plan.draws(task), subjects)
    elif known := (read_tsv(index), index) if index.exists() else listed():
        where = plan.config.where("tasks", task)
        rows, found = known
        sequences = sorted(set(rows["sequence"]))
        if missing := [name for name in plan.config.tasks[task].sequences if name not in sequences]:
            problem = f"the data set '{plan.config.tasks[task].dataset}' has no sequences {', '.join(missing)}"
            raise UserError(problem, where=f"{where}.sequences", fix=f"{found} has: {', '.join(sequences)}")
        splits.split_for(rows, specs.task_split(plan.config, task), plan.draws(task), f"{where}, {found}", given)


def _drawn_as(rule: Mapping[str, Any]) -> tuple[Any, str, int]:
    """What a split that exists and the rule of a task must have in common: seed, draw and number of parts."""
    return rule.get("seed"), rule.get("draw") or "shuffle", len(rule.get("parts", []))


def check_cohort(plan: Plan, task: str, cohort: str, index: Path, subjects: Path) -> None:
    """Refuses a cohort from another subset or data set that the index of its data set shows to be impossible.

    Args:
        plan: of the study.
        task, cohort: their names.
        index: of the cohort's data set, which may not exist yet.
        subjects: the split of the task, which may not exist yet.

    Raises:
        UserError: the cohort is empty, shares subjects with the pool or the test set, or is shown by site and a site is unknown.
    """
    if not index.exists():
        return
    entry, rows = plan.config.tasks[task], read_tsv(index)
    where = f"{plan.config.where('tasks', task)}.{entry.key_of(cohort)}"
    drawn = {"dataset": entry.dataset, "pool": [], "test": []}
    if subjects.exists():
        drawn = read_json(subjects)
    elif entry.dataset_of(cohort) == entry.dataset:
        drawn = splits.split(rows, specs.task_split(plan.config, task))
    names = splits.ood(rows, specs.task_ood(plan.config, task, cohort), drawn, cohort, where)[cohort]
    unknown = sorted(set(rows.loc[rows["subject"].isin(names) & (rows["site"] == ""), "subject"]))
    if entry.others[cohort].by_site and unknown:
        problem = f"the site of {len(unknown)} of {len(names)} subjects of the cohort '{cohort}' is unknown, {unknown[0]} for one"
        raise UserError(problem, where=f"{where}.by_site", fix="remove 'by_site'")


def check_patches(plan: Plan, dataset: str, preprocess: str, volumes: Path) -> None:
    """Refuses patches that are larger along every axis than all stored volumes of a data set: most of each would be padding.

    Args:
        plan: of the study.
        dataset, preprocess: data set and recipe of the stored volumes.
        volumes: their table, which may not exist yet.

    Raises:
        UserError: names the recipe of the training.
    """
    if not volumes.exists():
        return
    with open(volumes, newline="", encoding="utf-8") as stream:
        lines = csv.DictReader(stream, delimiter="\t")
        shapes = [tuple(map(int, line["shape"].split())) for line in lines if line.get("status") == "ok" and line.get("shape")]
    if not shapes:
        return
    largest = [max(axis) for axis in zip(*shapes, strict=True)]
    for where, patch in sorted(_patches(plan, dataset, preprocess)):
        if all(size > limit for size, limit in zip(patch, largest, strict=True)):
            raise UserError(
                f"the patch {'x'.join(map(str, patch))} is larger than every stored volume of '{dataset}' ({preprocess}): their"
                f" largest sizes are {'x'.join(map(str, largest))}",
                where=f"{where}.patch_size",
                fix="use a smaller patch, or a preprocess recipe with a smaller spacing",
            )


def check_filters(plan: Plan, corpus: str, volumes: dict[str, Path]) -> None:
    """Refuses filters of a corpus that leave nothing of a source, as far as the tables of stored volumes show it.

    Args:
        plan: of the study.
        corpus: its name.
        volumes: by data set, the table of its stored volumes, which may not exist yet.

    Raises:
        UserError: with the number of volumes that fail each filter.
    """
    entry = plan.config.corpora[corpus]
    if entry.filters is None:
        return
    limits = entry.filters.model_dump(exclude={"min_file_kb"})
    for source in entry.sources:
        if not volumes[source.dataset].exists():
            continue
        table = read_tsv(volumes[source.dataset])
        table = table[(table["status"] == "ok") & ~table["subject"].isin(source.exclude)]
        table = table[table["sequence"].isin(source.sequences)] if source.sequences else table
        table = table[table["subset"].isin(source.subsets)] if source.subsets else table
        where = f"{plan.config.where('corpora', corpus)}.filters"
        filters.require_some(table, filters.judged(table, limits), source.dataset, where)


def _patches(plan: Plan, dataset: str, preprocess: str) -> set[tuple[str, tuple[int, ...]]]:
    """Place and patch of every training whose volumes are all from this data set and recipe."""
    config, found = plan.config, set()
    for pretraining in plan.pretrainings:
        corpus = config.corpora[pretraining.corpus]
        if corpus.datasets == [dataset] and corpus.preprocess == preprocess:
            patch = config.pretext(pretraining.pretext, pretraining.backbone).patch_size
            found.add((config.where("pretexts", pretraining.pretext), tuple(patch)))
    for arm in {evaluation.arm for evaluation in plan.evaluations}:
        task = config.tasks[arm.task]
        if (task.dataset, task.preprocess) == (dataset, preprocess):
            found.add((config.where("finetune", arm.recipe), tuple(config.finetune[arm.recipe].patch_size)))
    return found
