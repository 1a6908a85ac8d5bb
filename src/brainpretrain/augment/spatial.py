"""Rotation, scale and elastic deformation as one resampling (AMAES Appendix B, 'Spatial').

Coordinates are voxels relative to the patch centre. An output voxel at g reads the input at (g + d) R s, as row
vectors: d is the elastic shift there, R = Rx Ry Rz the rotation and s the scale.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from brainpretrain.augment.config import Elastic, Rotation, Scale
from brainpretrain.seeds import uniform

# The elastic shift varies over sigma, so nodes this much denser show all of it; trilinear in between.
_NODES_PER_SIGMA = 2.5


def draw_rotation(rng: np.random.Generator, fields: Rotation) -> np.ndarray | None:
    """Rotation matrix Rx Ry Rz, or None if no axis is drawn."""
    chosen = rng.random(3) < fields.p_axis
    angles = np.radians(uniform(rng, fields.angle_deg, 3)) * chosen
    return rotation_matrix(angles) if chosen.any() else None


def draw_scale(rng: np.random.Generator, fields: Scale) -> np.ndarray:
    """Scale as a matrix."""
    return np.eye(3) * uniform(rng, fields.factor)


def draw_elastic(rng: np.random.Generator, fields: Elastic, size: Sequence[int]) -> np.ndarray:
    """Shift in voxels at the nodes of a coarse grid, float32 (3 nx ny nz); corner nodes lie on the patch's corner voxels.

    Per axis the field that `Elastic` describes: on a grid of spacing h, the sum of the noise in a cell has variance
    h^3 / 3. Outside the patch there is no noise, so the shifts fade towards the faces.
    """
    spacing = fields.sigma_voxels[0] / _NODES_PER_SIGMA
    alpha, sigma = uniform(rng, fields.alpha), uniform(rng, fields.sigma_voxels)
    nodes = [max(2, math.ceil((n - 1) / spacing) + 1) for n in size]
    steps = [max(n - 1, 1) / (count - 1) for n, count in zip(size, nodes, strict=True)]
    field = rng.standard_normal((3, *nodes)) * alpha * math.sqrt(math.prod(steps) / 3)
    for axis, (count, step) in enumerate(zip(nodes, steps, strict=True), start=1):
        distance = np.subtract.outer(np.arange(count), np.arange(count)) * step
        kernel = np.exp(-0.5 * (distance / sigma) ** 2) / (math.sqrt(2 * math.pi) * sigma)
        field = np.moveaxis(np.tensordot(kernel, field, axes=(1, axis)), 0, axis)
    return field.astype(np.float32)


def rotation_matrix(angles: Sequence[float] | np.ndarray) -> np.ndarray:
    """Rx Ry Rz of three angles in radians."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        one = np.eye(3)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        one[i, i] = one[j, j] = math.cos(angle)
        one[i, j], one[j, i] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ one
    return matrix


def centre_start(crop: Sequence[int], size: Sequence[int]) -> list[int]:
    """First voxel of the patch in the middle of a crop, as the loader cuts it."""
    return [(c - n) // 2 for c, n in zip(crop, size, strict=True)]


def centre_crop(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """The middle (b c x y z) of a crop; a view."""
    start = centre_start(x.shape[2:], size)
    return x[(..., *(slice(s, s + n) for s, n in zip(start, size, strict=True)))]


def sampling_grid(matrix: torch.Tensor, shift: torch.Tensor | None, crop: Sequence[int], size: Sequence[int]) -> torch.Tensor:
    """Where each output voxel reads the crop, as `grid_sample` (align_corners) wants it: (k x y z 3), last axis z y x.

    Args:
        matrix: (k 3 3), rotation times scale.
        shift: elastic shifts at nodes (k 3 nx ny nz), or None.
        crop: size of what is read.
        size: size of the output.
    """
    device = matrix.device
    axes = []
    for axis, n in enumerate(size):
        line = torch.arange(n, dtype=torch.float32, device=device) - (n - 1) / 2
        axes.append(line.view([n if a == axis else 1 for a in range(3)])[None])
    if shift is not None:
        full = F.interpolate(shift, size=list(size), mode="trilinear", align_corners=True)
        axes = [line + full[:, axis] for axis, line in enumerate(axes)]
    start = centre_start(crop, size)
    read = []
    for axis, (c, s, n) in enumerate(zip(crop, start, size, strict=True)):
        # Sums instead of a matrix product, which a GPU might do in TF32: too coarse for coordinates.
        column = [matrix[:, row, axis].view(-1, 1, 1, 1) for row in range(3)]
        voxel = sum(line * factor for line, factor in zip(axes, column, strict=True)) + (s + (n - 1) / 2)
        read.append(voxel * (2 / max(c - 1, 1)) - 1)
    return torch.stack(read[::-1], dim=-1)


def sample_image(image: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Trilinear; outside the crop lies the minimum of each channel. (k c ...) float -> (k c x y z)."""
    floor = image.amin((2, 3, 4), keepdim=True)
    return F.grid_sample(image - floor, grid, mode="bilinear", padding_mode="zeros", align_corners=True) + floor


def sample_label(label: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Nearest; outside the crop lies 0. Integer values up to 2^24."""
    return F.grid_sample(label.float(), grid, mode="nearest", padding_mode="zeros", align_corners=True).to(label.dtype)
