"""Faults 29, 73 and 74: mistakes in a config and in a profile, and odd text, met by a command that reads it, and by Snakemake."""

from __future__ import annotations

import pytest

import own_data
import workflow_fixture
from brainpretrain import cli, config
from brainpretrain.config import profiles
from brainpretrain.errors import UserError
from helpers import ROOT, edit


def reads(folder, tmp_path) -> int:
    """Exit code of a command that makes the plan of the default study and then wants its scores, which are not there."""
    line = ["tables", "--study", "amaes", "--config", str(folder), "--scores", str(tmp_path / "none.tsv")]
    return cli.main([*line, "--out", str(tmp_path / "tables")])


MISTAKES = [
    ("config.yaml", "results: results", "result: results", "result: unknown key; did you mean 'results'?"),
    ("tasks.yaml", "tasks:", "task:", "unknown key 'task'"),
    ("pretext.yaml", "global_batch: 16", "globl_batch: 16", "globl_batch: unknown key; did you mean 'global_batch'?"),
    ("pretext.yaml", "mask_ratio: 0.6", "mask_rato: 0.6", "options.mask_rato: unknown key"),
    ("pretext.yaml", "decay: cosine", "decays: cosine", "phases.0.decays: unknown key; did you mean 'decay'?"),
    ("tables.yaml", "recipe: amaes", "recipe: amas", "no entry 'amas' in 'finetune'"),
    ("studies/amaes.yaml", "folds: 6", "fold: 6", "unknown key 'fold'"),
    ("preprocess.yaml", "crop: nonzero", "crop: nonzero\n    crop: none", "key 'crop' is given twice"),
    ("finetune.yaml", "lr: 1.0e-4", "lr: '1,0e-4'", "phases.0.lr: '1,0e-4' is not a number; write it as 0.5 or 1.0e-4"),
    ("finetune.yaml", "lr: 1.0e-4", "lr: fast", "phases.0.lr: 'fast' is not a number; write it as 0.5 or 1.0e-4"),
    ("finetune.yaml", "lr: 1.0e-4", "lr: yes", "phases.0: 'lr' cannot be true or false"),
    ("finetune.yaml", "steps: 2500", "steps: 2.5k", "phases.0.steps: '2.5k' is not a whole number; write it as 1000"),
    ("pretext.yaml", "mask_ratio: 0.6", "mask_ratio: much", "options.mask_ratio: 'much' is not a number"),
]


@pytest.mark.parametrize(("file", "old", "new", "words"), MISTAKES)
def test_29_a_mistake_in_a_config_names_file_key_and_fix(config_dir, tmp_path, capsys, file, old, new, words):
    before = (config_dir / file).read_text()
    edit(config_dir / file, old, new)
    assert reads(config_dir, tmp_path) == 2
    said = capsys.readouterr().err
    assert words in said and "  where: " in said and "  fix: " in said and (file in said or "tables.table" in said), said
    (config_dir / file).write_text(before)
    assert reads(config_dir, tmp_path) == 2 and "none.tsv" in capsys.readouterr().err  # only the scores are missing now


@pytest.mark.parametrize("text", ["1e-4", "1E-4", "'1e-4'", "10e-5", "1.0e-4", ".0001"])
def test_29_a_number_is_a_number_however_it_is_written(config_dir, text):
    """YAML 1.1 reads 1e-4 as text."""
    edit(config_dir / "finetune.yaml", "lr: 1.0e-4", f"lr: {text}")
    edit(config_dir / "finetune.yaml", "steps: 2500", "steps: 25e2")
    edit(config_dir / "pretext.yaml", "mask_ratio: 0.6", "mask_ratio: 6e-1")
    assert config.load(config_dir) == config.load(ROOT / "config")


def test_29_a_mistyped_key_stops_snakemake_before_any_job(tmp_path):
    workflow = workflow_fixture.copy(tmp_path)
    edit(workflow.study, "global_batch: 2", "globalbatch: 2")
    said = workflow.snakemake(check=False)
    assert "unknown key; did you mean 'global_batch'?" in said and "tiny.yaml: pretexts.amaes_tiny" in said
    assert not workflow.results.exists()


# ------------------------------------------------------------------------------------------------ 73


def test_73_braces_in_any_text_of_a_config_are_planned_as_they_are(tmp_path):
    """tests/workflow/test_own_data.py runs the same study from the folders of its data to its table."""
    workflow = own_data.make(tmp_path)
    jobs = workflow.planned("--config", "study=own")
    assert {"fetch": 3, "shard": 3, "finetune": 3, "licences": 1, "table": 1}.items() <= jobs.items()


# ------------------------------------------------------------------------------------------------ 74


def test_74_a_placeholder_in_a_profile_is_refused_before_the_first_job(tmp_path):
    workflow = workflow_fixture.copy(tmp_path)
    said = workflow.snakemake("-n", profile="slurm", check=False)
    place = f"{tmp_path / 'slurm' / 'config.yaml'}:4"
    assert "slurm_account: 'your_account' is a placeholder" in said and place in said and "slurm/README.md says how" in said
    edit(tmp_path / "slurm" / "config.yaml", "your_account", "brains")
    assert workflow.snakemake("-n", profile="slurm").count("rule finetune:") == 4


@pytest.mark.parametrize(
    "value", ["your_partition", "<account>", "<your account>", "my-account", "CHANGEME", "TODO", "account_name"]
)
def test_74_placeholders_of_every_form_are_named_with_file_and_line(tmp_path, value):
    (tmp_path / "mine").mkdir()
    profile = tmp_path / "mine" / "config.yaml"
    profile.write_text(f"set-resources:\n  pretrain:\n    gpu_model: h100\n    qos: '{value}'\n")
    with pytest.raises(UserError, match=rf"qos: '{value}' is a placeholder\n.*{profile}:4\n"):
        profiles.refuse_placeholders([("gpu_model", "h100"), ("qos", value)], [tmp_path])


@pytest.mark.parametrize(
    "value", ["def-smith", "gpu", "a100_80gb", "exec slurm/launch.sh", "--signal=USR1@300", "srun", "", "mylab"]
)
def test_74_values_of_a_site_are_no_placeholders(value):
    profiles.refuse_placeholders([("slurm_account", value)], [])
