"""What a training leaves in its history, by real trainings that end in every way."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

import tiny
from brainpretrain.errors import UserError
from brainpretrain.files import read_json
from brainpretrain.training import history, modules
from brainpretrain.training.log import read_log
from commands import Command, beating, end_all
from trainings import line_of, pretrain_here

NAN = {"phases": [tiny.phase(60, lr=1e30)]}  # the loss is not finite from the second step on


@pytest.fixture(autouse=True)
def nothing_left():
    yield
    end_all()


def pretrain(cohort, folder, config, **changes):
    pretrain_here(cohort, folder, config, **{"save_every": 4, "max_idle": 2} | changes)


def start(cohort, folder, config):
    """The same in a process of its own, which gives a sign of life 20 times a second."""
    said = folder / f"said{len(list(folder.glob('said*')))}"
    return Command(line_of(cohort, folder, config, 4), said, partial(beating, 0.05))


def killed(cohort, folder, config, number):
    """What a training said that got a signal after its third checkpoint."""
    process = start(cohort, folder, config)
    process.until(lambda: any(int(path.name[5:]) >= 12 for path in folder.glob("work/*/step-*")))
    process.signal(number)
    process.ended()
    return process.said


def work_of(folder):
    ((work),) = (folder / "work").iterdir()
    return work


def told(folder):
    """The events of a finished training."""
    return [json.loads(line) for line in (folder / "out" / "history.jsonl").read_text().splitlines()]


def test_a_training_that_nothing_disturbs(cohort, tmp_path):
    pretrain(cohort, tmp_path, tiny.pretrain_config(10))
    events = told(tmp_path)
    assert [event["event"] for event in events] == ["start", "save", "save", "end"]
    assert [event.get("step") for event in events] == [None, 4, 8, 10]
    assert (events[0]["attempt"], events[0]["resumed_from"], events[0]["pid"]) == (1, 0, os.getpid())
    run = read_json(tmp_path / "out" / "run.json")
    assert (run["attempts"], run["redone_steps"]) == (1, 0)


def test_the_next_attempt_tells_what_a_kill_has_cost(cohort, tmp_path):
    config = tiny.pretrain_config(60)
    killed(cohort, tmp_path, config, signal.SIGKILL)
    work = work_of(tmp_path)
    saved = max(int(path.name[5:]) for path in work.glob("step-*"))
    reached = max(int(read_log(work / "log.csv")[-1]["step"]), history.alive(work)["step"], saved)
    assert [event["event"] for event in history.read(work)][-1] == "save"
    again = start(cohort, tmp_path, config)
    assert again.ended() == 0, again.said
    said = again.said
    line = re.search(
        r"attempt 2: attempt 1 ended without a word at step (\d+) \(killed.*\); resuming from step-0*(\d+), (\w+)", said
    )
    assert line, said
    assert (int(line[1]), int(line[2])) == (reached, saved)
    assert line[3] == (str(reached - saved) if reached > saved else "nothing")
    run = read_json(tmp_path / "out" / "run.json")
    assert (run["attempts"], run["redone_steps"]) == (2, reached - saved)
    assert [event["event"] for event in told(tmp_path) if event["event"] != "save"] == ["start", "start", "end"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_told_with_its_signal(cohort, tmp_path, number):
    said = killed(cohort, tmp_path, tiny.pretrain_config(4000), number)
    event = history.read(work_of(tmp_path))[-1]
    assert (event["event"], event["signal"]) == ("stop", number.name), said
    assert f"stopped by {number.name}" in said and "the same command continues" in said
    assert history.idle(history.attempts(history.read(work_of(tmp_path)))) == 0


def test_an_error_leaves_its_line(cohort, tmp_path, capsys):
    with pytest.raises(UserError):
        pretrain(cohort, tmp_path, tiny.pretrain_config(60, **NAN))
    event = history.read(work_of(tmp_path))[-1]
    assert event["event"] == "error" and event["line"].startswith("the loss is not finite at step ")
    assert f"failed: {event['line']}; saved up to step 0" in capsys.readouterr().out


def test_any_exception_leaves_its_line(cohort, tmp_path, monkeypatch):
    def step(self, batch, number):
        raise ValueError("no such thing\nSee the documentation")

    monkeypatch.setattr(modules.Pretraining, "training_step", step)
    with pytest.raises(ValueError, match="no such thing"):
        pretrain(cohort, tmp_path, tiny.pretrain_config(10))
    event = history.read(work_of(tmp_path))[-1]
    assert event["line"] == "ValueError: no such thing"


def test_an_error_after_the_last_step_leaves_its_line(cohort, tmp_path):
    (tmp_path / "out").write_text("a file where the results should go")
    with pytest.raises(OSError):
        pretrain(cohort, tmp_path, tiny.pretrain_config(6))
    event = history.read(work_of(tmp_path))[-1]
    assert (event["event"], event["step"]) == ("error", 6) and event["line"].startswith(("FileExistsError", "NotADirectoryError"))


def test_attempts_that_get_nowhere_come_to_an_end(cohort, tmp_path):
    config = tiny.pretrain_config(60, **NAN)
    for _ in range(2):
        with pytest.raises(UserError, match="the loss is"):
            pretrain(cohort, tmp_path, config, max_idle=2)
    for _ in range(2):  # giving the same command again and again helps nothing
        with pytest.raises(
            UserError, match=r"2 attempts in a row ended without a new checkpoint; the last failed at step \d+ \(the loss"
        ) as caught:
            pretrain(cohort, tmp_path, config, max_idle=2)
    file = work_of(tmp_path) / "history.jsonl"
    assert caught.value.where == str(file) and "delete this file" in caught.value.fix and "step 0" in caught.value.fix
    assert [event["event"] for event in history.read(file.parent)] == ["start", "error"] * 2 + ["refused"] * 2
    file.unlink()  # as the message says
    with pytest.raises(UserError, match="the loss is"):
        pretrain(cohort, tmp_path, config, max_idle=2)


def attempt(number, *events, resumed_from=0):
    return [{"event": "start", "attempt": number, "resumed_from": resumed_from, "redone": 0, "host": "n1", "job": ""},
            *({"event": event, "step": 5} for event in events)]  # fmt: skip


@pytest.mark.parametrize(
    ("last", "count"),
    [((), 3), (("error",), 3), (("stop",), 0), (("save",), 0), (("save", "error"), 0), (("error", "refused"), 3)],
)
def test_only_attempts_that_saved_nothing_and_were_not_stopped_count(last, count):
    assert history.idle([attempt(1, "save"), attempt(2), attempt(3, "error"), attempt(4, *last)]) == count


def test_a_line_that_a_kill_cut_short_costs_this_line_alone(cohort, tmp_path):
    config = tiny.pretrain_config(8, **NAN)
    with pytest.raises(UserError):
        pretrain(cohort, tmp_path, config)
    file = work_of(tmp_path) / "history.jsonl"
    with open(file, "a") as stream:
        stream.write('{"event": "sa')
    with pytest.raises(UserError):
        pretrain(cohort, tmp_path, config, max_idle=3)
    assert [event["event"] for event in history.read(file.parent)] == ["start", "error", "start", "error"]


def test_a_history_that_cannot_be_written_ends_no_training(tmp_path, capsys):
    (tmp_path / "work" / "history.jsonl").mkdir(parents=True)  # in its place
    one = history.History(tmp_path / "work")
    one.begin({"patches_per_step": 1}, "", 1, lambda: 0)
    one.saved(3)
    one.finish(tmp_path / "out")
    assert capsys.readouterr().out.count("the history could not be written") == 3
    assert not (tmp_path / "out").exists()


def test_only_the_first_of_several_processes_writes(cohort, tmp_path):
    line = [sys.executable, "-m", "brainpretrain.cli", *line_of(cohort, tmp_path, tiny.pretrain_config(10), 4), "--devices", "2"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 0, said
    assert [event["event"] for event in told(tmp_path)] == ["start", "save", "save", "end"]
    assert told(tmp_path)[0]["pid"] == process.pid


def test_the_sign_of_life_tells_speed_and_standstill(tmp_path, monkeypatch):
    monkeypatch.setattr(history, "BEAT_S", 0.05)
    begun = time.monotonic()
    one = history.History(tmp_path)
    one.begin({"patches_per_step": 4}, "", 1, lambda: min(100, int(100 * (time.monotonic() - begun))))  # 100 steps in a second
    time.sleep(0.8)
    sign = history.alive(tmp_path)
    assert sign["patches_per_s"] == pytest.approx(400, rel=0.3) and sign["still_s"] == 0 and history.is_alive(sign)
    time.sleep(1.5)
    assert history.alive(tmp_path)["step"] == 100 and history.alive(tmp_path)["still_s"] in (1, 2)
    one.stopped("SIGTERM")
    time.sleep(0.2)
    assert history.age_s(history.alive(tmp_path)["time"]) > 0.1  # no beat after the end


def test_an_old_sign_of_life_is_none(tmp_path):
    sign = {"time": history._now(), "host": "another", "pid": 1}
    assert history.is_alive(sign) and not history.is_alive({})
    assert not history.is_alive(sign | {"time": "2020-01-01T00:00:00+00:00"})


def test_a_process_that_is_gone_is_dead_after_two_missed_beats(tmp_path, monkeypatch):
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    sign = {"time": history._now(), "host": history.socket.gethostname(), "pid": process.pid}
    assert history.is_alive(sign)
    monkeypatch.setattr(history, "BEAT_S", 0.01)
    time.sleep(0.1)
    assert not history.is_alive(sign) and history.is_alive(sign | {"pid": os.getpid()})
