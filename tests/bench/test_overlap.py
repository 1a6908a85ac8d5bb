"""The benchmark of the overlap audit, run for real on a folder of phantom heads. No number that a clock gave is judged."""

import os
import subprocess
import sys

import nibabel as nib
import numpy as np
from tests.cohorts.test_likeness import phantom

from brainpretrain.files import read_json
from helpers import ROOT

SCRIPT = ROOT / "bench" / "overlap.py"


def test_copies_of_any_folder_of_heads_are_planted_and_found(tmp_path):
    for seed in (1, 2):
        head, folder = phantom(seed), tmp_path / "heads" / f"h{seed}"
        folder.mkdir(parents=True)
        affine = np.diag([3.0, 3.0, 3.0, 1.0])
        nib.save(nib.Nifti1Image((1000 * head.image).astype(np.int16), affine), folder / "T1.nii.gz")
        if seed == 1:  # the other head has no mask, so it cannot be stripped
            nib.save(nib.Nifti1Image(head.brain.astype(np.uint8), affine), folder / "mask.nii.gz")
    page = tmp_path / "page.md"
    page.write_text("<!-- overlap -->\nold\n<!-- end overlap -->")
    line = [sys.executable, str(SCRIPT), "--data", f"{tmp_path}/heads", "--pattern", "*/T1.nii.gz", "--mask", "mask.nii.gz"]
    line += ["--copies", "2", "--kinds", "skull-stripped", "oblique grid, 10 degrees", "--json", f"{tmp_path}/overlap.json"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*line, "--page", str(page)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    found = read_json(tmp_path / "overlap.json")
    rows = {row[0]: row[1:] for row in found["details"]["rows"]}
    assert {kind: row[:3] for kind, row in rows.items()} == {
        "skull-stripped": ["1", "1", "0"], "oblique grid, 10 degrees": ["2", "2", "0"]}  # fmt: skip
    assert all(row[5] == "0" for row in rows.values()) and found["details"]["real"] == []
    assert [goal["met"] for goal in found["goals"]] == [True] * 3
    assert "2 heads, 1 pairs of different heads: 0 false pairs" in page.read_text() and "old" not in page.read_text()
