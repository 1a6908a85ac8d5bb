"""The only reader and the only writer of NIfTI files in this library.

The reader checks the header before it reads a voxel, decompresses the file to its last byte (checksum and length included), and
searches for NaN and Inf; other readers were seen to return zeros for a truncated file. A `BadVolume` names the file, the problem,
a fix, and one of these words as its `reason`:

    missing empty_file name pointer html compressed_twice not_nifti header truncated corrupt length nonfinite

or one of those in `headers.py`, which judges the header.
"""

from __future__ import annotations

import gzip
import math
import re
import shlex
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import xxhash

from brainpretrain.errors import UserError
from brainpretrain.files import atomic, is_utf8, shown
from brainpretrain.preprocess.headers import (
    PLAUSIBLE,
    BadVolume,
    Grid,
    Limits,
    bad_header,
    dtype_of,
    judge,
    shape_of,
)

_BROKEN: tuple[Any, ...] = (gzip.BadGzipFile, zlib.error)
gzip_open: Callable[..., Any] = gzip.open
try:  # optional: the same format, read twice as fast
    from isal import igzip, isal_zlib

    gzip_open, _BROKEN = igzip.open, (*_BROKEN, isal_zlib.error)
except ImportError:
    pass

_HEADER_BYTES = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
_MAGIC = {348: b"n+1", 540: b"n+2"}
_MAX_OFFSET = 1 << 24  # bytes before the voxels, where extensions may be
_AGAIN = "download or copy the file again"
_GZIP = b"\x1f\x8b"
_POINTER_BYTES = 400  # more than a pointer has, and less than a header
# What a clone holds in place of a file that was not fetched: a pointer or a link of git-annex as text, or a pointer of Git LFS.
_POINTERS = {
    rb"[^\n\0]{0,300}annex/objects/": ("git-annex", "datalad get {name}  (or git annex get {name}), in the folder of the clone"),
    rb"version https?://(git-lfs|hawser)\.github\.com/": ("Git LFS", "git lfs pull  (in the folder of the clone)"),
}
# Other formats, by their first bytes.
_FORMATS = {
    b"NRRD": "NRRD",
    b"ObjectType": "MetaImage",
    b"PK\3\4": "a zip archive",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"\x89HDF": "HDF5 (MINC 2)",
    b"CDF": "NetCDF (MINC 1)",
    b"\0\0\0\1\0\0": "MGH (FreeSurfer)",
}
_ENDINGS = {"NRRD": ".nrrd", "MetaImage": ".mha", "MGH (FreeSurfer)": ".mgh"}  # of the formats that `convert` reads
_DICOM = slice(128, 132)

_no_warnings = np.errstate(
    over="ignore", under="ignore", invalid="ignore", divide="ignore"
)  # the results are checked for NaN and Inf


