"""Preprocesses a volume: RAS orientation, crop, intensity normalisation, resampling (AMAES section 2, Appendix A).

The reader is in `nifti.py`, the way back to the native grid in `geometry.py`, the spline in `resampling.py`. Reasons of a
`BadVolume` raised in this module:

    too_small negative empty constant too_large label_value
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from brainpretrain.preprocess.geometry import Geometry, Orientation, fitted, from_ras, to_ras
from brainpretrain.preprocess.headers import BadVolume, Limits, require_same_grid
from brainpretrain.preprocess.nifti import Volume, read_header, read_volume, write_volume
from brainpretrain.preprocess.recipes import RECIPE_KEYS, option
from brainpretrain.preprocess.resampling import CUBIC, NEAREST, resample, resize, target_shape

__all__ = [
    "RECIPE_KEYS",
    "BadVolume",
    "Geometry",
    "Limits",
    "Orientation",
    "Volume",
    "checked",
    "foreground_box",
    "from_ras",
    "integer_labels",
    "label_values",
    "normalise",
    "preprocess",
    "read_header",
    "read_volume",
    "require_same_grid",
    "resample",
    "resize",
    "to_float16",
    "to_ras",
    "write_volume",
]

NEGATIVE_TOLERANCE = 1e-3  # of the upper quantile of the voxels above 0: what is nearer to 0 is rounding, and is clipped
_CONSTANT = "all voxels above the lowest value are equal"
FEW_LEVELS = 0.1  # share of the stored range: if 90 % of the voxels lie within less, a remark says so
LABEL_TOLERANCE = 1e-3  # largest distance of a label value from an integer
_SMALLEST_NORMAL_HALF = np.float32(2**-14)
_REBASE_AND_ROUND = np.uint32((1 << 32) - (112 << 23) + 0xFFF)
_HALF_AND_SMALLEST_NORMAL = np.uint32(0x3F000000 + 0x400)


def preprocess(
    volume: Volume, label: Volume | None, recipe: Mapping[str, Any], box: tuple[slice, ...] | None = None
) -> tuple[np.ndarray, np.ndarray | None, Geometry, dict[str, Any]]:
    """Preprocesses one volume, and a label on the same grid.

    Args:
        volume: as `nifti.read_volume` returns it.
        label: on the grid of `volume`, with integer values to within 1e-3; or None.
        recipe: `spacing_mm` (3), `upper_quantile` in (0, 1], `lower_quantile` or `window` (see `normalise`, `windowed`), `crop`
            ('nonzero' or 'none'), `min_size` in voxels of every native axis, `allow_negative` (without it, negative values
            beyond NEGATIVE_TOLERANCE are refused), `max_voxels` before and after resampling, `antialias`. (`spacing_range_mm`
            is for the reader.)
        box: the part to keep, a slice per RAS axis; by default it follows from `crop` and this volume.

    Returns:
        image (x, y, z) float32 in [0, 1]; label (x, y, z) with its original values in the smallest unsigned type, or None; the
        geometry; and facts: `mean` and `std` of the image, `native_spacing_mm`, `label_values`, `notes`.

    Raises:
        BadVolume: see the list at the top of this module.
    """
    notes = list(volume.facts["notes"])
    array = _checked_values(volume, recipe, notes)
    native, _, orientation = to_ras(array, volume.affine)
    if box is None:
        box = foreground_box(native) if recipe["crop"] == "nonzero" else tuple(slice(0, n) for n in native.shape)
    if box is None:
        raise _bad(volume, "no voxel above 0", "empty")
    if min(s.stop - s.start for s in box) < 2:
        raise _bad(volume, "all voxels above 0 are in one slice", "too_small")
    spacing_mm = [volume.spacing_mm[a] for a in orientation.axes]
    shape = target_shape([s.stop - s.start for s in box], spacing_mm, recipe["spacing_mm"])
    if math.prod(shape) > recipe["max_voxels"]:
        raise _bad(volume, f"{shape} voxels after resampling, more than max_voxels {recipe['max_voxels']}", "too_large")
    stored_label = None
    if label is not None:
        stored_label = resize(_label_in_box(label, volume, orientation, box, notes), shape, NEAREST)
    lower, window = option(recipe, "lower_quantile"), option(recipe, "window")
    image = windowed(native[box], *window) if window else normalise(native[box], recipe["upper_quantile"], lower)
    if image is None:
        constant = f"no contrast within the window {window[0]:g} to {window[1]:g}" if window else _CONSTANT
        raise _bad(volume, constant, "constant")
    if few := _few_levels(image):
        notes.append(f"{few} (the lowest value is {array.min():g})")
    image = resize(image, shape, CUBIC, recipe["antialias"])
    size = tuple(option(recipe, "size") or shape)
    if size != shape:
        image = fitted(image, size)
        if stored_label is not None:
            before = np.count_nonzero(stored_label)
            stored_label = fitted(stored_label, size)
            if lost := before - np.count_nonzero(stored_label):
                notes.append(f"{lost} labelled voxels are cut by size {' '.join(map(str, size))}")
    geometry = Geometry(
        native_shape=volume.array.shape,
        native_affine=tuple(tuple(float(v) for v in row) for row in volume.affine),
        axes=orientation.axes,
        flips=orientation.flips,
        box=tuple((s.start, s.stop) for s in box),
        stored_shape=size,
        resized_shape=shape if option(recipe, "size") else None,
    )
    mean, std = _mean_std(image)
    values = [] if stored_label is None else label_values(stored_label)
    if values == [0]:
        notes.append("the label is empty")
    facts = {"mean": mean, "std": std, "native_spacing_mm": volume.spacing_mm, "label_values": values, "notes": notes}
    return image, stored_label, geometry, facts


def checked(volume: Volume, recipe: Mapping[str, Any]) -> Volume:
    """The volume as `preprocess` takes it: with values below 0 that are rounding clipped to 0, and a remark on them.

    Raises:
        BadVolume: too_small, negative, constant.
    """
    notes = list(volume.facts["notes"])
    array = _checked_values(volume, recipe, notes)
    return replace(volume, array=array, facts=volume.facts | {"notes": notes})


def foreground_box(array: np.ndarray) -> tuple[slice, ...] | None:
    """The tight half-open box of the voxels above 0; None if there are none. The box of the published code is a voxel larger."""
    order, memory = memory_order(array), _as_in_memory(array)
    mask = memory > 0
    plane = np.logical_or.reduce(mask, axis=0)
    if not plane.any():
        return None
    rows = mask.reshape(len(mask), -1)
    profiles = [np.logical_or.reduce(a, axis=axis) for a, axis in ((rows, 1), (plane, 1), (plane, 0))]
    box = [slice(0)] * 3
    for axis, profile in zip(order, profiles, strict=True):
        profile = profile[::-1] if array.strides[axis] < 0 else profile
        box[axis] = slice(int(profile.argmax()), len(profile) - int(profile[::-1].argmax()))
    return tuple(box)


def normalise(array: np.ndarray, upper_quantile: float, lower_quantile: float = 0.0) -> np.ndarray | None:
    """(min(x, q) - min) / (q - min), where q is a quantile of the voxels above the minimum (AMAES: clip, z-score, min-max).

    Args:
        array: (x, y, z), finite, any real type.
        upper_quantile: in (0, 1]; interpolated linearly between neighbouring values, as numpy does.
        lower_quantile: of the same voxels, in [0, 1); it takes the place of min, and what is below it becomes 0. 0: min.

    Returns:
        (x, y, z) float32 in [0, 1], with the memory layout of `array`; None if all voxels above the minimum are equal, so that
        there is no contrast to normalise.
    """
    flat = _as_in_memory(array).ravel()
    low, high = flat.min(), flat.max()
    if low == high:
        return None
    quantile = _quantile(flat, low, high, upper_quantile)
    lower = _quantile(flat, low, high, lower_quantile) if lower_quantile and quantile is not None else None
    del flat
    floor, ceiling = np.float32(low if lower is None else lower), np.float32(low if quantile is None else quantile)
    return _between(array, floor, ceiling) if ceiling > floor else None


def windowed(array: np.ndarray, low: float, high: float) -> np.ndarray | None:
    """(clip(x, low, high) - low) / (high - low).

    Args:
        array: (x, y, z), finite, any real type.
        low, high: in the units of the array, low < high.

    Returns:
        As `normalise`; None if all voxels are outside of the window on one side, or equal.
    """
    image = _between(array, np.float32(low), np.float32(high))
    return image if image.min() < image.max() else None


def _between(array: np.ndarray, floor: np.float32, ceiling: np.float32) -> np.ndarray:
    """The array clipped to [floor, ceiling] and scaled to [0, 1], float32 with its memory layout."""
    result = np.empty_like(array, dtype=np.float32)
    order = memory_order(array)
    for source, target in zip(
        array.transpose(order), result.transpose(order), strict=True
    ):  # slab by slab, so that the data stay in the cache
        target[...] = source
        np.clip(target, floor, ceiling, out=target)
        target -= floor
        target /= ceiling - floor
    return result


def integer_labels(label: Volume) -> np.ndarray:
    """The values of a label volume, rounded, in the smallest unsigned type that holds them.

    Raises:
        BadVolume: label_value, for a value that is over 1e-3 away from an integer, below 0 or above 65535.
    """
    array = label.array
    if array.dtype.kind == "f":
        rounded = np.rint(array)
        if wrong := np.count_nonzero(np.abs(array - rounded) > LABEL_TOLERANCE):
            raise _bad(label, f"{wrong} label values are not integers", "label_value", "store labels as integers")
        array = rounded
    low, high = array.min(), array.max()
    if low < 0 or high > np.iinfo(np.uint16).max:
        raise _bad(label, f"label values {low:g} to {high:g}", "label_value", "labels are integers from 0 to 65535")
    return array.astype(np.min_scalar_type(int(high)), copy=False)


def label_values(label: np.ndarray) -> list[int]:
    """The values in a label map of unsigned integers, in ascending order."""
    if label.dtype.itemsize > 2:
        return [int(v) for v in np.unique(label)]
    low = int(label.min())
    return [low + int(v) for v in np.flatnonzero(_histogram(_as_in_memory(label), low, int(label.max())))]


def to_float16(image: np.ndarray) -> np.ndarray:
    """`image.astype(np.float16)`, bit for bit and C-contiguous, for float32 values from 0 to 65504.

    numpy casts voxel by voxel with branches, at 2 to 40 ns per voxel; integer arithmetic on whole slabs takes 1.5 ns. A half is
    the float with its exponent rebased and 13 bits rounded off, to even. Below 2**-14 halves have a fixed step, to which the
    processor rounds when 0.5 is added.
    """
    order = memory_order(image)
    memory = image.transpose(order)
    halves = np.empty(memory.shape, np.uint16)
    for source, target in zip(memory, halves, strict=True):
        bits = np.maximum(source, _SMALLEST_NORMAL_HALF).view(np.uint32)
        bits += (bits >> 13) & 1
        bits += _REBASE_AND_ROUND
        bits >>= 13
        small = np.minimum(source, _SMALLEST_NORMAL_HALF) + np.float32(0.5)
        bits += small.view(np.uint32) - _HALF_AND_SMALLEST_NORMAL  # counted from 2**-14, which is in `bits` already
        target[...] = bits
    return np.ascontiguousarray(halves.transpose(np.argsort(order))).view(np.float16)


def memory_order(array: np.ndarray) -> list[int]:
    """The axes of an array from the slowest to the fastest in memory."""
    return sorted(range(array.ndim), key=lambda axis: abs(array.strides[axis]), reverse=True)


# ------------------------------------------------------------------------------------------------ helpers


def _bad(volume: Volume, problem: str, reason: str, fix: str = "leave it out, or change the recipe") -> BadVolume:
    return BadVolume(problem, reason=reason, where=volume.path, fix=fix)


def _checked_values(volume: Volume, recipe: Mapping[str, Any], notes: list[str]) -> np.ndarray:
    """The array of the volume, with negative values that are rounding clipped to 0 and remarked.

    Raises:
        BadVolume: too_small, negative, constant.
    """
    array, shape = volume.array, volume.array.shape
    lowest, highest = array.min(), array.max()
    if min(shape) < recipe["min_size"]:
        raise _bad(volume, f"an axis of {min(shape)} voxels in {shape}, less than min_size {recipe['min_size']}", "too_small")
    if lowest < 0 and not recipe["allow_negative"]:
        array = np.maximum(array, 0)
        bound = 0.0
        if lowest >= -NEGATIVE_TOLERANCE * highest > -np.inf and highest > 0:  # the quantile is below the highest value
            bound = NEGATIVE_TOLERANCE * (
                _quantile(_as_in_memory(array).ravel(), array.dtype.type(0), highest, recipe["upper_quantile"]) or highest
            )
        if lowest < -bound:
            fix = "leave it out, or change the recipe: allow_negative: true, if its values below 0 are meant"
            raise _bad(volume, f"negative voxels down to {lowest:g}", "negative", fix)
        notes.append(
            f"{np.count_nonzero(volume.array < 0)} voxels down to {lowest:g} are rounding (above {-bound:g}): clipped to 0"
        )
        lowest = array.dtype.type(0)
    if lowest == highest:
        raise _bad(volume, f"every voxel is {lowest:g}", "constant")
    return array


def _few_levels(image: np.ndarray) -> str:
    """A remark if most voxels of a normalised image are almost equal, as with padding far below the values; else ''."""
    sample = image.ravel(order="K")
    sample = sample[:: max(1, sample.size // 65536) | 1]  # an odd step, since shapes are often even
    sample = sample[sample > 0]
    if not sample.size:
        return ""
    low, high = np.quantile(sample, [0.05, 0.95]).astype(np.float16)
    if high - low >= FEW_LEVELS:
        return ""
    levels = int(high.view(np.uint16)) - int(low.view(np.uint16)) + 1  # halves above 0 are ordered as their bits
    return f"few grey levels: 90 % of the voxels above the lowest value are stored as {low:.3f} to {high:.3f}, {levels} levels"


def _label_in_box(
    label: Volume, volume: Volume, orientation: Orientation, box: tuple[slice, ...], notes: list[str]
) -> np.ndarray:
    """The label in RAS order, cropped, in the smallest unsigned type, after a check of its grid. Lost voxels are noted."""
    require_same_grid(volume, label, label.path)
    notes += [f"label: {note}" for note in label.facts["notes"]]
    whole = orientation.to_ras(integer_labels(label))
    cropped = whole[box]
    if lost := np.count_nonzero(whole) - np.count_nonzero(cropped):
        notes.append(f"{lost} labelled voxels are outside the crop box")
    return cropped


def _as_in_memory(array: np.ndarray) -> np.ndarray:
    """A view whose indices rise with memory addresses, since an inner loop that runs backwards is ten times slower."""
    ahead = array[tuple(slice(None, None, -1 if stride < 0 else 1) for stride in array.strides)]
    return ahead.transpose(memory_order(array))


def _histogram(memory: np.ndarray, low: int, high: int) -> np.ndarray:
    """Counts the values low..high, slab by slab, since bincount needs 8 bytes per voxel."""
    counts = np.zeros(high - low + 1, np.int64)
    for slab in memory:
        counts += np.bincount(np.subtract(slab, low, dtype=np.intp).ravel(), minlength=counts.size)
    return counts


def _quantile(flat: np.ndarray, low: np.generic, high: np.generic, fraction: float) -> float | None:
    """The exact quantile of the values above `low`; None if all of them are equal.

    A coarse sample shows where the upper end of the distribution begins, so that only few values have to be sorted.
    """
    n = flat.size - np.count_nonzero(flat == low)
    if n == np.count_nonzero(flat == high):
        return None
    position = fraction * (n - 1)
    below = math.floor(position)
    sample = np.sort(flat[:: max(1, flat.size // 8192)])
    sample = sample[sample > low]
    top = flat[flat >= sample[int((len(sample) - 1) * max(0.0, fraction - 0.02))]] if len(sample) else flat[:0]
    if top.size < n - below:  # the sample was misleading: use all values
        top = flat[flat > low]
    index = below - (n - top.size)
    top.partition(index)
    lower = float(top[index])
    upper = float(top[index + 1 :].min()) if below + 1 < n else lower
    return lower + (upper - lower) * (position - below)


def _mean_std(image: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of all voxels; float32 sums of slabs are added in float64."""
    slabs = [slab.ravel() for slab in _as_in_memory(image)]
    mean = sum(float(slab.sum()) for slab in slabs) / image.size
    square = sum(float(np.dot(slab, slab)) for slab in slabs) / image.size
    return mean, math.sqrt(max(0.0, square - mean**2))
