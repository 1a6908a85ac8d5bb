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
def plans() -> dict[str, dict]:
    """All studies, planned in one process."""
    return planned(STUDIES)


@pytest.mark.parametrize("study", STUDIES)
def test_no_job_of_a_study_would_run_again(plans, study):
    record = json.loads((RECORDS / f"{study}.json").read_text())
    assert plans[study]["jobs"].keys() == record["jobs"].keys()
    assert plans[study]["examples"] == record["examples"]
    assert plans[study]["jobs"] == record["jobs"]


if __name__ == "__main__":
    for name, record in planned(STUDIES).items():
        (RECORDS / f"{name}.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
