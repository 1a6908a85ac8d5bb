"""The reader refuses unusable files with a reason; the writer leaves a complete file or none."""

from __future__ import annotations

import gzip
import resource
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainpretrain.errors import UserError
from brainpretrain.preprocess import nifti
from brainpretrain.preprocess.nifti import BadVolume, Limits, read_header, read_volume, write_volume

SHAPE = (32, 36, 28)
AFFINE = np.array([[-1.2, 0.1, 0, 5], [0.1, 1.2, 0, -7], [0, 0, 3, 11], [0, 0, 0, 1.0]])
LIMITS = Limits(max_voxels=10**6)


def values(dtype: type = np.int16, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 3000 if np.dtype(dtype).itemsize > 1 else 200, shape).astype(dtype)


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE, **header: object) -> Path:
    """Writes a file with the given header fields, which nibabel would not accept."""
    image = nib.Nifti1Image(array, affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    content = bytearray(image.to_bytes())
    fields = nib.Nifti1Header(bytes(content[:348]), check=False)
    for name, value in header.items():
        fields[name] = value
    content[:348] = fields.binaryblock
    path.write_bytes(gzip.compress(bytes(content)) if path.suffix == ".gz" else bytes(content))
    return path


def refused(path: Path, limits: Limits = LIMITS, channel: int | None = None) -> BadVolume:
    with pytest.raises(BadVolume) as caught:
        read_volume(path, limits=limits, channel=channel)
    assert str(path) in str(caught.value) and caught.value.fix
    return caught.value


# ------------------------------------------------------------------------------------------------ good files


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_reads_what_nibabel_reads(tmp_path: Path, suffix: str, dtype: type) -> None:
    path = save(tmp_path / f"a b;'c{suffix}", values(dtype))
    volume = read_volume(path, limits=LIMITS)
    np.testing.assert_array_equal(volume.array, nib.load(path).get_fdata())
    assert volume.array.dtype == (np.float32 if dtype == np.float64 else dtype)
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-6)
    np.testing.assert_allclose(volume.spacing_mm, nib.load(path).header.get_zooms(), rtol=1e-5)
    facts = {"dtype": np.dtype(dtype).name, "qform_code": 1, "sform_code": 1, "notes": []}
    assert volume.facts == facts | {"checksum": read_volume(path, limits=LIMITS).facts["checksum"]}


def test_big_endian_and_nifti2_and_trailing_dimension(tmp_path: Path) -> None:
    array = values()
    nib.save(nib.Nifti1Image(array, AFFINE, nib.Nifti1Header(endianness=">")), tmp_path / "big.nii")
    nib.save(nib.Nifti2Image(array, AFFINE), tmp_path / "two.nii.gz")
    save(tmp_path / "four.nii", array[..., None])
    for name in ("big.nii", "two.nii.gz", "four.nii"):
        volume = read_volume(tmp_path / name, limits=LIMITS)
        assert volume.array.dtype.isnative
        np.testing.assert_array_equal(volume.array, array)


def test_slope_and_intercept_are_applied(tmp_path: Path) -> None:
    array = values()
    path = save(tmp_path / "v.nii", array, scl_slope=0.5, scl_inter=-3)
    result = read_volume(path, limits=LIMITS).array
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, array * 0.5 - 3)


def test_content_decides_on_compression(tmp_path: Path) -> None:
    path = tmp_path / "v.nii.gz"
    path.write_bytes(save(tmp_path / "v.nii", values()).read_bytes())
    np.testing.assert_array_equal(read_volume(path, limits=LIMITS).array, values())


def test_no_form_is_noted_and_pixdim_used(tmp_path: Path) -> None:
    volume = read_volume(save(tmp_path / "v.nii", values(), qform_code=0, sform_code=0), limits=LIMITS)
    assert "neither qform nor sform" in volume.facts["notes"][0]
    np.testing.assert_allclose(volume.affine, np.diag([*np.linalg.norm(AFFINE[:3, :3], axis=0), 1]), rtol=1e-6)


def test_forms_that_differ_are_noted(tmp_path: Path) -> None:
    path = save(tmp_path / "v.nii", values(), qoffset_x=9.0)
    volume = read_volume(path, limits=LIMITS)
    assert volume.facts["notes"] == ["qform and sform differ by up to 4.00 mm: sform used"]
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-6)


def test_a_channel_of_a_4d_file(tmp_path: Path) -> None:
    array = values(shape=(*SHAPE, 3))
    path = save(tmp_path / "v.nii.gz", array)
    np.testing.assert_array_equal(read_volume(path, limits=LIMITS, channel=2).array, array[..., 2])
    assert refused(path, channel=3).reason == "not_3d"


# ------------------------------------------------------------------------------------------------ broken files


def cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("share", [0.4, 0.6, 0.99])
def test_truncated(tmp_path: Path, suffix: str, share: float) -> None:
    error = refused(cut(save(tmp_path / f"v{suffix}", values()), share))
    assert error.reason == "truncated"
    assert f"expected {352 + 2 * values().size} bytes" in error.problem and "got" in error.problem
    assert "again" in error.fix


