"""Affine alignment of one volume, of any contrast, to the brain of the template.

The measure is the share of the image's variance in and around the brain, apart from a gain that rises towards one side, that
the tissue maps of the template explain (a correlation ratio, Woods et al. 1993; Jenkinson and Smith, Med Image Anal 2001): it
asks which tissue a voxel is, not how bright that tissue should be. All translations are tried at once by Fourier transforms, for
a list of rotations and sizes; the best of these start a Gauss-Newton descent with seven, then twelve parameters. No random
numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from scipy import fft, ndimage
from scipy.spatial.transform import Rotation

from brainpretrain.cohorts.atlas import Atlas, atlas
from brainpretrain.preprocess.resampling import CUBIC, resize

SEARCH_MM, COARSE_MM, FINE_MM = 10, 8, 4  # grids of search and descent
SIZES = (0.82, 0.92, 1.03)  # of the brain, relative to the template's
TURNS = [((pitch, 0.0, 0.0), SIZES) for pitch in (-24.0, -12.0, 0.0, 12.0, 24.0)]  # degrees about the axes
TURNS += [(tilt, SIZES[1:2]) for tilt in ((0.0, -12.0, 0.0), (0.0, 12.0, 0.0), (0.0, 0.0, -12.0), (0.0, 0.0, 12.0))]
LARGEST_MM, BRAIN_MM = 320, 180  # of an image, beyond which translations wrap around; of the template
STARTS, REFINED = 6, 2  # maps whose descent starts with 7 parameters, and goes on with 12
BRIGHTEST = 1.5  # times the median of what is brighter than the mean; brighter voxels count as this bright
USUAL_SIZE = 0.9  # length of an axis of a brain relative to the template's
FREE, CHARGE = 0.15, 1.0  # deviation of the logarithm of an axis that costs nothing, and what the rest costs
OUTSIDE = 1.0  # charge for a brain that is outside the image
LEAST_VARIANCE = 0.1  # of the largest variance of a place in the image: air is explained by anything
LEAST_GAIN = 2e-4  # of the share, below which a descent ends
_SCALE_MM = 60.0  # a change of the linear part by 1 moves points by about this much


@dataclass(frozen=True)
class Sampler:
    """An image that is read at points: voxels of `spacing_mm` (3), coordinates in mm from the centre of its box; 0 outside."""

    array: np.ndarray
    spacing_mm: np.ndarray

    @classmethod
    def of(cls, image: np.ndarray, spacing_mm: np.ndarray, target_mm: float) -> Sampler:
        """The image (x, y, z) with voxels of about `target_mm`, a border of zeros around it."""
        extent = np.array(image.shape) * spacing_mm
        shape = [min(n, max(2, round(mm / target_mm))) for n, mm in zip(image.shape, extent, strict=True)]
        return cls(np.pad(resize(image, shape, CUBIC), 2), extent / np.array(shape))

    def on_grid(self, linear: np.ndarray, n: int) -> np.ndarray:
        """(n, n, n): values at the points of a grid of SEARCH_MM around 0, mapped by `linear` (3, 3)."""
        matrix = linear * SEARCH_MM / self.spacing_mm[:, None]
        first = (np.array(self.array.shape) - 1) / 2 - matrix @ np.full(3, n // 2 - 0.5)
        return ndimage.affine_transform(self.array, matrix, first, (n, n, n), np.float32, order=1)

    def __call__(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values (n) and gradients (n, 3) per mm of the trilinear interpolation at points (n, 3)."""
        shape, spacing_mm = np.array(self.array.shape), self.spacing_mm.astype(np.float32)
        at = points / spacing_mm + ((shape - 1) / 2).astype(np.float32)
        at = np.clip(at, 0, (shape - 1.001).astype(np.float32))
        first = at.astype(np.int32)
        x, y, z = (at - first).T
        flat, strides = self.array.ravel(), (int(shape[1] * shape[2]), int(shape[2]), 1)
        base = first @ np.array(strides)
        corners = [[[flat[base + i * strides[0] + j * strides[1] + k] for k in (0, 1)] for j in (0, 1)] for i in (0, 1)]
        rise = [[high - low for low, high in edges] for edges in corners]
        along = [[edges[j][0] + z * rise[i][j] for j in (0, 1)] for i, edges in enumerate(corners)]
        slope = [high - low for low, high in along]
        plane = [along[i][0] + y * slope[i] for i in (0, 1)]
        steep = [rise[i][0] + y * (rise[i][1] - rise[i][0]) for i in (0, 1)]
        gradient = (plane[1] - plane[0], slope[0] + x * (slope[1] - slope[0]), steep[0] + x * (steep[1] - steep[0]))
        return plane[0] + x * gradient[0], np.stack(gradient, axis=1) / spacing_mm


