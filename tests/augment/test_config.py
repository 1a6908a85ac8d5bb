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


def active(policy: str) -> list[str]:
    return [name for name in PolicyConfig.model_fields if hasattr(getattr(POLICIES[policy], name), "p")]


def test_importing_it_imports_no_torch():
    code = "import sys, brainpretrain.augment.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_policies_of_the_project():
    assert active("none") == []
    assert active("spatial") == ["rotation", "scale"]
    assert active("amaes_spatial") == SPATIAL
    assert active("amaes") == active("amaes_finetune") == SPATIAL + list(TRANSFORMS)
    assert POLICIES["amaes"].gibbs.kept == [96 / 128, 1.0]


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
        ({"ghosting": {"p": 0.2, "alpha": [0.8, 0.9], "spacing": [0, 2]}}, "greater than or equal to 1"),
        ({"scale": {"p": 0.2, "factor": [0.9, 1.1], "p_axis": 1}}, "p_axis"),
        ({"crop_factor": 0.5}, "greater than or equal to 1"),
    ],
)
def test_bad_entries_are_refused(entry, message):
    with pytest.raises(ValidationError, match=message):
        PolicyConfig.model_validate(entry)
