"""Runs: what they refuse, and that the JSON of every run of every study is what it was."""

import json

import pytest

from brainpretrain import config
from brainpretrain.config import runs
from brainpretrain.files import fingerprint
from brainpretrain.plan import specs, tables
from helpers import ROOT

FINGERPRINTS = json.loads((ROOT / "tests" / "config" / "run_fingerprints.json").read_text())


def fingerprints(study: str) -> dict[str, str]:
    """Fingerprints of all runs of a study, fold 0, from the JSON that the rules write, by folder of the result."""
    made = tables.make(config.load(ROOT / "config", {"study": study}))
    jobs = {p.path: (runs.pretrain_run, specs.pretrain_config(made.config, p)) for p in made.pretrainings}
    for arm in {evaluation.arm for evaluation in made.evaluations}:
        jobs[f"{arm.path}/fold0"] = runs.finetune_run, specs.finetune_config(made.config, arm, 0)
    return {path: fingerprint(read(json.loads(json.dumps(run)), path).plain()) for path, (read, run) in jobs.items()}


@pytest.mark.parametrize("study", FINGERPRINTS)
def test_work_folders_of_begun_trainings_keep_their_names(study):
    """The record was made by the code before runs were typed. A new study needs no entry."""
    assert fingerprints(study) == FINGERPRINTS[study]
