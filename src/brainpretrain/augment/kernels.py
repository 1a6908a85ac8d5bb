"""The resampling of `spatial.py` for CPUs, compiled by numba: a third of the time of the same arithmetic in torch's operators.

Rows of output voxels are computed one by one, in loops that the compiler vectorises: positions, weights, reads.
Indices are unsigned, since numba would otherwise test each for being negative.
"""

from __future__ import annotations

import numba
import numpy as np

_F, _U = np.float32, np.uint64
_POLE = _F(np.sqrt(3) - 2)  # of the recursive filter that turns samples into cubic B-spline coefficients
_END = _F(_POLE / (_POLE**2 - 1))
_GAIN = _F(6**3)
_HORIZON = 16  # voxels after which the filter has forgotten its start: 0.268^16 = 7e-10
_LANES = 16  # rows filtered side by side

_compiled = numba.njit(fastmath={"nsz", "arcp", "contract", "reassoc"}, nogil=True)


@_compiled
def _filter(lines, first, n):
    """Cubic B-spline coefficients of the columns of lines[first : first + n], in place; n >= 2 samples, mirrored ends."""
    width = lines.shape[1]
    start = lines[first].copy()
    power = _F(1)
    for k in range(1, _HORIZON):
        power *= _POLE
        mirrored = k % (2 * n - 2)
        row = lines[first + min(mirrored, 2 * n - 2 - mirrored)]
        for r in range(width):
            start[r] += power * row[r]
    lines[first] = start
    for k in range(first + 1, first + n):
        row, before = lines[k], lines[k - 1]
        for r in range(width):
            row[r] += _POLE * before[r]
    row, before = lines[first + n - 1], lines[first + n - 2]
    for r in range(width):
        row[r] = _END * (row[r] + _POLE * before[r])
    for k in range(first + n - 2, first - 1, -1):
        row, after = lines[k], lines[k + 1]
        for r in range(width):
            row[r] = _POLE * (after[r] - row[r])


@_compiled
def coefficients(image):
    """Cubic B-spline coefficients (x+3 y+3 z+3) of an image (x y z), with one mirrored voxel before and two after."""
    nx, ny, nz = image.shape
    out = np.empty((nx + 3, ny + 3, nz + 3), np.float32)
    block = np.zeros((nz, _LANES), np.float32)
    for i in range(nx):
        plane = out[i + 1]
        for j in range(0, ny, _LANES):
            rows = min(_LANES, ny - j)
            for r in range(rows):
                source = image[i, j + r]
                for k in range(nz):
                    block[k, r] = source[k] * _GAIN
            _filter(block, 0, nz)
            for r in range(rows):
                row = plane[j + r + 1]
                for k in range(nz):
                    row[k + 1] = block[k, r]
                _mirror(row, nz)
        _filter(plane, 1, ny)
        _mirror(plane, ny)
    planes = out.reshape(nx + 3, -1)
    _filter(planes, 1, nx)
    _mirror(planes, nx)
    return out


@_compiled
def _mirror(lines, n):
    """Fills the line before and the two after lines[1 : n + 1]; in this order, for n = 2."""
    lines[0] = lines[2]
    lines[n + 1] = lines[n - 1]
    lines[n + 2] = lines[n - 2]


@_compiled
def _node(i, n, count):
    """Voxel i of n between `count` nodes that span them: the node before it, and its distance from that node, in nodes."""
    at = i * (count - 1) / (n - 1)
    before = min(int(at), count - 2)
    return before, _F(at - before)


@_compiled
def _shift_row(nodes, i, j, size, line):
    """The shifts of output row (i, j) at the nodes along z, into line (3, nz)."""
    a, u = _node(i, size[0], nodes.shape[1])
    b, v = _node(j, size[1], nodes.shape[2])
    for d in range(3):
        for k in range(nodes.shape[3]):
            near = nodes[d, a, b, k] * (_F(1) - v) + nodes[d, a, b + 1, k] * v
            far = nodes[d, a + 1, b, k] * (_F(1) - v) + nodes[d, a + 1, b + 1, k] * v
            line[d, k] = near * (_F(1) - u) + far * u


@_compiled
def _read_linear(flat, at, part, step, row):
    """Trilinear: row[k] from the eight voxels around, `at` the first of them, `part` how far beyond it, by axis."""
    corner = np.empty((8, len(row)), np.float32)
    for k in range(len(row)):
        n = _U(at[k])
        n01, n10 = n + _U(step[1]), n + _U(step[0])
        n11 = n10 + _U(step[1])
        corner[0, k], corner[1, k] = flat[n], flat[n + _U(1)]
        corner[2, k], corner[3, k] = flat[n01], flat[n01 + _U(1)]
        corner[4, k], corner[5, k] = flat[n10], flat[n10 + _U(1)]
        corner[6, k], corner[7, k] = flat[n11], flat[n11 + _U(1)]
    for k in range(len(row)):
        u, v, w = part[0, k], part[1, k], part[2, k]
        a = corner[0, k] + (corner[1, k] - corner[0, k]) * w
        b = corner[2, k] + (corner[3, k] - corner[2, k]) * w
        c = corner[4, k] + (corner[5, k] - corner[4, k]) * w
        d = corner[6, k] + (corner[7, k] - corner[6, k]) * w
        a, c = a + (b - a) * v, c + (d - c) * v
        row[k] = a + (c - a) * u


