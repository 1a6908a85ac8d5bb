"""The only use of SimpleITK in preprocessing: registration of two volumes, and correction of a bias field.

Arrays go in and come out; SimpleITK reads no file here, since it returns a truncated NIfTI as zeros. It is imported when it is
used, since that takes half a second.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from scipy import ndimage

from brainpretrain.preprocess.nifti import Volume

WORKING_MM = 2.0  # a registration averages voxels up to about this size
BINS = 32  # of the joint histogram (Mattes)
LEVELS = ((4, 8.0), (2, 4.0), (1, 0.0))  # each level of a registration: factor of shrinking, sigma of smoothing in mm
SAMPLED = 0.5  # share of the voxels, on a regular grid
SEED = 1  # SimpleITK moves each point of that grid within its voxel; without a seed, it takes the time for one
ITERATIONS = 200
MARGIN_MM = (
    2.0  # around the foreground of an atlas; with a wider one, the skull of a head came onto the edge of the atlas's brain
)
PITCHES_DEG = (-25, 0, 25)  # of a head against an atlas, from which a coarse registration starts; the best one is refined
OTSU_BINS = 200


@contextmanager
def one_thread() -> Iterator[None]:
    """SimpleITK with one thread: the order of sums, and so the result, would depend on their number."""
    import SimpleITK

    before = SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads()
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def register(fixed: Volume, moving: Volume, method: str, of_atlas: bool) -> tuple[np.ndarray, float, float | None]:
    """Registers `moving` to `fixed` by Mattes mutual information, from the headers or the centres of mass, whichever is better.

    An atlas is tried from both with several pitches of the head: with the neck in the image, or the chin down, the nearest
    optimum may be a wrong one.

    Args:
        method: rigid, or affine, which continues from the rigid result.
        of_atlas: only the foreground of `fixed` and a margin count.

    Returns:
        4x4, world of `fixed` -> world of `moving` (mm); the metric after and by the headers alone (lower is better), None if by
        the headers they do not overlap. If nothing better than the headers was found, it is the identity.

    Raises:
        RuntimeError: SimpleITK could not register them.
    """
    import SimpleITK

    still, loose = _image(fixed), _image(moving)
    mask = _mask(still) if of_atlas else None
    centre = _centre(still)
    shift = [b - a for a, b in zip(centre, _centre(loose), strict=True)]
    starts = [_start(centre, place, pitch) for pitch in (PITCHES_DEG if of_atlas else (0,)) for place in ([0.0, 0.0, 0.0], shift)]
    headers = _metric(still, loose, _start(centre, [0.0, 0.0, 0.0], 0), mask)
    starts = [start for start in starts if math.isfinite(_metric(still, loose, start, mask))]
    if not starts:
        raise RuntimeError("they do not overlap, neither by their headers nor with their centres of mass on each other")
    if of_atlas:
        starts = [_optimised(still, loose, start, mask, LEVELS[:1]) for start in starts]
    best = min(starts, key=lambda start: _metric(still, loose, start, mask))
    transform = _optimised(still, loose, best, mask)
    if method == "affine":
        wider = SimpleITK.AffineTransform(3)
        wider.SetCenter(transform.GetCenter())
        wider.SetMatrix(transform.GetMatrix())
        wider.SetTranslation(transform.GetTranslation())
        transform = _optimised(still, loose, wider, mask)
    found = _metric(still, loose, transform, mask)
    if found >= headers:  # they fitted already
        return np.eye(4), headers, headers
    # from the world of `fixed` to its voxels, to the points of SimpleITK, whose axes are exactly orthogonal, and back
    before, after = _points(fixed) @ np.linalg.inv(fixed.affine), moving.affine @ np.linalg.inv(_points(moving))
    return after @ _matrix(transform) @ before, found, headers if math.isfinite(headers) else None


def n4(array: np.ndarray, spacing_mm: Sequence[float], shrink: int, iterations: Sequence[int]) -> np.ndarray:
    """Divides a volume by its bias field, as N4 estimates it in the foreground (Otsu's threshold).

    Args:
        array: (i, j, k); values below 0 take no part in the estimate.
        spacing_mm: distance of voxels.
        shrink: the field is estimated on every n-th voxel of the finest axis, and on fewer of coarser ones.
        iterations: at most so many for each level.

    Returns:
        (i, j, k) float32.
    """
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.maximum(array, 0).astype(np.float32).transpose(2, 1, 0))
    image.SetSpacing([float(s) for s in spacing_mm])
    mask = SimpleITK.OtsuThreshold(image, 0, 1, OTSU_BINS)
    finest = min(spacing_mm)
    factors = [max(1, min(round(shrink * finest / s), n // 4)) for s, n in zip(spacing_mm, array.shape, strict=True)]
    filter = SimpleITK.N4BiasFieldCorrectionImageFilter()
    filter.SetMaximumNumberOfIterations([int(n) for n in iterations])
    filter.Execute(SimpleITK.Shrink(image, factors), SimpleITK.Shrink(mask, factors))
    field = SimpleITK.GetArrayFromImage(filter.GetLogBiasFieldAsImage(image)).transpose(2, 1, 0)
    return array.astype(np.float32) / np.exp(field, dtype=np.float32)


# ------------------------------------------------------------------------------------------------ helpers


def _points(volume: Volume) -> np.ndarray:
    """4x4, voxel -> point of SimpleITK: the affine with its axes made exactly orthogonal."""
    spacing = np.linalg.norm(volume.affine[:3, :3], axis=0)
    left, _, right = np.linalg.svd(volume.affine[:3, :3] / spacing)
    points = volume.affine.copy()
    points[:3, :3] = left @ right * spacing
    return points


def _image(volume: Volume) -> Any:
    """A volume as an image of SimpleITK, with voxels averaged up to about WORKING_MM."""
    import SimpleITK

    points = _points(volume)
    spacing = np.linalg.norm(points[:3, :3], axis=0)
    image = SimpleITK.GetImageFromArray(volume.array.astype(np.float32).transpose(2, 1, 0))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(points[:3, 3].tolist())
    image.SetDirection((points[:3, :3] / spacing).ravel().tolist())
    return SimpleITK.BinShrink(image, [max(1, round(WORKING_MM / s)) for s in spacing])


def _mask(image: Any) -> Any:
    """Foreground of an atlas, with a margin."""
    import SimpleITK

    foreground = SimpleITK.GetArrayViewFromImage(image) > 0
    steps = max(1, round(MARGIN_MM / min(image.GetSpacing())))
    mask = SimpleITK.GetImageFromArray(ndimage.binary_dilation(foreground, iterations=steps).astype(np.uint8))
    mask.CopyInformation(image)
    return mask


def _centre(image: Any) -> list[float]:
    """Centre of mass of the voxels above 0, as a point."""
    import SimpleITK

    array = np.maximum(SimpleITK.GetArrayViewFromImage(image), 0)
    middle = ndimage.center_of_mass(array) if array.any() else [(n - 1) / 2 for n in array.shape]
    return list(image.TransformContinuousIndexToPhysicalPoint([float(value) for value in middle[::-1]]))


def _method(mask: Any) -> Any:
    import SimpleITK

    method = SimpleITK.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(SAMPLED, SEED)
    method.SetInterpolator(SimpleITK.sitkLinear)
    method.SetNumberOfThreads(1)
    if mask is not None:
        method.SetMetricFixedMask(mask)
    return method


def _metric(still: Any, loose: Any, transform: Any, mask: Any) -> float:
    method = _method(mask)
    method.SetInitialTransform(transform)
    try:
        return float(method.MetricEvaluate(still, loose))
    except RuntimeError as error:
        if "do not sufficiently overlap" in str(error):
            return math.inf
        raise


def _start(centre: Sequence[float], shift: Sequence[float], pitch_deg: float) -> Any:
    import SimpleITK

    start = SimpleITK.Euler3DTransform()
    start.SetCenter(centre)
    start.SetTranslation(shift)
    start.SetRotation(math.radians(pitch_deg), 0, 0)
    return start


def _optimised(still: Any, loose: Any, start: Any, mask: Any, levels: Sequence[tuple[int, float]] = LEVELS) -> Any:
    method = _method(mask)
    method.SetInitialTransform(start, inPlace=True)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, ITERATIONS, relaxationFactor=0.5)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([factor for factor, _ in levels])
    method.SetSmoothingSigmasPerLevel([sigma for _, sigma in levels])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.Execute(still, loose)
    return start


def _matrix(transform: Any) -> np.ndarray:
    """4x4 of a transform: A (x - c) + c + t."""
    linear, centre = np.array(transform.GetMatrix()).reshape(3, 3), np.array(transform.GetCenter())
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = centre + np.array(transform.GetTranslation()) - linear @ centre
    return matrix
