"""The benchmark of the sliding window, run for real on a phantom, without the peers. No number that a clock gave is judged."""

import importlib
import os
import subprocess
import sys

import numpy as np
import pytest

from brainpretrain.files import read_json
from helpers import ROOT

SCRIPT = ROOT / "bench" / "windows.py"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return importlib.import_module("windows")


def test_without_data_and_peers_a_phantom_is_measured_and_the_gaps_show(tmp_path):
    """The script itself asserts that the network was shown as many windows as are counted."""
    line = f"--data {tmp_path} --peers {tmp_path}/none --rounds 1 --patch 32 --side 40 --json {tmp_path}/windows.json"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(SCRIPT), *line.split()], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no nnU-Net 2.8.1: " in done.stderr and "no MONAI: " in done.stderr
    found = read_json(tmp_path / "windows.json")
    medians = {(figure["what"], figure["party"]): figure["median"] for figure in found["figures"]}
    assert medians["window, small U-Net", "brainpretrain"] > 0 and medians["window, small U-Net", "floor"] > 0
    assert medians["window, small U-Net", "nnU-Net 2.8.1"] is None
    (goal,) = found["goals"]
    assert goal["at_most"] == 1.1 and goal["value"] > 0
    assert all(row["windows"]["box"] <= row["windows"]["whole"] for row in found["details"]["crops"])
    assert done.stdout.count("not measured") == 10  # both peers: two networks, and three differences


@pytest.mark.parametrize(
    ("shape", "expected"), [([128, 128, 128], 1), ([100, 128, 129], 2), ([193, 229, 193], 27), ([192, 192, 192], 8)]
)
def test_windows_are_counted(bench, shape, expected):
    assert bench.windows(shape, 128, 0.5) == expected


def test_differences_are_those_of_logits_and_of_classes(bench):
    ours = np.array([[[[0.0, 0.0]]], [[[1.0, 1.0]]]])
    theirs = np.array([[[[0.0, 2.0]]], [[[1.0, 1.0]]]])
    assert bench.differences(theirs, ours) == [2.0, 1.0, 0.5]


def test_the_ratio_is_that_to_the_network_alone(bench):
    times = {"small U-Net": {"alone": [2.0, 2.0, 9.0], "ours": [2.1, 2.1, 0.0]}}
    assert bench.ratio(times["small U-Net"], "ours") == pytest.approx(1.05)
    assert "2.10 (1.05x)" in bench.window_table(times, {"ours": "brainpretrain", "monai": "MONAI"}, {})
