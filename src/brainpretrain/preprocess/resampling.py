"""Axis-aligned resampling of a volume as three small banded matrix products.

Resizing along an axis is linear, including the prefilter and the boundary of cubic splines, so it is a matrix of shape
(n_out, n_in), namely the resized identity. Its weights fall by a factor of 3.7 per voxel, so the matrix is a narrow band, and the
product of its blocks takes a twentieth of the time of a general spline routine. All orders use the half-pixel convention: both
grids cover the same extent, and the centre of voxel i is at (i + 0.5) / n of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

NEAREST, LINEAR, CUBIC = 0, 1, 3
_BLOCK = 32  # output voxels per product; small blocks waste the processor's tiles, large ones multiply zeros
_NEGLIGIBLE = 1e-7  # smaller weights are set to 0


@dataclass(frozen=True)
class Operator:
    """A banded (n_out, n_in) matrix: the rows, the columns and the dense float32 weights of each block."""

    n_out: int
    blocks: tuple[tuple[slice, slice, np.ndarray], ...]


def target_shape(shape: Sequence[int], spacing_from: Sequence[float], spacing_to: Sequence[float]) -> tuple[int, ...]:
    """Voxels per axis at the new spacing: round(size * from / to), at least 1 (AMAES section 2: numpy's rounding)."""
    return tuple(max(1, round(n * a / b)) for n, a, b in zip(shape, spacing_from, spacing_to, strict=True))


def resample(
    array: np.ndarray,
    spacing_from: Sequence[float],
    spacing_to: Sequence[float],
    order: int,
    antialias: bool = True,
) -> np.ndarray:
    """`array` (x, y, z) on the grid of another spacing; see `resize` for order, antialias and the result."""
    return resize(array, target_shape(array.shape, spacing_from, spacing_to), order, antialias)


def resize(array: np.ndarray, shape: Sequence[int], order: int, antialias: bool = True) -> np.ndarray:
    """`array` (x, y, z) stretched to `shape`.

    Args:
        array: any memory layout.
        shape: the new size.
        order: 3 (cubic spline with mirrored boundary, clipped to the range of `array`), 1 (linear, with the edge repeated) or
            0 (nearest). Orders 3 and 1 give float32, order 0 keeps the type.
        antialias: a Gaussian of sigma (n_in / n_out - 1) / 2 voxels before a cubic resize of an axis that shrinks.

    Returns:
        The new array, C-contiguous, or `array` itself (as float32 for orders 3 and 1) if it has `shape` already.
    """
    if order == NEAREST:
        return _nearest(array, tuple(shape))
    result = np.asarray(array, dtype=np.float32)
    if result.shape == tuple(shape):
        return result
    room = np.empty(math.prod(shape), np.float32)
    axes = [axis for axis in range(3) if array.shape[axis] != shape[axis]]
    axes.sort(key=lambda a: shape[a] / array.shape[a])  # axes that shrink come first, which leaves fewer voxels for the others
    for left, axis in zip(reversed(range(len(axes))), axes, strict=True):
        n_in, n_out = array.shape[axis], shape[axis]
        operator = cubic_operator(n_in, n_out, antialias) if order == CUBIC else linear_operator(n_in, n_out)
        # the first of three products uses the memory of the last, since memory use is largest here
        result = apply(operator, result, axis, room if left % 2 == 0 else None)
    if order == CUBIC:
        np.clip(result, array.min(), array.max(), out=result)
    return result


def apply(operator: Operator, array: np.ndarray, axis: int, room: np.ndarray | None = None) -> np.ndarray:
    """The matrix times `array` (float32) along `axis`; C-contiguous float32, whatever the memory layout of `array`.

    The result is written into `room` (float32, flat) if that is large enough.

    The products run over the 2-D slices of a third axis, chosen such that slices of input and output have an axis of
    stride one; BLAS then reads them in place, and a change of the memory layout costs nothing.
    """
    fastest = int(np.argmin(np.abs(array.strides)))
    batch = next((b for b in (1, 0) if b not in (axis, fastest)), None)
    if batch is None or min(array.strides) < 0:
        return apply(operator, np.ascontiguousarray(array), axis, room)
    shape = (*array.shape[:axis], operator.n_out, *array.shape[axis + 1 :])
    size = math.prod(shape)
    result = np.empty(shape, np.float32) if room is None or room.size < size else room[:size].reshape(shape)
    slices_in, slices_out = (np.moveaxis(a, (batch, axis), (0, 1)) for a in (array, result))
    for rows, columns, weights in operator.blocks:
        np.matmul(weights, slices_in[:, columns], out=slices_out[:, rows])
    return result


@lru_cache(maxsize=512)
def cubic_operator(n_in: int, n_out: int, antialias: bool) -> Operator:
    """Cubic B-spline interpolation with its prefilter, mirrored at the centres of the edge voxels."""
    if n_in == 1:
        return _banded(np.ones((n_out, 1)))
    matrix = np.eye(n_in)
    if antialias and n_in > n_out:
        matrix = ndimage.gaussian_filter1d(matrix, (n_in / n_out - 1) / 2, axis=0, mode="mirror")
    matrix = ndimage.spline_filter1d(matrix, CUBIC, axis=0, mode="mirror")
    first, t = _positions(n_in, n_out)
    taps = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    period = 2 * (n_in - 1)
    result = np.zeros((n_out, n_in))
    for offset, weight in zip((-1, 0, 1, 2), taps, strict=True):
        row = (first + offset) % period
        result += weight[:, None] / 6 * matrix[np.minimum(row, period - row)]
    return _banded(result)


@lru_cache(maxsize=512)
def linear_operator(n_in: int, n_out: int) -> Operator:
    """Linear interpolation, edge voxels repeated outwards."""
    first, t = _positions(n_in, n_out)
    identity = np.eye(n_in)
    low, high = (identity[np.clip(first + offset, 0, n_in - 1)] for offset in (0, 1))
    return _banded((1 - t)[:, None] * low + t[:, None] * high)


def _positions(n_in: int, n_out: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the output voxels on the input axis: the voxel below and the fraction beyond it."""
    position = (np.arange(n_out) + 0.5) * (n_in / n_out) - 0.5
    first = np.floor(position)
    return first.astype(np.intp), position - first


def _banded(matrix: np.ndarray) -> Operator:
    """Divides a dense matrix into blocks of rows, each with the columns that are not 0."""
    matrix = np.where(np.abs(matrix) < _NEGLIGIBLE, 0, matrix).astype(np.float32)
    blocks = []
    for start in range(0, len(matrix), _BLOCK):
        rows = matrix[start : start + _BLOCK]
        used = np.flatnonzero(rows.any(axis=0))
        columns = slice(int(used[0]), int(used[-1]) + 1)
        blocks.append((slice(start, start + len(rows)), columns, np.ascontiguousarray(rows[:, columns])))
    return Operator(len(matrix), tuple(blocks))


def _nearest(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Takes for each output voxel the input voxel that contains its centre."""
    for axis, (n_in, n_out) in enumerate(zip(array.shape, shape, strict=True)):
        if n_in != n_out:
            index = [math.floor((2 * i + 1) * n_in / (2 * n_out)) for i in range(n_out)]
            array = np.take(array, index, axis=axis)
    return array
