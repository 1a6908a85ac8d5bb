"""What compared arms differ in besides the encoder: noted under the table, and refused in a study with `protocol: fair`."""

from __future__ import annotations

from typing import Any

from brainpretrain.config import Config
from brainpretrain.config.sections import Finetune
from brainpretrain.errors import UserError
from brainpretrain.plan.runs import AFTER, SCRATCH, Plan
from brainpretrain.plan.table_spec import RowSpec, TableSpec

FEWEST_FOLDS = 3  # as `report.crossed`: with fewer, nothing is said about another training
# parts of a recipe that change nothing between the arms of a comparison, or that apply to a pretrained encoder alone
SAME_ANYWAY = {"note", "augmentation", "augmentation_scratch", "log_every_steps", "transfer", "stem"}


def differences(config: Config, row: RowSpec, base: RowSpec) -> list[str]:
    """What two rows differ in besides the encoder they start from, in words: 'augmentation (spatial, not amaes_finetune)'."""
    found = []
    recipes = [config.finetune[one.recipe] for one in (row, base)]
    policies = [recipe.policy(one.start == SCRATCH) for recipe, one in zip(recipes, (row, base), strict=True)]
    if config.augmentations[policies[0]] != config.augmentations[policies[1]]:
        found.append(f"augmentation ({policies[0]}, not {policies[1]})")
    if row.init.count(AFTER) != base.init.count(AFTER):
        found.append("trainings before this one")
    found += _recipe_differences(*recipes)
    for key in ("backbone", "n_train"):
        if getattr(row, key) != getattr(base, key):
            found.append(f"{key} ({getattr(row, key)}, not {getattr(base, key)})")
    return found


def _recipe_differences(recipe: Finetune, other: Finetune) -> list[str]:
    """The keys of two recipes that differ, with the two values of those that are short."""
    found = []
    for key in type(recipe).model_fields:
        values: list[Any] = [getattr(recipe, key), getattr(other, key)]
        if key not in SAME_ANYWAY and values[0] != values[1]:
            short = all(isinstance(value, int | float | str) for value in values)
            found.append(f"{key} ({values[0]}, not {values[1]})" if short else key)
    return found


def noted(config: Config, spec: TableSpec) -> TableSpec:
    """The table with what each row differs in from its baseline besides the encoder."""
    rows = []
    for row in spec.rows:
        base = spec.baseline_of(row)
        found = tuple(differences(config, row, base)) if base else ()
        rows.append(row.model_copy(update={"besides": found}) if found else row)
    return spec.model_copy(update={"rows": tuple(rows)})


def check(plan: Plan) -> None:
    """Refuses, in a study with `protocol: fair`, what makes a comparison unfair or says nothing about another training.

    A row that names its baseline may differ from it, since that is then what the row is about.

    Raises:
        UserError: two compared rows differ in more than the encoder; a recipe has no grid; or there are fewer than three folds.
    """
    config = plan.config
    if config.study.protocol != "fair":
        return
    if config.study.folds < FEWEST_FOLDS:
        problem = f"protocol: fair needs {FEWEST_FOLDS} folds or more: fewer say nothing about another training"
        raise UserError(problem, where=f"study '{config.study_name}', folds", fix=f"folds: {FEWEST_FOLDS} or more")
    for name, spec in plan.tables.items():
        for row in spec.rows:
            if row.besides and not row.against:
                raise UserError(
                    f"the row '{row.title}' differs from its baseline in more than the encoder: {'; '.join(row.besides)}",
                    where=f"tables.{name}.rows",
                    fix="give both the same recipe and augmentation, or name the baseline of the row, or remove protocol: fair",
                )
            if not config.finetune[row.recipe].lr_grid:
                raise UserError(
                    f"protocol: fair chooses the learning rate of every arm, and the recipe '{row.recipe}' has no lr_grid",
                    where=config.where("finetune", row.recipe),
                    fix="add lr_grid: [1.0e-4, 3.0e-4, 1.0e-3], or remove protocol: fair",
                )
