import itertools
import os
import signal
import subprocess
import sys

import pytest

from brainpretrain.errors import UserError
from brainpretrain.training import gpus
from helpers import ROOT

JOB = "import os, sys, time; t = time.time(); time.sleep(0.5); print(os.environ['CUDA_VISIBLE_DEVICES'], t, time.time(), file=open(sys.argv[1], 'a'))"


def start(folder, count, code, *arguments):
    """`brainpretrain claim` around a Python program, on a machine with GPUs 0, 1 and 2."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "0,1,2", "TMPDIR": str(folder), "PYTHONPATH": str(ROOT / "src")}
    line = [
        sys.executable,
        "-m",
        "brainpretrain.cli",
        "claim",
        "--gpus",
        str(count),
        "--",
        sys.executable,
        "-c",
        code,
        *arguments,
    ]
    return subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.parametrize("count", [1, 2])
def test_no_gpu_has_two_commands_at_a_time(tmp_path, count):
    log = tmp_path / "log.txt"
    jobs = [start(tmp_path, count, JOB, str(log)) for _ in range(6)]
    assert [job.wait(60) for job in jobs] == [0] * 6
    [job.communicate() for job in jobs]
    busy = {}
    for names, begin, end in (line.split() for line in log.read_text().splitlines()):
        assert len(names.split(",")) == count
        for name in names.split(","):
            busy.setdefault(name, []).append((float(begin), float(end)))
    for spans in busy.values():
        spans.sort()
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))


def test_a_killed_command_frees_its_gpu(tmp_path):
    first = start(tmp_path, 3, "import time; print('up', flush=True); time.sleep(600)")
    while "up" not in first.stdout.readline():
        assert first.poll() is None
    second = start(tmp_path, 1, "print('runs')")
    assert "waiting for 1 of the GPUs 0, 1, 2" in second.stdout.readline() + second.stdout.readline()
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert "runs" in second.communicate(timeout=30)[0] and second.returncode == 0


def test_visible_gpus(tmp_path, monkeypatch):
    monkeypatch.setattr(gpus, "DEVICES", tmp_path)
    for name in ("nvidia10", "nvidia2", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert gpus.visible({}) == ["2", "10"]
    assert gpus.visible({"CUDA_VISIBLE_DEVICES": "1, GPU-8c2"}) == ["1", "GPU-8c2"]
    assert gpus.visible({"CUDA_VISIBLE_DEVICES": ""}) == []


def test_without_a_gpu_the_command_runs_on_the_cpu(tmp_path):
    assert gpus.claim(1, {"CUDA_VISIBLE_DEVICES": ""}, tmp_path) == {}


def test_more_gpus_than_there_are_is_an_error(tmp_path):
    with pytest.raises(UserError, match="2 GPUs are asked for, and 1 are visible"):
        gpus.claim(2, {"CUDA_VISIBLE_DEVICES": "0"}, tmp_path)
