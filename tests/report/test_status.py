"""What `brainpretrain status` says about real trainings that run, end and fail in every way."""

from __future__ import annotations

import io
import json
import shutil
import signal
import time
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

import tiny
import workflow_fixture
from brainpretrain import cli
from brainpretrain.errors import UserError
from brainpretrain.files import read_json, write_json
from brainpretrain.report import screen, status, watch
from brainpretrain.report.pages import watch as page
from brainpretrain.training import history
from commands import Command, beating, end_all
from helpers import edit

RUN = "pretrain/corpus/amaes/{}"
NAN = {"phases": [tiny.phase(60, lr=1e30)]}


def line_of(cohort, results, name, config):
    """The command of a rule, with `name` in the place of the backbone."""
    return [
        "pretrain", "--corpus", str(cohort.corpus), "--data", str(cohort.data), "--config", json.dumps(config | {"name": name}),
        "--save-every", "4", "--work", str(results / "work"), "--out", str(results / "tiny" / RUN.format(name)),
    ]  # fmt: skip


def log_of(results, name):
    """An empty log where the rule puts it."""
    log = results / "tiny" / "logs" / f"{RUN.format(name)}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    return open(log, "w")


def run(cohort, results, name, config):
    """To its end, in this process."""
    with log_of(results, name) as stream, redirect_stdout(stream), redirect_stderr(stream):
        return cli.main(line_of(cohort, results, name, config))


def start(cohort, results, name, config):
    """In a process of its own, which gives a sign of life every second."""
    with log_of(results, name) as stream:
        return Command(line_of(cohort, results, name, config), Path(stream.name), partial(beating, 1))


def signalled(process, results, name, number):
    """Sends a signal after the second checkpoint."""
    process.until(lambda: list(work_of(results, name).glob("step-*8")))
    process.signal(number)
    process.ended()


def work_of(results, name):
    for path in results.glob("work/*/about.json"):
        if read_json(path)["out"].endswith(f"/{name}"):
            return path.parent
    return results / "none"


def copy_of(results, folder):
    """All of it, but for the checkpoints of the running training, which come and go."""
    running = str(work_of(results, "running"))
    return Path(
        shutil.copytree(
            results,
            folder / "results",
            ignore=lambda place, names: [name for name in names if place == running and name.startswith((".", "step-"))],
        )
    )


def set_back(path, seconds):
    """Lets the last sign of life be older."""
    sign = read_json(path)
    then = history.datetime.now(history.UTC).timestamp() - seconds
    write_json(path, sign | {"time": history.datetime.fromtimestamp(then, history.UTC).isoformat()})


@pytest.fixture(scope="module")
def results(cohort, tmp_path_factory):
    """A results folder with a training in every state."""
    results = tmp_path_factory.mktemp("status") / "results"
    assert run(cohort, results, "finished", tiny.pretrain_config(10)) == 0
    assert run(cohort, results, "failed", tiny.pretrain_config(60, **NAN)) == 2
    assert run(cohort, results, "early", tiny.pretrain_config(10, method="amas")) == 2
    for name, number in (("stopped", signal.SIGTERM), ("killed", signal.SIGKILL)):
        signalled(start(cohort, results, name, tiny.pretrain_config(4000)), results, name, number)
    set_back(work_of(results, "killed") / "alive.json", 25)
    running = start(cohort, results, "running", tiny.pretrain_config(100_000))
    running.until(lambda: history.alive(work_of(results, "running")).get("patches_per_s"))  # the second sign of life
    yield results
    end_all()


@pytest.fixture(scope="module")
def trainings(results):
    return {training.run.rpartition("/")[2]: training for training in status.collect(results)}


def test_each_state_is_told_apart(trainings):
    assert {name: training.state for name, training in trainings.items()} == {
        "finished": "finished", "failed": "failed", "early": "failed", "stopped": "interrupted", "killed": "silent", "running": "running",
    }  # fmt: skip
    assert {training.study for training in trainings.values()} == {"tiny"}


