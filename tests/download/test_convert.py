"""NRRD to NIfTI: same voxels, same place; what is not read is refused by name."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainpretrain import datasets
from brainpretrain.datasets.base import NotInPlace
from brainpretrain.download import nrrd
from brainpretrain.download.fetch import fetch
from brainpretrain.download.index import index, scan
from brainpretrain.errors import UserError
from brainpretrain.preprocess.nifti import read_volume

ARRAY = np.arange(-10, 50, dtype=np.int16).reshape(3, 4, 5)


def write(path: Path, array: np.ndarray = ARRAY, kind: str = "short", encoding: str = "gzip", **changes: str) -> Path:
    """An NRRD file as Slicer writes them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = {
        "type": kind,
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": " ".join(map(str, array.shape)),
        "space directions": "(0.5,0,0) (0,0.6,0) (0,0,2)",
        "kinds": "domain domain domain",
        "endian": "little",
        "encoding": encoding,
        "space origin": "(10,20,-30)",
    } | {name.replace("_", " "): value for name, value in changes.items()}
    lines = ["NRRD0005", "# a comment: no field", *(f"{name}: {value}" for name, value in fields.items() if value), "key:=value"]
    voxels = array.tobytes(order="F")
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + (gzip.compress(voxels) if encoding in ("gzip", "gz") else voxels))
    return path


@pytest.mark.parametrize(
    ("kind", "dtype", "encoding", "endian"),
    [
        ("short", "<i2", "gzip", "little"),
        ("unsigned char", "<u1", "raw", ""),
        ("float", "<f4", "gz", "little"),
        ("int16", ">i2", "raw", "big"),
    ],
)
def test_voxels_and_place_are_kept(tmp_path: Path, kind: str, dtype: str, encoding: str, endian: str) -> None:
    array = np.abs(ARRAY).astype(dtype)
    nrrd.convert(write(tmp_path / "a.nrrd", array, kind, encoding, endian=endian), tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.affine, [[-0.5, 0, 0, -10], [0, -0.6, 0, -20], [0, 0, 2, -30], [0, 0, 0, 1]])


def test_an_oblique_ras_volume(tmp_path: Path) -> None:
    directions = "(0,1,0) (-2,0,0) (0,0,3)"
    nrrd.convert(write(tmp_path / "a.nrrd", space="RAS", space_directions=directions), tmp_path / "a.nii.gz")
    affine = nib.load(tmp_path / "a.nii.gz").affine
    np.testing.assert_allclose(affine, [[0, -2, 0, 10], [1, 0, 0, 20], [0, 0, 3, -30], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sizes": "2 3 4 5"}, "this form of NRRD is not supported"),
        ({"encoding": "bzip2"}, "this form of NRRD is not supported .*bzip2"),
        ({"data_file": "other.raw"}, "this form of NRRD is not supported"),
        ({"sizes": "3 4 6"}, "120 bytes of voxels where the header says 144"),
        ({"space": ""}, "position in the world is not stated"),
        ({"space": "scanner-xyz"}, "scanner-xyz"),
    ],
)
def test_what_is_not_read_is_refused(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    source = write(tmp_path / "a.nrrd", **changes)
    with pytest.raises(UserError, match=message) as error:
        nrrd.convert(source, tmp_path / "a.nii.gz")
    assert str(source) in str(error.value) and not (tmp_path / "a.nii.gz").exists()


def test_a_truncated_and_a_foreign_file(tmp_path: Path) -> None:
    source = write(tmp_path / "a.nrrd")
    source.write_bytes(source.read_bytes()[:-20])
    with pytest.raises(UserError, match="damaged or truncated"):
        nrrd.convert(source, tmp_path / "a.nii.gz")
    source.write_text("<html>log in</html>")
    with pytest.raises(UserError, match="no NRRD file"):
        nrrd.convert(source, tmp_path / "a.nii.gz")


def test_han_seg_is_converted_once_and_indexed(tmp_path: Path) -> None:
    case = tmp_path / "HaN-Seg/set_1/case_01"
    for name in ("IMG_CT", "IMG_MR_T1", "OAR_Brainstem.seg"):
        write(case / f"case_01_{name}.nrrd")
    dataset = datasets.load("han_seg")
    with pytest.raises(NotInPlace, match="none of 3 files"):
        index(dataset, tmp_path)
    facts = fetch(dataset, tmp_path)
    assert (facts["volumes"], facts["unexpected_files"]) == (2, 0)
    rows = index(dataset, tmp_path)
    assert [row["path"] for row in rows] == [
        f"nifti/HaN-Seg/set_1/case_01/case_01_{name}.nii.gz" for name in ("IMG_CT", "IMG_MR_T1")
    ]
    before = [(tmp_path / row["path"]).stat().st_mtime_ns for row in rows]
    fetch(dataset, tmp_path)
    assert [(tmp_path / row["path"]).stat().st_mtime_ns for row in rows] == before


def test_dicom_that_is_not_converted_says_so(tmp_path: Path) -> None:
    series = tmp_path / "Training_dataset/0_P113_U/1.dcm"
    series.parent.mkdir(parents=True)
    series.write_bytes(bytes(128) + b"DICM")
    with pytest.raises(NotInPlace, match="files come as DICOM and are converted into nifti/ by the download step"):
        index(datasets.load("cosmos"), tmp_path)


@pytest.mark.parametrize(
    ("name", "series"),
    [
        ("adni", "ADNI/002_S_0413/Axial_FLAIR/2017-06-21_13_23_38.0/I863054"),
        ("ppmi", "DATA/3102/AX_T2_FLAIR/2012-03-20_09_01_13.0/I301122"),
    ],
)
def test_converted_series_of_loni_are_found_beside_those_that_came_as_nifti(tmp_path: Path, name: str, series: str) -> None:
    for path in (f"nifti/{series}/a_e1.nii.gz", f"nifti/{series}/a_e2.nii.gz", f"{series[:-1]}9/b.nii", f"{series}/1.dcm"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / f"nifti/{series}/a_e1.json").touch()
    (tmp_path / "nifti/dicom.tsv").touch()
    rows = index(datasets.load(name), tmp_path)
    assert scan(datasets.load(name), tmp_path).unexpected == []
    assert len(rows) == 3 and {row["sequence"] for row in rows} == {"FLAIR"} and len({row["subject"] for row in rows}) == 1