@_compiled
def _read_cubic(flat, at, part, step, weight, row):
    """Cubic B-spline: row[k] from the 4^3 coefficients around, `at` the first of them."""
    for d in range(3):
        for k in range(len(row)):
            t = part[d, k]
            s = _F(1) - t
            weight[4 * d, k] = s * s * s / _F(6)
            weight[4 * d + 1, k] = _F(2 / 3) - t * t * (_F(1) - t / _F(2))
            weight[4 * d + 2, k] = _F(2 / 3) - s * s * (_F(1) - s / _F(2))
            weight[4 * d + 3, k] = t * t * t / _F(6)
    for k in range(len(row)):
        n = _U(at[k])
        a0 = a1 = a2 = a3 = _F(0)
        for p in range(4):
            b0 = b1 = b2 = b3 = _F(0)
            for q in range(4):
                w = weight[4 + q, k]
                b0 += w * flat[n]
                b1 += w * flat[n + _U(1)]
                b2 += w * flat[n + _U(2)]
                b3 += w * flat[n + _U(3)]
                n += _U(step[1])
            n += _U(step[0] - 4 * step[1])
            w = weight[p, k]
            a0, a1, a2, a3 = a0 + w * b0, a1 + w * b1, a2 + w * b2, a3 + w * b3
        row[k] = a0 * weight[8, k] + a1 * weight[9, k] + a2 * weight[10, k] + a3 * weight[11, k]


@_compiled
def resample(values, cubic, size, matrix, centre, nodes, low, high, out):
    """out (x y z) at g reads an image of `size` at centre + (g + shift) matrix, g counted from the middle of `out`.

    Args:
        values: the image, or if `cubic` its `coefficients`; C-contiguous float32, at least 2 voxels per axis.
        matrix: (3, 3) float64.
        centre: (3,) float64, in voxels of the image.
        nodes: shifts in voxels (3 nx ny nz), as `Elastic` gives them; (3 0 0 0) for none.
        low, high: the result is clipped to them, and is `low` outside the image.
        out: float32, written.
    """
    flat = values.reshape(-1)
    step = (np.int32(values.shape[1] * values.shape[2]), np.int32(values.shape[2]))
    n = out.shape[2]
    last = (_F(size[0] - 1), _F(size[1] - 1), _F(size[2] - 1))
    # cubic: the first of four coefficients is one voxel before, and the mirrored voxel shifts all indices by one
    top = (np.int32(size[0] - 1), np.int32(size[1] - 1), np.int32(size[2] - 1))
    if not cubic:
        top = (np.int32(size[0] - 2), np.int32(size[1] - 2), np.int32(size[2] - 2))
    m = matrix.astype(np.float32)
    place, part, weight = np.empty((3, n), np.float32), np.empty((3, n), np.float32), np.empty((12, n), np.float32)
    at, outside = np.empty(n, np.int32), np.empty(n, np.bool_)
    shifted = nodes.shape[1] > 0
    line = np.zeros((3, max(nodes.shape[3], 1)), np.float32)
    before, behind, shift = np.zeros(n, np.int64), np.zeros(n, np.float32), np.empty(n, np.float32)
    for k in range(n if shifted else 0):
        before[k], behind[k] = _node(k, n, nodes.shape[3])
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            gx, gy, gz = i - (out.shape[0] - 1) / 2, j - (out.shape[1] - 1) / 2, -(n - 1) / 2
            for d in range(3):
                first = _F(centre[d] + gx * matrix[0, d] + gy * matrix[1, d] + gz * matrix[2, d])
                for k in range(n):
                    place[d, k] = first + _F(k) * m[2, d]
            if shifted:
                _shift_row(nodes, i, j, out.shape, line)
                for e in range(3):
                    for k in range(n):
                        near = line[e, _U(before[k])]
                        shift[k] = near + (line[e, _U(before[k] + 1)] - near) * behind[k]
                    for d in range(3):
                        for k in range(n):
                            place[d, k] += shift[k] * m[e, d]
            outside[:] = False
            at[:] = 0
            for d in range(3):
                stride = step[d] if d < 2 else np.int32(1)
                for k in range(n):
                    p = place[d, k]
                    outside[k] |= (p < _F(0)) | (p > last[d])
                    p = min(max(p, _F(0)), last[d])
                    voxel = min(np.int32(p), top[d])
                    part[d, k] = p - _F(voxel)
                    at[k] += voxel * stride
            row = out[i, j]
            if cubic:
                _read_cubic(flat, at, part, step, weight, row)
            else:
                _read_linear(flat, at, part, step, row)
            for k in range(n):
                row[k] = low if outside[k] else min(max(row[k], low), high)
