"""Arms that another program made: their rows, the values of their files by class, and what a plan shows to be wrong with them.

Such an arm is (task, `external`, name of the program, `external`, n_train). Its n_train trains nothing: it says which cases the
cohort `val` leaves, and with which rows it is ranked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from brainpretrain import structures
from brainpretrain.config.sections import External, Row, Table
from brainpretrain.errors import UserError, nearest
from brainpretrain.plan.runs import Arm, Plan
from brainpretrain.plan.table_spec import EXTERNAL, RowSpec


def rows(table: Table, row: Row) -> Iterator[RowSpec]:
    """The rows of an entry with `init: {external: ...}`; a list of n_train multiplies."""
    choices = table.n_train if row.n_train is None else row.n_train
    for n_train in choices if isinstance(choices, list) else [choices]:
        title = row.title
        if isinstance(choices, list) or n_train != table.n_train:
            title += f", n={n_train}"
        yield RowSpec(title=title, backbone=EXTERNAL, init=name_of(row.title), recipe=EXTERNAL, n_train=str(n_train))


def name_of(title: str) -> str:
    """The name of a program in paths: 'SynthSeg 2.0' is synthseg_2_0."""
    return re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_") or EXTERNAL


def entries(plan: Plan) -> dict[str, tuple[str, External]]:
    """The programs of the study by the name in paths: title, and entry.

    Raises:
        UserError: two rows of one name have other folders, files or labels.
    """
    found: dict[str, tuple[str, External]] = {}
    for table in plan.tables:
        for row in plan.config.tables[table].rows:
            if isinstance(row.init, External):
                title, entry = found.setdefault(name_of(row.title), (row.title, row.init))
                if entry != row.init:
                    problem = f"the rows '{title}' and '{row.title}' have one name in paths, and other files or labels"
                    raise UserError(problem, where=f"tables.{table}.rows", fix="give one of them another title")
    return found


def folder_of(plan: Plan, task: str, cohort: str, name: str) -> str:
    """The folder of the files of a program for one cohort."""
    words = {"{task}": task, "{cohort}": cohort, "{dataset}": plan.config.tasks[task].dataset_of(cohort)}
    folder = entries(plan)[name][1].external
    for word, value in words.items():
        folder = folder.replace(word, value)
    return folder


def values_of(plan: Plan, task: str, name: str) -> dict[str, Any]:
    """How the values of a program's files are read for a task.

    Returns:
        title; labels: class name to values, in the order of the task; background: values that are background and known to be;
        others: what to do with any other value.

    Raises:
        UserError: the labels are not those of the task's classes.
    """
    title, entry = entries(plan)[name]
    classes, where = plan.config.tasks[task].labels, f"init of the row '{title}', labels"
    background: list[int] = []
    if entry.labels is None:
        labels = classes
    elif isinstance(entry.labels, str):
        labels = structures.values(entry.labels, classes, where)
        background = sorted(set(structures.names(entry.labels)) - {value for group in labels.values() for value in group})
    else:
        labels = _given(entry.labels, classes, task, where)
    return {"title": title, "labels": labels, "background": background, "others": entry.others}


def _given(given: dict[str, list[int]], classes: dict[str, list[int]], task: str, where: str) -> dict[str, list[int]]:
    if lacking := [name for name in classes if name not in given]:
        raise UserError(
            f"no values for {', '.join(lacking)} of task '{task}': scored as it is, the program would get 0 there",
            where=where,
            fix="give their values, or score a task on the labels that both have",
        )
    labels = {name: given[name] for name in classes}
    values = [value for group in labels.values() for value in group]
    if twice := sorted({value for value in values if values.count(value) > 1}):
        raise UserError(f"the values {twice} are given to two classes of task '{task}'", where=where, fix="keep one of each")
    return labels


def check(plan: Plan) -> None:
    """Refuses what cannot be scored: labels that are not those of the tasks, and names that are taken.

    Raises:
        UserError: see above, and `entries`.
    """
    found = entries(plan)
    if not found:
        return
    for section in ("backbones", "finetune"):
        if EXTERNAL in getattr(plan.config, section):
            problem = f"an entry of '{section}' cannot be called '{EXTERNAL}' where a row is of another program"
            raise UserError(problem, where=plan.config.where(section, EXTERNAL), fix="give it another name")
    arms = sorted({evaluation.arm for evaluation in plan.scored if evaluation.arm.external})
    for arm in arms:
        values_of(plan, arm.task, arm.init)
    for name, (title, entry) in found.items():
        _check_classes(plan, name, title, entry, arms)
    for evaluation in plan.scored:
        arm, task = evaluation.arm, plan.config.tasks[evaluation.arm.task]
        if arm.external and task.degradation_of(evaluation.cohort):
            raise UserError(
                f"another program cannot predict the cohort '{evaluation.cohort}', whose images are degraded in memory",
                where=f"row '{found[arm.init][0]}'",
                fix="leave the row out of tables with degraded cohorts",
            )


def _check_classes(plan: Plan, name: str, title: str, entry: External, arms: list[Arm]) -> None:
    """Every class that a row names is one of its tasks."""
    known = {label for arm in arms if arm.init == name for label in plan.config.tasks[arm.task].labels}
    if isinstance(entry.labels, dict) and (odd := [label for label in entry.labels if label not in known]):
        raise UserError(
            f"'{odd[0]}' is no class of the tasks of the row '{title}'",
            where=f"init of the row '{title}', labels",
            fix=f"{nearest(odd[0], sorted(known))} A value that is no class needs no name: others: background",
        )
