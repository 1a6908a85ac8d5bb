"""What planning refuses about tasks whose folds are a cross-validation (`split: {kind: kfold}`)."""

from __future__ import annotations

from pathlib import Path

from brainpretrain.errors import UserError
from brainpretrain.plan import fairness
from brainpretrain.plan.runs import Plan


def check(plan: Plan, task: str) -> None:
    """Compares the folds of a study with a cross-validation of one of its tasks.

    Raises:
        UserError: the study has more folds than the task has parts, asks of its folds what only draws can be, or scores `val`;
            the pool of such a task is to pretrain, although everybody in it is scored; or its file of folds does not exist.
    """
    config = plan.config
    split, where = config.tasks[task].split, f"{config.where('tasks', task)}.split"
    _check_pools(plan)
    if split.kind != "kfold":
        return
    k, study = split.k or 0, f"study '{config.study_name}'"
    if config.study.folds > k:
        problem = f"the study has {config.study.folds} folds, and the cross-validation of task '{task}' has {k} parts"
        raise UserError(problem, where=f"{study}, folds; {where}.k", fix=f"folds: {k}; or k: {config.study.folds}")
    if config.study.draws == "disjoint":
        problem = f"draws: disjoint, and the folds of the cross-validation of task '{task}' share training cases"
        raise UserError(problem, where=f"{study}, draws", fix="remove 'draws', or use 'kind: fraction' with a test_fraction")
    if fairness.applies(plan):
        raise UserError(
            f"protocol: fair compares arms over draws of training cases, and the folds of task '{task}' are a cross-validation:"
            " they share training cases, and nothing they show holds for another training",
            where=f"{study}, protocol; {where}.kind",
            fix="use 'kind: fraction' with a test_fraction, such as 0.2; or 'protocol: free', without intervals and tests",
        )
    if shown := [c.title for t in plan.tables.values() for c in t.columns if (c.task, c.cohort) == (task, "val")]:
        raise UserError(
            f"the column '{shown[0]}' scores the cohort 'val' of a cross-validation, which is the rest of a training part",
            where=f"tables, columns on task '{task}'",
            fix="use 'cohort: test': the part that a fold holds out, so that each subject is scored once",
        )
    if split.file and not Path(split.file).is_file():
        raise UserError("there is no such file", where=f"{where}.file: {split.file}", fix="give nnU-Net's splits_final.json")


def _check_pools(plan: Plan) -> None:
    for corpus in plan.corpora:
        for pool in plan.config.corpora[corpus].pools:
            if plan.config.tasks[pool].split.kind == "kfold":
                raise UserError(
                    f"the corpus '{corpus}' takes the pool of task '{pool}', a cross-validation, which scores everybody in it",
                    where=f"{plan.config.where('corpora', corpus)}.sources",
                    fix="remove this source, or use 'kind: fraction' with a test_fraction in the task",
                )
