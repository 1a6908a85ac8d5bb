"""The judgement of a NIfTI header: the grid that it describes, remarks on it, or the reason why the file cannot be used.

What NIfTI-1 and NIfTI-2 allow and nibabel reads with one grid is read, on the same grid (docs/reliability.md, faults 60 and 61).
No voxel is needed, so `check` judges a folder as `shard` will. A `BadVolume` raised here has one of these words as its `reason`:

    header dtype not_3d too_small too_large spacing affine sheared forms label_grid
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from brainpretrain.errors import UserError

SHEAR_TOLERANCE = 0.01  # cosine between two voxel axes; half a degree
FORM_TOLERANCE_VOXELS = 0.1  # largest distance at which qform, sform and pixdim count as equal
FORM_TOLERANCE_COSINE = math.sqrt(0.5)  # two forms contradict each other if an axis differs by more than 45 degrees
FORM_TOLERANCE_SPACING = 0.1  # or if a spacing differs by more than this fraction
QUATERNION_TOLERANCE = 1e-3  # largest excess over 1 of the squared length of (b, c, d) that counts as rounding
GRID_TOLERANCE_VOXELS = 0.05  # largest distance between the corners of a label and those of its image
MAX_FORM_CODE = 5  # NIfTI defines 0 (not set) to 5
SELECTION = ("not_3d", "too_small", "negative")  # reasons for which BRAINS-45K leaves a volume out, although it is not damaged
SCANNER = 1  # form code
UNITS_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # by the code of the spatial unit: not set, metre, millimetre, micrometre
UNITS = {1: "m", 3: "um"}  # units that are converted

_quiet = np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore")  # the results are checked for NaN and Inf


class BadVolume(UserError):
    """A file that is not a usable volume. `reason` is one of the words listed in the module that raises it."""

    def __init__(self, problem: str, *, reason: str = "", where: object = "", fix: str = "") -> None:
        super().__init__(problem, where=where, fix=fix)
        self.reason = reason


@dataclass(frozen=True)
class Limits:
    """Limits for the values of a header.

    Attributes:
        max_voxels: of the whole file, including all channels of a 4-D file.
        spacing_range_mm: smallest and largest distance of voxels along an axis.
        min_size: smallest number of voxels along an axis.
    """

    max_voxels: int
    spacing_range_mm: tuple[float, float] = (0.05, 20.0)
    min_size: int = 1

    @classmethod
    def of(cls, recipe: Mapping[str, Any]) -> Limits:
        """The limits of a preprocess recipe."""
        low, high = recipe["spacing_range_mm"]
        return cls(recipe["max_voxels"], (low, high), recipe["min_size"])

    @classmethod
    def of_stored(cls, row: Mapping[str, Any]) -> Limits:
        """Limits that admit the raw files of a stored volume, whatever its recipe was, and all files within PLAUSIBLE.

        Args:
            row: of `volumes.tsv`.
        """
        spacing_mm = [float(word) for word in row["native_spacing_mm"].split()]
        low, high = PLAUSIBLE.spacing_range_mm
        voxels = math.prod(int(word) for word in row["native_shape"].split())
        low, high = min(low, 0.9 * min(spacing_mm)), max(high, 1.1 * max(spacing_mm))  # grids may differ by rounding
        return cls(max(PLAUSIBLE.max_voxels, voxels), (low, high))


PLAUSIBLE = Limits(max_voxels=1 << 29)  # 800 cubed: for files without a preprocess recipe


class OnGrid(Protocol):
    """Anything with a shape, an affine (4x4, voxel -> world in mm) and a spacing."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def affine(self) -> np.ndarray: ...
    @property
    def spacing_mm(self) -> tuple[float, ...]: ...


@dataclass(frozen=True)
class Grid:
    """What a header says about the volume of its file.

    Attributes:
        shape: voxels along i, j, k.
        affine: 4x4 float64, voxel -> world in mm.
        spacing_mm: distance of voxels along i, j, k.
        dtype: of the voxels, in the byte order of the file.
        scaling: slope and intercept of the values; None if they are not set or change nothing.
        notes: remarks.
    """

    shape: tuple[int, ...]
    affine: np.ndarray
    spacing_mm: tuple[float, ...]
    dtype: np.dtype
    scaling: tuple[float, float] | None
    notes: list[str]


