"""The benchmark of ViT-MAE, run for real at a tiny size. No number that a clock gave is judged."""

import os
import subprocess
import sys

from brainpretrain.files import read_json
from helpers import ROOT


def test_both_ways_are_timed_and_every_goal_has_a_value(tmp_path):
    line = f"--rounds 1 --patch 32 --width 24 --depth 4 --heads 2 --light 16 1 2 --json {tmp_path}/tokens.json"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "bench" / "tokens.py"), *line.split()]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    found = read_json(tmp_path / "tokens.json")
    assert [goal["what"] for goal in found["goals"]] == [
        f"ViT-MAE, {part}, 85% hidden" for part in ("encoder forward and backward", "whole step")
    ]
    assert all(goal["value"] > 0 for goal in found["goals"]) and all(figure["median"] > 0 for figure in found["figures"])
    assert "| whole step |" in done.stdout
