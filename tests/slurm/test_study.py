"""The embedded study through `--profile slurm`, and what a second call, an edit or a single target costs in Slurm's jobs."""

from __future__ import annotations

import shutil

import pytest
from on_slurm import OnSlurm, until

import workflow_fixture
from brainpretrain.files import read_json, read_tsv
from helpers import edit

WHOLE = {
    "shard": 2,
    "fingerprint": 1,
    "overlap": 1,
    "pretrain": 1,
    "finetune": 4,
    "predict_cohort": 4,
    "evaluate": 4,
    "plot_overlays": 2,
}
FOLD = "results/tiny/finetune/tissue/unet_micro/scratch/tiny/n2/fold0"
ENCODER = "results/tiny/pretrain/tiny_unlabelled/amaes_tiny/unet_micro/encoder.safetensors"


@pytest.fixture
def again(study, tmp_path):
    """A copy of the finished study, for edits. A copy has the times of the files, so nothing is to be done in it."""
    shutil.copytree(study.root, tmp_path / "copy", symlinks=True)
    return type(study)(type(study.workflow)(tmp_path / "copy"), study.cluster)


def test_the_whole_study_runs_one_job_per_step_and_no_more(study):
    assert study.counts() == WHOLE
    assert {row["state"] for row in study.jobs()} == {"COMPLETED"}
    assert (study.results / "tables" / "tiny.txt").exists()
    assert len(read_tsv(study.results / "scores.tsv")) == 24


def test_two_gpus_were_two_processes(study):
    run = read_json(study.root / ENCODER.replace("encoder.safetensors", "run.json"))
    assert run["devices"] == 2
    log = next(study.results.glob("logs/pretrain/*/*/*.log")).read_text()
    assert "2 task(s) on 1 node(s), 1 CPUs each" in log and "MEMBER: 2/2" in log


def test_a_finished_study_submits_nothing(again):
    assert "Nothing to be done" in again.run()
    assert again.counts() == {}


def test_a_touched_study_submits_nothing(again):
    for path in again.results.rglob("*"):
        path.touch()
    again.run("--touch")
    again.run()
    assert again.counts() == {}


def test_edited_resources_submit_nothing(again):
    edit(again.root / "slurm" / "config.yaml", "gpu: 2 ", "gpu: 1 ")
    edit(again.root / "slurm" / "config.yaml", "runtime: 60", "runtime: 30")
    edit(again.root / "rules" / "training.smk", "24000", "12000")
    again.run()
    assert again.counts() == {}


def test_a_single_fold_is_one_training(again):
    model = f"{FOLD}/model.safetensors"
    again.run("--forcerun", model, "--", model)
    assert again.counts() == {"finetune": 1}


def test_one_pretraining_is_one_job(again):
    again.run("--forcerun", ENCODER, "--", ENCODER)
    assert again.counts() == {"pretrain": 1}


def test_a_deleted_score_is_one_evaluation(again):
    (again.root / FOLD / "test" / "scores.tsv").unlink()
    again.run("--", f"{FOLD}/test/scores.tsv")
    assert again.counts() == {"evaluate": 1}


def test_another_row_of_the_table_is_its_own_jobs(again):
    edit(
        again.workflow.study,
        "init: [scratch, amaes_tiny]}",
        "init: [scratch, amaes_tiny]}\n      - {backbone: unet_micro, n_train: 1}",
    )
    again.run()
    assert again.counts() == {"finetune": 2, "predict_cohort": 2, "evaluate": 2, "plot_overlays": 1}


def test_two_nodes_by_the_profile_alone(again):
    edit(again.root / "slurm" / "config.yaml", "nodes: 1\n", "nodes: 2\n")
    edit(again.root / "slurm" / "config.yaml", "gpu: 2 ", "gpu: 4 ")
    edit(again.workflow.study, "global_batch: 2", "global_batch: 4")
    again.run("--", ENCODER)
    assert read_json(again.root / ENCODER.replace("encoder.safetensors", "run.json"))["devices"] == 4
    assert "4 task(s) on 2 node(s)" in next(again.results.glob("logs/pretrain/*/*/*.log")).read_text()
    assert again.counts() == {"pretrain": 1}


def test_one_task_for_two_gpus_is_refused(again):
    """Lightning would train with one process and say nothing."""
    edit(again.root / "slurm" / "config.yaml", "tasks_per_node: 2", "tasks_per_node: 0")
    edit(again.root / "slurm" / "config.yaml", "mpi: srun", 'mpi: ""')
    said = again.run("--retries", "0", "--forcerun", ENCODER, "--", ENCODER, code=1)
    assert "1 process(es) run, but 2 device(s) were asked for" in said
    assert again.counts() == {"pretrain": 1}


def test_a_job_that_waits_while_the_study_is_edited_runs_as_it_was_submitted(cluster, tmp_path):
    waiting = OnSlurm(workflow_fixture.copy(tmp_path), cluster)
    edit(waiting.root / "slurm" / "config.yaml", "your_account", "tests")
    target = "results/data/phantom_tiny/coarse_4mm/shard000.tsv"
    cluster.run("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    process = waiting.start("--", target)
    try:
        until(lambda: [row["state"] for row in waiting.jobs()] == ["PENDING"], waiting)
        edit(waiting.workflow.study, "spacing_mm: [4, 4, 4]", "spacing_mm: [5, 5, 5]")
    finally:
        cluster.run("scontrol", "update", "PartitionName=cpu", "State=UP")
    assert process.wait(600) == 0, waiting.said
    assert read_json((waiting.root / target).with_name("recipe.json"))["recipe"]["spacing_mm"] == [4, 4, 4]
    assert waiting.workflow.planned("--", target)["shard"] == 1  # the edit counts from the next call on