def test_a_finished_training(trainings):
    training = trainings["finished"]
    assert (training.step, training.total_steps, training.attempts, training.lost_steps, training.trouble) == (10, 10, 1, 0, "")
    assert training.patches_per_s > 0 and training.seen_s < 300 and training.log.endswith("amaes/finished.log")


def test_a_running_training_tells_speed_and_time_to_the_end(trainings):
    training = trainings["running"]
    assert 0 < training.step < training.total_steps == 100_000 and training.seen_s < 30
    assert training.left_s == pytest.approx((100_000 - training.step) * 2 / training.patches_per_s)  # 2 patches a step


def test_a_failed_training_tells_why(trainings):
    assert trainings["failed"].trouble.startswith("the loss is") and trainings["failed"].trouble.endswith(
        "; continues from step 0"
    )
    assert trainings["failed"].total_steps == 60


def test_what_fails_before_its_first_step_is_found_by_its_log(trainings, results):
    assert trainings["early"].trouble == "there is no pretext/amas.py"
    assert trainings["early"].log == str(results / "tiny/logs/pretrain/corpus/amaes/early.log")


def test_a_stopped_training_has_lost_nothing(trainings):
    training = trainings["stopped"]
    assert training.trouble == f"was stopped by SIGTERM at step {training.step}; continues from step {training.step}"
    assert training.lost_steps == 0 and training.left_s is None


def test_a_killed_training_tells_what_is_lost(trainings, results):
    training = trainings["killed"]
    saved = max(int(path.name[5:]) for path in work_of(results, "killed").glob("step-*"))
    assert training.trouble.startswith(f"ended without a word at step {training.step} (killed")
    assert training.trouble.endswith(f"continues from step {saved}") and training.lost_steps == training.step - saved


def test_the_table_shows_all_of_it(results, trainings):
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(status.rendered(list(trainings.values())))
    text = console.export_text()
    assert text.startswith("tiny: 1 running, 2 failed, 1 silent, 1 interrupted, 1 finished\n")
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line.startswith("pretrain/")}
    assert lines[RUN.format("finished")][1:3] == ["finished", "10/10"]
    assert f"{RUN.format('early')}: failed\n  there is no pretext/amas.py\n  log: " in text
    assert f"  work folder: {work_of(results, 'failed')}" in text


