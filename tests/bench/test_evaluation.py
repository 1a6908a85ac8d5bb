"""The benchmark of metrics, run for real on phantoms, without the peers. No number that a clock gave is judged."""

import importlib
import os
import subprocess
import sys

import numpy as np
import pytest

from brainpretrain.files import read_json
from helpers import ROOT

SCRIPT = ROOT / "bench" / "evaluation.py"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return importlib.import_module("evaluation")


def test_without_data_and_peers_phantoms_are_measured_and_the_gaps_show(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- evaluation -->\nold\n<!-- end evaluation -->")
    line = f"--data {tmp_path} --peers {tmp_path}/none --rounds 2 --cases 1 --json {tmp_path}/evaluation.json --page {page}"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(SCRIPT), *line.split()], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no yucca 1.1.7: " in done.stderr and "no MONAI: " in done.stderr
    found = read_json(tmp_path / "evaluation.json")
    (case,) = found["details"]["cases"]
    assert len(case["values"]["ours"]) == 3 and all(0.5 < dice < 1 and 0 < nsd <= 1 for dice, _, nsd in case["values"]["ours"])
    ours, *others = (figure for figure in found["figures"] if figure["party"] != "floor")
    assert len(ours["rounds"]) == 2 and all(figure["median"] is None for figure in others)
    assert [goal["met"] for goal in found["goals"]] == [None] * len(found["goals"])
    assert "not measured" in page.read_text() and "old" not in page.read_text()


def test_tissues_and_predictions(bench):
    labels = np.array([0, 2, 41, 1002, 17, 4, 24, 16])
    assert bench.tissues(labels).tolist() == [0, 2, 2, 1, 1, 3, 3, 2]
    ball = (np.linalg.norm(np.indices((24, 24, 24)) - 12, axis=0) < 8).astype(np.uint8)
    moved = bench.perturbed(ball, seed=0, smoothness=3)
    overlap = 2 * (ball & moved).sum() / (ball.sum() + moved.sum())
    assert 0.7 < overlap < 0.99 and set(np.unique(moved)) == {0, 1}


def test_ratios_and_differences_are_those_of_the_numbers(bench):
    rows = [
        {"name": n, "shape": [2, 2, 2], "seconds": {"ours": [1.0, 2.0, 9.0], "yucca": [2 * f, 2 * f, 0.0]},
         "values": {"ours": [[0.5, 1.0, 0.25]], "yucca": [[0.5, 1.5, 0.75]]}}
        for n, f in (("a", 2), ("b", 8))
    ]  # fmt: skip
    names = {"ours": "brainpretrain", "yucca": "yucca 1.1.7", "monai": "MONAI"}
    assert bench.ratios(rows, "yucca") == pytest.approx(4) and bench.ratios(rows, "monai") is None
    found = {(goal["what"], goal["against"]): goal["met"] for goal in bench.goals(rows, names)}
    assert found["Dice, HD95 and NSD, three classes", "yucca 1.1.7"] is False  # 4 of 5
    assert found["largest difference of dice", "yucca 1.1.7"] is True
    assert found["largest difference of nsd", "yucca 1.1.7"] is False
    assert ("largest difference of hd95_mm", "yucca 1.1.7") not in found  # weighted by area there
    assert "| yucca 1.1.7 | 0.0e+00 | 5.0e-01, another definition | 5.0e-01 |" in bench.value_table(rows, names)
