"""Runs: what they refuse, and that the JSON of every run of every study is what it was."""

import copy
import json
import re

import pytest
import yaml

import tiny
from brainpretrain import cli, config
from brainpretrain.config import runs
from brainpretrain.errors import UserError
from brainpretrain.files import fingerprint
from brainpretrain.plan import specs, tables
from helpers import ROOT

FINGERPRINTS = json.loads((ROOT / "tests" / "config" / "run_fingerprints.json").read_text())


def fingerprints(study: str) -> dict[str, str]:
    """Fingerprints of all runs of a study, fold 0, from the JSON in the rules' params, by folder of the result."""
    made = tables.make(config.load(ROOT / "config", {"study": study}))
    jobs = {p.path: (runs.pretrain_run, specs.pretrain_run(made.config, p)) for p in made.pretrainings}
    for arm in {evaluation.arm for evaluation in made.evaluations}:
        jobs[f"{arm.path}/fold0"] = runs.finetune_run, specs.finetune_run(made.config, arm, 0)
    return {path: fingerprint(read(json.loads(specs.as_json(run)), path).plain()) for path, (read, run) in jobs.items()}


@pytest.mark.parametrize("study", FINGERPRINTS)
def test_work_folders_of_begun_trainings_keep_their_names(study):
    """A change of the code alone changes no name. One of a method does: `python tests/config/test_runs.py` writes the record again."""
    assert fingerprints(study) == FINGERPRINTS[study]


# ------------------------------------------------------------------------------------ refused


@pytest.fixture(scope="module")
def contents() -> dict[str, dict]:
    return {"pretrain": tiny.pretrain_config(4), "finetune": tiny.finetune_config(4)}


WRONG = [
    ("pretrain", "recipe", {"gradient_clipp": 1.0}, r"recipe\.gradient_clipp: unknown key; did you mean 'gradient_clip'\?"),
    ("pretrain", "", {"precision": "32-true"}, r"error: precision: unknown key"),
    ("pretrain", "recipe", {"val_every": 2}, r"recipe\.val_every: unknown key; did you mean 'val_every_epochs'\?"),
    ("pretrain", "recipe.options", {"mask_sise": 4}, r"options\.mask_sise: unknown key[\s\S]*: recipe[\s\S]*did you mean 'mask_size'\?"),
    ("pretrain", "recipe.options", {"mask_ratio": "0.6"}, r"options\.mask_ratio: '0\.6' is not a number"),
    ("pretrain", "recipe", {"method": "amaess"}, r"there is no pretext/amaess\.py[\s\S]*did you mean 'amaes'\?"),
    ("pretrain", "backbone", {"decoder": "unet"}, r"backbone\.decoder: unknown key"),
    ("pretrain", "backbone.options", {"widht": 4}, r"options\.widht: unknown key[\s\S]*: backbone[\s\S]*did you mean 'width'\?"),
    ("pretrain", "policy.noise", {"sigmas": [0, 1]}, r"policy\.noise\.sigmas: unknown key; did you mean 'sigma'\?"),
    ("pretrain", "preprocess", {"max_rejected_fraction": 0.1}, r"preprocess\.max_rejected_fraction: unknown key"),
    ("pretrain", "", {"seed": -1}, r"seed: .*greater than or equal to 0"),
    ("finetune", "recipe", {"log_every_steps": 5}, r"recipe\.log_every_steps: unknown key"),
    ("finetune", "recipe", {"stem": "both"}, r"recipe\.stem: must be 'divide', 'repeat' or 'random'"),
    ("finetune", "recipe.loss", {"smoth": 1.0}, r"recipe\.loss\.smoth: unknown key; did you mean 'smooth'\?"),
    ("finetune", "", {"n_train": "some"}, r"n_train: a number from 0, or 'all'"),
    ("finetune", "task", {"ignore": [1]}, r"task: label values occur twice in 'labels' and 'ignore'"),
    ("finetune", "backbone", {"decoder": "unett"}, r"there is no decoders/unett\.py[\s\S]*did you mean 'unet'\?"),
    ("finetune", "backbone.decoder_options", {"skip": True}, r"decoder_options\.skip: unknown key[\s\S]*did you mean 'skips'\?"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "place", "change", "message"), WRONG, ids=[f"{w[1]}.{next(iter(w[2]))}" for w in WRONG])
def test_the_commands_refuse_what_no_run_has(contents, tmp_path, capsys, kind, place, change, message):
    """The message has the file, the key with its path, and the nearest key. Nothing is trained."""
    content = copy.deepcopy(contents[kind])
    entry = content
    for key in filter(None, place.split(".")):
        entry = entry[key]
    entry.update(change)
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(content))
    inputs = ["--corpus", "corpus.tsv", "--data", "data"] if kind == "pretrain" else ["--volumes", "v.tsv", "--split", "s.json"]
    line = [kind, *inputs, "--config", f"@{file}", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
    assert cli.main(line) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and f"where: {file}" in error and "fix:" in error, error
    assert not (tmp_path / "work").exists()


def test_a_misspelt_key_is_named_with_the_one_that_is_missing(contents):
    content = copy.deepcopy(contents["pretrain"])
    content["recipe"]["precison"] = content["recipe"].pop("precision")
    with pytest.raises(UserError) as error:
        runs.pretrain_run(content, "config.yaml")
    assert "recipe.precison: unknown key; did you mean 'precision'?" in error.value.problem
    assert "recipe.precision: missing" in error.value.problem and error.value.where == "config.yaml"


def test_each_command_refuses_the_config_of_the_other(contents):
    with pytest.raises(UserError, match=r"fold: missing[\s\S]*n_train: missing[\s\S]*task: missing"):
        runs.finetune_run(contents["pretrain"], "config.yaml")
    with pytest.raises(UserError, match="fold: unknown key"):
        runs.pretrain_run(contents["finetune"], "config.yaml")


@pytest.mark.parametrize("kind", ["pretrain", "finetune"])
def test_a_config_yaml_is_the_run_that_wrote_it(contents, kind):
    read = {"pretrain": runs.pretrain_run, "finetune": runs.finetune_run}[kind]
    plain = read(contents[kind], "test").plain()
    again = read(yaml.safe_load(yaml.safe_dump(plain)), "test")
    assert fingerprint(again.plain()) == fingerprint(plain) == fingerprint(json.loads(json.dumps(plain)))


def test_numbers_have_one_form_in_json(contents):
    """The rules write floats as 0.0, so a run that is written by hand with 0 is the same run."""
    plain = runs.pretrain_run(contents["pretrain"], "test").plain()
    by_hand = copy.deepcopy(plain)
    by_hand["recipe"]["phases"][0]["warmup_epochs"] = 0
    by_hand["preprocess"]["spacing_mm"] = [1, 1, 1]
    assert fingerprint(runs.pretrain_run(by_hand, "test").plain()) == fingerprint(plain)


def test_the_stem_is_in_the_json_only_where_it_is_not_the_default(contents):
    for stem, is_written in (("divide", False), ("repeat", True), ("random", True)):
        content = copy.deepcopy(contents["finetune"])
        content["recipe"]["stem"] = stem
        assert ("stem" in runs.finetune_run(content, "test").plain()["recipe"]) is is_written


if __name__ == "__main__":
    record = {study: dict(sorted(fingerprints(study).items())) for study in FINGERPRINTS}
    (ROOT / "tests" / "config" / "run_fingerprints.json").write_text(json.dumps(record, indent=1) + "\n")