def test_truncated_within_the_header(tmp_path: Path) -> None:
    assert refused(cut(save(tmp_path / "v.nii", values()), 0.003)).reason == "truncated"
    assert refused(cut(save(tmp_path / "v.nii.gz", values()), 0.001)).reason == "truncated"


def test_truncated_where_only_the_checksum_is_missing(tmp_path: Path) -> None:
    path = save(tmp_path / "v.nii.gz", values())
    path.write_bytes(path.read_bytes()[:-6])
    assert refused(path).reason in ("corrupt", "truncated")


def test_one_wrong_bit(tmp_path: Path) -> None:
    path = save(tmp_path / "v.nii.gz", values())
    whole = path.read_bytes()
    for at in (len(whole) // 3, len(whole) - 7):  # data, stored checksum
        content = bytearray(whole)
        content[at] ^= 0x10
        path.write_bytes(content)
        assert refused(path).reason in ("corrupt", "truncated")


def test_more_than_the_header_says(tmp_path: Path) -> None:
    for suffix in (".nii", ".nii.gz"):  # the second could be a bomb: no byte beyond the stated size is decompressed
        path = save(tmp_path / f"v{suffix}", values(), dim=[3, 8, 8, 8, 1, 1, 1, 1])
        assert refused(path).reason == "length"
    path = save(tmp_path / "tiny.nii", values(shape=(2, 2, 2)), dim=[3, 1, 1, 1, 1, 1, 1, 1])
    assert refused(path).reason == "length"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty_file"),
        (b"<!DOCTYPE html><html>please log in</html>" * 20, "html"),
        (b"\n  <html>", "html"),
        (b"PK\x03\x04" + bytes(1000), "not_nifti"),
        (gzip.compress(b"no volume at all", mtime=0), "not_nifti"),
    ],
)
def test_files_that_are_not_volumes(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "v.nii.gz"
    path.write_bytes(content)
    assert refused(path).reason == reason


def test_without_isal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nifti, "gzip_open", gzip.open)
    path = save(tmp_path / "v.nii.gz", values())
    np.testing.assert_array_equal(read_volume(path, limits=LIMITS).array, values())
    whole = path.read_bytes()
    for content, reason in ((whole[: len(whole) // 2], "truncated"), (whole[:-8] + bytes(8), "corrupt")):
        path.write_bytes(content)
        assert refused(path).reason == reason


def test_missing_file(tmp_path: Path) -> None:
    assert refused(tmp_path / "v.nii.gz").reason == "missing"


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"dim": [3, 30000, 30000, 30000, 1, 1, 1, 1]}, "too_large"),
        ({"dim": [3, 32, -36, 28, 1, 1, 1, 1]}, "header"),
        ({"dim": [0, 32, 36, 28, 1, 1, 1, 1]}, "header"),
        ({"vox_offset": 10}, "header"),
        ({"vox_offset": np.nan}, "header"),
        ({"datatype": 7777}, "header"),
        ({"scl_slope": 2.0, "scl_inter": np.nan}, "header"),
        ({"magic": b"ni1"}, "not_nifti"),
        ({"pixdim": [1, 0, 1, 1, 0, 0, 0, 0]}, "spacing"),
        ({"pixdim": [1, -1, 1, 1, 0, 0, 0, 0]}, "spacing"),
        ({"pixdim": [1, np.nan, 1, 1, 0, 0, 0, 0]}, "spacing"),
        ({"srow_x": [50, 0, 0, 0]}, "spacing"),
        ({"srow_x": [np.nan, 0, 0, 0]}, "affine"),
        ({"srow_x": [0, 0, 0, 0], "srow_y": [0, 1, 0, 0]}, "affine"),
        ({"srow_x": [1, 1, 0, 0], "srow_y": [1, 1, 0, 0]}, "affine"),
        ({"srow_x": [-1.2, 0.4, 0, 5]}, "sheared"),
        ({"sform_code": 28673}, "header"),
        ({"qform_code": -1}, "header"),
        ({"scl_slope": 3e38}, "nonfinite"),
    ],
)
def test_broken_headers(tmp_path: Path, header: dict, reason: str) -> None:
    assert refused(save(tmp_path / "v.nii", values(), **header)).reason == reason


def test_an_affine_that_overflows_is_refused_without_a_warning(tmp_path: Path) -> None:
    image = nib.Nifti2Image(values(), AFFINE)
    image.header["srow_x"] = [1e200, 0, 0, 0]
    image.header["sform_code"] = 1
    (tmp_path / "v.nii").write_bytes(image.header.binaryblock + bytes(4) + values().tobytes(order="F"))
    assert refused(tmp_path / "v.nii").reason in ("spacing", "header")


