import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from brainpretrain import config
from brainpretrain.augment.config import PolicyConfig
from brainpretrain.augment.intensity import TRANSFORMS

POLICIES = config.load(Path(__file__).parents[2] / "config").augmentations
SPATIAL = ["rotation", "scale", "elastic"]
NOT_AMAES = ["brightness", "contrast"]  # of nnU-Net's policy


def active(policy: str) -> list[str]:
    return [name for name in PolicyConfig.model_fields if hasattr(getattr(POLICIES[policy], name), "p")]


def test_importing_it_imports_no_torch():
    code = "import sys, brainpretrain.augment.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_policies_of_the_project():
    assert active("none") == []
    assert active("spatial") == ["rotation", "scale"]
    assert active("amaes_spatial") == SPATIAL
    for name in ("amaes", "amaes_linear", "amaes_reference", "amaes_finetune"):
        assert active(name) == SPATIAL + [name for name in TRANSFORMS if name not in NOT_AMAES]
    assert set(active("nnunet")) >= {"mirror", *NOT_AMAES} and POLICIES["nnunet"].mirrored == ["x", "y", "z"]
    assert POLICIES["amaes"].gibbs.kept == [96 / 128, 1.0]


def differing(one: str, other: str) -> set[str]:
    return {
        name
        for name in PolicyConfig.model_fields
        if name != "note" and getattr(POLICIES[one], name) != getattr(POLICIES[other], name)
    }


def test_variants_differ_in_what_they_are_named_for():
    assert differing("amaes", "amaes_linear") == {"interpolation"}
    assert differing("amaes", "amaes_reference") == {"resample_always", "separate_kspace", "ghosting", "gibbs", "gamma"}
    assert differing("amaes", "amaes_finetune") == {"crop_factor"}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"blurr": {"p": 0.1}}, "blurr"),
        ({"noise": {"p": 1.2, "sigma": [0, 1]}}, "less than or equal to 1"),
        ({"noise": {"p": 0.2, "sigma": [1, 0]}}, "low 1.0 is above high 0.0"),
        ({"noise": {"p": 0.2, "sigma": [0, 1, 2]}}, "at most 2"),
        ({"noise": {"p": 0.2}}, "sigma"),
        ({"noise": {"p": 0.2, "sigma": [-1, 0]}}, "greater than or equal to 0"),
        ({"noise": {"p": 0.2, "sigma": [0, float("inf")]}}, "finite"),
        ({"gibbs": {"p": 0.2, "kept": [96, 128]}}, "less than or equal to 1"),
        ({"gibbs": {"p": 0.2}}, "give either 'kept' or 'lines'"),
        ({"gibbs": {"p": 0.2, "kept": [0.75, 1], "lines": [96, 128]}}, "give either 'kept' or 'lines'"),
        ({"gamma": {"p": 0.2, "below": [0.5, 1], "above": [1, 2], "p_above": 0.5, "p_invert": 0.05}}, "epsilon"),
        ({"scale": {"p": 0.2, "factor": [0.9, 1.1]}}, "spatial transforms need 'interpolation'"),
        ({"resample_always": True}, "spatial transforms need 'interpolation'"),
        ({"interpolation": "nearest"}, "'cubic' or 'linear'"),
        ({"ghosting": {"p": 0.2, "alpha": [0.8, 0.9], "spacing": [0, 2]}}, "greater than or equal to 1"),
        ({"scale": {"p": 0.2, "factor": [0.9, 1.1], "p_axis": 1}}, "p_axis"),
        ({"crop_factor": 0.5}, "greater than or equal to 1"),
    ],
)
def test_bad_entries_are_refused(entry, message):
    with pytest.raises(ValidationError, match=message):
        PolicyConfig.model_validate(entry)
