"""The benchmark of pretraining, run for real at a tiny size. No number that a clock gave is judged."""

import importlib
import json
import os
import subprocess
import sys
from unittest import mock

import pytest
import torch

from brainpretrain import config, memory
from brainpretrain.errors import UserError
from brainpretrain.files import read_json
from brainpretrain.training import counts
from helpers import ROOT

SCRIPT = ROOT / "bench" / "gpu.py"
PAGE = ROOT / "docs" / "results" / "gpu.md"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return importlib.import_module("gpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What a run on the CPU leaves."""
    out = tmp_path_factory.mktemp("bench")
    (out / "page.md").write_text("before <!-- tables -->old<!-- end tables --> behind")
    line = "--device cpu --backbones unet_tiny --batches 2 1 --patch 32 --execution checkpointing --steps 3 --short-steps 2"
    line += f" --volumes 2 --spacing-mm 3 3.5 --workers 1 --matrix 64 --out {out} --page {out}/page.md --json {out}/form.json"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(SCRIPT), *line.split()], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_trainings_are_run_with_and_without_options(folder):
    results = read_json(folder / "gpu.json")
    assert [(row["batch"], row["execution"], row["steps"]) for row in results["rows"]] == [
        (2, [], 3), (1, [], 2), (2, ["checkpointing"], 2),
    ]  # fmt: skip
    for row in results["rows"]:
        assert "error" not in row and row["patches_per_s"] > 0 and row["peak_memory_gb"] is None
        assert 0 < row["augmentation"] < 1 and 0 <= row["data_wait"] < 1 and row["augmentation"] + row["data_wait"] < 1
    assert results["matrix_flops_per_s"] > 0 and results["machine"]["torch"]
    stored = list((folder / "data" / "phantom" / "volumes").glob("*.b2nd"))
    assert len(stored) == 2 and not list((folder / "data").glob("tmp*"))  # the trainings leave nothing


def test_goals_are_in_the_form_of_all_benchmarks(folder):
    rows, found = read_json(folder / "gpu.json")["rows"], read_json(folder / "form.json")
    assert [figure["median"] for figure in found["figures"]] == [1 / row["patches_per_s"] for row in rows]
    assert [(goal["value"], goal["met"]) for goal in found["goals"]] == [
        (rows[0][key], rows[0][key] <= 0.05) for key in ("augmentation", "data_wait")
    ]


def test_the_tables_show_what_was_measured(bench, folder):
    results = read_json(folder / "gpu.json")
    text = (folder / "gpu.md").read_text()
    assert text == bench.tables(results) + "\n"
    assert (folder / "page.md").read_text() == f"before <!-- tables -->\n{text}<!-- end tables --> behind"
    cells = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| unet_tiny")]
    rates, memory, options = cells
    rate, flops = results["rows"][0]["patches_per_s"], 3e9 * results["networks"][0]["forward_gflop"]
    assert rates[1] == "amaes" and rates[3] == f"{rate:.4g}"
    assert float(rates[4]) == pytest.approx(results["matrix_flops_per_s"] / flops, rel=1e-3)
    assert rates[5] == f"{100 * rate * flops / results['matrix_flops_per_s']:.3g} %"
    assert rates[8:] == ["not measured"] * 2  # the paper's patches are larger
    assert memory[1:] == ["not measured"] * 4  # of a CPU
    assert options[1].startswith(f"{results['rows'][2]['patches_per_s']:.4g} (")


def test_a_network_that_fails_costs_no_other_its_numbers(bench):
    network = {"pretext": "amaes", "forward_gflop": 100.0}
    plain = {"execution": [], "augmentation": 0.04, "data_wait": 0.001}
    results = {
        "machine": None, "matrix_flops_per_s": 6e14, "settings": {"batches": [8, 2], "execution": ["compile"], "matrix": 8192, "patch": 128},
        "networks": [{"backbone": "a", **network}, {"backbone": "b", **network}],
        "rows": [
            {"backbone": "a", "batch": 8, "error": "ValueError: no", "execution": []},
            {"backbone": "b", "batch": 8, "patches_per_s": 39.7, "peak_memory_gb": 20.0, **plain},
            {"backbone": "b", "batch": 16, "patches_per_s": 40.0, "peak_memory_gb": 41.0, **plain},
            {"backbone": "b", "batch": 32, "error": "out of memory", "execution": []},
        ],
    }  # fmt: skip
    a, b = (
        [line.strip("| ").split(" | ") for line in bench.tables(results).splitlines() if line.startswith(f"| {n} |")]
        for n in "ab"
    )
    wanted = bench.goals(results | {"networks": [{"backbone": "unet_xl", **network}]})
    assert [(goal["value"], goal["met"]) for goal in wanted] == [(None, None)] * 3  # nothing of it was measured
    assert a[0][3] == "failed" and a[0][4] == "2000"
    assert b[0][3:9] == ["39.7", "2000", "1.99 %", "4.0%", "0.1%", "2x"]
    assert float(b[0][9]) == pytest.approx(31, abs=0.1)  # hours: the paper's, who needed two GPUs for this rate
    assert a[1][1:] == ["not measured", "failed", "not measured", "not measured"]
    assert b[1][1:] == ["not measured", "20", "16", "41"]


def test_memory_that_ran_out_is_told_from_other_errors(bench, monkeypatch):
    message = memory.advice(torch.OutOfMemoryError("CUDA out of memory."), 8, [128, 128, 128], 32, 1, 0, [])
    for error, found in (
        (message, "out of memory"),
        (UserError("another"), "UserError: another"),
        (ValueError(), "ValueError: "),
    ):
        monkeypatch.setattr(bench.Bench, "train", mock.Mock(side_effect=error))
        assert bench.Bench.measure(object.__new__(bench.Bench), {"batch": 8})["error"] == found


def test_the_batch_is_doubled_until_it_does_not_fit(bench):
    tried = []
    bench.doubled(8, 128, lambda batch: tried.append(batch) or batch < 30)
    assert tried == [16, 32]
    bench.doubled(8, 16, lambda batch: True)  # comes to an end where everything fits


def test_the_page_is_that_of_its_results(bench):
    results = json.loads(PAGE.with_suffix(".json").read_text())
    shown = PAGE.read_text().split("<!-- tables -->\n")[1].split("\n<!-- end tables -->")[0]
    assert shown == bench.tables(results)
    assert [entry["backbone"] for entry in results["networks"]] == bench.BACKBONES
    (known,) = (entry for entry in results["networks"] if entry["backbone"] == "unet_b")
    loaded = config.load(ROOT / "config")
    assert known["forward_gflop"] == pytest.approx(counts.flops(loaded, "unet_b", "amaes", None, [128] * 3) / 1e9, abs=0.05)