def test_a_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    path = save(tmp_path / "v.nii.gz", np.zeros((64, 64, 64), np.uint8))
    assert refused(path, Limits(max_voxels=64**3 - 1)).reason == "too_large"


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (values(shape=(8, 9)), "not_3d"),
        (values(shape=(8, 9, 7, 2)), "not_3d"),
        (np.zeros((8, 9, 7), np.complex64), "dtype"),
        (np.zeros((8, 9, 7), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "dtype"),
    ],
)
def test_arrays_that_are_not_real_volumes(tmp_path: Path, array: np.ndarray, reason: str) -> None:
    assert refused(save(tmp_path / "v.nii", array)).reason == reason


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_nan_and_inf_are_counted(tmp_path: Path, value: float) -> None:
    array = values(np.float64)
    array[3, 4, 5] = array[6, 7, 8] = value
    error = refused(save(tmp_path / "v.nii", array))
    assert error.reason == "nonfinite" and "2 voxels" in error.problem and "(3, 4, 5)" in error.problem


# ------------------------------------------------------------------------------------------------ writing


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (values(np.uint8), np.uint8),
        (values(np.uint8) > 100, np.uint8),
        (values(np.int64), np.uint16),
        (values(np.int64) // 20, np.uint8),
        (values(np.float64) / 7, np.float32),
    ],
)
def test_written_on_the_grid_of_another(tmp_path: Path, suffix: str, array: np.ndarray, dtype: type) -> None:
    like = save(tmp_path / "like.nii.gz", values(), scl_slope=3.0, scl_inter=1.0, qform_code=1, sform_code=4, qoffset_y=-8)
    path = tmp_path / "new" / f"labels{suffix}"
    write_volume(path, array, like)
    image, original = nib.load(path), nib.load(like)
    assert image.get_data_dtype() == dtype
    np.testing.assert_array_equal(np.asarray(image.dataobj), array.astype(dtype))
    for form in ("get_qform", "get_sform"):
        (matrix, code), (expected, expected_code) = (getattr(i.header, form)(coded=True) for i in (image, original))
        assert code == expected_code
        np.testing.assert_array_equal(matrix, expected)
    header = read_header(path)
    assert (float(header["scl_slope"]), float(header["scl_inter"])) == (1, 0)  # of the labels, not of the image
    assert list(path.parent.iterdir()) == [path]


def test_written_from_a_header_without_forms_or_of_another_kind(tmp_path: Path) -> None:
    for image in (nib.Nifti2Image(values(), None), nib.Nifti1Image(values(shape=(*SHAPE, 4)), AFFINE)):
        nib.save(image, tmp_path / "like.nii")
        write_volume(tmp_path / "labels.nii.gz", values(np.uint8), tmp_path / "like.nii")
        header, expected = read_header(tmp_path / "labels.nii.gz"), read_header(tmp_path / "like.nii")
        assert [int(header[c]) for c in ("qform_code", "sform_code")] == [int(expected[c]) for c in ("qform_code", "sform_code")]
        np.testing.assert_array_equal(read_volume(tmp_path / "labels.nii.gz").array, values(np.uint8))


def test_equal_arrays_give_equal_bytes(tmp_path: Path) -> None:
    like = save(tmp_path / "like.nii", values())
    for name in ("a.nii.gz", "b.nii.gz"):
        write_volume(tmp_path / name, values(np.uint8), read_header(like))
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


@pytest.mark.parametrize(
    ("name", "array", "problem"),
    [
        ("v.nii.gz", values(np.uint8)[:-1], "shape"),
        ("v.nii.gz", values(np.int16) - 5, "labels"),
        ("v.nii.gz", values(np.int32) + 65535, "labels"),
        ("v.img", values(np.uint8), "written as"),
    ],
)
def test_arrays_that_cannot_be_written(tmp_path: Path, name: str, array: np.ndarray, problem: str) -> None:
    like = save(tmp_path / "like.nii", values())
    with pytest.raises(UserError, match=problem):
        write_volume(tmp_path / name, array, like)
    assert not (tmp_path / name).exists()


def fails(*args: object, **kwargs: object) -> None:
    raise OSError("disk full")


@pytest.mark.parametrize("place", ["pathlib.Path.write_bytes", "os.fsync", "os.replace"])
def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    like = save(tmp_path / "like.nii", values())
    path = tmp_path / "labels.nii.gz"
    write_volume(path, values(np.uint8), like)
    before = path.read_bytes()
    monkeypatch.setattr(place, fails)
    with pytest.raises(OSError, match="disk full"):
        write_volume(path, 1 - np.minimum(values(np.uint8), 1), like)
    assert path.read_bytes() == before and sorted(p.name for p in tmp_path.iterdir()) == ["labels.nii.gz", "like.nii"]


def test_a_file_that_reads_back_differently_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    like = save(tmp_path / "like.nii", values())
    write_bytes: Callable[[Path, bytes], int] = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", lambda self, content: write_bytes(self, content[:-8] + bytes(8)))
    with pytest.raises(UserError, match="reads back differently"):
        write_volume(tmp_path / "labels.nii", values(np.uint8) | 1, like)
    assert not (tmp_path / "labels.nii").exists()


def test_a_full_disk(tmp_path: Path) -> None:
    like = save(tmp_path / "like.nii", values())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(UserError, match="disk full"):
            write_volume(tmp_path / "labels.nii", values(np.uint8), like)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p.name for p in tmp_path.iterdir()] == ["like.nii"]
