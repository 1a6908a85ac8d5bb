"""Headers of every kind that NIfTI allows, and some that it does not: read as nibabel reads them, or refused by `check` and `shard`
with the same words."""

from __future__ import annotations

import gzip
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from tests.preprocess.test_shards import RECIPE

from brainpretrain.download import check
from brainpretrain.preprocess import shards
from brainpretrain.preprocess.headers import BadVolume, Limits
from brainpretrain.preprocess.nifti import read_grid, read_volume

SHAPE = (20, 18, 16)
AFFINE = np.array([[-1.5, 0, 0, 14], [0, 1.5, 0, -13], [0, 0, 2, -16], [0, 0, 0, 1.0]])
ANGLE = math.radians(20)
TURNED = np.array(
    [[-1.5 * math.cos(ANGLE), -1.5 * math.sin(ANGLE), 0, 14], [-1.5 * math.sin(ANGLE), 1.5 * math.cos(ANGLE), 0, -13], [0, 0, 2, -16], [0, 0, 0, 1]]
)  # fmt: skip
UPSIDE_DOWN = AFFINE @ np.diag([1, -1, -1, 1.0])  # half a turn: the quaternion has the length 1 without its first number
ARRAY = np.random.default_rng(0).integers(1, 200, SHAPE)
ZEROS = [0, 0, 0, 0]


@dataclass
class Odd:
    """A header that differs from an ordinary one in `fields`.

    Attributes:
        affine, sform, qform: affine and codes of the forms.
        reason: with which it is refused; '' if it is read.
        note: a remark that it gets.
        fixed: fields that nibabel needs to read the file at all.
        to_mm: millimetres per unit of the header, which nibabel does not convert.
    """

    fields: dict[str, Any]
    reason: str = ""
    note: str = ""
    affine: Any = field(default_factory=AFFINE.copy)
    sform: int = 1
    qform: int = 1
    dtype: Any = np.int16
    array: Any = field(default_factory=ARRAY.copy)
    kind: Any = nib.Nifti1Header
    order: str = "<"
    before_voxels: bytes = bytes(4)
    fixed: dict[str, Any] | None = None
    to_mm: float = 1

    def content(self, fixed: bool = False) -> bytes:
        header = self.kind(endianness=self.order)
        dtype = np.dtype(self.dtype).newbyteorder(self.order)
        header.set_data_shape(self.array.shape)
        header.set_data_dtype(dtype)
        header.set_xyzt_units("mm")
        header.set_qform(self.affine, self.qform)
        header.set_sform(self.affine, self.sform)
        header["magic"] = b"n+1" if self.kind is nib.Nifti1Header else b"n+2\0\r\n\x1a\n"
        header["vox_offset"] = header.sizeof_hdr + len(self.before_voxels)
        for name, value in (self.fields | ((self.fixed or {}) if fixed else {})).items():
            header[name] = value
        return header.binaryblock + self.before_voxels + self.array.astype(dtype).tobytes(order="F")


def pixdim(*values: float) -> dict[str, Any]:
    return {"pixdim": [*values, *[0] * (8 - len(values))]}