@_quiet
def judge(header: nib.Nifti1Header, path: Path, limits: Limits = PLAUSIBLE, channel: int | None = None) -> Grid:
    """The grid that a header describes.

    Args:
        path: the file, for messages.
        channel: index of the volume in a 4-D file; None requires a 3-D file.

    Raises:
        BadVolume: see the list at the top of this module.
    """
    shape = _checked_shape(header, limits, channel, path)
    affine, spacing_mm, notes = _affine(header, limits, path)
    return Grid(shape, affine, spacing_mm, dtype_of(header, path), _scaling(header, path), notes)


def require_same_grid(reference: OnGrid, other: OnGrid, where: object) -> None:
    """Refuses a volume whose shape differs from that of `reference`, or whose corners are over a twentieth of a voxel away.

    Raises:
        BadVolume: with the reason label_grid; `where` is the file that the message names.
    """
    if other.shape != reference.shape:
        problem = f"shape {other.shape} on a grid of {reference.shape}"
        raise BadVolume(problem, reason="label_grid", where=where, fix="bring it to the grid of its image")
    gap_mm = grid_distance_mm(other.affine, reference.affine, reference.shape)
    if gap_mm > GRID_TOLERANCE_VOXELS * min(reference.spacing_mm):
        problem = f"it is up to {gap_mm:.2f} mm off the grid of its image"
        raise BadVolume(problem, reason="label_grid", where=where, fix="align their headers")


def grid_distance_mm(affine: np.ndarray, other: np.ndarray, shape: tuple[int, ...]) -> float:
    """The largest distance in mm between the corners of a grid under two affines."""
    corners = np.array(np.meshgrid(*((0, n - 1) for n in shape[:3]))).reshape(3, -1)
    difference = np.asarray(affine) - np.asarray(other)
    return float(np.linalg.norm(difference[:3, :3] @ corners + difference[:3, 3:], axis=0).max())


# ------------------------------------------------------------------------------------------------ shape and values


def bad_header(problem: str, path: Path) -> BadVolume:
    """The error of a header field that holds no possible value."""
    return BadVolume(f"broken header: {problem}", reason="header", where=path, fix="repair the header, or convert again")


def shape_of(header: nib.Nifti1Header) -> tuple[int, ...]:
    """The dimensions of a header, without trailing ones beyond the third."""
    n_dims = int(header["dim"][0])
    shape = [int(n) for n in header["dim"][1 : 1 + n_dims]]
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    return tuple(shape)


def dtype_of(header: nib.Nifti1Header, path: Path) -> np.dtype:
    """The type of the voxels of a header.

    Raises:
        BadVolume: header, dtype.
    """
    try:
        dtype = header.get_data_dtype()
    except (KeyError, HeaderDataError) as error:
        raise bad_header(f"unknown data type code {int(header['datatype'])}", path) from error
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        name = {"c": "complex", "V": "RGB"}.get(dtype.kind, dtype.name)
        raise BadVolume(f"{name} voxels", reason="dtype", where=path, fix="convert it to one real value per voxel")
    return dtype


def _scaling(header: nib.Nifti1Header, path: Path) -> tuple[float, float] | None:
    """Slope and intercept; a slope of 0, NaN or Inf means that they are not set, as in nibabel."""
    try:
        slope, intercept = header.get_slope_inter()
    except HeaderDataError as error:
        raise bad_header(str(error), path) from error
    return None if slope is None or intercept is None or (slope, intercept) == (1.0, 0.0) else (slope, intercept)


def _checked_shape(header: nib.Nifti1Header, limits: Limits, channel: int | None, path: Path) -> tuple[int, ...]:
    shape = shape_of(header)
    if not 1 <= int(header["dim"][0]) <= 7 or any(n < 1 for n in shape):
        raise bad_header(f"dimensions {[int(n) for n in header['dim']]}", path)
    n_dims = 3 if channel is None else 4
    if len(shape) != n_dims:
        fix = (
            "give one 3-D volume per file, or name the channel in a table (module: csv)"
            if len(shape) == 4
            else f"give a {n_dims}-D volume"
        )
        raise BadVolume(f"{len(shape)}-D {shape} where {n_dims}-D is needed", reason="not_3d", where=path, fix=fix)
    if channel is not None and not 0 <= channel < shape[3]:
        raise BadVolume(
            f"no channel {channel} in {shape}", reason="not_3d", where=path, fix=f"name a channel from 0 to {shape[3] - 1}"
        )
    if math.prod(shape) > limits.max_voxels:
        raise BadVolume(
            f"{math.prod(shape)} voxels {shape}, more than max_voxels {limits.max_voxels}",
            reason="too_large",
            where=path,
            fix="check the header, or raise max_voxels in the recipe",
        )
    if (smallest := min(shape[:3])) < limits.min_size:
        raise BadVolume(
            f"an axis of {smallest} voxels in {shape[:3]}, less than min_size {limits.min_size}",
            reason="too_small",
            where=path,
            fix="leave it out, or lower min_size in the recipe",
        )
    return shape[:3]


