"""`plan` and `run`: what a study still has to do on one screen, and the study run with the right profile."""

import pytest

import workflow_fixture
from brainpretrain import cli
from brainpretrain.cli import plan as commands
from brainpretrain.config import load


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    """The study `tiny`, of which nothing has run."""
    return workflow_fixture.copy(tmp_path_factory.mktemp("untouched"))


@pytest.fixture
def root(untouched, monkeypatch):
    monkeypatch.chdir(untouched.root)
    yield untouched.root
    (untouched.root / "config" / "local.yaml").unlink(missing_ok=True)


def test_a_study_on_one_screen_before_anything_ran(root, capsys):
    assert cli.main(["plan", "tiny", "--measure"]) == 0
    said = capsys.readouterr().out
    assert "data  phantom_tiny          made by the workflow" in said
    assert "training 5, " in said and "report " in said
    # six steps of four patches each
    assert "4 fine-tunings of unet_micro, 96 patches; " in said and "a step timed now on this machine" in said
    assert "not stored yet, so not known: phantom_tiny" in said and said.rstrip().endswith("brainpretrain run tiny")
    assert len(said.splitlines()) < 15


def test_missing_data_are_named_with_the_way_to_get_them(root, capsys):
    (root / "config" / "local.yaml").write_text("study: hippocampus\n")
    assert cli.main(["plan"]) == 0
    said = capsys.readouterr().out
    assert "MISSING: data/msd_hippocampus does not exist" in said and "brainpretrain datasets" in said
    assert "no rate on record" in said and "--measure" in said


def test_a_study_that_the_workflow_refuses_is_refused_with_its_message(root, capsys):
    (root / "config" / "local.yaml").write_text("slurm: {account: 'a b'}\n")
    assert cli.main(["plan", "tiny"]) == 2
    said = capsys.readouterr().err
    assert "slurm.account" in said and "local.yaml" in said and "Traceback" not in said


@pytest.mark.parametrize("words", [["tiny", "tiny"], ["tiny", "tables/tiny.html"]])
def test_a_target_is_a_table_or_a_path(root, capfd, words):
    assert cli.main(["run", *words, "-n", "--profile", "local", "--", "--quiet", "rules"]) == 0
    assert "\nfinetune " in capfd.readouterr().out.replace("finetune    ", "finetune ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tny"], "no study 'tny'"),
        (["tiny", "tiy"], "no table 'tiy' in the study 'tiny'"),
        (["demo", "dmo"], "did you mean 'demo'"),
    ],
)
def test_a_mistyped_name_is_refused_before_snakemake_starts(root, capfd, words, message):
    assert cli.main(["run", *words]) == 2
    said = capfd.readouterr()
    assert message in said.err and "Snakemake version" not in said.out + said.err


def test_a_table_of_the_chosen_study_needs_no_name_of_the_study(root):
    (root / "config" / "local.yaml").write_text("study: tiny\n")
    assert commands._study_and_target("tiny", None) == ("tiny", None)
    (root / "config" / "local.yaml").write_text("study: amaes\n")
    assert commands._study_and_target("table4", None) == (None, "table4")


def test_outside_of_the_repository_the_message_says_where_to_go(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("plan", "run"):
        assert cli.main([name]) == 2
        assert "change to the root of the repository" in capsys.readouterr().err


def test_slurm_is_chosen_only_where_the_settings_name_a_site(root, monkeypatch, tmp_path):
    sbatch = tmp_path / "sbatch"
    sbatch.write_text("#!/bin/sh\n")
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert commands._profile(load()) == "local"
    (root / "config" / "local.yaml").write_text("slurm: {account: mri}\n")
    assert commands._profile(load()) == "slurm"
    (root / "config" / "local.yaml").unlink()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert commands._profile(load()) == "workstation"


def test_the_site_of_the_local_settings_replaces_that_of_the_profile(root, untouched):
    (root / "config" / "local.yaml").write_text(
        "slurm: {account: mri, partition: short, gpu_partition: gpus, gpu_model: a100, qos: high}\n"
    )
    said = untouched.snakemake("-n", profile="slurm")
    jobs = said.count("slurm_account=mri")
    assert jobs and jobs == said.count("qos=high")
    trainings = said.count("slurm_partition=gpus")
    assert trainings == said.count("gpu_model=a100") == 9  # five trainings, four predictions
    assert said.count("slurm_partition=short") == jobs - trainings


def test_a_refusal_of_the_workflow_is_its_message_alone(root, untouched):
    (root / "config" / "local.yaml").write_text("studi: tiny\n")
    said = untouched.snakemake("-n", check=False)
    assert "Error: studi: unknown key; did you mean 'study'? (line 1)\n  where: " in said
    assert "Traceback" not in said and 'Snakefile", line' not in said
