"""The only reader and the only writer of NIfTI files in this library.

The reader checks the header before it reads a voxel, decompresses the file to its last byte (checksum and length included), and
searches for NaN and Inf; other readers were seen to return zeros for a truncated file. A `BadVolume` names the file, the problem,
a fix, and one of these words as its `reason`:

    missing empty_file html not_nifti header truncated corrupt length dtype not_3d too_large spacing affine sheared forms
    nonfinite
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from brainpretrain.errors import UserError
from brainpretrain.files import atomic

_BROKEN: tuple[Any, ...] = (gzip.BadGzipFile, zlib.error)
gzip_open: Callable[..., Any] = gzip.open
try:  # optional: the same format, read twice as fast
    from isal import igzip, isal_zlib

    gzip_open, _BROKEN = igzip.open, (*_BROKEN, isal_zlib.error)
except ImportError:
    pass

SHEAR_TOLERANCE = 0.01  # cosine between two voxel axes; half a degree
FORM_TOLERANCE_VOXELS = 0.1  # largest distance at which qform and sform count as equal
FORM_TOLERANCE_COSINE = math.sqrt(0.5)  # two forms contradict each other if an axis differs by more than 45 degrees
FORM_TOLERANCE_SPACING = 0.1  # or if a spacing differs by more than this fraction
MAX_FORM_CODE = 5  # NIfTI defines 0 (not set) to 5
_HEADER_BYTES = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
_MAGIC = {348: b"n+1", 540: b"n+2"}
_MAX_OFFSET = 1 << 24  # bytes before the voxels, where extensions may be
_AGAIN = "download or copy the file again"


class BadVolume(UserError):
    """A file that is not a usable volume. `reason` is one of the words listed in the module that raises it."""

    def __init__(self, problem: str, *, reason: str = "", where: object = "", fix: str = "") -> None:
        super().__init__(problem, where=where, fix=fix)
        self.reason = reason


_no_warnings = np.errstate(
    over="ignore", under="ignore", invalid="ignore", divide="ignore"
)  # the results are checked for NaN and Inf


@dataclass(frozen=True)
class Limits:
    """Limits for the values of a header.

    Attributes:
        max_voxels: of the whole file, including all channels of a 4-D file.
        spacing_range_mm: smallest and largest distance of voxels along an axis.
    """

    max_voxels: int
    spacing_range_mm: tuple[float, float] = (0.05, 20.0)


PLAUSIBLE = Limits(max_voxels=1 << 29)  # 800 cubed: for files without a preprocess recipe


@dataclass(frozen=True)
class Volume:
    """A volume on its own grid.

    Attributes:
        array: (i, j, k) in the file's axis order; integers as in the file, scaled or floating values as float32.
        affine: 4x4 float64, voxel -> world in mm.
        spacing_mm: distance of voxels along i, j, k.
        path: the file it was read from.
        facts: `dtype` (text), `qform_code`, `sform_code`, and `notes` (a list of remarks on the header).
    """

    array: np.ndarray
    affine: np.ndarray
    spacing_mm: tuple[float, ...]
    path: Path
    facts: dict[str, Any]


def read_volume(path: Path | str, *, limits: Limits = PLAUSIBLE, channel: int | None = None) -> Volume:
    """Reads one 3-D volume of a `.nii` or `.nii.gz` file; compression is recognised by the content.

    Args:
        limits: compared with the header before memory is allocated.
        channel: index of the volume in a 4-D file; None requires a 3-D file.

    Raises:
        BadVolume: see the list at the top of this module.
    """
    path = Path(path)
    grid: dict[str, Any] = {}

    def check(header: nib.Nifti1Header) -> None:
        _check_shape(header, limits, channel, path)
        grid.update(zip(("affine", "spacing_mm", "notes"), _affine(header, limits, path), strict=True))

    header, array = _load(path, check)
    array = array.reshape(array.shape[:3] if channel is None else array.shape[:4], order="F")
    array = _values(header, array if channel is None else array[..., channel], path)
    facts = {
        "dtype": header.get_data_dtype().name,
        "qform_code": int(header["qform_code"]),
        "sform_code": int(header["sform_code"]),
        "notes": grid["notes"],
    }
    return Volume(array, grid["affine"], grid["spacing_mm"], path, facts)


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
        _, back = _load(temporary, lambda header: None)
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


def _load(path: Path, check: Callable[[nib.Nifti1Header], None]) -> tuple[nib.Nifti1Header, np.ndarray]:
    """Header and raw voxels (native byte order, Fortran layout, all dimensions). `check` may refuse the header."""
    with _open(path) as stream:
        header, first_bytes = _read_header(stream, path)
        check(header)
        return header, _read_voxels(stream, header, first_bytes, path)


def _open(path: Path) -> Any:
    try:
        with open(path, "rb") as stream:
            start = stream.read(2)
    except FileNotFoundError as error:
        raise BadVolume("file not found", reason="missing", where=path, fix="put it in place") from error
    if not start:
        raise BadVolume("the file is empty", reason="empty_file", where=path, fix=_AGAIN)
    return gzip_open(path, "rb") if start == b"\x1f\x8b" else open(path, "rb")


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
        raise BadVolume("no NIfTI header", reason="not_nifti", where=path, fix="convert the file to NIfTI")
    if n < size:
        raise _truncated(f"a header of {size} bytes", n, path)
    header = _HEADER_BYTES[size](bytes(block[:size]), check=False)
    if not bytes(header["magic"]).startswith(_MAGIC[size]):
        raise BadVolume("no single-file NIfTI", reason="not_nifti", where=path, fix="convert .hdr/.img pairs to .nii.gz")
    if not size + 4 <= float(header["vox_offset"]) <= _MAX_OFFSET:
        raise _bad_header(f"the voxels are said to begin at byte {float(header['vox_offset']):g}", path)
    return header, bytes(block[:n])


def _read_voxels(stream: BufferedIOBase, header: nib.Nifti1Header, first_bytes: bytes, path: Path) -> np.ndarray:
    """Reads the rest of the stream into one buffer of exactly the size that the header states."""
    shape, dtype, offset = _shape(header), _dtype(header, path), int(header["vox_offset"])
    total = offset + math.prod(shape) * dtype.itemsize
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
        raise BadVolume(f"more than the {total} bytes that its header states", reason="length", where=path, fix=_AGAIN)
    array = np.ndarray(shape, dtype, buffer, offset, order="F")
    return array if dtype.isnative else array.byteswap(inplace=True).view(dtype.newbyteorder("="))


# ------------------------------------------------------------------------------------------------ header


def _bad_header(problem: str, path: Path) -> BadVolume:
    return BadVolume(f"broken header: {problem}", reason="header", where=path, fix="repair the header, or convert again")


def _shape(header: nib.Nifti1Header) -> tuple[int, ...]:
    """The dimensions of the header, without trailing ones beyond the third."""
    n_dims = int(header["dim"][0])
    shape = [int(n) for n in header["dim"][1 : 1 + n_dims]]
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    return tuple(shape)


def _dtype(header: nib.Nifti1Header, path: Path) -> np.dtype:
    try:
        dtype = header.get_data_dtype()
    except (KeyError, HeaderDataError) as error:
        raise _bad_header(f"unknown data type code {int(header['datatype'])}", path) from error
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        name = {"c": "complex", "V": "RGB"}.get(dtype.kind, dtype.name)
        raise BadVolume(f"{name} voxels", reason="dtype", where=path, fix="convert it to one real value per voxel")
    return dtype


def _check_shape(header: nib.Nifti1Header, limits: Limits, channel: int | None, path: Path) -> None:
    shape = _shape(header)
    if not 1 <= int(header["dim"][0]) <= 7 or any(n < 1 for n in shape):
        raise _bad_header(f"dimensions {[int(n) for n in header['dim']]}", path)
    n_dims = 3 if channel is None else 4
    if len(shape) != n_dims:
        fix = "give one 3-D volume per file, or the channel in the index" if len(shape) == 4 else f"give a {n_dims}-D volume"
        raise BadVolume(f"{len(shape)}-D {shape} where {n_dims}-D is needed", reason="not_3d", where=path, fix=fix)
    if channel is not None and not 0 <= channel < shape[3]:
        raise BadVolume(f"no channel {channel} in {shape}", reason="not_3d", where=path, fix=f"0 to {shape[3] - 1}")
    if math.prod(shape) > limits.max_voxels:
        raise BadVolume(
            f"{math.prod(shape)} voxels {shape}, more than max_voxels {limits.max_voxels}",
            reason="too_large",
            where=path,
            fix="check the header, or raise max_voxels in the recipe",
        )


@_no_warnings
def _affine(header: nib.Nifti1Header, limits: Limits, path: Path) -> tuple[np.ndarray, tuple[float, ...], list[str]]:
    """Affine, spacing and remarks. The sform precedes the qform; without both, the axes count as R, A, S (NIfTI method 1)."""
    zooms = np.array(header["pixdim"][1:4], dtype=float)
    _check_spacing(zooms, limits, path)
    forms = _forms(header, path)
    notes = []
    if not forms:
        forms = [np.diag([*zooms, 1.0])]
        notes.append("neither qform nor sform: orientation unknown, pixdim used")
    affine = forms[0]
    if not np.isfinite(affine).all():
        raise BadVolume("NaN or Inf in the affine", reason="affine", where=path, fix="repair the header")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if spacing.min() == 0 or abs(np.linalg.det(affine[:3, :3] / spacing)) < SHEAR_TOLERANCE:
        raise BadVolume("the affine is singular", reason="affine", where=path, fix="repair the header")
    _check_spacing(spacing, limits, path)
    axes = affine[:3, :3] / spacing
    cosine = np.abs(np.triu(axes.T @ axes, 1)).max()
    if cosine > SHEAR_TOLERANCE:
        degrees = 90 - math.degrees(math.acos(cosine))
        raise BadVolume(
            f"sheared by {degrees:.1f} degrees", reason="sheared", where=path, fix="resample it to a grid with right angles"
        )
    if len(forms) == 2 and (gap := grid_distance_mm(forms[0], forms[1], _shape(header))) > FORM_TOLERANCE_VOXELS * spacing.min():
        _check_forms(forms[0], forms[1], path)
        notes.append(f"qform and sform differ by up to {gap:.2f} mm: sform used")
    return affine, tuple(round(float(s), 6) for s in spacing), notes


def _check_forms(sform: np.ndarray, qform: np.ndarray, path: Path) -> None:
    """Two forms may refer to two spaces, but must agree on the directions of the axes and on the spacing."""
    lengths = [np.linalg.norm(form[:3, :3], axis=0) for form in (sform, qform)]
    cosines = (sform[:3, :3] / lengths[0] * (qform[:3, :3] / lengths[1])).sum(axis=0)
    ratio = lengths[0] / lengths[1]
    if np.all(cosines >= FORM_TOLERANCE_COSINE) and np.all(np.abs(np.log(ratio)) <= math.log1p(FORM_TOLERANCE_SPACING)):
        return
    descriptions = [
        f"{''.join(nib.aff2axcodes(form))}, {' x '.join(f'{mm:.3g}' for mm in length)} mm"
        for form, length in zip((sform, qform), lengths, strict=True)
    ]
    raise BadVolume(
        f"sform ({descriptions[0]}) and qform ({descriptions[1]}) contradict each other",
        reason="forms",
        where=path,
        fix="find out which one is right, and write it into both",
    )


def _forms(header: nib.Nifti1Header, path: Path) -> list[np.ndarray]:
    """The affines whose code is set, sform first."""
    for name in ("sform_code", "qform_code"):
        if not 0 <= int(header[name]) <= MAX_FORM_CODE:
            raise _bad_header(f"{name} {int(header[name])}", path)
    forms = [header.get_sform()] if int(header["sform_code"]) > 0 else []
    if int(header["qform_code"]) > 0:
        try:
            forms.append(header.get_qform())
        except (ValueError, HeaderDataError) as error:
            if not forms:
                raise BadVolume(f"invalid qform: {error}", reason="affine", where=path, fix="repair the header") from error
    return [np.asarray(form, dtype=np.float64) for form in forms]


def _check_spacing(spacing: np.ndarray, limits: Limits, path: Path) -> None:
    low, high = limits.spacing_range_mm
    if not np.all((spacing >= low) & (spacing <= high)):  # also refuses NaN
        text = " x ".join(f"{s:g}" for s in spacing)
        problem = f"spacing {text} mm is not within {low:g} to {high:g} mm"
        raise BadVolume(problem, reason="spacing", where=path, fix="repair pixdim and the affine in the header")


def grid_distance_mm(affine: np.ndarray, other: np.ndarray, shape: tuple[int, ...]) -> float:
    """The largest distance in mm between the corners of a grid under two affines."""
    corners = np.array(np.meshgrid(*((0, n - 1) for n in shape[:3]))).reshape(3, -1)
    difference = np.asarray(affine) - np.asarray(other)
    return float(np.linalg.norm(difference[:3, :3] @ corners + difference[:3, 3:], axis=0).max())


# ------------------------------------------------------------------------------------------------ voxels


@_no_warnings
def _values(header: nib.Nifti1Header, array: np.ndarray, path: Path) -> np.ndarray:
    """Applies the header's slope and intercept if they are set, and refuses values that are not finite."""
    try:
        slope, intercept = header.get_slope_inter()
    except HeaderDataError as error:
        raise _bad_header(str(error), path) from error
    if (slope, intercept) not in ((None, None), (1.0, 0.0)):
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
