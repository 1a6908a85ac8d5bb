"""NIfTI files for the reader (`nifti.py`), the preprocessing (`volumes.py`) and the writer that copies their headers."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from hypothesis import strategies as st

from brainpretrain.errors import UserError
from brainpretrain.preprocess import nifti, volumes
from brainpretrain.preprocess.headers import UNITS_MM
from fuzz.odd import damaged, few, floats, ints, maybe

LIMITS = nifti.Limits(max_voxels=10**6)
nib.imageglobals.logger.disabled = True  # nibabel's silent corrections are compared below
MEMORY = 96 << 20  # 10^6 voxels of 8 bytes, scaled as float64, and 16 MiB before the voxels
SECONDS = 20
RECIPE = {
    "spacing_mm": [1, 1, 1], "upper_quantile": 0.99, "crop": "nonzero", "antialias": True, "min_size": 2,
    "allow_negative": True, "max_voxels": 10**6,
}  # fmt: skip
DTYPES = ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", "c8"]
AFFINE = np.array([[-1.2, 0.1, 0, 5], [0.1, 1.2, 0, -7], [0, 0, 3, 11], [0, 0, 0, 1.0]])


def valid() -> dict[str, bytes]:
    """A file that is read."""
    array = np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4)
    return {"v.nii.gz": gzip.compress(_content(nib.Nifti1Header(), array, b"", 352))}


@st.composite
def inputs(draw: Callable[..., Any]) -> dict[str, bytes]:
    """A small volume, some fields of its header changed, something before or after its voxels, compressed in some way."""
    kind = draw(st.sampled_from([nib.Nifti1Header, nib.Nifti2Header]))
    header = kind(endianness=draw(st.sampled_from("<>")))
    shape = draw(
        st.sampled_from([(6, 5, 4), (3, 1, 2), (4, 4, 4, 1), (4, 3, 2, 2), (4, 4), (2, 2, 2, 1, 2), (9, 8, 7), (1, 1, 1)])
    )
    array = _voxels(draw, np.dtype(draw(st.sampled_from(DTYPES))), shape)
    extensions = b""
    if maybe(draw):
        size = draw(st.sampled_from([16, 32]) | ints) & 0xFFFFFFFF
        extensions = size.to_bytes(4, "little") + bytes([draw(few), 0, 0, 0]) + draw(st.binary(max_size=64))
    before = header.sizeof_hdr + 4 + len(extensions)
    content = _content(header, array, extensions, before, draw)
    content = draw(damaged(content, draw(st.sampled_from([0, 0, 0, 0, 1, 2]))))
    name = draw(st.sampled_from(["v.nii", "v.nii.gz"]))
    return {name: _packed(draw, content) if maybe(draw, 2) else content}


def _voxels(draw: Callable[..., Any], dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    n = math.prod(shape)
    match draw(st.sampled_from(["ramp", "zeros", "few", "extreme", "random"])):
        case "ramp":
            array = np.arange(n)
        case "zeros":
            array = np.zeros(n)
        case "few":
            array = np.resize([0, 1, 2, 1.0005, 7], n)
        case "extreme" if dtype.kind in "iu":
            array = np.resize(np.array([np.iinfo(dtype).min, 0, np.iinfo(dtype).max], dtype), n)
        case "extreme":
            array = np.resize(np.array([draw(floats), 0, draw(floats)], dtype), n)
        case _:
            array = np.random.default_rng(draw(st.integers(0, 9))).integers(0, 100, n)
    with np.errstate(all="ignore"):
        return array.astype(dtype).reshape(shape)


def _content(header: Any, array: np.ndarray, extensions: bytes, before: int, draw: Callable[..., Any] | None = None) -> bytes:
    """The bytes of a file; with `draw`, up to four fields of its header are changed."""
    header.set_data_shape(array.shape)
    header.set_data_dtype(array.dtype.newbyteorder(header.endianness))
    header.set_qform(AFFINE, 1)
    header.set_sform(AFFINE, 1)
    header["magic"], header["vox_offset"] = b"n+1" if header.sizeof_hdr == 348 else b"n+2\0\r\n\x1a\n", before
    if draw is not None:
        for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2, 4]))):
            _mutate(draw, header)
    data = array.astype(array.dtype.newbyteorder(header.endianness)).tobytes(order="F")
    return header.binaryblock + (b"\1\0\0\0" if extensions else bytes(4)) + extensions + data


FIELDS = [
    "dim", "dim", "pixdim", "pixdim", "datatype", "bitpix", "vox_offset", "scl_slope", "scl_inter", "qform_code", "sform_code",
    "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "srow_x", "srow_y", "srow_z", "magic", "sizeof_hdr", "xyzt_units",
    "intent_code", "cal_max", "descrip", "dim_info",
]  # fmt: skip


def _mutate(draw: Callable[..., Any], header: Any) -> None:
    """Another value in one field, or in one element of it."""
    field = header._structarr[draw(st.sampled_from(FIELDS))]
    if field.dtype.kind == "S":
        field[...] = draw(st.binary(max_size=field.dtype.itemsize))
        return
    at = draw(st.integers(0, field.size - 1)) if field.ndim else ()
    small = st.integers(0, 20) | st.sampled_from([4, 16, 64, 128, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304, 7777])
    value = draw(floats if field.dtype.kind == "f" else small | ints)
    with np.errstate(all="ignore"):
        if field.dtype.kind in "iu":
            bits = 8 * field.dtype.itemsize
            value &= (1 << bits) - 1
            if field.dtype.kind == "i" and value >> (bits - 1):
                value -= 1 << bits
        field[at] = value


def _packed(draw: Callable[..., Any], content: bytes) -> bytes:
    """Compressed: in one member or several, with names in its header, and damaged or not."""
    match draw(st.sampled_from(["one", "two", "stored", "trailing", "zeros", "named", "empty", "damaged", "twice", "bomb"])):
        case "one":
            return gzip.compress(content)
        case "two":
            at = draw(st.integers(0, len(content)))
            return gzip.compress(content[:at]) + gzip.compress(content[at:])
        case "stored":
            return gzip.compress(content, 0)
        case "trailing":
            return gzip.compress(content) + draw(st.binary(min_size=1, max_size=20))
        case "zeros":
            return gzip.compress(content) + bytes(draw(st.integers(1, 2000)))
        case "named":
            packed = bytearray(gzip.compress(content))
            packed[3] = draw(st.integers(0, 255))
            packed[10:10] = draw(st.binary(max_size=30))
            return bytes(packed)
        case "empty":
            return gzip.compress(b"") + gzip.compress(content) + gzip.compress(b"")
        case "twice":
            return gzip.compress(gzip.compress(content))
        case "bomb":
            return gzip.compress(content + bytes(32 << 20), 1)
        case _:
            return draw(damaged(gzip.compress(content), 2))


def check(folder: Path, work: Path) -> None:
    """Reads the file in every way, and compares an accepted file with nibabel's result."""
    (path,) = folder.iterdir()
    header = nifti.read_header(path)
    shape = tuple(int(n) for n in header["dim"][1:4])
    if all(0 < n < 50 for n in shape):
        _write(work / "labels.nii.gz", shape, header)
    for channel in (0, 1):
        try:
            nifti.read_volume(path, limits=LIMITS, channel=channel)
        except UserError as error:
            assert str(path) in str(error)
    try:
        volume = nifti.read_volume(path, limits=LIMITS)
    except UserError as error:
        assert str(path) in str(error)
        raise
    assert volume.array.ndim == 3 and np.isfinite(volume.array).all() and volume.array.dtype.kind in "iuf"
    assert np.isfinite(volume.affine).all() and all(0.05 <= mm <= 20 for mm in volume.spacing_mm)
    _compare(path, volume)
    volumes.require_same_grid(volume, volume, path)
    try:
        labels = volumes.integer_labels(volume)
    except UserError:
        labels = None
    if labels is not None:
        assert np.abs(labels.astype(np.float64) - volume.array).max() < 1.001e-3
        assert set(volumes.label_values(labels)) == {int(v) for v in np.unique(labels)}
    image, stored, geometry, _ = volumes.preprocess(volume, None if labels is None else volume, RECIPE)
    assert image.dtype == np.float32 and np.isfinite(image).all() and image.min() >= 0 and image.max() <= 1
    assert image.shape == geometry.stored_shape and (stored is None or stored.shape == image.shape)


