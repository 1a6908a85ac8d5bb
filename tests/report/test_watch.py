"""What `brainpretrain watch` reads besides the run folders: Snakemake's record, growing logs, Slurm's queue, and a big study."""

from __future__ import annotations

import json
import time

import pytest

import workflow_fixture
from brainpretrain import cli, config
from brainpretrain.plan import tables
from brainpretrain.report import jobs, screen, watch
from brainpretrain.report.curves import POINTS, Curves
from helpers import edit
from snakemake_record import RECORD

AGAIN = """[Tue Dec  1 11:55:52 2026]
rule finetune:
    log: results/tiny/logs/finetune/tissue/unet_micro/scratch/tiny/n2/fold1.log
    jobid: 8
"""


def test_a_record_is_read_as_it_grows(tmp_path):
    folder = tmp_path / jobs.RECORDS
    folder.mkdir(parents=True)
    (folder / "2026-12-01T115540.1.snakemake.log").write_text("Command: snakemake --config study=other\nNothing to be done\n")
    path = folder / "2026-12-01T115541.1.snakemake.log"
    path.write_text(RECORD[:-4])  # in the middle of a line
    follower = jobs.Follower(tmp_path, "tiny")
    record = follower.read()
    assert record.planned == {"finetune": 4, "evaluate": 4} and record.total == 9 and not record.ended
    assert record.done == {"finetune": 1}
    path.write_text(RECORD)
    assert follower.read().failed == {"8": "finetune"} and not follower.read().running
    path.write_text(RECORD + AGAIN)
    (folder / "2026-12-01T115542.1.snakemake.log").write_text("Command: snakemake --config study=other\nNothing to be done\n")
    assert follower.read().running == {"8": "finetune"} and not follower.read().failed  # tried again


def test_a_record_says_a_short_line_for_a_job_that_ended():
    record = jobs.Record()
    said = [line for line in map(record.feed, RECORD.splitlines()) if line]
    run = "finetune/tissue/unet_micro/scratch/tiny/n2/"
    assert said == [
        f"1 of 9 jobs done: {run}fold0",
        f"FAILED: {run}fold1; log: results/tiny/logs/{run}fold1.log",
    ]


def test_a_growing_log_is_read_on_and_thinned(tmp_path):
    path, curves = tmp_path / "log.csv", Curves()
    assert curves.read(path).last == {}
    path.write_text("epoch,step,loss,val_loss,val_dice\n1,10,0.5,,\n2,2")
    assert curves.read(path).points == {"loss": [(10, 0.5)], "val_loss": [], "val_dice": []}
    with open(path, "a") as stream:
        stream.write("0,nan,0.25,0.625\n")
    curve = curves.read(path)
    assert curve.last == {"loss": 0.5, "val_loss": 0.25, "val_dice": 0.625} and curve.points["val_dice"] == [(20, 0.625)]
    with open(path, "a") as stream:
        stream.writelines(f"{n},{10 * n},{1 / n},,\n" for n in range(3, 5000))
    curve = curves.read(path)
    assert POINTS <= len(curve.points["loss"]) <= 2 * POINTS and curve.points["loss"][0] == (10, 0.5)
    assert curve.last["loss"] == pytest.approx(1 / 4999)
    path.write_text("epoch,step,loss\n1,10,0.75\n")  # another training in its place
    assert curves.read(path).points["loss"] == [(10, 0.75)]


def test_a_small_curve_falls_as_its_values():
    assert screen.spark([8.0, 4.0, 2.0, 1.0]) == "█▄▂▁" and screen.spark([1.0]) == ""


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """A program of that name; returns a function that says what it prints."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    path = tmp_path / "squeue"

    def says(text, code=0):
        path.write_text(f"#!/bin/sh\n[ \"$1\" = --me ] || exit 9\ncat <<'END'\n{text}\nEND\nexit {code}\n")
        path.chmod(0o755)

    return says


def test_the_queue_is_counted_by_state_with_the_reasons(squeue):
    squeue("RUNNING|None\nPENDING|Priority\nPENDING|Resources\nPENDING|Priority\nRUNNING|None")
    assert watch.queue() == "2 running, 3 pending (Priority 2, Resources 1)"
    squeue("")
    assert watch.queue() == "no job of yours"
    squeue("", code=1)
    assert watch.queue() == "squeue failed: no message"


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A copy of the repository, of whose studies nothing has begun; the shell is elsewhere, and there is no squeue."""
    monkeypatch.chdir("/")
    monkeypatch.setattr(watch.shutil, "which", lambda name: None)
    return workflow_fixture.copy(tmp_path)


def test_a_study_that_has_not_begun_is_shown_as_planned(repository, capsys):
    results = str(repository.root / "results")
    assert cli.main(["watch", "tiny", "--results", results, "--once"]) == 0
    said = capsys.readouterr().out
    assert "trainings: 5 not begun" in said and "0/5 trainings" in said
    assert "5 trainings without an estimate" in said


def test_a_config_that_is_being_edited_hides_only_the_plan(repository):
    folder = repository.results / "pretrain/corpus/amaes/unet"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"steps": 4, "patches_per_s": 2.0}')
    watcher = watch.Watcher(repository.root / "results", "tiny")
    assert watcher.frame().counts == {"not begun": 5, "finished": 1}
    edit(repository.study, "folds: 2", "folds: two")
    frame = watcher.frame()
    assert frame.counts == {"finished": 1} and "the config has an error" in frame.notes[0]


def test_a_frame_of_231_trainings_takes_less_than_a_second(repository):
    plan = tables.make(config.load(repository.root / "config", {"study": "amaes"}))
    for run in [*(one.path for one in plan.pretrainings), *plan.trainings]:
        folder = repository.root / "results" / "amaes" / run
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(
            json.dumps({"steps": 100, "patches_per_s": 3.0, "finished": "2026-01-01T00:00:00+00:00"})
        )
        (folder / "log.csv").write_text("epoch,step,loss\n" + "".join(f"{n},{n},0.5\n" for n in range(500)))
        log = repository.root / "results" / "amaes" / "logs" / f"{run}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("$ brainpretrain\n" + "epoch 1\n" * 1000)
    watcher = watch.Watcher(repository.root / "results", "amaes")
    begun = time.process_time()
    frame = watcher.frame()
    assert len(frame.trainings) == 231 and time.process_time() - begun < 1
    assert len(frame.curves) == watch.RECENT
