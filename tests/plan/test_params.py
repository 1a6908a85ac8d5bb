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
    """All studies, and the demo with seeds, planned in one process."""
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
    """Splits, pretrainings and corpora are those of the study without both; fine-tunings differ in name, seed and rate alone."""
    demo = plans["demo"]["jobs"]
    seeded = {job.replace("results/seeded", "results/demo"): params for job, params in plans["seeded"]["jobs"].items()}
    later = ("/finetune/", "/tables/", "/figures/", "/overlays/", "/scores.tsv")
    shared = {job: params for job, params in demo.items() if not any(part in job for part in later)}
    assert len(shared) > 10 and {job: seeded.get(job) for job in shared} == shared
    models = [job.split("/")[5:8] for job in seeded if job.endswith("model.safetensors")]
    chosen = [f"{fold}-seed{seed}" for fold in (0, 1) for seed in (4, 7)]
    assert sorted(models) == sorted(
        [["demo", "n3", f"fold{name}"] for name in 2 * chosen]
        + 2 * [[f"demo_lr{rate}", "n3", f"fold{fold}-seed4"] for rate in (0, 1) for fold in (0, 1)]
    )
    assert sum("/learning_rates/" in job for job in seeded) == 4 and any("demo_trainings.tsv" in job for job in seeded)


def test_a_chosen_rate_reaches_its_trainings_as_a_file(plans):
    given = {
        study: next(p for j, p in plans[study]["examples"].items() if j.endswith("model.safetensors"))
        for study in ("demo", "seeded")
    }
    runs = {study: json.loads(next(p for p in params if p.startswith("{"))) for study, params in given.items()}
    assert {key for key in runs["demo"] if runs["demo"][key] != runs["seeded"][key]} == {"name", "seed"}
    rate = "results/seeded/learning_rates/phantom_tissue/unet_tiny/amaes_demo-on-phantom_unlabelled/demo/n3/fold0.json"
    assert any("--rate" in p and rate in p for p in given["seeded"]) and not any("--rate" in p for p in given["demo"])


if __name__ == "__main__":
    for name, record in planned(STUDIES).items():
        (RECORDS / f"{name}.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