def test_the_command_prints_json_that_a_program_can_read(results, capsys):
    assert cli.main(["status", "--results", str(results), "--study", "tiny", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["run"].rpartition("/")[2] for row in rows} == {"finished", "failed", "early", "stopped", "killed", "running"}
    assert set(rows[0]) == set(status.Training.__dataclass_fields__)


def test_watch_shows_what_runs_with_its_loss_and_what_stopped_with_its_log(results):
    watcher = watch.Watcher(results)
    frame = watcher.frame()
    assert (frame.study, frame.counts["running"], frame.counts["failed"], frame.complete) == ("tiny", 1, 2, False)
    (running,) = frame.running
    curve = frame.curves[running.run]
    assert curve.last["loss"] > 0 and curve.last["val_loss"] > 0 and len(curve.points["loss"]) > 1
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(screen.rendered(frame, 40))
    said = console.export_text()
    line = next(line for line in said.splitlines() if line.startswith(RUN.format("running")))
    assert screen.number(curve.last["loss"]) in line and "/100000" in line
    assert "failed: pretrain/corpus/amaes/early: there is no pretext/amas.py" in said
    assert f"log: {results / 'tiny/logs/pretrain/corpus/amaes/early.log'}" in said.replace("\n", "")
    assert "the last of 1 running training ends in about" in said
    console.print(screen.rendered(frame, 12))
    assert "more with trouble" in console.export_text()


def test_the_page_of_watch_is_one_file_that_loads_itself_again(results, tmp_path, capsys):
    file = tmp_path / "watch.html"
    assert cli.main(["watch", "tiny", "--results", str(results), "--once", "--html", str(file)]) == 0
    text = file.read_text()
    assert '<meta http-equiv="refresh" content="30">' in text
    assert text.count("<polyline") >= 2 * 4  # loss and validation loss of running, stopped, killed, finished
    assert [mark for mark in ("http://", "https://", "<script", "<link", "src=") if mark in text] == []
    assert "there is no pretext/amas.py" in text and "trainings: 1 running" in capsys.readouterr().out
    assert "refresh" not in page.page(watch.Watcher(results).frame(), 0)


def test_an_unknown_study_gets_the_nearest_name(results):
    with pytest.raises(UserError, match=r"no trace of a study 'tinny'[\s\S]*did you mean 'tiny'"):
        status.collect(results, "tinny")


def test_an_empty_folder_is_said_to_be_empty(tmp_path, capsys):
    assert cli.main(["status", "--results", str(tmp_path)]) == 2
    assert "no trace of a training" in capsys.readouterr().err


def test_the_later_of_two_settings_counts(cohort, results, tmp_path):
    """A run that is trained again with other settings: its old results or its old work folder are history."""
    copied = copy_of(results, tmp_path)
    name = RUN.format("finished")
    run(cohort, copied, "finished", tiny.pretrain_config(60, **NAN))  # by hand: nobody removed run.json
    (again,) = [training for training in status.collect(copied) if training.run == name]
    assert again.state == "failed"
    shutil.copytree(copied / "tiny" / name, copied / "tiny" / RUN.format("stopped"))
    facts = copied / "tiny" / RUN.format("stopped") / "run.json"
    write_json(facts, read_json(facts) | {"finished": history._now()})
    (later,) = [training for training in status.collect(copied) if training.run == RUN.format("stopped")]
    assert later.state == "finished"


def test_a_newer_log_tells_of_an_attempt_that_did_not_get_far(results, tmp_path):
    copied = copy_of(results, tmp_path)
    log = copied / "tiny/logs/pretrain/corpus/amaes/stopped.log"
    log.write_text(
        "$ brainpretrain pretrain\nTraceback (most recent call last):\n  File x\nModuleNotFoundError: No module named 'torch'\nsrun: x\n"
    )
    (training,) = [training for training in status.collect(copied) if training.run.endswith("stopped")]
    assert training.state == "failed" and training.trouble.startswith(
        "ModuleNotFoundError: No module named 'torch'; continues from"
    )


@pytest.mark.parametrize("config", ["{}", "{" + 5000 * " " + "}" + 5000 * " "], ids=["short", "cut"])
def test_the_command_in_a_log_is_no_error(tmp_path, config):
    log = tmp_path / "results/tiny/logs/pretrain/corpus/amaes/killed.log"
    log.parent.mkdir(parents=True)
    log.write_text(f"$ brainpretrain pretrain --config '{config}' --out pretrain/corpus/amaes/killed\nepoch 1\n")
    (training,) = status.collect(tmp_path / "results")
    assert (training.state, training.trouble) == ("running", "")
    log.write_text("launch.sh: line 3: brainpretrain: command not found\n")
    (training,) = status.collect(tmp_path / "results")
    assert (training.state, training.trouble) == ("failed", "launch.sh: line 3: brainpretrain: command not found")


def test_a_standstill_is_told(results, tmp_path):
    copied = copy_of(results, tmp_path)
    path = work_of(copied, "running") / "alive.json"
    write_json(path, read_json(path) | {"still_s": 700, "host": "another", "time": history._now()})
    (training,) = [training for training in status.collect(copied) if training.run.endswith("running")]
    assert (training.state, training.trouble) == ("running", "no step for 11 min")


def test_a_training_by_hand_is_shown_by_its_path(cohort, tmp_path):
    results = tmp_path / "results"
    run(cohort, results, "../../../../../elsewhere", tiny.pretrain_config(60, **NAN))
    (training,) = [training for training in status.collect(results) if training.work]
    assert (training.study, training.run, training.state) == ("", "../elsewhere", "failed")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """The root of a copy of the repository with the study `tiny`, of which nothing has begun."""
    workflow = workflow_fixture.copy(tmp_path)
    monkeypatch.chdir(tmp_path)
    return workflow


def test_what_is_not_begun_is_counted_in_the_root_of_the_repository(repository, capsys):
    assert cli.main(["status", "--study", "tiny"]) == 0
    assert capsys.readouterr().out.endswith("\ntiny: 5 not begun\n")
    edit(repository.study, "folds: 2", "folds: 3")
    assert [training.state for training in status.collect(Path("results"), "tiny")] == ["not begun"] * 7
    assert {training.study for training in status.collect(Path("results"))} == {"demo"}  # the default study


def test_a_config_that_is_being_edited_hides_only_what_is_not_begun(repository, results, capsys):
    copy_of(results, repository.root)
    edit(repository.study, "folds: 2", "folds: two")
    assert {training.state for training in status.collect(Path("results"), "tiny")} == set(status.STATES) - {"not begun"}
    assert "trainings not begun are left out" in capsys.readouterr().err


def test_a_finished_study(finished, monkeypatch):
    monkeypatch.chdir(finished.root)
    trainings = status.collect(Path("results"), "tiny")
    assert [training.state for training in trainings] == ["finished"] * 5
    assert trainings[0].run == "pretrain/tiny_unlabelled/amaes_tiny/unet_micro" and all(Path(t.log).exists() for t in trainings)


def test_watch_counts_the_results_and_jobs_of_a_finished_study(finished, monkeypatch):
    monkeypatch.chdir("/")  # any shell that sees the folder
    frame = watch.Watcher(finished.root / "results", "tiny").frame()
    stages = {stage.name: stage for stage in frame.stages}
    assert (stages["training"].exist, stages["training"].planned) == (5, 5)
    assert all(stage.exist == stage.planned for stage in frame.stages) and frame.complete
    assert (stages["training"].done, stages["training"].jobs, stages["training"].failed) == (5, 5, 0)
    assert sum(stage.done for stage in frame.stages) == sum(stage.jobs for stage in frame.stages)
    assert frame.estimate == ["no training is left"] and len(frame.curves) == 5
    assert all(curve.last["loss"] > 0 for curve in frame.curves.values())


def test_snakemake_names_the_log_of_a_job_that_failed_and_status_its_reason(finished, tmp_path):
    copied = workflow_fixture.Workflow(Path(shutil.copytree(finished.root, tmp_path / "copy")))
    edit(copied.study, "epochs: 2, lr: 1.0e-3", "epochs: 2, lr: 1.0e+19")
    target = "results/tiny/pretrain/tiny_unlabelled/amaes_tiny/unet_micro/encoder.safetensors"
    output = copied.snakemake("--", target, check=False)
    log = "results/tiny/logs/pretrain/tiny_unlabelled/amaes_tiny/unet_micro.log"
    assert f"log: {log} (check log file(s) for error details)" in output and "error: the loss is" in output
    (failed,) = [training for training in status.collect(copied.root / "results") if training.state != "finished"]
    assert failed.run.startswith("pretrain/") and failed.trouble.startswith("the loss is") and failed.log.endswith(log)
    assert failed.attempts == 1


def test_a_thousand_trainings_take_less_than_a_second(results, tmp_path):
    facts = (results / "tiny" / RUN.format("finished") / "run.json").read_text()
    for number in range(1000):
        folder = tmp_path / "results" / "tiny" / "pretrain" / "corpus" / "amaes" / f"b{number}"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(facts)
    begun = time.process_time()
    trainings = status.collect(tmp_path / "results")
    assert len(trainings) == 1000 and time.process_time() - begun < 1
