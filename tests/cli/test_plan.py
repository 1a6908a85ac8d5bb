"""`plan` and `run`: what a study still has to do on one screen, and the study run with the right profile."""

import os
import pty
import subprocess
import sys
from contextlib import suppress

import pytest

import workflow_fixture
from brainpretrain import cli
from brainpretrain.cli import plan as commands
from brainpretrain.cli import plan_show
from brainpretrain.config import load
from brainpretrain.report.watch import Watcher
from helpers import ROOT
from snakemake_record import RECORD


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


def test_in_a_pipe_there_is_a_line_for_each_finished_job_and_the_rest_is_in_a_file(root, capfd):
    assert cli.main(["run", "tiny", "results/tiny/licences.tsv", "--profile", "local", "--cores", "1"]) == 0
    said = capfd.readouterr()
    lines = [line for line in said.out.splitlines() if not line.startswith("$ ")]
    path = lines[0].removeprefix("Snakemake's output: ")
    assert lines[1].startswith("study tiny: ") and lines[2:] == ["1 of 1 jobs done: licences"] and not said.err
    assert "localrule licences:" in (root / path).read_text()


FAILS = """
import sys, time
print("study tiny: Tiny; reads phantom_tiny", flush=True)
print(open("record").read(), flush=True)
sys.exit(1)
"""


def test_a_job_that_failed_is_shown_with_the_error_of_its_log(root, capfd):
    log = root / "results/tiny/logs/finetune/tissue/unet_micro/scratch/tiny/n2/fold1.log"
    log.parent.mkdir(parents=True)
    log.write_text("$ brainpretrain finetune\nepoch 1\nerror: the loss is not finite\n")
    (root / "record").write_text(RECORD)
    shown = root / "shown.log"
    line, watcher = [sys.executable, "-c", FAILS], Watcher(root / "results", "tiny", root)
    assert plan_show.run(line, watcher, shown) == 1
    said = capfd.readouterr()
    run = "finetune/tissue/unet_micro/scratch/tiny/n2"
    told = f"FAILED: {run}/fold1: the loss is not finite; log: results/tiny/logs/{run}/fold1.log"
    assert said.out.splitlines()[1:] == ["study tiny: Tiny; reads phantom_tiny", f"1 of 9 jobs done: {run}/fold0", told]
    assert said.err == f"the study did not finish; all of Snakemake's output: {shown}\n"
    log.unlink()


def test_on_a_terminal_run_shows_the_screen_of_watch_and_the_errors_at_the_end(root):
    (root / "record").write_text(RECORD)
    code = (
        "import sys; from pathlib import Path; from brainpretrain.cli import plan_show; from brainpretrain.report.watch import Watcher;"
        f"sys.exit(plan_show.run([sys.executable, '-c', {FAILS!r}], Watcher(Path('results'), 'tiny'), Path('shown.log')))"
    )
    main, terminal = pty.openpty()
    environment = os.environ | {
        "PYTHONPATH": str(ROOT / "src"),
        "TERM": "xterm",
        "COLUMNS": "120",
        "LINES": "40",
        "NO_COLOR": "1",
    }
    process = subprocess.Popen([sys.executable, "-c", code], stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    said = b""
    with suppress(OSError):  # the end of a terminal
        while part := os.read(main, 65536):
            said += part
    os.close(main)
    assert process.wait() == 1
    text = said.decode()
    assert "5 not begun" in text and "0/5 trainings" in text and "localrule" not in text
    assert text.rindex("FAILED: finetune/tissue") > text.rindex("0/5 trainings")


def test_an_error_that_belongs_to_no_job_is_shown_from_its_beginning(root, capfd):
    line = [sys.executable, "-c", "print('Using profile'); print('Error: studi: unknown key\\n  fix:   study'); exit(1)"]
    assert plan_show.run(line, Watcher(root / "results", "tiny", root), root / "shown.log") == 1
    assert capfd.readouterr().err.startswith("Error: studi: unknown key\n  fix:   study\nthe study did not finish")


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
