import json

import pytest

import tiny
from brainpretrain import cli, config
from helpers import ROOT


@pytest.mark.parametrize(
    ("name", "changes"), [("amaes", {}), ("mae_primus", {}), ("volume_fusion", {}), ("voco", {"grid": [2, 2, 1], "hidden": 8})]
)
def test_a_pretext_is_drawn_on_volumes(cohort, tmp_path, name, changes):
    entry = config.load(ROOT / "config").pretexts[name]
    content = json.dumps({"method": entry.method, "options": entry.options | changes})
    volumes = [str(cohort.raw / f"s{number}_T1w.nii.gz") for number in (0, 1)]
    line = ["--pretext", content, "--preprocess", json.dumps(tiny.PREPROCESS), "--patch-size", "16", "16", "16", "--draws", "2"]
    assert cli.main(["plot-pretext", *volumes, *line, "--out", str(tmp_path / "drawn.png")]) == 0
    assert (tmp_path / "drawn.png").stat().st_size > 5_000