EXTENSION = b"\1\0\0\0" + (32).to_bytes(4, "little") + (6).to_bytes(4, "little") + b"a comment".ljust(24, b"\0")
RGB = np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
ODD = {
    # read
    **{f"type {name}": Odd({}, dtype=name) for name in ("u1", "i1", "u2", "i4", "u4", "i8", "u8", "f4", "f8")},
    "big-endian": Odd({}, order=">", affine=TURNED),
    "NIfTI-2": Odd({}, kind=nib.Nifti2Header),
    "NIfTI-2, big-endian, turned": Odd({}, kind=nib.Nifti2Header, order=">", affine=TURNED, sform=0),
    "slope 0": Odd({"scl_slope": 0, "scl_inter": 7}),
    "slope NaN": Odd({"scl_slope": np.nan, "scl_inter": np.nan}),
    "slope and intercept": Odd({"scl_slope": 0.5, "scl_inter": 3}),
    "negative slope": Odd({"scl_slope": -2, "scl_inter": 500}),
    "trailing ones": Odd({"dim": [4, *SHAPE, 1, 1, 1, 1]}),
    "seven dimensions": Odd({"dim": [7, *SHAPE, 1, 1, 1, 1]}),
    "unused dimensions 0": Odd({"dim": [3, *SHAPE, 0, 0, 0, 0]}),
    "bitpix wrong": Odd({"bitpix": 8}),
    "extension": Odd({}, before_voxels=EXTENSION),
    "gap before the voxels": Odd({}, before_voxels=bytes(4 + 1000)),
    "qfac 0, qform": Odd(pixdim(0, 1.5, 1.5, 2), sform=0, affine=UPSIDE_DOWN @ np.diag([-1, 1, 1, 1]), fixed=pixdim(1, 1.5, 1.5, 2)),
    "qfac 0, both forms": Odd(pixdim(0, 1.5, 1.5, 2), affine=UPSIDE_DOWN @ np.diag([-1, 1, 1, 1]), fixed=pixdim(1, 1.5, 1.5, 2)),
    "qfac 2": Odd(pixdim(2, 1.5, 1.5, 2), sform=0, affine=AFFINE @ np.diag([-1, 1, 1, 1]), note="qfac (pixdim[0]) is 2: taken as 1"),
    "qform only": Odd({}, sform=0, affine=TURNED),
    "sform only": Odd({}, qform=0, affine=TURNED),
    **{f"sform code {code}": Odd({}, sform=code, qform=0) for code in (2, 3, 4, 5)},
    **{f"qform code {code}": Odd({}, sform=0, qform=code) for code in (2, 3, 4, 5)},
    "quaternion off by 1e-6": Odd({"quatern_c": 1 + 1e-6}, sform=0, affine=AFFINE, fixed={"quatern_c": 1}),
    "quaternion off by 2e-4": Odd({"quatern_b": 1.0002}, sform=0, affine=UPSIDE_DOWN @ np.diag([-1, 1, 1, 1]), fixed={"quatern_b": 1}),
    "unit not set": Odd({"xyzt_units": 0}),
    "unit ms": Odd({"xyzt_units": 2 + 16}),
    "metres": Odd({"xyzt_units": 1}, affine=np.diag([1e-3, 1e-3, 1e-3, 1]) @ AFFINE, to_mm=1000, note="in m: converted"),
    "micrometres": Odd({"xyzt_units": 3}, affine=np.diag([1e3, 1e3, 1e3, 1]) @ AFFINE, to_mm=1e-3, sform=0, note="in um: converted"),
    "sform and pixdim differ": Odd(pixdim(1, 1, 1, 1), qform=0, note="differ: sform used; SimpleITK and nnU-Net read 1 x 1 x 1 mm"),
    "sform and qform shifted": Odd({"qoffset_x": 20}, sform=2, note="differ by up to 6.00 mm: sform used; SimpleITK and nnU-Net read the qform"),
    "sform and a broken qform": Odd({"quatern_b": 3}, note="invalid qform"),
    "garbage in an unset qform": Odd({"quatern_b": np.nan, "qoffset_x": np.inf}, qform=0),
    "garbage in an unset sform": Odd({"srow_x": [np.nan] * 4}, sform=0),
    "sheared by less than half a degree": Odd({"srow_x": [-1.5, 0.01, 0, 14]}, qform=0),
    # refused
    "two dimensions": Odd({}, "not_3d", array=ARRAY[..., 0]),
    "four dimensions": Odd({}, "not_3d", array=np.stack([ARRAY] * 2, -1)),
    "vectors": Odd({}, "not_3d", array=np.stack([ARRAY] * 3, -1)[:, :, :, None]),
    "dimension 0": Odd({"dim": [3, 20, 0, 16, 1, 1, 1, 1]}, "header"),
    "eight dimensions": Odd({"dim": [9, *SHAPE, 1, 1, 1, 1]}, "header"),
    "an axis of 3 voxels": Odd({}, "too_small", array=ARRAY[..., :3]),
    "complex": Odd({}, "dtype", dtype="c8"),
    "RGB": Odd({}, "dtype", array=RGB, dtype=RGB.dtype),
    "unknown type": Odd({"datatype": 1234}, "header"),
    "intercept Inf": Odd({"scl_slope": 1, "scl_inter": np.inf}, "header"),
    "pixdim 0": Odd(pixdim(1, 0, 1.5, 2), "spacing"),
    "pixdim negative": Odd(pixdim(1, -1.5, 1.5, 2), "spacing", sform=0),
    "pixdim NaN": Odd(pixdim(1, np.nan, 1.5, 2), "spacing"),
    "50 mm": Odd(pixdim(1, 50, 1.5, 2), "spacing", sform=0),
    "metres that are mm": Odd({"xyzt_units": 1}, "spacing"),
    "qfac -0.5": Odd(pixdim(-0.5, 1.5, 1.5, 2), "affine", sform=0),
    "qfac NaN": Odd(pixdim(np.nan, 1.5, 1.5, 2), "affine", sform=0),
    "quaternion of length 3": Odd({"quatern_b": 3}, "affine", sform=0),
    "quaternion NaN": Odd({"quatern_b": np.nan}, "affine", sform=0),
    "sheared": Odd({"srow_x": [-1.5, 0.4, 0, 14]}, "sheared"),
    "sform of zeros": Odd({"srow_x": ZEROS, "srow_y": ZEROS, "srow_z": ZEROS}, "affine"),
    "a column of zeros": Odd({"srow_x": [0, 0, 0, 14]}, "affine", qform=0),
    "sform NaN": Odd({"srow_x": [np.nan, 0, 0, 0]}, "affine"),
    "forms contradict each other": Odd(pixdim(1, 1, 1, 1), "forms"),
    "forms of two handednesses": Odd({"srow_x": [1.5, 0, 0, 14]}, "forms"),
    "sform code -1": Odd({"sform_code": -1}, "header"),
    "qform code 6": Odd({"qform_code": 6}, "header"),
    "voxels within the header": Odd({"vox_offset": 100}, "header"),
    "a pair": Odd({"magic": b"ni1"}, "not_nifti"),
    "Analyze": Odd({"magic": b""}, "not_nifti"),
    "too short": Odd({"dim": [3, 20, 18, 17, 1, 1, 1, 1]}, "truncated"),
    "too long": Odd({"dim": [3, 20, 18, 15, 1, 1, 1, 1]}, "length"),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BIDS folder with a subject for every header."""
    root = tmp_path_factory.mktemp("odd")
    for number, odd in enumerate(ODD.values()):
        path = root / f"sub-{number:02d}/anat/sub-{number:02d}_T1w.nii"
        path.parent.mkdir(parents=True)
        path.write_bytes(odd.content())
    return root


@pytest.fixture(scope="module")
def outcomes(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The rows of the shard by the name of the header."""
    rows = [
        dict.fromkeys(shards.INDEX_COLUMNS, "") | {"volume": f"sub-{n:02d}", "subject": f"sub-{n:02d}", "path": f"sub-{n:02d}/anat/sub-{n:02d}_T1w.nii"}
        for n in range(len(ODD))
    ]  # fmt: skip
    table = shards.build(rows, folder, tmp_path_factory.mktemp("out"), RECIPE | {"allow_negative": True}, 0, 1)
    return dict(zip(ODD, table.to_dict("records"), strict=True))


@pytest.mark.parametrize("name", ODD)
def test_a_header_is_read_or_refused(name: str, outcomes: dict[str, dict[str, Any]]) -> None:
    odd, row = ODD[name], outcomes[name]
    assert (row["status"], row["reason"]) == (("rejected", odd.reason) if odd.reason else ("ok", ""))
    assert odd.note in row["detail"] and bool(odd.note or odd.reason) == bool(row["detail"]), row["detail"]


def test_check_says_what_shard_says(folder: Path, outcomes: dict[str, dict[str, Any]]) -> None:
    facts = check.check(folder, RECIPE)
    said = {line.splitlines()[0] for line in facts["problems"]}
    rejected = [row for row in outcomes.values() if row["status"] == "rejected"]
    assert said == {f"{row['path']}: {row['reason']} ({row['detail']})" for row in rejected} and len(said) == len(rejected) >= 25
    assert all("fix:" in line for line in facts["problems"])
    remarked = {
        line
        for row in outcomes.values()
        if row["status"] == "ok" and row["detail"]
        for line in [f"{row['path']}: {row['detail']}"]
    }
    assert set(facts["remarks"]) == remarked and facts["opened"] == len(ODD)
    assert f"headers:   {len(ODD)} files opened" in check.report(facts)


@pytest.mark.parametrize("name", [name for name, odd in ODD.items() if not odd.reason])
def test_what_is_read_is_what_nibabel_reads(name: str, tmp_path: Path) -> None:
    odd = ODD[name]
    path = tmp_path / "v.nii.gz"
    path.write_bytes(gzip.compress(odd.content()))
    volume, grid = read_volume(path), read_grid(path)
    path.write_bytes(gzip.compress(odd.content(fixed=True)))
    with np.errstate(invalid="ignore"):
        image: Any = nib.load(path)
    to_mm = np.diag([odd.to_mm] * 3 + [1])
    if "broken qform" in name:
        assert image.header["sform_code"] == 1
    np.testing.assert_allclose(volume.affine, to_mm @ image.affine, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(volume.array, np.asarray(image.dataobj).reshape(SHAPE, order="F"), rtol=1e-6)
    np.testing.assert_array_equal(grid.affine, volume.affine)
    assert (grid.shape, grid.spacing_mm) == (volume.shape, volume.spacing_mm) and grid.notes == volume.facts["notes"]


def test_metres_that_are_millimetres_are_explained(tmp_path: Path) -> None:
    path = tmp_path / "v.nii"
    path.write_bytes(ODD["metres that are mm"].content())
    with pytest.raises(
        BadVolume, match=re.escape("1500 x 1500 x 2000 mm is not within 0.05 to 20 mm (1.5 x 1.5 x 2 in the header")
    ) as caught:
        read_volume(path)
    assert "xyzt_units" in caught.value.fix
    path.write_bytes(Odd({"xyzt_units": 2}).content())  # as the error says
    assert read_volume(path).spacing_mm == (1.5, 1.5, 2)


@pytest.mark.parametrize(("spacing", "voxels"), [(0.02, 1), (50.0, 1 << 30), (1.0, 8)])
def test_what_was_stored_is_within_the_limits_of_its_row(spacing: float, voxels: int) -> None:
    limits = Limits.of_stored({"native_shape": f"{voxels} 1 1", "native_spacing_mm": f"{spacing:g} 1 1"})
    assert limits.max_voxels >= voxels and limits.spacing_range_mm[0] <= spacing <= limits.spacing_range_mm[1]
    assert limits.max_voxels >= 1 << 29 and limits.spacing_range_mm[0] <= 0.05 and limits.spacing_range_mm[1] >= 20
