"""Where a volume belongs on the grid of another one: by the headers, or by a registration.

SimpleITK registers (Mattes mutual information, one thread, so that the result is the same on every run); it neither reads files
nor resamples. World coordinates are RAS, in mm. Reasons of a `BadVolume` raised here:

    session_grid not_aligned
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy import ndimage

from brainpretrain.preprocess.headers import BadVolume, require_same_grid
from brainpretrain.preprocess.nifti import Volume
from brainpretrain.preprocess.resampling import affine_resample, inside
from brainpretrain.preprocess.sitk import one_thread, register

LARGEST_TURN_DEG = 60.0  # between two volumes of one head: a registration that turns further has failed
LARGEST_SCALE = 1.6  # and one that scales an axis by more, or by less than its inverse
LARGEST_VOLUME = 1.35  # and one by which the brain is so much larger than the atlas's: then its skull is where the edge should be


@dataclass(frozen=True)
class Alignment:
    """How a volume was brought onto a frame, which is the grid of the first sequence of its session, or that of an atlas.

    Attributes:
        to: the file of the frame.
        method: header, rigid or affine.
        matrix: rows of the 4x4, world of the frame -> world of this volume.
        shape, affine: of the file of this volume.
        covered: share of the voxels above 0 of the frame's image at which this volume, interpolated linearly, is above 0.
        checksum: of the atlas, if the frame is one.
        metric, metric_before: negative mutual information after the registration, and by the headers alone; None if there was
            no registration.
    """

    to: str
    method: str
    matrix: tuple[tuple[float, ...], ...]
    shape: tuple[int, ...]
    affine: tuple[tuple[float, ...], ...]
    covered: float
    checksum: str = ""
    metric: float | None = None
    metric_before: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The content as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Alignment:
        """The inverse of `to_dict`."""
        lists = {"matrix": rows(content["matrix"]), "affine": rows(content["affine"]), "shape": tuple(content["shape"])}
        return cls(**(dict(content) | lists))


def rows(matrix: Any) -> tuple[tuple[float, ...], ...]:
    """A matrix as tuples of numbers, as tables hold it."""
    return tuple(tuple(float(value) for value in row) for row in matrix)


def on_same_grid(first: Volume, other: Volume) -> bool:
    """Whether two volumes have one grid, to within a twentieth of a voxel."""
    with suppress(BadVolume):
        require_same_grid(first, other, other.path)
        return True
    return False


def align(fixed: Volume, moving: Volume, method: str | None, min_covered: float, name: str, of_atlas: bool = False) -> Alignment:
    """Finds the place of `moving` on the grid of `fixed`.

    Args:
        method: header, rigid or affine.
        min_covered: smallest share of the foreground of `fixed` that `moving` must cover.
        name: of `fixed`, for messages and tables.
        of_atlas: `fixed` is an atlas: only its foreground and a margin count, and the heads may be placed anywhere.

    Raises:
        BadVolume: session_grid, if there is no method; not_aligned, if the registration fails or covers too little.
    """
    if method is None:
        try:
            require_same_grid(fixed, moving, moving.path)
        except BadVolume as error:
            fix = (
                f"register and resample it to the grid of {name}, or use a preprocess recipe with align: header, rigid or affine"
            )
            raise _bad(moving, f"it is not on the grid of {name}: {error.problem}", "session_grid", fix) from error
    matrix, metric, before = np.eye(4), None, None
    if method in ("rigid", "affine"):
        try:
            with one_thread():
                matrix, metric, before = register(fixed, moving, method, of_atlas)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise _bad(moving, f"the {method} registration to {name} failed: {reason}", "not_aligned") from error
        check_plausible(matrix, moving, method, name)
    covered = _covered(fixed, moving, matrix)
    if covered < min_covered:
        share = f"{100 * covered:.1f} % of its foreground, less than {100 * min_covered:g} %"
        problem = f"{method} alignment to {name} covers {share}"
        raise _bad(moving, problem, "not_aligned")
    checksum = fixed.facts["checksum"] if of_atlas else ""
    return Alignment(name, str(method), rows(matrix), moving.shape, rows(moving.affine), covered, checksum, metric, before)


def bring(volume: Volume, frame: Volume, matrix: np.ndarray, order: int, antialias: bool) -> Volume:
    """A volume on the grid of `frame`.

    Args:
        frame: whose grid it will have.
        matrix: 4x4, world of the frame -> world of the volume.
        order: of the spline: 0 nearest (labels), 3 cubic (images). A cubic result is kept within the range of the volume, and
            stays at its lowest value where only that is around, so that a background of 0 has no ripples.
        antialias: smooth axes that shrink.
    """
    to_voxel = np.linalg.inv(volume.affine) @ matrix @ frame.affine
    low = volume.array.min() if order else volume.array.dtype.type(0)
    array = affine_resample(volume.array, to_voxel, frame.shape, order, low, antialias)
    if order:
        near = affine_resample((volume.array > low).astype(np.float32), to_voxel, frame.shape, 1, 0, antialias=False)
        array = np.where(near > 0, array, np.float32(low))
    return replace(volume, array=array, affine=frame.affine, spacing_mm=frame.spacing_mm)


def check_plausible(matrix: np.ndarray, moving: Volume, method: str, name: str) -> None:
    """Refuses a registration of two volumes of one head, or of a head and an atlas, that cannot be right.

    Args:
        matrix: 4x4, from one world to the other.

    Raises:
        BadVolume: not_aligned: it mirrors, turns by more than LARGEST_TURN_DEG or scales by more than LARGEST_SCALE.
    """
    left, scales, right = np.linalg.svd(matrix[:3, :3])
    if np.linalg.det(matrix[:3, :3]) < 0:
        raise _bad(moving, f"the {method} registration to {name} mirrors it", "not_aligned")
    turn = math.degrees(math.acos(float(np.clip((np.trace(left @ right) - 1) / 2, -1, 1))))
    if turn > LARGEST_TURN_DEG or scales.max() > LARGEST_SCALE or scales.min() < 1 / LARGEST_SCALE:
        how = f"turns by {turn:.0f} degrees and scales by {scales.min():.2f} to {scales.max():.2f}"
        raise _bad(moving, f"the {method} registration to {name} {how}", "not_aligned")
    if (volume := scales.prod()) > LARGEST_VOLUME:
        how = f"makes it {volume:.2f} times as large, as if its skull were the edge of the brain"
        raise _bad(moving, f"the {method} registration to {name} {how}", "not_aligned")


# ------------------------------------------------------------------------------------------------ helpers


def _bad(volume: Volume, problem: str, reason: str, fix: str = "") -> BadVolume:
    fix = fix or "look at the two volumes; leave the session out, register them yourself, or lower min_covered in the recipe"
    return BadVolume(problem, reason=reason, where=volume.path, fix=fix)


def _covered(fixed: Volume, moving: Volume, matrix: np.ndarray) -> float:
    foreground = fixed.array > 0
    if not foreground.any():
        raise _bad(fixed, "no voxel above 0", "empty")
    to_voxel = np.linalg.inv(moving.affine) @ matrix @ fixed.affine
    linear = ndimage.affine_transform(
        (moving.array > 0).astype(np.float32), to_voxel[:3, :3], to_voxel[:3, 3], fixed.shape, order=1, mode="nearest"
    )
    return float(np.count_nonzero((linear > 0) & foreground & inside(to_voxel, fixed.shape, moving.shape)) / foreground.sum())
