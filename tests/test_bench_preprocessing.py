"""The benchmark of preprocessing, run for real on phantoms, without the peer. No number that a clock gave is judged."""

import importlib
import os
import subprocess
import sys

import numpy as np
import pytest

from brainpretrain.files import read_json
from helpers import ROOT

SCRIPT = ROOT / "bench" / "preprocessing.py"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return importlib.import_module("preprocessing")


@pytest.fixture
def harness(bench):
    return importlib.import_module("harness")


def test_without_data_and_peer_phantoms_are_measured_and_the_gap_shows(bench, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- preprocessing -->\nold\n<!-- end preprocessing -->\nbehind")
    line = f"--data {tmp_path} --peers {tmp_path}/none --rounds 1 --json {tmp_path}/found.json --page {page}"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(SCRIPT), *line.split()], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no yucca 1.1.7: " in done.stderr and "does not exist" in done.stderr
    found = read_json(tmp_path / "found.json")
    assert len(found["volumes"]) == 3 and all(name.startswith("phantom/") for name in found["volumes"])
    for row in found["volumes"].values():
        assert row["seconds"]["ours"] > 0 and row["bytes"]["ours"] > 1000 and len(row["shape"]["ours"]) == 3
        assert not any("peer" in row[key] for key in ("seconds", "memory", "bytes", "shape"))
        assert "difference" not in row
    text = page.read_text()
    assert text.startswith("before\n<!-- preprocessing -->\n`python bench/preprocessing.py") and text.endswith("behind")
    (mean,) = (line for line in text.splitlines() if line.startswith("| geometric mean"))
    assert mean.count("not measured") == 3 and "old" not in text
    assert bench.difference_table(found["volumes"], found["peer"]) in text


def test_ratios_rates_and_differences_are_those_of_the_numbers(bench):
    def row(factor):
        return {
            "seconds": {"ours": 0.1, "peer": 0.1 * factor}, "memory": {"ours": 10**7, "peer": 2 * 10**7},
            "bytes": {"ours": 2 * 10**6, "peer": 9 * 10**6}, "shape": {"ours": [4, 5, 6], "peer": [5, 5, 6]},
            "difference": 1e-6, "difference_stored": 2e-4,
        }  # fmt: skip

    rows = {"a": row(2), "b": row(8)}
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in bench.cost_table(rows, "peer").splitlines()[2:]]
    assert cells[0] == ["a", "100.0", "200.0", "2.00x", "10", "20", "2.00x", "2.00", "9.00", "4.50x"]
    assert cells[2][3::3] == ["4.00x", "2.00x", "4.50x"]  # geometric mean
    assert cells[4][1:3] == ["10.00", "2.00"]  # two volumes in 0.2 s and in 1 s
    assert "| a | 4x5x6 | 5x5x6 | 1.0e-06 | 2.0e-04 |" in bench.difference_table(rows, "peer")


def test_images_of_other_shapes_are_no_equal_boxes(bench):
    assert bench._difference(np.zeros(3), np.full(3, 0.5)) == 0.5
    with pytest.raises(AssertionError, match="equal boxes"):
        bench._difference(np.zeros(3), np.zeros(1))


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from Linux's /proc")
def test_peak_memory_is_that_of_the_call(harness, capfd):
    megabytes = harness.peak_memory(lambda: np.ones(40 * 10**6 // 8).sum()) / 1e6
    assert 39 < megabytes < 60
    assert harness.peak_memory(lambda: None) < 5e6
    with pytest.raises(RuntimeError, match="call failed"):
        harness.peak_memory(lambda: 1 / 0)
    assert "ZeroDivisionError" in capfd.readouterr().err
