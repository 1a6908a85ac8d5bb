"""The choice of a learning rate for each arm: the same grid and budget for all, judged on validation cases that no table shows.

A recipe with `lr_grid` stands for one training with each learning rate of the grid, on the training cases of a fold and with the
first seed, scored on the rest of the pool (`val`); and then for the trainings of the fold with the best. The candidates are
recipes of the plan, `<recipe>_lr<number>`, so they are trained and scored by the rules of every fine-tuning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from brainpretrain.config import Config
from brainpretrain.config.sections import Finetune, Phase
from brainpretrain.errors import UserError
from brainpretrain.plan.runs import Plan
from brainpretrain.plan.table_spec import TableSpec


def scaled(phases: Iterable[Phase], lr: float) -> list[Phase]:
    """The phases with learning rates in the same proportions and `lr` as the largest."""
    phases = list(phases)
    peak = max(phase.lr for phase in phases)
    return [phase.model_copy(update={"lr": lr * (phase.lr / peak)}) for phase in phases]


def candidates(recipe: str, entry: Finetune) -> dict[str, Finetune]:
    """The recipes of a grid by name."""
    return {
        f"{recipe}_lr{number}": entry.model_copy(update={"phases": scaled(entry.phases, lr), "lr_grid": []})
        for number, lr in enumerate(entry.lr_grid)
    }


def with_candidates(config: Config, tables: Mapping[str, TableSpec]) -> Config:
    """The config with the candidates of every recipe that the tables use.

    Raises:
        UserError: a recipe has the name of a candidate.
    """
    added: dict[str, Finetune] = {}
    for recipe in sorted({row.recipe for spec in tables.values() for row in spec.rows if not row.external}):
        added |= candidates(recipe, config.finetune[recipe])
    if both := sorted(set(added) & set(config.finetune)):
        problem = f"the recipe '{both[0]}' has the name of a candidate of a grid"
        raise UserError(problem, where=config.where("finetune", both[0]), fix="give it another name")
    return config.model_copy(update={"finetune": config.finetune | added}) if added else config


def check(plan: Plan) -> None:
    """Refuses a grid whose validation cases a table shows, or for which no case is left to validate on.

    Raises:
        UserError: a column shows the cohort `val`; or all cases train, and the arm has no numbered n_train to choose at.
    """
    for spec in plan.tables.values():
        tuned = [row for row in spec.rows if not row.external and plan.config.finetune[row.recipe].lr_grid]
        shown = [column.title for column in spec.columns if column.cohort == "val"]
        if tuned and shown:
            raise UserError(
                f"the learning rates of '{tuned[0].recipe}' would be chosen on cases that the column '{shown[0]}' scores",
                where=f"{plan.config.where('finetune', tuned[0].recipe)}.lr_grid",
                fix="score a fixed test set (cohort: test, and a test_fraction in the task), or remove lr_grid and write"
                " 'protocol: free'",
            )
    for evaluation in plan.evaluations:
        arm = evaluation.arm
        if plan.config.finetune[arm.recipe].lr_grid and plan.tuned_at(arm) == "all":
            raise UserError(
                f"n_train 'all' leaves no case to choose the learning rate of '{arm.recipe}' on",
                where=f"{plan.config.where('finetune', arm.recipe)}.lr_grid",
                fix="add rows of the same arm with a number as n_train: 'all' takes the rate that was chosen at the largest; or"
                " remove lr_grid and write 'protocol: free'",
            )
