"""The subjects on which fine-tunings are validated: apart from those that train, and from those that a table scores."""

from __future__ import annotations

from brainpretrain.config.sections import Finetune
from brainpretrain.errors import UserError
from brainpretrain.plan.runs import Arm, Plan
from brainpretrain.words import count


def check(plan: Plan, arm: Arm) -> None:
    """Refuses a validation that leaves nobody to train, or whose subjects a table scores.

    Raises:
        UserError: names the key of the recipe.
    """
    recipe = plan.config.finetune[arm.recipe]
    rule, where = recipe.validation, f"{plan.config.where('finetune', arm.recipe)}.validation"
    if rule is None:
        return
    if rule.taken_from == "training":
        if arm.n_train != "all" and (number := rule.number(int(arm.n_train))) >= int(arm.n_train):
            problem = f"{number} of the {arm.n_train} subjects of n_train are to validate, which leaves none to train"
            raise UserError(problem, where=where, fix="lower 'subjects', raise n_train, or use 'taken_from: pool'")
        return
    if arm.n_train == "all":
        problem = f"n_train 'all' of task '{arm.task}' leaves no subject of the pool to validate on"
        raise UserError(problem, where=where, fix="use 'taken_from: training', or a number as n_train")
    shown = [c.title for t in plan.tables.values() for c in t.columns if (c.task, c.cohort) == (arm.task, "val")]
    if shown:
        raise UserError(
            f"the subjects of the pool that '{arm.recipe}' is validated on are scored in the column '{shown[0]}'",
            where=where,
            fix="use 'taken_from: training', or score a fixed test set (cohort: test, and a test_fraction in the task)",
        )


def described(recipe: Finetune) -> str:
    """What readers of a table should know about the validation of a recipe; '' without one."""
    rule = recipe.validation
    if rule is None:
        return ""
    number = count(int(rule.subjects), "subject") if rule.subjects >= 1 else f"{100 * rule.subjects:g} % of the subjects"
    whose = "of n_train, which then do not train" if rule.taken_from == "training" else "of the pool besides n_train"
    words = f"validated every {count(rule.every_steps, 'step')} on {number} {whose}"
    words += ", weights of the best pseudo-Dice" if recipe.select == "best" else ", last weights"
    return words + (f", ended after {count(recipe.patience, 'validation')} without a better one" if recipe.patience else "")
