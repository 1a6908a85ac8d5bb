"""The benchmark of sparse encoders, run for real at a tiny size. No number that a clock gave is judged."""

import importlib.util
import os
import subprocess
import sys

import pytest

from brainpretrain.files import read_json
from helpers import ROOT


def test_all_ways_are_timed_and_every_goal_has_a_value(tmp_path):
    line = f"--rounds 1 --patch 16 --block 4 --widths 2 3 4 --blocks 1 1 1 --step-blocks 1 1 1 --json {tmp_path}/sparse.json"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "bench" / "sparse.py"), *line.split()]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    found = read_json(tmp_path / "sparse.json")
    assert len(found["goals"]) == 7 and all(goal["value"] > 0 for goal in found["goals"])
    assert len(found["figures"]) == 2 * 13 + 5 and all(figure["median"] > 0 for figure in found["figures"])
    assert "| packed | 2^3 | 0.9 (0.10) |" in done.stdout and "S3D masked dense, 0.75" in done.stdout


def test_medians_are_of_the_rounds(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    # under another name: scipy takes any imported module `sparse` for the package of that name
    spec = importlib.util.spec_from_file_location("bench_sparse", ROOT / "bench" / "sparse.py")
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    assert "sparse" not in sys.modules
    found = {"a": [[1.0, 2.0], [3.0, 4.0], [2.0, 9.0]]}
    assert bench.median(found, "a") == 4.0 and bench.median(found, "a", 0) == 2.0
    assert bench.AT_LEAST[0.75] == pytest.approx(4)
