"""The benchmarks of scheduling and of growth, on a handful of volumes. No number that a clock gave is judged."""

import importlib
import os
import subprocess
import sys

import pytest

from brainpretrain.files import read_json
from helpers import ROOT


@pytest.fixture
def module(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    return importlib.import_module


def run(script, line):
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / script), *line.split()], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_empty_jobs_run_and_are_counted(tmp_path):
    line = f"--rounds 1 --sizes 300 --scheduled 300 --seconds 2 --json {tmp_path}/scheduling.json"
    output = run("scheduling.py", line)
    found = read_json(tmp_path / "scheduling.json")
    assert set(found["details"]["run"]) == {"300"} and found["details"]["scheduling"]["300"]["finished"] > 0
    dry, empty = found["goals"]
    assert dry["value"] > 0 and dry["at_most"] == 3
    assert empty["met"] is None  # no run of the paper's size
    assert "| 300 | 6 |" in output  # 2 shards, and fetch, index, volumes, fingerprint


def test_a_job_per_volume_is_extrapolated_as_a_quadratic(module):
    scheduling = module("scheduling")
    points = [{"ready": 1000.0, "cost_s": 0.06}, {"ready": 5000.0, "cost_s": 0.26}]  # 10 ms and 0.05 ms for each that is ready
    assert scheduling.extrapolated(points, 10_000) == pytest.approx(0.01 * 10_000 + 5e-5 * 10_000**2 / 2)
    assert scheduling.extrapolated(points[:1], 10_000) is None
    assert [scheduling._long(n) for n in (17, 500, 43_200)] == [f"{words}, extrapolated" for words in ("17 s", "8.3 min", "12 h")]


def test_a_curve_is_linear_or_it_is_not(module, tmp_path):
    curve = module("scaling").Curve
    straight = curve("a", "a", "volumes", "s", {n: [2 + 0.5 * n] * 3 for n in (1, 5, 20)})
    assert straight.line() == pytest.approx((0.5, 2, 1)) and straight.fit.startswith("linear: 2 + 0.5 x")
    assert curve("b", "b", "volumes", "s", {n: [n**2] for n in (1, 5, 20, 40)}).fit.startswith("not linear")
    assert curve("c", "c", "workers", "s", {1: [2.0], 2: [1.0]}).fit == "two points"
    straight.draw(tmp_path)
    assert "<svg" in (tmp_path / "a.svg").read_text()


def test_growth_is_measured_on_phantoms(tmp_path):
    line = f"--data {tmp_path} --rounds 1 --processes 1 --repeats 1 --workers 0 --samples 4 --cases 3 6 9 --scheduling {tmp_path}/none"
    output = run("scaling.py", f"{line} --json {tmp_path}/scaling.json --pictures {tmp_path}")
    found = read_json(tmp_path / "scaling.json")
    assert [figure["what"] for figure in found["figures"]][-1] == "report, pages and figure of a table, 9 cases"
    assert all(figure["median"] > 0 for figure in found["figures"])
    assert {path.stem for path in tmp_path.glob("*.svg")} == {"preprocessing", "loader", "report"}
    assert "linear" in output