@dataclass(frozen=True)
class Volume:
    """A volume on its own grid.

    Attributes:
        array: (i, j, k) in the file's axis order; integers as in the file, scaled or floating values as float32.
        affine: 4x4 float64, voxel -> world in mm.
        spacing_mm: distance of voxels along i, j, k.
        path: the file it was read from.
        facts: `dtype` (text), `qform_code`, `sform_code`, `notes` (a list of remarks on the header), and `checksum`: XXH3 (64
            bits) of header, extensions and voxels, the same for a compressed file and an uncompressed one.
    """

    array: np.ndarray
    affine: np.ndarray
    spacing_mm: tuple[float, ...]
    path: Path
    facts: dict[str, Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape


def read_volume(path: Path | str, *, limits: Limits = PLAUSIBLE, channel: int | None = None) -> Volume:
    """Reads one 3-D volume of a `.nii` or `.nii.gz` file; compression is recognised by the content.

    Args:
        limits: compared with the header before memory is allocated.
        channel: index of the volume in a 4-D file; None requires a 3-D file.

    Raises:
        BadVolume: see the list at the top of this module.
    """
    path = Path(path)
    header, grid, (array, checksum) = _load(path, lambda header: judge(header, path, limits, channel))
    array = array.reshape(array.shape[:3] if channel is None else array.shape[:4], order="F")
    array = _values(grid, array if channel is None else array[..., channel], path)
    facts = {
        "dtype": header.get_data_dtype().name,
        "qform_code": int(header["qform_code"]),
        "sform_code": int(header["sform_code"]),
        "notes": grid.notes,
        "checksum": checksum,
    }
    return Volume(array, grid.affine, grid.spacing_mm, path, facts)


def read_grid(path: Path | str, *, limits: Limits = PLAUSIBLE, channel: int | None = None) -> Grid:
    """The grid of one volume from the header alone, judged as `read_volume` judges it; no voxel is read.

    Raises:
        BadVolume: as `read_volume`, for whatever the first bytes of the file show.
    """
    return judge(read_header(path), Path(path), limits, channel)


def write_volume(path: Path | str, array: np.ndarray, like: Path | str | nib.Nifti1Header) -> None:
    """Writes `array` on the grid of another file; equal input gives equal bytes.

    The file is written under a temporary name, read back, compared and renamed, so `path` is never a partial file.

    Args:
        path: ends in `.nii` or `.nii.gz`.
        array: (i, j, k) in the axis order of `like`. Labels (bool or integers) become uint8 or uint16, the smaller type that
            holds them; floating values become float32.
        like: the file or header whose affine, qform and sform with their codes, spacing and units are kept.

    Raises:
        UserError: another suffix, another shape than that of `like`, labels outside 0..65535, or a file that reads back
            differently.
    """
    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise UserError("a volume is written as .nii or .nii.gz", where=path, fix="change the suffix")
    header = like if isinstance(like, nib.Nifti1Header) else read_header(like)
    if tuple(header["dim"][1:4]) != array.shape:
        raise UserError(
            f"an array of shape {array.shape} does not fit the grid {tuple(map(int, header['dim'][1:4]))}",
            where=path,
            fix="bring it to the native grid first",
        )
    stored = _storable(array, path)
    content = _file_bytes(stored, header)
    content = gzip.compress(content, mtime=0) if path.suffix == ".gz" else content
    with atomic(path, needs=len(content)) as temporary:
        temporary.write_bytes(content)
        *_, (back, _) = _load(temporary, lambda header: None)
        if back.dtype != stored.dtype or not np.array_equal(back, stored):
            raise UserError("the file reads back differently", where=path, fix="check the disk, then run the step again")


# ------------------------------------------------------------------------------------------------ bytes


def read_header(path: Path | str) -> nib.Nifti1Header:
    """The header as stored in the file. Only the first bytes are read, and the grid is not checked.

    Raises:
        BadVolume: missing empty_file html not_nifti header truncated corrupt.
    """
    path = Path(path)
    with _open(path) as stream:
        return _read_header(stream, path)[0]


def _load(path: Path, check: Callable[[nib.Nifti1Header], Any]) -> tuple[nib.Nifti1Header, Any, tuple[np.ndarray, str]]:
    """Header, the result of `check`, and `_read_voxels`.

    `check` may refuse the header before memory is allocated.
    """
    with _open(path) as stream:
        header, first_bytes = _read_header(stream, path)
        return header, check(header), _read_voxels(stream, header, first_bytes, path)


def require_utf8(path: Path) -> None:
    """Refuses a name that no table and no JSON file can hold.

    Raises:
        BadVolume: name.
    """
    if not is_utf8(path):
        raise BadVolume("its name is not UTF-8", reason="name", where=shown(path), fix="rename it")


def _open(path: Path) -> Any:
    require_utf8(path)
    try:
        with open(path, "rb") as stream:
            start = stream.read(_POINTER_BYTES)
    except FileNotFoundError as error:
        raise BadVolume("file not found", reason="missing", where=path, fix="put it in place") from error
    if not start:
        raise BadVolume("the file is empty", reason="empty_file", where=path, fix=_AGAIN)
    for pattern, (program, fix) in _POINTERS.items():
        if re.match(pattern, start):
            problem = f"a pointer of {program}, not the volume itself"
            raise BadVolume(problem, reason="pointer", where=path, fix=fix.format(name=shlex.quote(path.name)))
    return gzip_open(path, "rb") if start.startswith(_GZIP) else open(path, "rb")


def _fill(stream: BufferedIOBase, target: memoryview, path: Path, before: int, expected: str) -> int:
    """Reads until `target` is full or the file ends, and returns the number of bytes read, after `before` earlier ones."""
    count = 0
    try:
        while count < len(target) and (n := stream.readinto(target[count : count + (1 << 20)])):
            count += n
    except EOFError as error:  # a gzip stream without an end
        raise _truncated(expected, before + count, path) from error
    except _BROKEN as error:
        problem = f"damaged: {error}; expected {expected}, got {before + count} bytes"
        raise BadVolume(problem, reason="corrupt", where=path, fix=_AGAIN) from error
    return count


def _truncated(expected: str, got: int, path: Path) -> BadVolume:
    return BadVolume(f"truncated: expected {expected}, got {got} bytes", reason="truncated", where=path, fix=_AGAIN)


def _read_header(stream: BufferedIOBase, path: Path) -> tuple[nib.Nifti1Header, bytes]:
    """The header, and the bytes that were read for it, which may include the first voxels."""
    block = bytearray(max(_HEADER_BYTES))
    n = _fill(stream, memoryview(block), path, 0, f"a header of {min(_HEADER_BYTES)} bytes")
    if block.lstrip()[:1] == b"<":
        raise BadVolume("this is a web page, not a volume", reason="html", where=path, fix=f"log in, then {_AGAIN}")
    sizes = {int.from_bytes(block[:4], order) for order in ("little", "big")}
    size = next((s for s in _HEADER_BYTES if s in sizes), None)
    if size is None:
        raise _no_nifti(bytes(block), path)
    if n < size:
        raise _truncated(f"a header of {size} bytes", n, path)
    header = _HEADER_BYTES[size](bytes(block[:size]), check=False)
    if not bytes(header["magic"]).startswith(_MAGIC[size]):
        raise BadVolume(
            "no single-file NIfTI",
            reason="not_nifti",
            where=path,
            fix="a header alone: name it .hdr again, beside its .img, then convert the pair: brainpretrain convert FILE.img",
        )
    if not size + 4 <= float(header["vox_offset"]) <= _MAX_OFFSET:
        raise bad_header(f"the voxels are said to begin at byte {float(header['vox_offset']):g}", path)
    return header, bytes(block[:n])


def check_size(header: nib.Nifti1Header, path: Path) -> None:
    """Compares the size of a file that is not compressed with its header; `read_volume` finds the same by reading to the end.

    Raises:
        BadVolume: truncated, length.
    """
    with open(path, "rb") as stream:
        if stream.read(2) == _GZIP:
            return
    total, size = _bytes_of(header, path), path.stat().st_size
    if size != total:
        raise _truncated(f"{total} bytes", size, path) if size < total else _too_long(total, path)


def _bytes_of(header: nib.Nifti1Header, path: Path) -> int:
    return int(header["vox_offset"]) + math.prod(shape_of(header)) * dtype_of(header, path).itemsize


def _too_long(total: int, path: Path) -> BadVolume:
    return BadVolume(f"more than the {total} bytes that its header states", reason="length", where=path, fix=_AGAIN)


def _no_nifti(block: bytes, path: Path) -> BadVolume:
    """The error for a file that begins with `block`, which is no NIfTI header."""
    if block.startswith(_GZIP):
        fix = f"decompress it once: gunzip -c {shlex.quote(path.name)} > once.nii.gz, then put that in its place"
        return BadVolume("gzip within gzip: it was compressed twice", reason="compressed_twice", where=path, fix=fix)
    kind = (
        "DICOM" if block[_DICOM] == b"DICM" else next((name for start, name in _FORMATS.items() if block.startswith(start)), "")
    )
    problem = f"no NIfTI header: this is {kind}" if kind else "no NIfTI header"
    fix = f"{_AGAIN}, or convert it to NIfTI with the program that made it"
    if kind == "DICOM":
        fix = "convert its series to NIfTI: dcm2niix -z y -o OUT FOLDER"
    elif kind in _ENDINGS:
        fix = f"give it the name of its format, ending with {_ENDINGS[kind]}, then convert it: brainpretrain convert FILE"
    elif kind.startswith("a"):  # an archive, or one compressed file
        fix = "unpack it, and put the NIfTI file in its place"
    return BadVolume(problem, reason="not_nifti", where=path, fix=fix)


def _read_voxels(stream: BufferedIOBase, header: nib.Nifti1Header, first_bytes: bytes, path: Path) -> tuple[np.ndarray, str]:
    """Reads the rest of the stream into one buffer of exactly the size that the header states.

    Returns:
        Raw voxels (native byte order, Fortran layout, all dimensions), and the checksum of header, extensions and voxels.
    """
    shape, dtype, offset = shape_of(header), dtype_of(header, path), int(header["vox_offset"])
    total = _bytes_of(header, path)
    buffer = np.empty(total, np.uint8)
    start = np.frombuffer(first_bytes[:total], np.uint8)
    buffer[: start.size] = start
    got = start.size + _fill(stream, buffer.data[start.size :], path, start.size, f"{total} bytes")
    if got < total:
        raise _truncated(f"{total} bytes", got, path)
    try:
        surplus = len(first_bytes) > total or stream.read(1)  # the checksum of a gzip stream is compared at its end
    except (EOFError, *_BROKEN) as error:
        problem = f"damaged after the expected {total} bytes: {error}"
        raise BadVolume(problem, reason="corrupt", where=path, fix=_AGAIN) from error
    if surplus:
        raise _too_long(total, path)
    checksum = xxhash.xxh3_64_hexdigest(buffer.data)
    array = np.ndarray(shape, dtype, buffer, offset, order="F")
    return (array if dtype.isnative else array.byteswap(inplace=True).view(dtype.newbyteorder("="))), checksum


# ------------------------------------------------------------------------------------------------ voxels


@_no_warnings
def _values(grid: Grid, array: np.ndarray, path: Path) -> np.ndarray:
    """Applies the header's slope and intercept if they are set, and refuses values that are not finite."""
    if grid.scaling:
        slope, intercept = grid.scaling
        exact = np.float32 if array.itemsize <= 2 else np.float64
        array = array.astype(exact) * exact(slope) + exact(intercept)
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = ~np.isfinite(array)
        first = tuple(int(i) for i in np.unravel_index(np.argmax(bad), bad.shape))
        raise BadVolume(
            f"{np.count_nonzero(bad)} voxels are NaN or Inf, the first at {first}",
            reason="nonfinite",
            where=path,
            fix="repair the volume, or leave it out",
        )
    return array


def _storable(array: np.ndarray, path: Path) -> np.ndarray:
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    if array.size and (array.min() < 0 or array.max() > np.iinfo(np.uint16).max):
        raise UserError(f"labels {array.min()} to {array.max()} do not fit uint16", where=path, fix="renumber the labels")
    return array.astype(np.uint8 if not array.size or array.max() <= np.iinfo(np.uint8).max else np.uint16)


def _file_bytes(array: np.ndarray, like: nib.Nifti1Header) -> bytes:
    """The bytes of a NIfTI file on the grid of `like`, without the fields that describe its intensities."""
    header = like.as_byteswapped("<")
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    header["magic"] = _MAGIC[header.sizeof_hdr] + (b"" if header.sizeof_hdr == 348 else b"\0\r\n\x1a\n")
    header["vox_offset"] = header.sizeof_hdr + 4
    header["scl_slope"], header["scl_inter"], header["cal_min"], header["cal_max"] = 1, 0, 0, 0
    header["intent_code"], header["intent_name"], header["descrip"], header["aux_file"] = 0, b"", b"", b""
    return header.binaryblock + bytes(4) + array.tobytes(order="F")
