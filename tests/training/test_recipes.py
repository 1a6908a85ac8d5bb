"""The catalogue of fine-tuning recipes, and what a fine-tuning gets of it."""

import json
import shlex
from dataclasses import replace

import pytest

import workflow_fixture
from brainpretrain import config
from brainpretrain.config.reading import read_yaml
from brainpretrain.plan import specs
from brainpretrain.plan import tables as plan
from helpers import ROOT


def configs(study):
    """What every fine-tuning of a study gets, by arm and fold."""
    loaded = config.load(ROOT / "config", {"study": study})
    return {(e.arm, e.fold): specs.finetune_run(loaded, e.arm, e.fold).plain() for e in plan.make(loaded).evaluations}


@pytest.mark.parametrize("study", sorted(path.stem for path in (ROOT / "config" / "studies").glob("*.yaml")))
def test_both_arms_of_a_comparison_get_the_same_but_for_name_and_policy(study):
    found, loaded = configs(study), config.load(ROOT / "config", {"study": study})
    pairs = 0
    for (arm, fold), pretrained in found.items():
        scratch = found.get((replace(arm, init="scratch"), fold))
        if arm.init != "scratch" and scratch:
            pairs += 1
            recipe = loaded.finetune[arm.recipe]
            policy = {"policy"} if recipe.policy(True) != recipe.policy(False) else set()
            assert not policy or loaded.study.protocol in ("paper", "free"), arm
            assert {key for key in scratch if scratch[key] != pretrained[key]} == {"name"} | policy, arm
    # some tables of the first two have pretrained arms alone; S3D trains from scratch on a schedule of its own
    assert pairs or study in ("released", "ablations") or study.startswith("s3d")


def test_recipes_are_compared_from_the_same_encoder():
    made = plan.make(config.load(ROOT / "config", {"study": "finetuning"}))
    assert [(p.pretext, p.backbone) for p in made.pretrainings] == [("amaes", "unet_b")]
    spec = made.tables["recipes"]
    assert len({row.title for row in spec.rows}) == len(spec.rows) == 12
    recipes = {row.recipe for row in spec.rows}
    assert {row.recipe for row in spec.rows if row.init == "amaes-on-brains45k"} == recipes
    for row in spec.rows:
        base = spec.baseline_of(row)
        assert base is None or (base.init, base.recipe) == ("scratch", row.recipe)


def test_a_linear_probe_has_another_decoder_and_the_same_encoder():
    found = {arm.recipe: entry for (arm, fold), entry in configs("finetuning").items() if (arm.init, fold) == ("scratch", 0)}
    linear, frozen = found["amaes_linear"]["backbone"], found["amaes_frozen"]["backbone"]
    assert (linear["decoder"], linear["decoder_options"]) == ("linear", {})
    assert {key for key in frozen if frozen[key] != linear[key]} == {"decoder", "decoder_options"}
    for entry in found.values():
        assert not {"decoder", "decoder_options", "stem"} & set(entry["recipe"])


def test_every_recipe_says_where_it_is_from():
    for name, entry in read_yaml(ROOT / "config" / "finetune.yaml")["finetune"].items():
        assert entry["note"].startswith(("AMAES", "S3D", "nnU-Net", "Zhang et al.", "no paper", "the phases of `s3d`")), name


def test_a_stem_that_is_divided_is_not_told():
    """It came later than many a finished training, which must not run again."""
    recipe = config.load(ROOT / "config").finetune["amaes"]
    assert recipe.stem == "divide" and "stem" not in recipe.model_dump(mode="json")
    assert recipe.model_copy(update={"stem": "repeat"}).model_dump(mode="json")["stem"] == "repeat"


def test_recipes_side_by_side_plan_from_the_command_line(tmp_path):
    said = workflow_fixture.copy(tmp_path).snakemake("-n", "-p", "--config", "study=finetuning")
    lines = [line for line in said.splitlines() if "brainpretrain finetune " in line]
    given = [json.loads(next(word for word in shlex.split(line) if word.startswith('{"backbone"'))) for line in lines]
    assert len(given) == 2 * 6 * 6 and said.count("brainpretrain pretrain ") == 1
    encoders = {word for line in lines for word in shlex.split(line) if word.endswith("encoder.safetensors")}
    assert encoders == {"results/finetuning/pretrain/brains45k/amaes/unet_b/encoder.safetensors"}
    linear = [config for config in given if "amaes_linear" in config["name"]]
    assert len(linear) == 12 and {config["backbone"]["decoder"] for config in linear} == {"linear"}
    assert {phase["train"] for config in linear for phase in config["recipe"]["phases"]} == {"decoder"}
