"""Where patches start in a volume, and which part of a volume a box covers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def random_start(rng: np.random.Generator, shape: Sequence[int], patch: Sequence[int]) -> list[int]:
    """Start of a patch, uniform inside the volume; along an axis shorter than the patch, the volume is centred (start < 0)."""
    return [int(rng.integers(0, size - p + 1)) if size >= p else -((p - size) // 2) for size, p in zip(shape, patch, strict=True)]


def start_around(rng: np.random.Generator, voxel: Sequence[int], shape: Sequence[int], patch: Sequence[int]) -> list[int]:
    """Start of a patch that contains `voxel` and stays inside the volume along every axis that is long enough."""
    start = []
    for v, size, p in zip(voxel, shape, patch, strict=True):
        low, high = max(0, v - p + 1), min(v, size - p)
        start.append(int(rng.integers(low, high + 1)) if size >= p else -((p - size) // 2))
    return start


def start_centred(voxel: Sequence[int], shape: Sequence[int], patch: Sequence[int]) -> list[int]:
    """Start of a patch with `voxel` in its middle, moved as far as needed to stay inside the volume, as `start_around`."""
    return [
        min(max(0, v - p // 2), size - p) if size >= p else -((p - size) // 2)
        for v, size, p in zip(voxel, shape, patch, strict=True)
    ]


def crop_box(
    start: Sequence[int], ranges: Sequence[tuple[int, int]], shape: Sequence[int]
) -> tuple[tuple[slice, ...], list[tuple[int, int]]]:
    """The part of a box that is inside a volume, and the padding that completes the box.

    Args:
        start: voxel (x y z) where a patch starts; may be negative.
        ranges: low and high end of the box along each axis, counted from `start`.
        shape: of the volume.

    Returns:
        Slices into the volume, and by axis the voxels to pad before and after.
    """
    box, padding = [], []
    for first, (low, high), size in zip(start, ranges, shape, strict=True):
        n, low, high = high - low, first + low, first + high
        box.append(slice(min(max(low, 0), size), min(max(high, 0), size)))
        padding.append((max(0, min(-low, n)), max(0, min(high - size, n))))
    return tuple(box), padding
