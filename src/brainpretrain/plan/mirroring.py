"""What planning refuses about mirrored images: predictions without such training, and sides that would be mixed up."""

from __future__ import annotations

import re
from collections.abc import Iterable

from brainpretrain.errors import UserError
from brainpretrain.plan.runs import SCRATCH, Arm, Plan

_LEFT = {"left": "right", "l": "r", "lh": "rh", "al": "ar", "pl": "pr"}
_CAPITALS = ("al", "ar", "pl", "pr")  # as in Eye_AL, the left eye's anterior part; not in capitals they are other words
_OPPOSITE = _LEFT | {right: left for left, right in _LEFT.items()}


def check(plan: Plan, arm: Arm) -> None:
    """Compares the axes along which an arm mirrors patches in training and in prediction with each other and with its classes.

    Raises:
        UserError: prediction mirrors along an axis along which training does not; or images are mirrored along x, and classes
            are named as left or right without being paired in the task's `left_right`.
    """
    config = plan.config
    recipe, task = config.finetune[arm.recipe], config.tasks[arm.task]
    key = "augmentation_scratch" if arm.start == SCRATCH and recipe.augmentation_scratch else "augmentation"
    policy = recipe.policy(arm.start == SCRATCH)
    trained = config.augmentations[policy].mirrored
    if unprepared := [axis for axis in recipe.inference.mirror if axis not in trained]:
        raise UserError(
            f"prediction mirrors patches along {' '.join(unprepared)}, and the augmentation '{policy}' of training does not",
            where=f"{config.where('finetune', arm.recipe)}.inference.mirror",
            fix=f"set inference: {{mirror: {_listed(trained)}}}, or an augmentation with mirror, such as '{key}: nnunet'",
        )
    paired = {name for pair in task.left_right for name in pair}
    if "x" in trained and (sides := [name for name in sided(task.labels) if name not in paired]):
        raise UserError(
            f"the augmentation '{policy}' mirrors patches along x, which turns left into right, and task '{arm.task}' has classes"
            f" with a side: {', '.join(sides[:10])}",
            where=f"{config.where('finetune', arm.recipe)}.{key}",
            fix=f"{_pairs(task.labels, sides)}use an augmentation that does not mirror along x, and inference: {{mirror: []}}",
        )


def sided(names: Iterable[str]) -> list[str]:
    """The class names that say left or right: a word left, right, lh, rh, l or r, or AL, AR, PL, PR in capitals."""
    return [name for name in names if any(_other(word) for word in _words(name))]


def opposite(name: str) -> str:
    """The class name with left and right exchanged."""
    return re.sub(r"[A-Za-z]+", lambda word: _like(word[0], _other(word[0]) or word[0]), name)


def _other(word: str) -> str:
    """The word for the other side; '' for a word without a side."""
    return _OPPOSITE.get(word.lower(), "") if word.isupper() or word.lower() not in _CAPITALS else ""


def _words(name: str) -> list[str]:
    return re.findall(r"[A-Za-z]+", name)


def _like(old: str, new: str) -> str:
    """`new` with the capitals of `old`."""
    return new.upper() if old.isupper() else new.capitalize() if old[:1].isupper() else new


def _pairs(labels: Iterable[str], sides: list[str]) -> str:
    """The advice to name the pairs, if every class with a side has its opposite; else ''."""
    known = set(labels)
    if any(opposite(name) not in known for name in sides):
        return ""
    left = [name for name in sides if any(word.lower() in _LEFT for word in _words(name))]
    pairs = ", ".join(f"[{name}, {opposite(name)}]" for name in left)
    return f"add to the task 'left_right: [{pairs}]', whose classes then change places, or "


def _listed(axes: Iterable[str]) -> str:
    return f"[{', '.join(axes)}]"
