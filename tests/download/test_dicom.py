"""DICOM to NIfTI with the real dcm2niix, on series of a few hundred bytes that the tests write."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest

from brainpretrain.download import dicom
from brainpretrain.errors import UserError
from brainpretrain.files import read_tsv
from brainpretrain.preprocess import nifti

LONG = (b"OB", b"OW", b"SQ", b"UN", b"UT")
UID = "1.2.826.0.1.3680043.8.498"
SHAPE = (6, 5, 4)  # columns, rows, slices


def element(group: int, number: int, kind: str, value) -> bytes:
    """One data element, explicit VR, little endian."""
    if kind == "US":
        value = struct.pack("<H", value)
    elif kind == "UL":
        value = struct.pack("<L", value)
    elif isinstance(value, str):
        value = value.encode()
    value += (b"\0" if kind in ("UI", "OW", "OB") else b" ") * (len(value) % 2)
    length = struct.pack("<xxL" if kind.encode() in LONG else "<H", len(value))
    return struct.pack("<HH", group, number) + kind.encode() + length + value


def slice_file(pixels: np.ndarray, index: int, number: int, description: str) -> bytes:
    """An axial MR slice of a series, 1 x 1 x 2 mm."""
    instance = f"{UID}.{number}.{index + 1}"
    meta = b"".join([
        element(2, 1, "OB", b"\0\1"), element(2, 2, "UI", "1.2.840.10008.5.1.4.1.1.4"), element(2, 3, "UI", instance),
        element(2, 0x10, "UI", "1.2.840.10008.1.2.1"), element(2, 0x12, "UI", UID),
    ])  # fmt: skip
    data = b"".join([
        element(8, 8, "CS", "ORIGINAL\\PRIMARY\\M"), element(8, 0x16, "UI", "1.2.840.10008.5.1.4.1.1.4"), element(8, 0x18, "UI", instance),
        element(8, 0x20, "DA", "20200102"), element(8, 0x30, "TM", "101112"), element(8, 0x60, "CS", "MR"), element(8, 0x70, "LO", "TEST"),
        element(8, 0x103E, "LO", description), element(0x10, 0x10, "PN", "Canary^Patient"), element(0x10, 0x20, "LO", "P1"),
        element(0x10, 0x30, "DA", "19500607"), element(0x18, 0x50, "DS", "2"), element(0x18, 0x80, "DS", "2000"), element(0x18, 0x81, "DS", "30"),
        element(0x18, 0x5100, "CS", "HFS"),
        element(0x20, 0xD, "UI", UID), element(0x20, 0xE, "UI", f"{UID}.{number}"), element(0x20, 0x11, "IS", str(number)),
        element(0x20, 0x13, "IS", str(index + 1)), element(0x20, 0x32, "DS", f"-10\\-20\\{2 * index}"), element(0x20, 0x37, "DS", "1\\0\\0\\0\\1\\0"),
        element(0x20, 0x52, "UI", f"{UID}.9"), element(0x28, 2, "US", 1), element(0x28, 4, "CS", "MONOCHROME2"),
        element(0x28, 0x10, "US", pixels.shape[1]), element(0x28, 0x11, "US", pixels.shape[0]), element(0x28, 0x30, "DS", "1\\1"),
        element(0x28, 0x100, "US", 16), element(0x28, 0x101, "US", 16), element(0x28, 0x102, "US", 15), element(0x28, 0x103, "US", 0),
        element(0x7FE0, 0x10, "OW", pixels.T.astype("<u2").tobytes()),
    ])  # fmt: skip
    return bytes(128) + b"DICM" + element(2, 0, "UL", len(meta)) + meta + data


def volume(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1000, SHAPE, dtype=np.uint16)


def write_series(folder, number=7, description="Axial FLAIR", seed=0, suffix=".dcm") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pixels = volume(seed)
    for index in range(SHAPE[2]):
        name = folder / f"{number}-{index}{suffix}"
        name.write_bytes(slice_file(pixels[:, :, index], index, number, description))


@pytest.fixture
def program(tmp_path):
    """Skips the test if dcm2niix is not installed; the lock file contains it."""
    try:
        return dicom.find_program(tmp_path)
    except UserError:
        pytest.skip("dcm2niix is not installed")


PLACE = "ADNI/002_S_0413/Axial FLAIR/2017-06-21_13_23_38.0/I863054"


def test_a_series_becomes_a_volume_on_the_same_path(tmp_path, program):
    write_series(tmp_path / PLACE)
    rows = dicom.convert(tmp_path)
    assert "Unable to determine manufacturer" in rows[0]["message"]  # a warning of dcm2niix
    assert rows == [{"series": PLACE, "status": "converted", "volumes": "7_Axial_FLAIR.nii.gz", "message": rows[0]["message"]}]
    assert read_tsv(tmp_path / "nifti" / "dicom.tsv").to_dict("records") == rows
    folder = tmp_path / "nifti" / PLACE
    assert sorted(path.name for path in folder.iterdir()) == [".dicom.json", "7_Axial_FLAIR.json", "7_Axial_FLAIR.nii.gz"]
    found = nifti.read_volume(folder / "7_Axial_FLAIR.nii.gz")
    assert found.array.shape == SHAPE and sorted(found.spacing_mm) == [1, 1, 2]
    for index in np.ndindex(SHAPE):  # position (-10 + column, -20 + row, 2 slice), x and y to left and back
        world = (10 - index[0], 20 - index[1], 2 * index[2], 1)
        assert found.array[tuple(np.rint(np.linalg.solve(found.affine, world)[:3]).astype(int))] == volume()[index]


def test_the_sidecar_names_no_patient(tmp_path, program):
    write_series(tmp_path / PLACE)
    dicom.convert(tmp_path)
    texts = [path.read_bytes() for path in (tmp_path / "nifti").rglob("*") if path.is_file()]
    texts += [gzip.decompress(text) for text in texts if text[:2] == b"\x1f\x8b"]
    assert len(texts) >= 4 and not [text for text in texts if b"Canary" in text or b"19500607" in text or b"20200102" in text]
    assert any(b"RepetitionTime" in text for text in texts)


def test_several_series_in_one_folder_and_below_it(tmp_path, program):
    write_series(tmp_path / "a", 3, "T1", suffix="")
    write_series(tmp_path / "a", 4, "T2", seed=1, suffix=".123")
    write_series(tmp_path / "a" / "b", 5, "PD", suffix=".IMA")
    rows = {row["series"]: row["volumes"] for row in dicom.convert(tmp_path)}
    assert rows == {"a": "3_T1.nii.gz 4_T2.nii.gz", "a/b": "5_PD.nii.gz"}


def test_a_converted_series_is_kept_until_its_files_change(tmp_path, program):
    write_series(tmp_path / "a")
    dicom.convert(tmp_path)
    path = tmp_path / "nifti" / "a" / "7_Axial_FLAIR.nii.gz"
    before = path.stat().st_mtime_ns
    dicom.convert(tmp_path)
    assert path.stat().st_mtime_ns == before
    write_series(tmp_path / "a", 8, "T2")
    (tmp_path / "nifti" / ".making-x").mkdir()
    assert dicom.convert(tmp_path)[0]["volumes"] == "7_Axial_FLAIR.nii.gz 8_T2.nii.gz"
    assert not list((tmp_path / "nifti").glob(".making-*"))


def test_a_broken_series_is_named_and_the_others_are_converted(tmp_path, program, capsys):
    write_series(tmp_path / "good")
    write_series(tmp_path / "bad")
    for path in (tmp_path / "bad").iterdir():
        path.write_bytes(path.read_bytes()[:200])
    rows = dicom.convert(tmp_path)
    assert [(row["series"], row["status"]) for row in rows] == [("bad", "failed"), ("good", "converted")]
    assert "not converted: bad: dcm2niix ended with" in capsys.readouterr().out
    assert not (tmp_path / "nifti" / "bad").exists()


def test_only_broken_series_is_an_error(tmp_path, program):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "1.dcm").write_bytes(bytes(128) + b"DICM" + bytes(20))
    with pytest.raises(UserError, match="none of 1 DICOM series could be converted"):
        dicom.convert(tmp_path)


def test_a_truncated_slice_fails_the_series(tmp_path, program):
    write_series(tmp_path / "a")
    path = tmp_path / "a" / "7-2.dcm"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"File not large enough to store image data: .*/a/7-2\.dcm"):
        dicom.convert(tmp_path)


def test_other_files_are_not_dicom(tmp_path):
    for name in ("a.nii.gz", "b.txt", "c", "d.dcm", ".hidden", "nifti/e.dcm"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((bytes(128) + b"DICM") if name in ("a.nii.gz", "nifti/e.dcm", ".hidden") else b"text")
    assert dicom.series(tmp_path) == [] == dicom.convert(tmp_path) and not (tmp_path / "nifti" / "dicom.tsv").exists()


def test_without_the_program_it_says_how_to_get_it(tmp_path, monkeypatch):
    write_series(tmp_path / "a")
    monkeypatch.setattr(dicom.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="pip install dcm2niix"):
        dicom.convert(tmp_path)
