"""The parts that all descriptions of data sets share."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from brainpretrain import datasets
from brainpretrain.datasets.base import guess_sequence
from brainpretrain.errors import UserError
from helpers import ROOT


@pytest.mark.parametrize(
    ("series", "sequence"),
    [
        ("MPR__GradWarp__B1_Correction__N3__Scaled", "T1w"),
        ("MT1__GradWarp__N3m", "T1w"),
        ("Sag_3DT1_IR-SPGR", "T1w"),
        ("Sagittal_3D_FLAIR", "FLAIR"),
        ("AX_T1_FLAIR", "T1w"),
        ("Axial_T2_STAR", "T2starw"),
        ("GRE_axial", "T2starw"),
        ("Axial_PD_T2_FSE", "T2w"),
        ("HighResHippocampus", "T2w"),
        ("Axial_DTI", "DWI"),
        ("Axial_PD_FSE", "PDw"),
        ("SagPD", "PDw"),
        ("update", "unknown"),
        ("sub-OAS42001_ses-d3000_swi", "SWI"),
        ("anat1", "unknown"),
        ("localizer", "unknown"),
    ],
)
def test_sequence_of_a_series_name(series: str, sequence: str) -> None:
    assert guess_sequence(series) == sequence


def test_load_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'isles22'"):
        datasets.load("isles2022")
    assert "base" not in datasets.names() and "fetch" not in datasets.names()


def test_describing_data_sets_imports_nothing_slow() -> None:
    code = "import sys; from brainpretrain import datasets; [datasets.load(n) for n in datasets.names()]; print(*sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert not {"torch", "nibabel", "scipy", "monai", "lightning", "nilearn"} & set(done.stdout.split())
