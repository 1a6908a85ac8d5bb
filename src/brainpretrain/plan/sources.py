"""What planning refuses about tasks over several data sets: nothing to train on, and label values that do not fit."""

from __future__ import annotations

from brainpretrain.errors import UserError
from brainpretrain.plan.runs import Arm, Plan


def check(plan: Plan) -> None:
    """Compares the sources of the tasks of a plan with the recipes of its arms and with the labels of their data sets.

    Raises:
        UserError: an arm trains on nothing, or on more subjects than a source gives; a recipe asks for sources that a task does
            not have; a class is in none of the data that an arm trains on; a source is the target itself; or label values are
            unknown, ignored by the data set, or mean something else than in the target.
    """
    for arm in sorted({arm for evaluation in plan.evaluations for arm in evaluation.arm.chain}):
        _check_arm(plan, arm)
    for task in plan.with_sources:
        for number in plan.sources_of(task):
            _check_source(plan, task, number)


def _check_arm(plan: Plan, arm: Arm) -> None:
    config = plan.config
    task, recipe = config.tasks[arm.task], config.finetune[arm.recipe]
    asked, where = recipe.sources, f"{config.where('finetune', arm.recipe)}.sources"
    if not task.sources and (asked not in ("all", "none") or recipe.mixing == "balanced"):
        key = "mixing" if asked in ("all", "none") else "sources"
        problem = f"the recipe '{arm.recipe}' has '{key}: {getattr(recipe, key)}', and task '{arm.task}' has no sources"
        fix = "add 'sources: [{dataset: ...}]' to the task, or use a recipe without this key for it"
        raise UserError(problem, where=where.replace(".sources", f".{key}"), fix=fix)
    if arm.n_train == "0" and (not task.sources or asked in ("none", "matched")):
        raise UserError(
            f"n_train 0 of task '{arm.task}' trains on nothing: "
            + (f"the recipe '{arm.recipe}' has 'sources: {asked}'" if task.sources else "the task has no sources"),
            where=where if task.sources else config.where("tasks", arm.task),
            fix="use a recipe with 'sources: all' for this row, and a task with 'sources'; or n_train 1 or more",
        )
    if arm.n_train == "0" and recipe.validation:
        raise UserError(
            f"the recipe '{arm.recipe}' would choose the weights of n_train 0 by labels of the target",
            where=f"{config.where('finetune', arm.recipe)}.validation",
            fix="use a recipe without 'validation' for this row",
        )
    for source in task.sources:
        if isinstance(asked, int) and isinstance(source.n, int) and asked > source.n:
            problem = (
                f"{asked} subjects of the source '{source.dataset}' are to train, and task '{arm.task}' limits them to {source.n}"
            )
            raise UserError(problem, where=where, fix=f"use {source.n} or fewer, or raise 'n' of the source")
    if arm.n_train == "0":
        every = [task.source_labels(number)["labels"] for number in range(len(task.sources))]
        if absent := [name for name in task.labels if not any(labels[name] for labels in every)]:
            raise UserError(
                f"with n_train 0 no training case of task '{arm.task}' has the class '{absent[0]}': its sources lack it",
                where=f"{config.where('tasks', arm.task)}.sources",
                fix="add a source that has the class, remove it from the task, or remove the row",
            )


def _check_source(plan: Plan, task: str, number: int) -> None:
    config = plan.config
    entry, source = config.tasks[task], config.tasks[task].sources[number]
    where = f"{config.where('tasks', task)}.sources.{number}"
    if source.dataset == entry.dataset and not (
        entry.subsets and source.subsets and not set(entry.subsets) & set(source.subsets)
    ):
        problem = f"the source '{source.dataset}' of task '{task}' is its target"
        raise UserError(problem, where=where, fix="name another data set, or different 'subsets' of both")
    for cohort in entry.others:
        subsets, of_target = entry.subsets_of(cohort), entry.dataset_of(cohort) == entry.dataset
        holds_all = not of_target and (not subsets or (source.subsets and set(source.subsets) <= set(subsets)))
        if (task, cohort) in plan.cohorts and entry.dataset_of(cohort) == source.dataset and holds_all:
            problem = f"every subject of the source '{source.dataset}' is scored, in the cohort '{cohort}'"
            raise UserError(problem, where=where, fix="name another data set, or different 'subsets' of both")
    target, description = config.described(entry.dataset), config.described(source.dataset)
    if not description.labels:
        return  # judged by the training, from its label files
    names = ", ".join(f"{value} {label}" for value, label in list(description.labels.items())[:40])
    used = entry.source_labels(number)
    named = {*used["ignore"], *(value for values in used["labels"].values() for value in values)}
    ignored = {*description.ignore, *(value for value, label in description.labels.items() if label.lower() == "ignore")}
    if unknown := sorted(named - {*plan.label_values(source.dataset)}):
        problem = f"the source names label values that the data set '{source.dataset}' does not have: {_words(unknown)}"
        raise UserError(problem, where=where, fix=f"use values of the data set: {names}")
    if unnamed := sorted(ignored - named):
        problem = (
            f"the data set '{source.dataset}' marks the label values {_words(unnamed)} as ignored; they would train as background"
        )
        raise UserError(problem, where=where, fix=f"add them to the source: ignore: {sorted({*used['ignore'], *unnamed})}")
    if source.labels is not None or not target.labels or source.dataset == entry.dataset:
        return
    values = sorted(value for group in entry.labels.values() for value in group)
    if differ := [value for value in values if _plain(target.labels.get(value)) != _plain(description.labels.get(value))]:
        pairs = ", ".join(
            f"{value} is {target.labels.get(value, 'nothing')} and {description.labels.get(value, 'nothing')}" for value in differ
        )
        problem = (
            f"the data sets '{entry.dataset}' and '{source.dataset}' of task '{task}' name label values differently: {pairs}"
        )
        classes = ", ".join(entry.labels)
        fix = f"give the source its own labels, with the class names of the task ({classes}) and these values: {names}"
        raise UserError(problem, where=where, fix=fix)


def _plain(name: str | None) -> str:
    """The letters and digits of a name."""
    return "".join(letter for letter in (name or "").lower() if letter.isalnum())


def _words(values: list[int]) -> str:
    return " ".join(map(str, values))