# ------------------------------------------------------------------------------------------------ affine


def _affine(header: nib.Nifti1Header, limits: Limits, path: Path) -> tuple[np.ndarray, tuple[float, ...], list[str]]:
    """Affine, spacing and remarks. The sform precedes the qform; without both, the axes count as R, A, S (NIfTI method 1)."""
    factor, notes = _unit(header)
    zooms = np.array(header["pixdim"][1:4], dtype=float)
    _check_spacing(zooms, factor, limits, path)
    sform, qform = _forms(header, notes, path)
    affine = sform if sform is not None else qform
    if affine is None:
        affine = np.diag([*zooms, 1.0])
        notes.append("neither qform nor sform: orientation unknown, pixdim used")
    if not np.isfinite(affine).all():
        raise BadVolume("NaN or Inf in the affine", reason="affine", where=path, fix="repair the header")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if spacing.min() == 0 or abs(np.linalg.det(affine[:3, :3] / spacing)) < SHEAR_TOLERANCE:
        raise BadVolume("the affine is singular", reason="affine", where=path, fix="repair the header")
    _check_spacing(spacing, factor, limits, path)
    _check_shear(affine[:3, :3] / spacing, path)
    if sform is not None:
        notes += _differences(header, sform, qform, zooms, factor, path)
    if factor != 1:
        affine = np.diag([factor, factor, factor, 1.0]) @ affine
    return affine, tuple(round(float(s * factor), 6) for s in spacing), notes


def _unit(header: nib.Nifti1Header) -> tuple[float, list[str]]:
    """The length in mm of the unit of `pixdim` and of the forms, and a remark if it is not one millimetre."""
    code = int(header["xyzt_units"]) & 7
    if code in UNITS:
        return UNITS_MM[code], [f"the header is in {UNITS[code]}: converted to mm"]
    return 1.0, [] if code in UNITS_MM else [f"the header's spatial unit {code} is not defined: taken as mm"]


def _check_spacing(spacing: np.ndarray, factor: float, limits: Limits, path: Path) -> None:
    low, high = limits.spacing_range_mm
    in_mm = spacing * factor
    if np.all((in_mm >= low) & (in_mm <= high)):
        return  # NaN is refused
    problem = f"spacing {_times(in_mm)} mm is not within {low:g} to {high:g} mm"
    fix = "repair pixdim and the affine in the header, or change spacing_range_mm in the recipe"
    if factor != 1 and np.all((spacing >= low) & (spacing <= high)):
        problem += f" ({_times(spacing)} in the header, whose unit is not the millimetre)"
        fix = "if these are millimetres, set the spatial unit of the header (xyzt_units) to 2"
    raise BadVolume(problem, reason="spacing", where=path, fix=fix)


def _check_shear(axes: np.ndarray, path: Path) -> None:
    cosine = np.abs(np.triu(axes.T @ axes, 1)).max()
    if cosine > SHEAR_TOLERANCE:
        degrees = 90 - math.degrees(math.acos(min(1.0, cosine)))
        raise BadVolume(
            f"sheared by {degrees:.1f} degrees", reason="sheared", where=path, fix="resample it to a grid with right angles"
        )