def align(image: np.ndarray, spacing_mm: np.ndarray) -> tuple[np.ndarray, float]:
    """The affine map from the template to an image, and its share of explained variance.

    Args:
        image: (x, y, z) RAS, in [0, 1].
        spacing_mm: (3).

    Returns:
        (3, 4) from mm around CENTRE_MM of the template to mm around the centre of the image's box; and the share in [0, 1].
    """
    image = dimmed(image)
    coarse, target = Sampler.of(image, spacing_mm, COARSE_MM), atlas(COARSE_MM)
    half = np.array(image.shape) * spacing_mm / 2
    loss = partial(_loss, target.points, half)
    fitted = [descend(coarse, target, start, 7, 12) for start in search(Sampler.of(image, spacing_mm, SEARCH_MM))]
    fitted = [descend(coarse, target, found, 12, 12) for found, _ in sorted(fitted, key=loss)[:REFINED]]
    return descend(Sampler.of(image, spacing_mm, FINE_MM), atlas(FINE_MM), min(fitted, key=loss)[0], 12, 8)


def covered(points: np.ndarray, to_image: np.ndarray, half: np.ndarray) -> float:
    """The share of points (n, 3) that a map takes into the box of an image; `half` (3): mm from its centre to the faces."""
    return float((np.abs(points @ to_image[:, :3].T + to_image[:, 3]) <= half).all(axis=1).mean())


def dimmed(image: np.ndarray) -> np.ndarray:
    """The image, float32, with a limit to bright voxels: fat, which can be several times as bright as the brain."""
    image = image.astype(np.float32)
    bright = image[image > image.mean()]
    limit = BRIGHTEST * float(np.median(bright)) if len(bright) else 1.0
    return np.minimum(image / max(limit, 1e-6), 1)


def _loss(points: np.ndarray, half: np.ndarray, fitted: tuple[np.ndarray, float]) -> float:
    """What is not explained, and charges for a brain of unusual size or shape, and for what is outside the image."""
    return oddness(fitted[0]) + OUTSIDE * (1 - covered(points, fitted[0], half)) - fitted[1]


def oddness(to_image: np.ndarray) -> float:
    """The charge for a brain of unusual size or shape; 0 for a usual one."""
    sizes = np.log(np.linalg.svd(to_image[:, :3], compute_uv=False))
    return CHARGE * float(np.maximum(np.abs(sizes - np.log(USUAL_SIZE)) - FREE, 0).sum())


# ------------------------------------------------------------------------------------------------ search


