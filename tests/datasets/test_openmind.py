"""OpenMind: its table says what is a volume."""

from __future__ import annotations

from pathlib import Path

import pytest

from brainpretrain import datasets
from brainpretrain.datasets.base import NotInPlace
from brainpretrain.download.index import index
from brainpretrain.errors import UserError

ANAT = "ds000117/sub-01/ses-mri/anat/sub-01_ses-mri_acq-mprage_T1w.nii.gz"
MAP = "ds000117/sub-02/dwi/sub-02_dwi.nii/ADC.nii.gz"
ELSEWHERE = "ds000221/sub-01/anat/sub-01_T2w.nii.gz"
LINES = [(ANAT, "T1w"), (MAP, "ADC"), (ELSEWHERE, "T2w")]


def tree(root: Path, lines: list[tuple[str, str]], *present: str) -> Path:
    root.mkdir(exist_ok=True)
    table = ["unique_id,image_path,modality,anat_mask_path", *(f"x,{path},{modality},masks" for path, modality in lines)]
    (root / "openneuro_metadata.csv").write_text("\n".join(table) + "\n")
    for path in present:
        (root / "OpenMind" / path).parent.mkdir(parents=True, exist_ok=True)
        (root / "OpenMind" / path).write_bytes(b"12345")
    return root


def test_rows_are_those_of_the_table_that_are_in_place(tmp_path: Path) -> None:
    mask = ANAT.replace("_T1w", "_T1w_anat_mask")
    rows = index(datasets.load("openmind"), tree(tmp_path, LINES, ANAT, MAP, mask))
    assert [(row["volume"], row["subject"], row["session"], row["sequence"], row["site"]) for row in rows] == [
        ("ds000117-sub-01_mri_anat-sub-01-ses-mri-acq-mprage-T1w_T1w", "ds000117-sub-01", "mri", "T1w", "ds000117"),
        ("ds000117-sub-02_dwi-sub-02-dwi-ADC_ADC", "ds000117-sub-02", "", "ADC", "ds000117"),
    ]
    assert all((tmp_path / row["path"]).is_file() and row["source_bytes"] == 5 and row["patient"] for row in rows)


def test_subjects_of_two_studies_are_two(tmp_path: Path) -> None:
    rows = index(datasets.load("openmind"), tree(tmp_path, LINES, ANAT, ELSEWHERE))
    assert len({row["subject"] for row in rows}) == 2


@pytest.mark.parametrize(("lines", "message"), [(None, "there is no openneuro_metadata.csv"), (LINES, f"OpenMind/{ANAT}")])
def test_nothing_in_place_says_what_to_get(tmp_path: Path, lines: list | None, message: str) -> None:
    if lines:
        tree(tmp_path, lines)
    with pytest.raises(NotInPlace, match=message) as error:
        index(datasets.load("openmind"), tmp_path)
    assert "https://huggingface.co/datasets/AnonRes/OpenMind" in str(error.value)


def test_a_line_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="more than once"):
        index(datasets.load("openmind"), tree(tmp_path, [LINES[0], LINES[0]], ANAT))
