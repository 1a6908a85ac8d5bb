"""What planning refuses about the rules by which networks see intensities (`intensity` of a recipe)."""

from __future__ import annotations

from brainpretrain.config import Config
from brainpretrain.errors import UserError
from brainpretrain.plan.runs import SCRATCH, Arm, Plan, Pretraining

CT = "ct"
# options of pretexts whose transforms are made for intensities from 0 to 1, or that scale patches themselves
_NEEDED = {"models_genesis": ("rescale", True, "its transforms are made for intensities from 0 to 1")}
_REFUSED = {"s3d": ("zscore", True, "'zscore' of its options scales each patch again, which undoes the scaling of the volume")}


def check(plan: Plan, arm: Arm) -> None:
    """Compares the rule of an arm's recipe with that of its encoder and with what its volumes allow.

    Raises:
        UserError: the encoder saw intensities in another way, or the rule for CT is used where stored intensities of different
            volumes cannot be compared.
    """
    config, recipe = plan.config, plan.config.finetune[arm.recipe]
    where = config.where("finetune", arm.recipe)
    task = config.tasks[arm.task]
    if recipe.intensity == CT and not config.preprocess[task.preprocess].window:
        raise UserError(
            f"'intensity: ct' compares volumes with each other, and the recipe '{task.preprocess}' of task '{arm.task}' scales"
            " each volume by itself",
            where=f"{where}.intensity",
            fix="give the task a preprocess recipe with a 'window', such as 'preprocess: ct_window', or use 'intensity: zscore'",
        )
    if arm.init == SCRATCH or recipe.encoder_intensity == "any":
        return
    theirs, place = _of_encoder(config, arm)
    if theirs != recipe.intensity:
        raise UserError(
            f"the encoder '{arm.init}' saw intensities by the rule '{theirs}' ({place}), the recipe '{arm.recipe}' of task"
            f" '{arm.task}' has the rule '{recipe.intensity}'",
            where=f"{where}.intensity",
            fix=f"set intensity: {theirs} in the recipe, or 'encoder_intensity: any' if this is meant",
        )


def check_pretraining(plan: Plan, pretraining: Pretraining) -> None:
    """Compares the rule of a pretext with what its method does to intensities itself.

    Raises:
        UserError: they contradict each other.
    """
    recipe = plan.config.pretext(pretraining.pretext, pretraining.backbone)
    if recipe.intensity != "zscore":
        return
    where = f"{plan.config.where('pretexts', pretraining.pretext)}.options"
    if recipe.method in _NEEDED:
        option, value, reason = _NEEDED[recipe.method]
        if recipe.options.get(option) != value:
            fix = f"set {option}: {str(value).lower()} in its options, or 'intensity: unit'"
            raise UserError(f"the pretext '{pretraining.pretext}' gets z-scores, but {reason}", where=where, fix=fix)
    if recipe.method in _REFUSED:
        option, value, reason = _REFUSED[recipe.method]
        if recipe.options.get(option, value) == value:
            fix = f"set {option}: {str(not value).lower()} in its options, or 'intensity: unit'"
            raise UserError(f"the pretext '{pretraining.pretext}' gets z-scores, but {reason}", where=where, fix=fix)


def _of_encoder(config: Config, arm: Arm) -> tuple[str, str]:
    """The rule of the encoder of an arm, and the entry that has it."""
    if arm.before:
        return config.finetune[arm.before.recipe].intensity, config.where("finetune", arm.before.recipe)
    if arm.pretraining:
        name = arm.pretraining.pretext
        return config.pretext(name, arm.backbone).intensity, config.where("pretexts", name)
    return config.weights[arm.init].intensity, config.where("weights", arm.init)
