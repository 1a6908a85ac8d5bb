"""Images made worse before they are predicted: thick slices, motion, bias field, noise, a missing sequence.

An image is changed after preprocessing, on its stored grid. What is random about it follows from the name of the case and the
kind of degradation, so every model sees the same image, and a larger strength is more of the same.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import ndimage

from brainpretrain.config.sections import Degradation
from brainpretrain.errors import UserError

MOVEMENTS = 2  # changes of the position of the head during one acquisition
DEGREE = 3  # of the polynomial of a bias field


def degrade(image: np.ndarray, how: Degradation, spacing_mm: Sequence[float], sequences: Sequence[str], case: str) -> np.ndarray:
    """The degraded image, of the same shape and type.

    Args:
        image: (c, x, y, z), intensities in [0, 1]; x, y, z are the axes of RAS.
        how: kind and strength.
        spacing_mm: of the stored voxels.
        sequences: name of each channel.
        case: its name, on which the random numbers depend.

    Raises:
        UserError: slices are no thicker than the voxels.
    """
    if how.kind == "missing_sequence":
        worse = image.copy()
        worse[list(sequences).index(str(how.sequence))] = 0
        return worse
    strength = float(how.strength or 0)
    worse = image.astype(np.float32)
    for number, channel in enumerate(worse):
        rng = np.random.default_rng([zlib.crc32(case.encode()), zlib.crc32(how.kind.encode()), number])
        if how.kind == "thick_slices":
            worse[number] = thick_slices(channel, strength, spacing_mm, "xyz".index(how.axis))
        else:
            worse[number] = _RANDOM[how.kind](channel, strength, spacing_mm, rng)
    return worse.clip(0, 1).astype(image.dtype)


def thick_slices(image: np.ndarray, thickness_mm: float, spacing_mm: Sequence[float], axis: int) -> np.ndarray:
    """The image (x, y, z) as if acquired in slices along an axis: each the mean over its thickness, then interpolated linearly.

    Slices touch each other and begin at the first voxel; the last one may be thinner. Beyond the middle of the outermost
    slices their values continue.

    Raises:
        UserError: the thickness is that of a voxel, or less.
    """
    n, step = image.shape[axis], thickness_mm / spacing_mm[axis]
    if step <= 1:
        raise UserError(
            f"slices of {thickness_mm:g} mm are no thicker than voxels of {spacing_mm[axis]:g} mm",
            where="degrade: strength",
            fix="give a larger thickness",
        )
    edges = np.minimum(np.arange(int(np.ceil(n / step - 1e-6)) + 1) * step, n)
    voxels = np.arange(n)
    shares = np.clip(np.minimum.outer(edges[1:], voxels + 1.0) - np.maximum.outer(edges[:-1], voxels), 0, None)
    shares /= shares.sum(1, keepdims=True)  # (slices, voxels)
    centres = (edges[1:] + edges[:-1]) / 2 - 0.5
    back = np.stack([np.interp(voxels, centres, one) for one in np.eye(len(centres))], 1)  # (voxels, slices)
    return np.moveaxis(np.tensordot(back @ shares, image, (1, axis)), 0, axis)


def motion(image: np.ndarray, strength: float, spacing_mm: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """The image (x, y, z) of a head that moved while its k-space was filled, plane by plane along y (Shaw et al. 2019).

    The head moves `MOVEMENTS` times and is then up to `strength` mm along and `strength` degrees about each axis away. The
    planes that are filled meanwhile are those of the image in this position. The position in which the centre of k-space is
    filled is that of the labels, so the image is not merely shifted.
    """
    moves = rng.uniform(-1, 1, (MOVEMENTS + 1, 2, 3)) * strength
    times = np.sort(rng.uniform(0, 1, MOVEMENTS))
    n = image.shape[1]
    bounds = [0, *(round(float(time) * n) for time in times), n]
    kept = next(i for i, (low, high) in enumerate(itertools.pairwise(bounds)) if low <= n // 2 < high)
    spectrum = np.fft.fftshift(np.fft.fft(image, axis=1), axes=1)
    for number, (low, high) in enumerate(itertools.pairwise(bounds)):
        if number != kept and high > low:
            other = np.fft.fftshift(np.fft.fft(_moved(image, *moves[number], spacing_mm), axis=1), axes=1)
            spectrum[:, low:high] = other[:, low:high]
    moved: np.ndarray = np.abs(np.fft.ifft(np.fft.ifftshift(spectrum, axes=1), axis=1))
    return moved


def _moved(image: np.ndarray, shift_mm: np.ndarray, degrees: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """A rigid movement about the middle of the image, interpolated linearly; 0 beyond the image."""
    turn = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        one = np.eye(3)
        one[first, first] = one[second, second] = np.cos(angle)
        one[first, second], one[second, first] = -np.sin(angle), np.sin(angle)
        turn = turn @ one
    scale = np.asarray(spacing_mm, float)
    matrix = turn * scale / scale[:, None]  # voxels to mm, turn, mm to voxels
    middle = (np.array(image.shape) - 1) / 2
    offset = middle - matrix @ (middle + shift_mm / scale)
    result: np.ndarray = ndimage.affine_transform(image, matrix, offset, order=1)
    return result


def bias_field(image: np.ndarray, strength: float, spacing_mm: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """The image (x, y, z) times exp of a random polynomial of `DEGREE`, whose largest value is +-`strength` and whose mean is 0.

    Coefficients as of Van Leemput et al. 1999. The result is divided by its highest value where that is above the highest before.
    """
    lines = np.meshgrid(*(np.linspace(-1, 1, n) for n in image.shape), indexing="ij", sparse=True)
    powers = [power for power in itertools.product(range(DEGREE + 1), repeat=3) if 0 < sum(power) <= DEGREE]
    weights = rng.uniform(-1, 1, len(powers))
    field = sum(
        weight * lines[0] ** i * lines[1] ** j * lines[2] ** k for weight, (i, j, k) in zip(weights, powers, strict=True)
    ) * np.ones(image.shape)
    field = field - field.mean()
    worse = image * np.exp(strength * field / np.abs(field).max())
    return worse * min(1.0, float(image.max()) / max(float(worse.max()), 1e-12))


def noise(image: np.ndarray, strength: float, spacing_mm: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """The magnitude (x, y, z) of the image with complex normal noise of standard deviation `strength` (Rice's distribution)."""
    real, imaginary = strength * rng.standard_normal((2, *image.shape))
    worse: np.ndarray = np.hypot(image + real, imaginary)
    return worse


_RANDOM: Mapping[str, Callable[[np.ndarray, float, Sequence[float], np.random.Generator], np.ndarray]] = {
    "motion": motion,
    "bias_field": bias_field,
    "noise": noise,
}
