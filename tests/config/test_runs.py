"""Runs: what they refuse, and that the JSON of every run of every study is what it was."""

import json

import pytest

from brainpretrain import config
from brainpretrain.config import runs
from brainpretrain.files import fingerprint
from brainpretrain.plan import tables as plan
from helpers import ROOT

FINGERPRINTS = json.loads((ROOT / "tests" / "config" / "run_fingerprints.json").read_text())


def fingerprints(study: str) -> dict[str, str]:
    """Fingerprints of all runs of a study, fold 0, from the JSON that the rules write, by folder of the result."""
    made = plan.make(config.load(ROOT / "config", {"study": study}))
    jobs = {p.path: (runs.pretrain_run, pretrain_config(made.config, p)) for p in made.pretrainings}
    for arm in {evaluation.arm for evaluation in made.evaluations}:
        jobs[f"{arm.path}/fold0"] = runs.finetune_run, plan.finetune_config(made.config, arm, 0)
    return {path: fingerprint(read(json.loads(json.dumps(run)), path).plain()) for path, (read, run) in jobs.items()}


def pretrain_config(loaded: config.Config, pretraining: plan.Pretraining) -> dict:
    recipe = loaded.pretext(pretraining.pretext, pretraining.backbone)
    return {
        "name": f"{pretraining.init}/{pretraining.backbone}",
        "seed": loaded.study.seed,
        "recipe": recipe.model_dump(mode="json", exclude={"per_backbone", "augmentation"}),
        "backbone": loaded.backbones[pretraining.backbone].model_dump(mode="json", include={"architecture", "options"}),
        "policy": loaded.augmentations[recipe.augmentation].model_dump(mode="json"),
        "preprocess": loaded.stored_as(loaded.corpora[pretraining.corpus].preprocess),
    }


@pytest.mark.parametrize("study", FINGERPRINTS)
def test_work_folders_of_begun_trainings_keep_their_names(study):
    """The record was made by the code before runs were typed. A new study needs no entry."""
    assert fingerprints(study) == FINGERPRINTS[study]