def _forms(header: nib.Nifti1Header, notes: list[str], path: Path) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Sform and qform in the units of the header; None where the code is 0, or where a qform next to a sform is not valid."""
    for name in ("sform_code", "qform_code"):
        if not 0 <= int(header[name]) <= MAX_FORM_CODE:
            raise bad_header(f"{name} {int(header[name])}", path)
    sform = np.asarray(header.get_sform(), dtype=np.float64) if int(header["sform_code"]) > 0 else None
    if int(header["qform_code"]) == 0:
        return sform, None
    try:
        qform, remark = _qform(header)
    except (ValueError, HeaderDataError) as error:
        if sform is None:
            raise BadVolume(f"invalid qform: {error}", reason="affine", where=path, fix="repair the header") from error
        notes.append(f"invalid qform ({error}): sform used")
        return sform, None
    notes += [remark] if remark and sform is None else []
    return sform, qform


def _qform(header: nib.Nifti1Header) -> tuple[np.ndarray, str]:
    """The qform as nibabel computes it, after `qfac` and the quaternion are made what NIfTI defines them to mean; and a remark.

    Raises:
        ValueError, HeaderDataError: there is no qform, or programs read several.
    """
    header, remark = header.copy(), ""
    qfac = float(header["pixdim"][0])
    if qfac not in (-1, 0, 1):  # NIfTI defines 0 to mean 1; for other values nibabel reads 1, and the NIfTI library the sign
        if not 0 < qfac < math.inf:
            raise ValueError(f"qfac (pixdim[0]) is {qfac:g}, not 1 or -1")
        remark = f"qfac (pixdim[0]) is {qfac:g}: taken as 1"
    header["pixdim"][0] = -1 if qfac == -1 else 1
    names = ("quatern_b", "quatern_c", "quatern_d")
    square = sum(float(header[name]) ** 2 for name in names)
    if not square <= 1 + QUATERNION_TOLERANCE:
        raise ValueError(f"the quaternion has the length {math.sqrt(square):g}")
    try:
        return np.asarray(header.get_qform(), dtype=np.float64), remark
    except ValueError:  # longer than nibabel accepts as rounding
        for name in names:
            header[name] = float(header[name]) / math.sqrt(square)
        return np.asarray(header.get_qform(), dtype=np.float64), remark


def _differences(
    header: nib.Nifti1Header, sform: np.ndarray, qform: np.ndarray | None, zooms: np.ndarray, factor: float, path: Path
) -> list[str]:
    """A remark if the sform is another grid than the qform or than `pixdim`, which SimpleITK reads.

    SimpleITK 2.5 takes the spacing from `pixdim`; of two forms it takes the qform, unless the code of the sform is 1.
    """
    spacing, shape = np.linalg.norm(sform[:3, :3], axis=0), shape_of(header)
    tolerance = FORM_TOLERANCE_VOXELS * spacing.min()
    agree = float(np.max(np.abs(spacing - zooms) * (np.array(shape[:3]) - 1))) <= tolerance
    others = f"; SimpleITK and nnU-Net read {_times(zooms * factor)} mm"
    if qform is None:
        return [] if agree else [f"sform ({_times(spacing * factor)} mm) and pixdim differ: sform used{others}"]
    gap = grid_distance_mm(sform, qform, shape)
    if gap <= tolerance:
        return []
    _check_forms(sform, qform, path)
    if int(header["sform_code"]) != SCANNER:
        others = "; SimpleITK and nnU-Net read the qform"
    elif agree:
        others = ""
    return [f"qform and sform differ by up to {gap * factor:.2f} mm: sform used{others}"]


def _check_forms(sform: np.ndarray, qform: np.ndarray, path: Path) -> None:
    """Two forms may refer to two spaces, but must agree on the directions of the axes and on the spacing."""
    lengths = [np.linalg.norm(form[:3, :3], axis=0) for form in (sform, qform)]
    cosines = (sform[:3, :3] / lengths[0] * (qform[:3, :3] / lengths[1])).sum(axis=0)
    ratio = lengths[0] / lengths[1]
    if np.all(cosines >= FORM_TOLERANCE_COSINE) and np.all(np.abs(np.log(ratio)) <= math.log1p(FORM_TOLERANCE_SPACING)):
        return
    descriptions = [
        f"{''.join(nib.aff2axcodes(form))}, {_times(length)} mm" for form, length in zip((sform, qform), lengths, strict=True)
    ]
    raise BadVolume(
        f"sform ({descriptions[0]}) and qform ({descriptions[1]}) contradict each other",
        reason="forms",
        where=path,
        fix="find out which one is right, and write it into both",
    )


def _times(values: np.ndarray) -> str:
    return " x ".join(f"{value:.6g}" for value in values)
