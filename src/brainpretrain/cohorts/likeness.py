"""Whether two volumes show the same brain, whatever was done to the images: aligned to each other, filtered and correlated.

A filtered brain is the image in the template's brain, minus its mean in the surroundings, over its spread there: folds and
ventricles remain, and neither the coil's gain nor the strength of the contrast. Only voxels DEEP_MM or more below the surface
count, so that a skull, a face, or their absence does not. What the filtered maps of the template explain is removed, since all
brains share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from brainpretrain.cohorts import atlas
from brainpretrain.cohorts.alignment import Sampler, align, covered, descend, oddness
from brainpretrain.cohorts.atlas import Atlas

SAME, LOOK = 0.7, 0.5  # correlation from which two volumes are the same brain, and from which a person should look
LEAST_MM = 90.0  # of every axis of an image; a smaller one holds no brain, and alignment would fit anything to it
LEAST_COVERED, LEAST_SHARE = 0.9, 0.3  # of a brain that is inside the image; of its variance that the template explains
VECTOR_MM, PAIR_MM = 5, 4  # grid of the vector of a volume, and of the comparison of a pair
SURROUNDINGS_MM = 8.0  # standard deviation of the Gaussian whose mean is subtracted
DETAIL = 0.75  # size of the voxels that an image is read from, in voxels of the grid
ROUNDS = (6, 10)  # steps of descent of a pair, before and after the image is filtered again
MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Aligned:
    """An image (x, y, z), the spacing of its voxels in mm (3), and its map from the template (3, 4); see `alignment.align`."""

    image: np.ndarray
    spacing_mm: np.ndarray
    to_image: np.ndarray

    def mirrored(self) -> Aligned:
        """With left and right of the template swapped."""
        return Aligned(self.image, self.spacing_mm, self.to_image @ MIRROR)

    def at(self, points: np.ndarray, detail_mm: float) -> np.ndarray:
        """(n,): the image at points (n, 3) of the template, read from voxels of about `detail_mm`."""
        sampler = Sampler.of(self.image, self.spacing_mm, detail_mm)
        return sampler(_moved(points, self.to_image))[0]


@dataclass(frozen=True)
class Found:
    """The filtered brain of an image as a vector (n,), the map from the template (3, 4), and its share of explained variance."""

    vector: np.ndarray
    to_image: np.ndarray
    share: float


def brain_of(image: np.ndarray, spacing_mm: np.ndarray) -> Found:
    """The brain in an image (x, y, z) with voxels of `spacing_mm` (3).

    The vector is 0 where no whole brain is found: an axis is shorter than LEAST_MM, less than LEAST_COVERED of the brain is in
    the image, or the template explains less than LEAST_SHARE, less the charge for an unusual shape.
    """
    extent = np.array(image.shape) * spacing_mm
    if extent.min() < LEAST_MM or not image.any():
        return Found(np.zeros(length(), np.float32), np.eye(4)[:3], 0.0)
    to_image, share = align(image, spacing_mm)
    grid = atlas.brain(VECTOR_MM)
    whole = covered(grid.points(grid.deep), to_image, extent / 2) >= LEAST_COVERED and share - oddness(to_image) >= LEAST_SHARE
    found = vector(Aligned(image, spacing_mm, to_image)) if whole else np.zeros(length(), np.float32)
    return Found(found, to_image, share)


def vector(volume: Aligned) -> np.ndarray:
    """The filtered brain (n,) of length 1, float32: first the part that is even about the midline, then the odd part."""
    grid = atlas.brain(VECTOR_MM)
    values, half = np.zeros(grid.deep.shape, np.float32), len(grid.deep) // 2
    values[grid.deep] = _own(volume, VECTOR_MM)
    left, right = values[:half][grid.deep[:half]], values[::-1][:half][grid.deep[:half]]
    return np.concatenate([left + right, left - right]) * np.float32(np.sqrt(0.5))


def length() -> int:
    """Number of elements of a vector."""
    return int(atlas.brain(VECTOR_MM).deep.sum())


class Reference:
    """A volume that others are compared with."""

    def __init__(self, volume: Aligned) -> None:
        self.grid = atlas.brain(PAIR_MM)
        self.values = _own(volume, PAIR_MM)
        constant = np.full(len(self.values), 1 / np.sqrt(len(self.values)), np.float32)
        self.target = Atlas(self.grid.points(self.grid.deep), np.stack([constant, self.values], axis=1))

    def compare(self, other: Aligned) -> tuple[float, Aligned]:
        """The correlation of the filtered brains after an affine alignment of the other to this one, and the other so aligned.

        The descent starts from the alignment of both to the template.
        """
        to_image = other.to_image
        for steps in ROUNDS:
            filtered = np.pad(_filtered(Aligned(other.image, other.spacing_mm, to_image), PAIR_MM), 1)
            change, _ = descend(Sampler(filtered, np.full(3, self.grid.spacing_mm)), self.target, np.eye(4)[:3], 12, steps)
            to_image = to_image @ np.vstack([change, [0, 0, 0, 1]])
        moved = Aligned(other.image, other.spacing_mm, to_image)
        return float(_own(moved, PAIR_MM) @ self.values), moved


def slices(volume: Aligned, side_mm: float = 176.0, spacing_mm: float = 2.0) -> np.ndarray:
    """(3, n, n) uint8: sagittal (front to the left), coronal and axial slice of the aligned image, in RAS, the top up."""
    axis = np.arange(-side_mm / 2, side_mm / 2, spacing_mm)
    across, up = (part.ravel() for part in np.meshgrid(axis, axis[::-1], indexing="xy"))
    still = np.zeros_like(across)
    planes = [(still - 6, -across, up), (across, still, up), (across, up, still + 6)]
    values = [volume.at(np.stack(plane, axis=1).astype(np.float32), spacing_mm) for plane in planes]
    shown = np.stack(values).reshape(3, len(axis), len(axis))
    return (np.clip(shown / max(float(np.quantile(shown, 0.99)), 1e-6), 0, 1) * 255).astype(np.uint8)


def _moved(points: np.ndarray, to_image: np.ndarray) -> np.ndarray:
    return points @ to_image[:, :3].T.astype(np.float32) + to_image[:, 3].astype(np.float32)


@lru_cache(maxsize=2)
def _weights(spacing_mm: int) -> np.ndarray:
    """The share of the surroundings of each voxel that is inside the brain."""
    inside = atlas.brain(spacing_mm).inside.astype(np.float32)
    return ndimage.gaussian_filter(inside, SURROUNDINGS_MM / spacing_mm) + np.float32(1e-3)


def _own(volume: Aligned, spacing_mm: int) -> np.ndarray:
    """(n,), of length 1: the deep part of the filtered brain without what it shares with the template; 0 if nothing is left."""
    common, values = _common(spacing_mm), _filtered(volume, spacing_mm)[atlas.brain(spacing_mm).deep]
    values = values - common @ (common.T @ values)
    size = float(np.linalg.norm(values))
    return (values / size if size > 1e-6 else np.zeros_like(values)).astype(np.float32)


@lru_cache(maxsize=2)
def _common(spacing_mm: int) -> np.ndarray:
    """(n, k), orthonormal: a constant, and the deep parts of the filtered tissue maps of the template."""
    grid = atlas.brain(spacing_mm)
    maps = [_spread(values, spacing_mm)[grid.deep] for values in atlas.tissues(grid.points(grid.inside), spacing_mm)]
    return np.linalg.qr(np.stack([np.ones_like(maps[0]), *maps], axis=1))[0].astype(np.float32)


def _filtered(volume: Aligned, spacing_mm: int) -> np.ndarray:
    """The filtered brain on the grid of `atlas.brain`; 0 outside."""
    grid = atlas.brain(spacing_mm)
    return _spread(volume.at(grid.points(grid.inside), DETAIL * spacing_mm), spacing_mm)


def _spread(inside: np.ndarray, spacing_mm: int) -> np.ndarray:
    """Filters the values (n,) of the inside of `atlas.brain`."""
    grid, weights, width = atlas.brain(spacing_mm), _weights(spacing_mm), SURROUNDINGS_MM / spacing_mm
    values = np.zeros(grid.inside.shape, np.float32)
    values[grid.inside] = inside
    values = np.where(grid.inside, values - ndimage.gaussian_filter(values, width) / weights, 0)
    spread = np.sqrt(ndimage.gaussian_filter(values**2, width) / weights)
    return values / (spread + 0.2 * np.median(spread[grid.inside]) + np.float32(1e-4))
