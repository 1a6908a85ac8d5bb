"""The table of all benchmarks and the comparison of two runs. No clock is asked."""

import importlib
import json
import subprocess
import sys

import pytest

from helpers import ROOT

FACTS = {"machine": "m", "load": "1.0", "date": "2026-01-01", "commit": "abc", "python": "3"}


@pytest.fixture
def modules(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    return {name: importlib.import_module(name) for name in ("harness", "summary", "compare")}


def write(harness, folder, ours, theirs=(10.0, 10.1, 9.9), goals=()):
    figures = [harness.figure("B7", "metrics", "brainpretrain", "s", ours), harness.figure("B7", "metrics", "peer", "s", theirs)]
    harness.write_results(folder / "evaluation.json", FACTS, figures, goals)
    return folder


def compared(old, new):
    line = [sys.executable, str(ROOT / "bench" / "compare.py"), str(old), str(new)]
    done = subprocess.run(line, capture_output=True, text=True)
    return done.returncode, done.stdout


def test_the_summary_shows_what_was_met_missed_and_not_measured(modules, tmp_path):
    harness, summary = modules["harness"], modules["summary"]
    goals = [
        harness.goal("B7", "metrics", "yucca", 6.0, at_least=5),
        harness.goal("B7", "metrics", "MONAI", 3.0, at_least=3.5),
        harness.goal("B7", "difference", "MONAI", None, at_most=1e-6),
    ]
    write(harness, tmp_path, [1.0], goals=goals)
    (tmp_path / "other.json").write_text('{"of": "another form"}')
    lines = summary.table(summary.read(tmp_path)).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert [cell[3:6] for cell in cells if cell[0] == "B7"] == [
        ["6", "at least 5", "met"], ["3", "at least 3.5", "missed"], ["", "at most 1e-06", "not measured"]
    ]  # fmt: skip
    others = [cell for cell in cells if cell[0] != "B7"]
    assert [cell[0] for cell in others] == [*(f"B{n}" for n in range(1, 13) if n != 7), "C5", "C6"]
    assert all(cell[5] == "not measured" for cell in others)


def test_a_floor_is_next_to_our_figure(modules, tmp_path):
    harness, summary = modules["harness"], modules["summary"]
    figures = [
        harness.figure("B7", "metrics", *rest) for rest in (("ours", "s", [0.3]), ("peer", "s", [1.0]), ("floor", "s", [0.1]))
    ]
    figures.append(harness.figure("B6", "of nothing", "floor", "s", [0.1]))
    harness.write_results(tmp_path / "evaluation.json", FACTS, figures)
    lines = summary.floors(summary.read(tmp_path)).splitlines()
    assert lines[2:] == ["| B7 | metrics, ours | 100 ms | 300 ms | 3x |"]


def test_what_slowed_by_more_than_the_noise_is_named(modules, tmp_path):
    harness = modules["harness"]
    old = write(harness, tmp_path / "old", [1.0, 1.02, 0.98])
    assert compared(old, write(harness, tmp_path / "same", [1.01, 1.03, 0.99]))[0] == 0
    code, output = compared(old, write(harness, tmp_path / "slow", [1.2, 1.22, 1.18]))
    assert code == 1 and "| B7 | metrics | brainpretrain | 1.20x |" in output and output.count("slowed |") == 1
    assert compared(old, write(harness, tmp_path / "faster", [0.5, 0.52, 0.48]))[0] == 0
    assert compared(old / "evaluation.json", tmp_path / "slow" / "evaluation.json")[0] == 1  # files as well as folders


def test_noise_machine_and_few_rounds_are_taken_into_account(modules, tmp_path):
    harness = modules["harness"]
    old = write(harness, tmp_path / "old", [1.0, 1.3, 0.7])
    assert compared(old, write(harness, tmp_path / "noisy", [1.2, 1.5, 0.9]))[0] == 0  # 20 %, and rounds differ by as much
    steady = write(harness, tmp_path / "steady", [1.0, 1.0, 1.0])
    assert compared(steady, write(harness, tmp_path / "machine", [1.2, 1.2, 1.2], theirs=[12.0, 12.1, 11.9]))[0] == 0
    once = write(harness, tmp_path / "once", [1.0])
    assert compared(once, write(harness, tmp_path / "a", [1.25]))[0] == 0
    assert compared(once, write(harness, tmp_path / "b", [1.35]))[0] == 1


def test_results_without_anything_in_common_are_an_error(modules, tmp_path):
    old = write(modules["harness"], tmp_path / "old", [1.0])
    (tmp_path / "new").mkdir()
    assert compared(old, tmp_path / "new")[0] == 1
    (tmp_path / "new" / "evaluation.json").write_text(
        json.dumps({"name": "evaluation", "machine": "m", "figures": [], "goals": []})
    )
    code, output = compared(old, tmp_path / "new")
    assert code == 1 and output == ""
