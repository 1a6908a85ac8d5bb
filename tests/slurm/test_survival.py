"""What may happen to a training on a cluster. In each case it continues, and what is finished stays finished."""

from __future__ import annotations

import os
import re
import signal
from contextlib import suppress
from pathlib import Path

from on_slurm import LONG, until

from brainpretrain.files import read_json
from brainpretrain.training.log import read_log
from helpers import edit

FOLDER = "results/tiny/pretrain/tiny_unlabelled/amaes_tiny/unet_micro"
ENCODER = f"{FOLDER}/encoder.safetensors"


def assert_continued(study, saved: int) -> None:
    """The encoder is there, trained from step `saved` on, its log has every epoch once, and no other rule ran."""
    run, rows = read_json(study.root / FOLDER / "run.json"), read_log(study.root / FOLDER / "log.csv")
    assert int(run["resumed_from"].removeprefix("step-")) >= saved
    assert [int(row["step"]) for row in rows] == list(range(1, LONG + 1))
    assert set(study.counts()) == {"pretrain"}
    assert not any((study.root / "results" / "work").iterdir())


def processes(study) -> dict[int, str]:
    """Command lines of all processes that run in the folder of the study."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (entry / "cwd").readlink() == study.root:
                found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
    return found


def trainings(study) -> list[int]:
    """The training's own processes."""
    return sorted(pid for pid, line in processes(study).items() if re.match(r"\S*python\S* \S*/brainpretrain pretrain", line))


def test_a_cancelled_job_has_saved_and_is_tried_again(longer):
    head = longer.start("--", ENCODER)
    saved = longer.checkpoint(40)
    longer.cluster.run("scancel", longer.running("pretrain"))
    assert head.wait(300) == 0, longer.said
    assert_continued(longer, saved)
    assert [row["state"] for row in longer.jobs()] == ["CANCELLED", "COMPLETED"]


def test_the_time_limit_puts_a_job_back_into_the_queue(longer):
    head = longer.start("--", ENCODER)
    saved, job = longer.checkpoint(40), longer.running("pretrain")
    longer.cluster.run(
        "scancel", "--signal=USR1", job
    )  # what Slurm sends before the limit: to the tasks, not to the batch script
    until(lambda: longer.restarts(job) == 1, longer)
    longer.release(job)
    assert head.wait(300) == 0, longer.said
    assert_continued(longer, saved)
    assert [(row["job"], row["state"]) for row in longer.jobs()] == [(job, "COMPLETED")]


def test_slurm_itself_signals_before_the_limit(longer):
    """With a limit of one minute, the real one."""
    edit(longer.workflow.study, f"epochs: {LONG}", "epochs: 20000")
    edit(longer.root / "slurm" / "config.yaml", "--signal=USR1@300", "--signal=USR1@20")
    edit(longer.root / "slurm" / "config.yaml", "    nodes: 1\n", "    runtime: 1\n    nodes: 1\n")
    head = longer.start("--", ENCODER)
    job = longer.running("pretrain")
    until(lambda: longer.restarts(job) == 1, longer)
    assert longer.checkpoint(1)
    head.kill()
    head.wait()


def test_preemption_requeues_the_job(longer):
    edit(
        longer.root / "slurm" / "config.yaml",
        "slurm_partition: gpu\n    gpu_model: h100\n    gpu: 2",
        "slurm_partition: preempt\n    gpu_model: h100\n    gpu: 2",
    )
    head = longer.start("--", ENCODER)
    saved, job = longer.checkpoint(40), longer.running("pretrain")
    other = longer.cluster.run(
        "sbatch", "--parsable", "--partition=gpu", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 5"
    ).strip()
    until(lambda: longer.restarts(job) == 1, longer)
    longer.release(job)
    assert head.wait(300) == 0, longer.said
    assert "COMPLETED" in longer.cluster.run("squeue", "-h", "--states=all", "-j", other, "-o", "%T")
    assert_continued(longer, saved)
    assert [(row["job"], row["state"]) for row in longer.jobs()] == [(job, "COMPLETED")]


