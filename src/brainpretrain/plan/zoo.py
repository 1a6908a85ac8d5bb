"""The study `zoo`: published encoders against training from scratch on one labelled data set.

Each encoder is used as its own entry says: volumes are prepared by its recipe, and patch and intensities are its own. So there
is a task and a table for each recipe, and within a table an arm differs from its control, the same network from scratch, in the
encoder alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from brainpretrain import backbones
from brainpretrain.config import Config
from brainpretrain.errors import UserError

PREFIX = "zoo_"  # of tasks, recipes and tables
BUDGETS = (5, 10, 20)  # labelled cases
FOLDS, SEEDS = 3, (0, 1, 2)
FEWEST_CELLS = 2  # along each axis of the coarsest map
SMALL_MAP = 3  # voxels of the coarsest map, below which 16 bits are wrong on a CPU

Encoder = tuple[str, str]  # release and backbone


def study(
    config: Config,
    task: Mapping[str, Any],
    encoders: Iterable[Encoder],
    pool: int,
    largest_mm: Sequence[float],
    shared: Mapping[str, Any],
) -> tuple[dict[str, Any], list[str]]:
    """The content of the study file, and a line for each encoder that is left out.

    Args:
        config: with the entries of `weights`.
        task: entry of the labelled data, or `like` and the name of one; its recipe is replaced.
        encoders: those to compare.
        pool: labelled subjects that may train.
        largest_mm: largest extent of a volume along each axis (x y z): a patch that is larger is cut to it.
        shared: keys of the study that describe the data, such as `data_roots` and `datasets`, and `corpus`.

    Raises:
        UserError: no encoder is left, or there are too few labelled subjects.
    """
    budgets = [n for n in BUDGETS if n + 2 <= pool]
    if not budgets:
        problem, fix = (
            f"{pool} labelled subjects may train, and the smallest budget needs {BUDGETS[0] + 2}",
            "label more subjects",
        )
        raise UserError(problem, where="--data", fix=fix)
    sequences = _sequences(config, task)
    groups, left = _grouped(config, encoders, sequences)
    if not groups:
        problem = "\n  ".join(["no encoder can be compared on these data:", *(left or ["none is at hand"])])
        fix = "get one: brainpretrain encoders --get NAME\n         or plan with all: brainpretrain zoo --all"
        raise UserError(problem, where="--data", fix=fix)
    content: dict[str, Any] = {
        "title": "Published encoders against scratch, by labelled cases",
        "seed": 0,
        "folds": FOLDS,
        "seeds": list(SEEDS),
        "protocol": "fair",
        "build": [PREFIX + recipe for recipe in groups],
        **{key: value for key, value in shared.items() if key != "corpus"},
        "tasks": {PREFIX + recipe: {**task, "preprocess": recipe} for recipe in groups},
        "finetune": {},
        "tables": {},
    }
    for recipe, members in groups.items():
        rows = []
        for backbone, releases in members.items():
            name, entry = _recipe(config, recipe, backbone, releases[0], largest_mm)
            content["finetune"][name] = entry
            rows.append({"backbone": backbone, "init": ["scratch", *releases], "recipe": name})
        content["tables"][PREFIX + recipe] = {
            "title": f"Encoders that were pretrained on volumes prepared by '{recipe}'",
            "columns": [{"title": "test cases", "task": PREFIX + recipe, "cohort": "test"}],
            "corpus": shared["corpus"],
            "recipe": rows[0]["recipe"],
            "n_train": budgets[-1],
            "rows": [row | {"n_train": list(budgets)} for row in rows],
        }
    return content, left


def _sequences(config: Config, task: Mapping[str, Any]) -> list[str]:
    return task.get("sequences") or config.get("tasks", task.get("like", ""), "--task").sequences


def _grouped(
    config: Config, encoders: Iterable[Encoder], sequences: list[str]
) -> tuple[dict[str, dict[str, list[str]]], list[str]]:
    """Releases by preprocess recipe and backbone; and why others are left out. One backbone has one patch and one rule."""
    groups: dict[str, dict[str, list[str]]] = {}
    left = []
    for name, backbone in encoders:
        release = config.weights[name]
        if release.sequences and len(release.sequences) != len(sequences):
            left.append(f"{name}: reads {' and '.join(release.sequences)} together, the task {len(sequences)} sequence(s)")
        elif config.preprocess[release.preprocess].window and "CT" not in sequences:
            left.append(f"{name}: its volumes are CT, scaled between {config.preprocess[release.preprocess].window}")
        else:
            groups.setdefault(release.preprocess, {}).setdefault(backbone, []).append(name)
    for recipe, members in groups.items():
        for backbone, names in members.items():
            first = config.weights[names[0]]
            same = [n for n in names if _input(config.weights[n]) == _input(first)]
            left += [
                f"{n}: its patch or intensities are not those of {names[0]}; compare it by itself" for n in names if n not in same
            ]
            groups[recipe][backbone] = same
    return groups, left


def _input(release: Any) -> tuple[Any, ...]:
    return (release.patch_size, release.intensity)


def _recipe(config: Config, recipe: str, backbone: str, release: str, largest_mm: Sequence[float]) -> tuple[str, dict[str, Any]]:
    """Name and content of the fine-tuning recipe for a backbone: patch and intensities of the release."""
    facts, entry = config.weights[release], config.backbones[backbone]
    step = backbones.divisor(entry.architecture, entry.options) or 1
    spacing = config.preprocess[recipe].spacing_mm
    patch = [
        min(own, step * max(FEWEST_CELLS, math.ceil(mm / voxel / step)))
        for own, mm, voxel in zip(facts.patch_size, largest_mm, spacing, strict=True)
    ]
    changes: dict[str, Any] = {"like": "fair", "patch_size": patch}
    if facts.intensity == "zscore":
        policy = "nnunet_zscore"  # its transforms are not clipped to 0..1
        changes |= {"intensity": "zscore", "augmentation": policy, "augmentation_scratch": policy}
    if min(patch) // step < SMALL_MAP:
        changes["precision"] = "32-true"
    return f"{PREFIX}{backbone}_{recipe}", changes
