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


def test_without_data_and_peers_phantoms_are_measured_and_the_gaps_show(bench, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- preprocessing -->\nold\n<!-- end preprocessing -->\nbehind")
    line = f"--data {tmp_path} --peers {tmp_path}/none --newest {tmp_path}/none --rounds 1 --reads 2 --json {tmp_path}/found.json --page {page}"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(SCRIPT), *line.split()], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(f"no {name}: " in done.stderr for name in ("yucca 1.1.7", "nnU-Net 2.8.1", "nnssl", "yucca 2.3.7"))
    found = read_json(tmp_path / "found.json")
    rows, names = found["details"]["volumes"], found["details"]["names"]
    assert len(rows) == 3 and all(name.startswith("phantom/") for name in rows)
    for row in rows.values():
        assert row["seconds"]["ours"][0] > 0 and row["bytes"]["ours"][0] > 1000 and len(row["shape"]["ours"]) == 3
        assert row["read"]["ours"][0] > 0 and row["least"]["operations"] > row["least"]["bytes"] / 4 > 1e6
        assert not any(set(row[key]) - {"ours"} for key in bench.QUANTITIES) and "difference" not in row
    assert found["name"] == "found" and {row["id"] for row in found["figures"]} == {"B4", "B5", "B6", "B9"}
    assert all((row["median"] is None) == (row["party"] not in ("brainpretrain", "floor")) for row in found["figures"])
    assert found["goals"] and all(goal["value"] is None and goal["met"] is None for goal in found["goals"])
    text = page.read_text()
    assert text.startswith("before\n<!-- preprocessing -->\n`python bench/preprocessing.py") and text.endswith("behind")
    assert all(table in text for table in bench.page(rows, names, found["details"]["rates"])) and "old" not in text
    means = [line.count("not measured") for line in text.splitlines() if line.startswith(("| geometric mean", "| least ratio"))]
    assert means == [4, 4, 1, 1, 4]


def test_ratios_rates_and_goals_are_those_of_the_numbers(bench):
    def row(factor):
        peers = {"yucca": factor, "nnunet": 8, "nnssl": 12}
        return {
            "seconds": {"ours": [0.3, 0.1, 0.1], **{peer: [0.1 * times] for peer, times in peers.items()}},
            "memory": {"ours": [10**7], "yucca": [factor * 10**7 // 4]}, "bytes": {"ours": [2e6], "yucca": [9e6]},
            "same": {"ours": [2e6], "nnssl": [4e6]}, "read": {"ours": [0.004], "nnssl": [0.006]},
            "shape": {"ours": [4, 5, 6], "yucca": [5, 5, 6]}, "difference": 1e-6, "difference_stored": 2e-4,
            "least": {"bytes": 2e7, "operations": 3e8},
        }  # fmt: skip

    names = {"ours": "us", "yucca": "y", "nnunet": "u", "nnssl": "s", "yucca_newest": "n"}
    rows, rates = {"a": row(2), "b": row(8), "c, one of 3": row(1)}, {"read": 1e10, "multiply": 1e11}
    lines = bench.quantity_table(rows, "seconds", names, rates).splitlines()
    cells = {line[0]: line[1:] for line in ([cell.strip() for cell in line.strip("| ").split("|")] for line in lines)}
    assert cells["a"] == ["100.0", "200.0", "2.00x", "800.0", "8.00x", "1200.0", "12.00x", "not measured", "not measured", "5.0"]
    assert cells["c, one of 3"][2] == "1.00x" and cells["geometric mean"][2] == "4.00x"  # of single volumes
    assert cells["volumes per second"][:2] == ["10.00", "2.00"]  # two volumes in 0.2 s and in 1 s
    assert "c, one of 3" not in bench.quantity_table(rows, "read", names, rates)
    assert "| a | 4x5x6 | 5x5x6 | not measured | not measured | not measured | 1.0e-06 | 2.0e-04 |" in bench.difference_table(
        rows, names
    )
    goals = {(goal["id"], goal["against"]): (goal["value"], goal["met"]) for goal in bench.goals(rows, names)[:-1]}
    assert goals["B4", "u"] == (pytest.approx(8), True) and goals["B4", "y"] == (pytest.approx(4), False)
    assert goals["B9", "y"] == (0.5, False)  # of the worst volume
    assert goals["B6", "s"] == (pytest.approx(1.5), False) and goals["B5", "s"] == (2, True)


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
