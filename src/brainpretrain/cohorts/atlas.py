"""The brain that volumes are aligned to: maps of ICBM152 2009a, of which the package nilearn contains three, on coarse grids.

Coordinates are those of the template (RAS, mm), from CENTRE_MM. The midline is x = 0, and the points of `brain` are symmetric
about it, so that the mirror image of a volume is the same values in another order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from brainpretrain.preprocess.synthetic import Template, load_template

CENTRE_MM = np.array([0.0, -17.5, 5.5])  # of the template's brain, on its midline
RIND_MM = 6.0  # how far beyond the brain an alignment looks: there is skull, or air around a brain without one
RING_MM = 3.0  # width of the rings that the rind is divided into
MAPS_MM = 2  # grid of the maps that coarser grids are read from
VENTRICLES_MM, BLUR_MM = 25.0, 10.0  # least depth of fluid that counts as ventricles; standard deviation of their blurred map
FILTERED_MM, DEEP_MM = 2.0, 6.0  # depth in the brain from which values are filtered, and from which they are compared


@dataclass(frozen=True)
class Atlas:
    """Points at which an image is read, and what it should look like there.

    Attributes:
        points: (n, 3) float32, mm.
        basis: (n, k) float32, orthonormal columns: the image should be a combination of them.
        free: number of the first columns whose part of an image counts neither for it nor against it, a constant among them.
    """

    points: np.ndarray
    basis: np.ndarray
    free: int = 1


@dataclass(frozen=True)
class Brain:
    """A grid around the brain: its spacing in mm, and the voxels (x, y, z) that are filtered, and those that are compared."""

    spacing_mm: float
    inside: np.ndarray
    deep: np.ndarray

    def points(self, mask: np.ndarray) -> np.ndarray:
        """(n, 3) float32, mm: the centres of the voxels of a mask."""
        return (np.argwhere(mask) - (np.array(mask.shape) - 1) / 2).astype(np.float32) * np.float32(self.spacing_mm)


@lru_cache(maxsize=4)
def atlas(spacing_mm: int) -> Atlas:
    """Brain and rind; a gain may rise towards any side, and the basis spans tissues, blurred ventricles, and rings."""
    points = _lattice(spacing_mm, _maps().extent_mm / 2 + RIND_MM).reshape(-1, 3)
    distance = _read(_maps().distance_mm, points, spacing_mm)
    points, distance = points[distance <= RIND_MM], distance[distance <= RIND_MM]
    brain = _read(_maps().brain, points, spacing_mm)
    rings = [np.clip(1 - np.abs(distance - middle) / RING_MM, 0, 1) * (1 - brain) for middle in np.arange(0, RIND_MM, RING_MM)]
    free = [np.ones(len(points)), *(brain * along for along in points.T)]
    maps = [*free, *tissues(points, spacing_mm), _read(_around_ventricles(), points, spacing_mm), *rings]
    return Atlas(points.astype(np.float32), np.linalg.qr(np.stack(maps, axis=1))[0].astype(np.float32), len(free))


@lru_cache(maxsize=2)
def brain(spacing_mm: int) -> Brain:
    """The brain on a symmetric grid."""
    lattice = _lattice(spacing_mm, _maps().extent_mm / 2 + spacing_mm)
    depth = ndimage.distance_transform_edt(_maps().brain > 0.5, sampling=MAPS_MM)
    depth = _read(depth, lattice.reshape(-1, 3), 0).reshape(lattice.shape[:3])
    depth = np.minimum(depth, depth[::-1])
    return Brain(float(spacing_mm), depth >= FILTERED_MM, depth >= DEEP_MM)


def tissues(points: np.ndarray, smooth_mm: float) -> list[np.ndarray]:
    """Grey matter, white matter, fluid and detail of the T1w template at points (n, 3), averaged over about `smooth_mm`."""
    brain, grey, white, detail = (
        _read(getattr(_maps(), name), points, smooth_mm) for name in ("brain", "grey", "white", "detail")
    )
    return [grey, white, np.clip(brain - grey - white, 0, 1), detail]


def _around_ventricles() -> np.ndarray:
    """The deep fluid of the template, blurred: the ventricles of old people are several times as large."""
    depth = ndimage.distance_transform_edt(_maps().brain > 0.5, sampling=MAPS_MM)
    fluid = np.where(depth > VENTRICLES_MM, np.clip(_maps().brain - _maps().grey - _maps().white, 0, 1), 0)
    return ndimage.gaussian_filter(fluid, BLUR_MM / MAPS_MM)


@lru_cache(maxsize=1)
def _maps() -> Template:
    return load_template(MAPS_MM)


def _lattice(spacing_mm: int, reach_mm: np.ndarray) -> np.ndarray:
    """(x, y, z, 3): a grid around the centre with an even number of voxels per axis."""
    axes = [(np.arange(2 * int(np.ceil(mm / spacing_mm))) + 0.5) * spacing_mm for mm in reach_mm]
    return np.stack(np.meshgrid(*(axis - axis.mean() for axis in axes), indexing="ij"), axis=-1)


def _read(values: np.ndarray, points: np.ndarray, smooth_mm: float) -> np.ndarray:
    """A map, averaged over about `smooth_mm`, at points (n, 3)."""
    if smooth_mm > MAPS_MM:
        values = ndimage.uniform_filter(values, round(smooth_mm / MAPS_MM), mode="nearest")
    return _maps().sample(values, points + CENTRE_MM)