def search(image: Sampler) -> list[np.ndarray]:
    """Up to STARTS maps (3, 4): for every rotation and size the best translation; the best of these.

    A translation is good if the maps explain much, and the brain is inside the image.
    """
    reach = float((np.array(image.array.shape) * image.spacing_mm).max()) / min(SIZES)
    n = fft.next_fast_len(int(np.ceil((min(reach, LARGEST_MM) + BRAIN_MM) / SEARCH_MM)), real=True)
    target = atlas(SEARCH_MM)
    box = Sampler(np.pad(np.ones(np.array(image.array.shape) - 4, np.float32), 2), image.spacing_mm)
    found = []
    for turn, sizes in TURNS:
        for size in sizes:
            linear = Rotation.from_euler("xyz", turn, degrees=True).as_matrix() * size
            inside = fft.irfftn(_spectra(n)[0] * fft.rfftn(box.on_grid(linear, n)), (n, n, n)) / len(target.points)
            share = _explained(image.on_grid(linear, n), _spectra(n), target.free) - OUTSIDE * (1 - inside)
            top = np.unravel_index(int(share.argmax()), share.shape)
            shift = np.array([i if i < n // 2 else i - n for i in top]) * SEARCH_MM
            found.append((float(share[top]), np.column_stack([linear, linear @ shift])))
    return [start for _, start in sorted(found, key=lambda pair: -pair[0])[:STARTS]]


def _explained(values: np.ndarray, spectra: np.ndarray, free: int) -> np.ndarray:
    """(n, n, n): the share of variance that the maps explain at each translation of the template, in steps of the grid."""
    shape, spectrum, squares = values.shape, fft.rfftn(values), fft.rfftn(values**2)
    products = [fft.irfftn(conjugate * spectrum, shape) for conjugate in spectra[1:]]
    variance = fft.irfftn(spectra[0] * squares, shape) - sum(product**2 for product in products[:free])
    explained = sum(product**2 for product in products[free:])
    return np.where(variance > LEAST_VARIANCE * variance.max(), explained / np.maximum(variance, 1e-6), 0)


@lru_cache(maxsize=8)
def _spectra(n: int) -> np.ndarray:
    """Conjugate transforms of the template's domain and of each basis map, on a grid of n^3 voxels."""
    target = atlas(SEARCH_MM)
    at = np.rint(target.points / SEARCH_MM - 0.5).astype(int) + n // 2
    volumes = np.zeros((1 + target.basis.shape[1], n, n, n), np.float32)
    volumes[0][tuple(at.T)] = 1
    for volume, values in zip(volumes[1:], target.basis.T, strict=True):
        volume[tuple(at.T)] = values
    return np.conj(fft.rfftn(volumes, axes=(1, 2, 3)))


# ------------------------------------------------------------------------------------------------ descent


def descend(image: Sampler, target: Atlas, start: np.ndarray, dof: int, steps: int) -> tuple[np.ndarray, float]:
    """Damped Gauss-Newton steps that raise the share of variance that the basis of `target` explains.

    Args:
        start: (3, 4), a map from the points of `target` to the image.
        dof: 7 (turn, size, shift) or 12 parameters.
        steps: limit to their number.

    Returns:
        The best map (3, 4), and its share.
    """
    directions = _directions(dof)
    best, share, damping, proposal = start, -1.0, 0.01, start
    normal, residual = np.eye(dof), np.zeros(dof)
    for _ in range(steps + 1):
        values, gradient = image(target.points @ proposal[:, :3].T.astype(np.float32) + proposal[:, 3].astype(np.float32))
        unit, fitted, length = _fit(values, target)
        here = float(unit @ fitted) ** 2
        if here > share:
            gain, best, share, damping = here - share, proposal, here, damping * 0.3
            if gain < LEAST_GAIN or length == 0:
                break
            normal, residual = _system(unit, fitted, gradient / length, target, best, directions)
        else:
            damping *= 10
            if damping > 1e3:
                break
        step = np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-9), residual) @ directions
        proposal = best @ (np.eye(4) + np.vstack([step.reshape(3, 4), np.zeros(4)]))
    return best, share


def _fit(values: np.ndarray, target: Atlas) -> tuple[np.ndarray, np.ndarray, float]:
    """The values without their free part, and the fit of these, both of length 1, and the length before that; or 0."""
    centred = _without_free(values, target)
    length = float(np.linalg.norm(centred))
    if length < 1e-3 * np.sqrt(len(values)):
        return np.zeros_like(centred), np.zeros_like(centred), 0.0
    centred = centred / length
    fitted = target.basis[:, target.free :] @ (target.basis[:, target.free :].T @ centred)
    return centred, fitted / max(float(np.linalg.norm(fitted)), 1e-6), length


def _without_free(values: np.ndarray, target: Atlas) -> np.ndarray:
    """Values (n, ...) without what the free columns of the basis explain."""
    free = target.basis[:, : target.free]
    return values - free @ (free.T @ values)


def _system(
    unit: np.ndarray, fitted: np.ndarray, gradient: np.ndarray, target: Atlas, to_image: np.ndarray, directions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Normal equations of the distance between the image's unit vector and its fit, which is held."""
    pulled = gradient @ to_image[:, :3].astype(np.float32)  # per mm of the template
    homogeneous = np.column_stack([target.points / np.float32(_SCALE_MM), np.ones(len(pulled), np.float32)])
    full = (pulled[:, :, None] * homogeneous[:, None, :]).reshape(len(pulled), 12)
    jacobian = full @ (directions * np.tile([_SCALE_MM, _SCALE_MM, _SCALE_MM, 1.0], 3)).T.astype(np.float32)
    jacobian = _without_free(jacobian, target)
    jacobian -= np.outer(unit, unit @ jacobian)
    return jacobian.T @ jacobian, jacobian.T @ (fitted - unit)


@lru_cache(maxsize=2)
def _directions(dof: int) -> np.ndarray:
    """(dof, 12): the change of a (3, 4) map for each parameter; a change by 1 moves points by about 1 mm."""
    scale = np.tile([1 / _SCALE_MM, 1 / _SCALE_MM, 1 / _SCALE_MM, 1.0], 3)
    if dof == 12:
        return np.diag(scale)
    rows = np.zeros((7, 3, 4))
    for axis, (a, b) in enumerate(((1, 2), (2, 0), (0, 1))):
        rows[axis, a, b], rows[axis, b, a] = -1, 1
        rows[3 + axis, axis, 3] = 1
        rows[6, axis, axis] = 1
    return rows.reshape(7, 12) * scale
