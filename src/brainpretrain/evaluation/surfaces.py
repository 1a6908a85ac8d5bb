"""Distances between the surfaces of two masks: NSD on sub-voxel surfaces, and HD95 (docs/evaluation.md).

Both metrics need, for many points of one surface, the distance to the nearest point of the other. The two surfaces are
usually close together, so the neighbours of all points are looked up at once, from near to far; most points have one within
a voxel. A KD-tree finds the rest, and only if the rest can change the result.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence

import numpy as np

_MAX_NEIGHBOURS = 500  # beyond these a KD-tree is faster
_ROUNDING = 1 + 1e-6  # a distance that differs from the tolerance by rounding only counts as within it

# Corners of each face of a cell, anticlockwise seen from outside; corner k is at (k & 1, k >> 1 & 1, k >> 2).
_FACES = ((1, 3, 7, 5), (0, 4, 6, 2), (2, 6, 7, 3), (0, 1, 5, 4), (4, 5, 7, 6), (0, 2, 3, 1))


def nsd(reference: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float], tolerance_mm: float) -> float:
    """Normalised surface distance: the share (0..1) of both surfaces that is within `tolerance_mm` of the other surface.

    A surface consists of pieces, one in each cell between eight voxel centres of which some, but not all, are inside. Pieces
    are weighted by their area (`areas_by_code`); their distance is that of the centres of their cells (Nikolov et al. 2021).

    Args:
        reference, prediction: bool (x, y, z), both with at least one voxel; everything beyond the array is outside.
        spacing_mm: distance of voxels along x, y, z.
    """
    search = _Search(spacing_mm, tolerance_mm * _ROUNDING)
    codes = [_codes(search.padded(mask)) for mask in (reference, prediction)]
    surfaces = [code + np.uint8(1) > 1 for code in codes]  # neither 0, all corners outside, nor 255, which becomes 0
    points = [np.flatnonzero(surface) for surface in surfaces]
    areas = [areas_by_code(tuple(spacing_mm))[code.ravel()[at]] for code, at in zip(codes, points, strict=True)]
    near = [np.isfinite(search.distances(points[one], surfaces[other], len(points[one]))) for one, other in ((0, 1), (1, 0))]
    return float(sum(area[n].sum() for area, n in zip(areas, near, strict=True)) / sum(area.sum() for area in areas))


def hd95_mm(reference: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float]) -> float:
    """95th percentile of the Hausdorff distance in mm: the larger one of the two directions.

    Distances are measured between the centres of edge voxels: voxels inside with at least one of their six neighbours
    outside. The percentile is interpolated linearly, as numpy does by default.

    Args:
        reference, prediction: bool (x, y, z), both with at least one voxel; everything beyond the array is outside.
        spacing_mm: distance of voxels along x, y, z.
    """
    search = _Search(spacing_mm, math.inf)
    edges = [_edges(search.padded(mask)) for mask in (reference, prediction)]
    return max(_percentile95(search, np.flatnonzero(one), other) for one, other in (edges, edges[::-1]))


def _percentile95(search: _Search, points: np.ndarray, target: np.ndarray) -> float:
    """95th percentile of the distances of `points` to `target`; only the nearest 95 % and the next one need to be exact."""
    needed = min(len(points), math.floor(0.95 * (len(points) - 1)) + 2)
    return float(np.quantile(search.distances(points, target, needed), 0.95))


class _Search:
    """Distances in mm between points of a grid, up to a limit.

    Args:
        spacing_mm: of the grid.
        limit_mm: a point without a neighbour within this distance gets the distance infinity.
    """

    def __init__(self, spacing_mm: Sequence[float], limit_mm: float) -> None:
        self.spacing_mm, self.limit_mm = np.asarray(spacing_mm, np.float64), limit_mm
        ball_mm = (_MAX_NEIGHBOURS * self.spacing_mm.prod() / (4 / 3 * math.pi)) ** (1 / 3)
        self.reach_mm = min(limit_mm, ball_mm)
        most = (self.reach_mm // self.spacing_mm).astype(int)
        self.margin = most + 1  # the centre of a cell is half a voxel further out than the voxels around it
        steps = np.indices(tuple(2 * most + 1)).reshape(3, -1).T - most
        lengths_mm = np.linalg.norm(steps * self.spacing_mm, axis=1)
        nearest = np.argsort(lengths_mm, kind="stable")[: np.count_nonzero(lengths_mm <= self.reach_mm)]
        self.steps, self.lengths_mm = steps[nearest], lengths_mm[nearest]

    def padded(self, mask: np.ndarray) -> np.ndarray:
        """The mask with a margin, so that no step from one of its voxels or cells leaves the array."""
        return np.pad(mask, [(n, n) for n in self.margin])

    def distances(self, points: np.ndarray, target: np.ndarray, needed: int) -> np.ndarray:
        """Distance of each point to the nearest voxel of `target`; infinite beyond the limit.

        Args:
            points: flat indices into `target`.
            target: bool (x, y, z), padded.
            needed: number of points, the nearest ones, whose distance must be exact; that of others may be infinite.
        """
        distances_mm = np.full(len(points), np.inf)
        left, at, flat = np.arange(len(points)), points, target.ravel()
        _, ny, nz = target.shape
        for step, length in zip(self.steps @ [ny * nz, nz, 1], self.lengths_mm, strict=True):
            hit = flat[at + step]
            if hit.any():
                distances_mm[left[hit]] = length
                left, at = left[~hit], at[~hit]
                if len(points) - len(left) >= needed:
                    return distances_mm
        if self.reach_mm < self.limit_mm:
            from scipy.spatial import KDTree  # here, since few surfaces need it and it is slow to import

            tree = KDTree(np.argwhere(target) * self.spacing_mm, leafsize=32)
            far = np.stack(np.unravel_index(at, target.shape), axis=1) * self.spacing_mm
            distances_mm[left] = tree.query(far, distance_upper_bound=self.limit_mm)[0]
        return distances_mm


def _edges(mask: np.ndarray) -> np.ndarray:
    """Voxels inside that share a face with a voxel outside; `mask` has a margin."""
    core = mask.copy()
    for axis in range(3):
        ahead, behind = [(slice(None),) * axis + (part,) for part in (slice(1, None), slice(None, -1))]
        core[ahead] &= mask[behind]
        core[behind] &= mask[ahead]
    return mask ^ core


def _codes(mask: np.ndarray) -> np.ndarray:
    """The corners of each cell that are inside, uint8 (x-1, y-1, z-1): bit k is set if corner k is inside."""
    codes = mask.view(np.uint8)
    codes = codes[:-1] | codes[1:] << 1
    codes = codes[:, :-1] | codes[:, 1:] << 2
    return codes[:, :, :-1] | codes[:, :, 1:] << 4


@functools.cache
def areas_by_code(spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """Area in mm^2 of the surface in a cell, for each of the 256 sets of corners that can be inside.

    The surface passes through the middle of each edge between an inside and an outside corner. Its polygons enclose the
    inside or the outside corners, whichever are fewer (`_polygons`), and a polygon that is not plane is divided into
    triangles by `_fan`. All 256 areas then agree with the published table (Nikolov et al. 2021).
    """
    codes, sides = _triangles()
    first, second = np.moveaxis(sides * spacing_mm, 1, 0)
    return np.bincount(codes, np.linalg.norm(np.cross(first, second), axis=1) / 2, minlength=256)


@functools.cache
def _triangles() -> tuple[np.ndarray, np.ndarray]:
    """All triangles: the set of corners (t) each one belongs to, and two of its sides (t, 2, 3) in voxels."""
    triangles = [(code, sides) for code in range(256) for polygon in _polygons(code) for sides in _fan(polygon)]
    return np.array([code for code, _ in triangles]), np.array([sides for _, sides in triangles])


def _fan(polygon: np.ndarray) -> np.ndarray:
    """Triangles (n - 2, 2 sides, 3) of a polygon (n, 3): the fan from the corner that gives the largest area in cubic voxels."""
    fans = [np.roll(polygon, -n, axis=0) for n in range(len(polygon))]
    sides = [np.stack([fan[1:-1] - fan[0], fan[2:] - fan[0]], axis=1) for fan in fans]
    return max(sides, key=lambda s: round(np.linalg.norm(np.cross(s[:, 0], s[:, 1]), axis=1).sum(), 9))


def _polygons(code: int) -> Iterator[np.ndarray]:
    """The closed polygons (n, 3) through the middles of edges that separate the inside corners of a cell from the others.

    If more than four corners are inside, inside and outside are swapped. Two inside corners on the diagonal of a face are
    separated one by one. Seen from outside, a line crosses a face with the inside corners on its left, so each edge that
    is cut is the start of one line and the end of another.
    """
    inside = [bool(code >> corner & 1) for corner in range(8)]
    if sum(inside) > 4:
        inside = [not value for value in inside]
    line = {}
    for face in _FACES:
        for k in range(4):
            if inside[face[k]] and not inside[face[k - 1]]:
                last = next(n for n in range(k, k + 3) if not inside[face[(n + 1) % 4]])
                line[_middle(face[k - 1], face[k])] = _middle(face[last % 4], face[(last + 1) % 4])
    while line:
        polygon = [next(iter(line))]
        while (end := line.pop(polygon[-1])) != polygon[0]:
            polygon.append(end)
        yield np.array(polygon)


def _middle(corner: int, other: int) -> tuple[float, ...]:
    return tuple(((corner >> axis & 1) + (other >> axis & 1)) / 2 for axis in range(3))