def _write(path: Path, shape: tuple[int, ...], header: Any) -> None:
    """A header that can be read can also be copied to a new file."""
    nifti.write_volume(path, np.ones(shape, np.uint8), header)
    written = nifti.read_header(path)
    assert all(int(n) == m for n, m in zip(written["dim"][1:4], shape, strict=True))


def _compare(path: Path, volume: nifti.Volume) -> None:
    """If nibabel reads an accepted file, it reads the same values at the same place."""
    content = path.read_bytes()
    content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    kind = nib.Nifti1Image if 348 in (int.from_bytes(content[:4], order) for order in ("little", "big")) else nib.Nifti2Image
    try:
        image = kind.from_bytes(content)
        array = np.asarray(image.dataobj).reshape(volume.array.shape, order="F")
    except Exception:
        return
    with np.errstate(all="ignore"):
        rounding = 1e-6 * float(np.abs(array).max()) + 1e-40  # we scale 16-bit values in float32
        assert np.allclose(volume.array, array.astype(np.float64), rtol=1e-5, atol=rounding), "other values than nibabel's"
    if int(image.header["sform_code"]) > 0 or int(image.header["qform_code"]) > 0:
        mm = UNITS_MM.get(int(image.header["xyzt_units"]) & 7, 1.0)  # nibabel does not convert
        assert np.allclose(volume.affine, np.diag([mm, mm, mm, 1]) @ image.affine, rtol=1e-5, atol=1e-6 * max(1, mm)), (
            "another affine than nibabel's"
        )
