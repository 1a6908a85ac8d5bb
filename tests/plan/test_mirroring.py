"""Plans that mirror images: only with training that did, and never with left and right mixed up."""

from __future__ import annotations

import pytest
import yaml

from brainpretrain import config
from brainpretrain.errors import UserError
from brainpretrain.plan import mirroring, tables
from helpers import ROOT


def planned(config_dir, recipe: dict, task: dict | None = None):
    """The study hippocampus with a changed recipe and task."""
    path = config_dir / "studies" / "hippocampus.yaml"
    study = yaml.safe_load(path.read_text())
    study.setdefault("finetune", {}).setdefault("hippocampus", {}).update(recipe)
    if task:
        study.setdefault("tasks", {}).setdefault("hippocampus", {"like": "hippocampus"}).update(task)
    path.write_text(yaml.safe_dump(study))
    return tables.make(config.load(config_dir, {"study": "hippocampus"}))


NNUNET = {"augmentation": "nnunet", "augmentation_scratch": "nnunet"}
SIDES = {"labels": {"Left-Hippocampus": [1], "Right-Hippocampus": [2]}}


def test_prediction_mirrors_only_as_training_does(config_dir):
    with pytest.raises(
        UserError, match=r"mirrors patches along x z, and the augmentation '\w+' of training does not\n.*inference"
    ):
        planned(config_dir, {"inference": {"mirror": ["x", "z"]}})
    assert planned(config_dir, NNUNET | {"inference": {"mirror": ["x", "z"]}}).evaluations


def test_sides_are_paired_or_not_mirrored(config_dir):
    with pytest.raises(UserError) as error:
        planned(config_dir, NNUNET, SIDES)
    assert "Left-Hippocampus, Right-Hippocampus" in error.value.problem
    assert "left_right: [[Left-Hippocampus, Right-Hippocampus]]" in error.value.fix
    pair = {"left_right": [["Left-Hippocampus", "Right-Hippocampus"]]}  # the advice, followed
    assert planned(config_dir, NNUNET, SIDES | pair).evaluations
    assert planned(config_dir, {"augmentation": "spatial", "augmentation_scratch": "spatial"}).evaluations  # the other advice


@pytest.mark.parametrize("pairs", [[["left", "up"]], [["left", "right"], ["right", "left"]]])
def test_pairs_are_classes_of_the_task_each_once(config_dir, pairs):
    with pytest.raises(UserError, match="left_right"):
        planned(config_dir, {}, {"labels": {"left": [1], "right": [2]}, "left_right": pairs})


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("left hippocampus", "right hippocampus"),
        ("Left-Amygdala", "Right-Amygdala"),
        ("ctx_lh_cuneus", "ctx_rh_cuneus"),
        ("Optic_Nerve_L", "Optic_Nerve_R"),
        ("l_eye", "r_eye"),
        ("Eye_AL", "Eye_AR"),
    ],
)
def test_names_with_a_side(name, other):
    assert mirroring.sided([name, other, "lesion", "white matter", "cleft", "brightness", "Pal"]) == [name, other]
    assert (mirroring.opposite(name), mirroring.opposite(other)) == (other, name)


def test_every_recipe_of_the_catalogue_mirrors_as_it_trains():
    loaded = config.load(ROOT / "config")
    for name, recipe in loaded.finetune.items():
        for policy in (recipe.augmentation, recipe.augmentation_scratch):
            assert set(recipe.inference.mirror) <= set(loaded.augmentations[policy].mirrored), name
