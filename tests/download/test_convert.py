"""Other formats to NIfTI: same voxels, same place; what is damaged, or does not say where it is, is refused by name."""

from __future__ import annotations

import gzip
import re
import shlex
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from brainpretrain import cli, datasets
from brainpretrain.datasets.base import NotInPlace
from brainpretrain.download import convert as module
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
    module.convert(write(tmp_path / "a.nrrd", array, kind, encoding, endian=endian), tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.affine, [[-0.5, 0, 0, -10], [0, -0.6, 0, -20], [0, 0, 2, -30], [0, 0, 0, 1]])


def test_an_oblique_ras_volume(tmp_path: Path) -> None:
    directions = "(0,1,0) (-2,0,0) (0,0,3)"
    module.convert(write(tmp_path / "a.nrrd", space="RAS", space_directions=directions), tmp_path / "a.nii.gz")
    affine = nib.load(tmp_path / "a.nii.gz").affine
    np.testing.assert_allclose(affine, [[0, -2, 0, 10], [1, 0, 0, 20], [0, 0, 3, -30], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sizes": "2 3 4 5", "dimension": "4"}, "not supported by SimpleITK"),
        ({"encoding": "bzip2"}, "not supported by SimpleITK"),
        ({"data_file": "other.raw"}, "not supported by SimpleITK"),
        ({"sizes": "3 4 6"}, "expected 144 bytes but received 120"),
        ({"sizes": "3 4 4"}, "120 bytes of voxels where the header says 96"),
        ({"sizes": "30000 30000 30000"}, "not supported by SimpleITK"),
        ({"space": ""}, "position in the world is not stated"),
        ({"space_origin": ""}, "position in the world is not stated"),
        ({"space_directions": "(nan,nan,nan) (0,1,0) (0,0,1)"}, "position in the world is not stated"),
        ({"space": "scanner-xyz"}, "scanner-xyz"),
        ({"space_units": '"um" "um" "um"'}, "its unit is um"),
    ],
)
def test_what_is_not_read_is_refused(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    source = write(tmp_path / "a.nrrd", **changes)
    with pytest.raises(UserError, match=message) as error:
        module.convert(source, tmp_path / "a.nii.gz")
    assert str(source) in str(error.value) and not (tmp_path / "a.nii.gz").exists()


def test_foreign_files_and_pointers(tmp_path: Path) -> None:
    for content, message in (("<html>log in</html>", "no NRRD file"), ("/annex/objects/MD5E-s1--d4.nrrd", "datalad get")):
        (tmp_path / "a.nrrd").write_text(content)
        with pytest.raises(UserError, match=message):
            module.convert(tmp_path / "a.nrrd", tmp_path / "a.nii.gz")


FORMATS = ["nrrd", "nhdr", "mha", "mhd", "gipl", "gipl.gz", "mgz", "mgh"]
MATRIX = np.array([[0, -2, 0, 10], [1, 0, 0, 20], [0, 0, 3, -30], [0, 0, 0, 1.0]])  # RAS


def made(folder: Path, ending: str, compressed: bool = False, affine: np.ndarray = MATRIX) -> Path:
    """The ramp ARRAY in a format, written by SimpleITK or nibabel."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"scan_0000.{ending}"
    if ending.startswith("mg"):
        nib.save(nib.MGHImage(ARRAY, affine.astype(np.float32)), path)
        return path
    lps = np.diag([-1, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image = SimpleITK.GetImageFromArray(ARRAY.transpose(2, 1, 0))
    image.SetSpacing(spacing)
    image.SetOrigin(lps[:3, 3])
    image.SetDirection((lps[:3, :3] / spacing).ravel())
    SimpleITK.WriteImage(image, str(path), compressed)
    return path


def voxels_of(path: Path) -> Path:
    """The file that holds the voxels."""
    others = [other for other in path.parent.iterdir() if other.name.endswith((".raw", ".zraw", ".raw.gz"))]
    return others[0] if path.suffix in (".nhdr", ".mhd") else path


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("compressed", [False, True])
def test_formats_are_converted(tmp_path: Path, ending: str, compressed: bool) -> None:
    module.convert(made(tmp_path, ending, compressed), tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(volume.array, ARRAY)
    if "gipl" in ending:  # it has no place for an orientation
        assert volume.spacing_mm == (1, 2, 3) and "orientation unknown" in volume.facts["notes"][0]
    else:
        np.testing.assert_allclose(volume.affine, MATRIX, atol=1e-6)
        assert volume.facts["notes"] == []


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_files_are_refused(tmp_path: Path, ending: str, compressed: bool) -> None:
    """SimpleITK by itself reads a cut GIPL file, and a MetaImage with a wrong bit in its compressed voxels."""
    source = made(tmp_path, ending, compressed)
    whole = voxels_of(source).read_bytes()
    flipped = bytearray(whole)
    flipped[-12] ^= 4
    damaged = [whole[: len(whole) // 2], whole[: len(whole) - (30 if ending == "mgh" else 3)]]  # MGH ends with a footer
    damaged += (
        [bytes(flipped)] if (compressed and "gipl" not in ending and ending[:2] != "mg") or ending in ("gipl.gz", "mgz") else []
    )
    for content in damaged:
        voxels_of(source).write_bytes(content)
        with pytest.raises(UserError) as error:
            module.convert(source, tmp_path / "a.nii.gz")
        assert str(source) in str(error.value) and not (tmp_path / "a.nii.gz").exists()


def test_a_metaimage_without_a_matrix_has_no_orientation(tmp_path: Path) -> None:
    source = made(tmp_path, "mha")
    lines = source.read_bytes().splitlines(keepends=True)
    source.write_bytes(b"".join(line for line in lines if not line.startswith(b"TransformMatrix")))
    module.convert(source, tmp_path / "a.nii.gz")
    assert "orientation unknown" in read_volume(tmp_path / "a.nii.gz").facts["notes"][0]


@pytest.mark.parametrize("pixels", ["4-D", "vectors"])
def test_other_than_one_real_3d_volume_is_refused(tmp_path: Path, pixels: str) -> None:
    image = SimpleITK.GetImageFromArray(np.zeros((3, 4, 5, 2)), isVector=pixels == "vectors")
    SimpleITK.WriteImage(image, str(tmp_path / "a.mha"))
    with pytest.raises(UserError, match="where one 3-D volume is needed"):
        module.convert(tmp_path / "a.mha", tmp_path / "a.nii.gz")


def test_the_command_that_check_names_converts_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The advice of `check` is followed; a damaged file is named and does not stop the others."""
    made(tmp_path / "raw/imagesTr", "mha", compressed=True)
    (tmp_path / "raw/imagesTr/bad_0000.mha").write_text("no header")
    (tmp_path / "raw/dataset.json").write_text('{"channel_names": {"0": "T1w"}, "labels": {"background": 0}}')
    assert cli.main(["check", str(tmp_path / "raw")]) == 2
    said = capsys.readouterr()
    command = re.search(r"imagesTr/bad_0000.nii.gz \(brainpretrain (convert .*?)\)", said.out)
    assert command and cli.main(shlex.split(command[1])) == 2
    assert "bad_0000.mha: this is no MetaImage file" in capsys.readouterr().err
    (tmp_path / "raw/imagesTr/bad_0000.mha").unlink()
    assert cli.main(shlex.split(command[1])) == 0 and "0 volumes converted" in capsys.readouterr().out  # it is there already
    np.testing.assert_array_equal(read_volume(tmp_path / "raw/imagesTr/scan_0000.nii.gz").array, ARRAY)
    made(tmp_path / "raw/imagesTr", "nrrd")
    assert cli.main(shlex.split(command[1])) == 2 and "would become a file of the same name" in capsys.readouterr().err


def test_the_command_converts_one_volume(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["convert", str(made(tmp_path, "mgz")), "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "out/scan_0000.nii.gz")
    assert cli.main(["convert", str(tmp_path / "nowhere")]) == 2


def test_han_seg_is_converted_once_and_indexed(tmp_path: Path) -> None:
    case = tmp_path / "HaN-Seg/set_1/case_01"
    for name in ("IMG_CT", "IMG_MR_T1"):
        write(case / f"case_01_{name}.nrrd")
    write(case / "case_01_OAR_Brainstem.seg.nrrd", (ARRAY > 0).astype(ARRAY.dtype))
    dataset = datasets.load("han_seg")
    with pytest.raises(NotInPlace, match="none of 3 files"):
        index(dataset, tmp_path)
    facts = fetch(dataset, tmp_path)
    assert (facts["volumes"], facts["unexpected_files"]) == (2, 0)
    rows = index(dataset, tmp_path)
    assert [row["path"] for row in rows] == [
        f"nifti/HaN-Seg/set_1/case_01/case_01_{name}.nii.gz" for name in ("IMG_CT", "IMG_MR_T1")
    ]
    assert [row["label"] for row in rows] == ["nifti/HaN-Seg/set_1/case_01/case_01_OAR.nii.gz", ""]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "nifti").rglob("*.nii.gz")}
    fetch(dataset, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "nifti").rglob("*.nii.gz")} == before


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
