"""The params of every job of every study are those on record, so that no change of the code runs finished work again.

A record is `tests/plan/params/<study>.json`. A change of the method changes it on purpose: then write the new record in the same commit
(`python tests/plan/test_params.py`), and say in CHANGELOG.md what runs again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECORDS = Path(__file__).parent / "params"
STUDIES = sorted(path.stem for path in (ROOT / "config" / "studies").glob("*.yaml"))


def planned(studies: list[str]) -> dict[str, dict]:
    line = [sys.executable, "tests/support/planned_params.py", *studies]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def plans(tmp_path_factory) -> dict[str, dict]:
    """All studies, and the demo with seeds and a grid of learning rates, planned in one process."""
    text = (ROOT / "config" / "studies" / "demo.yaml").read_text()
    seeded = tmp_path_factory.mktemp("seeded") / "seeded.yaml"
    seeded.write_text(
        text.replace("folds: 2\n", "folds: 2\nseeds: [4, 7]\ndraws: disjoint\n").replace(
            "log_every_steps: 25", "log_every_steps: 25\n    lr_grid: [5.0e-3, 1.0e-2]"
        )
    )
    made = planned([*STUDIES, str(seeded)])
    return {**made, "seeded": made[str(seeded)]}


@pytest.mark.parametrize("study", STUDIES)
def test_no_job_of_a_study_would_run_again(plans, study):
    record = json.loads((RECORDS / f"{study}.json").read_text())
    assert plans[study]["jobs"].keys() == record["jobs"].keys()
    assert plans[study]["examples"] == record["examples"]
    assert plans[study]["jobs"] == record["jobs"]


def test_with_seeds_and_a_grid_each_fold_is_trained_with_each_of_them(plans):
    """Splits, pretrainings and corpora are those of the study without both; fine-tunings differ in name and seed alone."""
    demo = plans["demo"]["jobs"]
    seeded = {job.replace("results/seeded", "results/demo"): params for job, params in plans["seeded"]["jobs"].items()}
    later = ("/finetune/", "/tables/", "/figures/", "/overlays/", "/scores.tsv", "/overlap.tsv")
    shared = {job: params for job, params in demo.items() if not any(part in job for part in later)}
    assert len(shared) > 10 and {job: seeded.get(job) for job in shared} == shared
    models = [job.split("/")[-4:-1] for job in seeded if job.endswith("model.safetensors")]
    chosen = [["demo", "n3", f"fold{fold}-seed{seed}"] for fold in (0, 1) for seed in (4, 7)]
    candidates = [[f"demo_lr{rate}", "n3", f"fold{fold}-seed4"] for rate in (0, 1) for fold in (0, 1)]
    assert sorted(models) == sorted(2 * (chosen + candidates))  # from scratch and pretrained
    assert sum("/learning_rates/" in job for job in seeded) == 4 and "results/demo/tables/demo_trainings.tsv" in seeded
    jobs = {study: next(p for job, p in plans[study]["examples"].items() if "model.safe" in job) for study in ("demo", "seeded")}
    runs = [json.loads(next(text for text in job if "backbone" in text).strip("'")) for job in jobs.values()]
    assert {key for key in runs[0] if runs[0][key] != runs[1][key]} == {"name", "seed"} and runs[1]["seed"] == 4


if __name__ == "__main__":
    for name, record in planned(STUDIES).items():
        (RECORDS / f"{name}.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