def test_a_lost_node_is_no_lost_training(longer):
    head = longer.start("--", ENCODER)
    saved, job = longer.checkpoint(40), longer.running("pretrain")
    node = longer.cluster.run("squeue", "-h", "-j", job, "-o", "%N").strip()
    longer.cluster.kill_node(node, job)
    for pid in processes(longer).keys() - {head.pid}:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    try:
        until(lambda: longer.restarts(job) == 1, longer)  # once Slurm has missed the node
        longer.release(job)
        assert head.wait(300) == 0, longer.said
    finally:
        longer.cluster.start_node(node)
    assert_continued(longer, saved)
    assert [(row["job"], row["state"]) for row in longer.jobs()] == [(job, "COMPLETED")]


def test_a_drained_node_finishes_what_it_has(longer):
    head = longer.start("--", ENCODER)
    longer.checkpoint(20)
    job = longer.running("pretrain")
    node = longer.cluster.run("squeue", "-h", "-j", job, "-o", "%N").strip()
    longer.cluster.run("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=test")
    try:
        assert head.wait(300) == 0, longer.said
    finally:
        longer.cluster.run("scontrol", "update", f"NodeName={node}", "State=RESUME")
    assert_continued_without_break(longer)


def assert_continued_without_break(study) -> None:
    assert read_json(study.root / FOLDER / "run.json")["resumed_from"] == ""
    assert [row["state"] for row in study.jobs()] == ["COMPLETED"]


def test_a_killed_process_costs_one_interval_at_most(longer):
    head = longer.start("--", ENCODER)
    saved = longer.checkpoint(40)
    os.kill(trainings(longer)[0], signal.SIGKILL)
    assert head.wait(300) == 0, longer.said
    assert_continued(longer, saved)
    assert [row["state"] for row in longer.jobs()] == ["FAILED", "COMPLETED"]


def test_a_killed_snakemake_leaves_its_jobs_and_starts_no_second_copy(longer):
    edit(longer.workflow.study, f"epochs: {LONG}", f"epochs: {4 * LONG}")  # it must not end while two commands look at it
    text = longer.workflow.study.read_text()
    longer.workflow.study.write_text(text.replace("amaes_tiny", "amaes_new"))  # one that was never made before: see docs/slurm.md
    encoder = ENCODER.replace("amaes_tiny", "amaes_new")
    head = longer.start("--", encoder)
    longer.checkpoint(20)
    head.kill()
    head.wait()
    assert "LockException" in longer.run("--", encoder, code=1)
    longer.run("--unlock")
    said = longer.run("--", encoder, code=1)
    assert "still in Slurm's queue" in said and f"scancel {longer.running('pretrain')}" in said
    until(lambda: longer.jobs()[0]["state"] == "COMPLETED", longer, patience_s=400)
    longer.run("--unlock")
    assert "Nothing to be done" in longer.run("--", encoder)  # what the abandoned job finished is taken
    assert [row["state"] for row in longer.jobs()] == ["COMPLETED"]


def test_an_interrupted_snakemake_cancels_its_jobs_and_continues(longer):
    head = longer.start("--", ENCODER)
    saved = longer.checkpoint(40)
    head.send_signal(signal.SIGINT)
    assert head.wait(120) != 0
    until(lambda: longer.jobs()[0]["state"] == "CANCELLED", longer)
    longer.run("--", ENCODER)
    assert_continued(longer, saved)


def test_a_job_that_always_fails_has_an_end_and_names_its_log(longer):
    edit(longer.workflow.study, f"epochs: {LONG}, lr: 1.0e-3", f"epochs: {LONG}, lr: 1.0e+19")
    said = longer.run("--", ENCODER, code=1)
    assert [row["state"] for row in longer.jobs()] == ["FAILED"] * 3  # the first attempt and two retries
    assert [row["memory"] for row in longer.jobs()] == ["32000M", "62.50G", "62.50G"]
    assert "the loss is" in said and "lower lr" in said
    assert "logs/pretrain/tiny_unlabelled/amaes_tiny/unet_micro.log" in said
