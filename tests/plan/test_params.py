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
    seeded.write_text(text.replace("folds: 2\n", "folds: 2\nseeds: [4, 7]\ndraws: disjoint\n").replace("block: 3", "block: 2"))
    made = planned([*STUDIES, str(seeded)])
    return {**made, "seeded": made[str(seeded)]}


@pytest.mark.parametrize("study", STUDIES)
def test_no_job_of_a_study_would_run_again(plans, study):
    record = json.loads((RECORDS / f"{study}.json").read_text())
    assert plans[study]["jobs"].keys() == record["jobs"].keys()
    assert plans[study]["examples"] == record["examples"]
    assert plans[study]["jobs"] == record["jobs"]


def test_with_seeds_each_fold_is_trained_with_each_of_them(plans):
    """Splits, pretrainings and corpora are those of the study without seeds; fine-tunings differ in name and seed alone."""
    demo, seeded = (
        {job.replace("results/seeded", "results/demo"): p for job, p in plans[study]["jobs"].items()}
        for study in ("demo", "seeded")
    )
    shared = {job for job in demo if "/finetune/" not in job and "/tables/" not in job and "/figures/" not in job}
    assert {job: demo[job] for job in shared} == {job: seeded.get(job) for job in shared}
    models = {job.split("/fold")[1].split("/")[0] for job in seeded if job.endswith("model.safetensors")}
    assert models == {f"{fold}-seed{seed}" for fold in (0, 1) for seed in (4, 7)}
    assert sum(job.endswith("model.safetensors") for job in seeded) == 2 * sum(job.endswith("model.safetensors") for job in demo)
    (job,) = [job for job in plans["seeded"]["examples"] if job.endswith("model.safetensors")]
    (other,) = [job for job in plans["demo"]["examples"] if job.endswith("model.safetensors")]
    given = [
        json.loads(next(p for p in plans[s]["examples"][j] if p.startswith("{"))) for s, j in (("seeded", job), ("demo", other))
    ]
    assert {key for key in given[0] if given[0][key] != given[1][key]} == {"name", "seed"} and given[0]["seed"] == 4


if __name__ == "__main__":
    for name, record in planned(STUDIES).items():
        (RECORDS / f"{name}.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
