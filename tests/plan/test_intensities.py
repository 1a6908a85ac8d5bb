"""Plans in which intensities are scaled in two ways, or in a way that their volumes do not allow."""

from __future__ import annotations

import pytest
import yaml

from brainpretrain import config
from brainpretrain.errors import UserError
from brainpretrain.plan import tables


def planned(config_dir, recipe: dict, pretext: dict | None = None, preprocess: dict | None = None):
    """The study hippocampus with a changed recipe and pretext; `preprocess`: of task and corpus."""
    path = config_dir / "studies" / "hippocampus.yaml"
    study = yaml.safe_load(path.read_text())
    study.setdefault("finetune", {}).setdefault("hippocampus", {}).update(recipe)
    study["pretexts"]["amaes_hippocampus"].update(pretext or {})
    if preprocess:
        study["preprocess"] = {"changed": {"like": "amaes"} | preprocess}
        study.setdefault("tasks", {}).setdefault("hippocampus", {"like": "hippocampus"})["preprocess"] = "changed"
        study.setdefault("corpora", {}).setdefault("hippocampus_unlabelled", {"like": "hippocampus_unlabelled"})["preprocess"] = (
            "changed"
        )
    path.write_text(yaml.safe_dump(study))
    return tables.make(config.load(config_dir, {"study": "hippocampus"}))


ZSCORE = {"intensity": "zscore"}


@pytest.mark.parametrize(("recipe", "pretext"), [(ZSCORE, {}), ({}, ZSCORE)])
def test_encoder_and_task_see_intensities_in_one_way(config_dir, recipe, pretext):
    theirs, ours = pretext.get("intensity", "unit"), recipe.get("intensity", "unit")
    with pytest.raises(UserError, match=rf"saw intensities by the rule '{theirs}'[\s\S]*has the rule '{ours}'") as error:
        planned(config_dir, recipe, pretext)
    assert f"intensity: {theirs}" in error.value.fix
    assert planned(config_dir, recipe | {"encoder_intensity": "any"}, pretext).evaluations


def test_one_rule_for_both_is_planned(config_dir):
    assert planned(config_dir, ZSCORE, ZSCORE).evaluations


WINDOW = {"window": [0, 500], "upper_quantile": 1}


def test_the_rule_for_ct_needs_volumes_that_can_be_compared(config_dir):
    with pytest.raises(UserError, match="scales each volume by itself") as error:
        planned(config_dir, {"intensity": "ct", "encoder_intensity": "any"})
    assert "window" in error.value.fix
    assert planned(config_dir, {"intensity": "ct", "encoder_intensity": "any"}, preprocess=WINDOW).evaluations
    with pytest.raises(UserError, match="ct"):  # a corpus has no labels
        planned(config_dir, {}, {"intensity": "ct"})


GENESIS = {"shuffle": 0.5, "windows": 10, "intensity": 0.9, "paint": 0.9, "inpaint": 0.2, "flip": True}
S3D = {"mask_size": 8, "mask_ratio": 0.5}
OWN = [
    ("models_genesis", GENESIS, {"rescale": True}, "made for intensities from 0 to 1"),
    ("s3d", S3D, {"zscore": False}, "scales each patch again"),
]


@pytest.mark.parametrize(("method", "options", "way_out", "message"), OWN)
def test_a_method_that_scales_itself_says_how_it_combines(config_dir, method, options, way_out, message):
    pretext = {
        "method": method,
        "options": options | {"decoder": "unet", "decoder_options": {"convs_per_stage": 1, "skips": True}},
    }
    path = config_dir / "studies" / "hippocampus.yaml"
    study = yaml.safe_load(path.read_text())
    whole = {"augmentation": "none", "optimizer": {"name": "sgd", "weight_decay": 0, "momentum": 0.9, "nesterov": True}}
    study["pretexts"] = {
        "amaes_hippocampus": study["pretexts"]["amaes_hippocampus"] | whole | {"precision": "32-true"} | pretext | ZSCORE
    }
    del study["pretexts"]["amaes_hippocampus"]["like"]
    path.write_text(yaml.safe_dump(study))
    with pytest.raises(UserError, match=message) as error:
        planned(config_dir, ZSCORE)
    ((name, value),) = way_out.items()
    assert f"{name}: {str(value).lower()}" in error.value.fix
    study["pretexts"]["amaes_hippocampus"]["options"].update(way_out)
    path.write_text(yaml.safe_dump(study))
    assert planned(config_dir, ZSCORE).evaluations


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lower_quantile": 0.99}, "'lower_quantile' must be below 'upper_quantile'"),
        ({"window": [500, 0], "upper_quantile": 1}, "in ascending order"),
        ({"window": [0, 500]}, "takes the place of quantiles"),
        ({"window": [0, 500], "upper_quantile": 1, "lower_quantile": 0.1}, "takes the place of quantiles"),
        ({"window": [-10, 500], "upper_quantile": 1}, "allow_negative: true"),
    ],
)
def test_a_range_of_intensities_that_contradicts_itself_is_refused(config_dir, change, message):
    with pytest.raises(UserError, match=message):
        planned(config_dir, {}, preprocess=change)


def test_encoder_and_task_have_one_window(config_dir):
    path = config_dir / "studies" / "hippocampus.yaml"
    study = yaml.safe_load(path.read_text())
    study["preprocess"] = {"low": {"like": "amaes", "lower_quantile": 0.01}}
    study.setdefault("tasks", {}).setdefault("hippocampus", {"like": "hippocampus"})["preprocess"] = "low"
    path.write_text(yaml.safe_dump(study))
    with pytest.raises(
        UserError, match=r"lower_quantile 0.0 \(preprocess: \w+\), task 'hippocampus' has volumes with lower_quantile 0.01"
    ):
        tables.make(config.load(config_dir, {"study": "hippocampus"}))
