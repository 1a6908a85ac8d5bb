"""Rotation, scale and elastic deformation as one resampling (AMAES Appendix B, 'Spatial').

Coordinates are voxels. An output voxel, at g from the middle of the patch, reads the image at centre + (g + d) R s, as
row vectors: d is the elastic shift there, R = Rx Ry Rz the rotation and s the scale. The transforms are drawn before the
sample is read, so that a loader reads only the voxels that they need (`box`).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from brainpretrain.augment.config import Elastic, Mirror, PolicyConfig, Rotation, Scale
from brainpretrain.seeds import fires, generator, uniform

# the elastic shift varies over sigma, so nodes this much denser represent it, with trilinear interpolation between them
_NODES_PER_SIGMA = 2.5
# A cubic spline's weights fall by 0.268 per voxel: a voxel this far outside the box would change the result by 3e-5.
_SPLINE_MARGIN = 8
# CPU kernels take seconds to compile, in every process; a smaller patch is faster with torch's operators
_WORTH_COMPILING = 64**3


class Move(NamedTuple):
    """Where the voxels of one sample come from."""

    matrix: np.ndarray  # (3 3) float64, rotation times scale
    shift: np.ndarray | None  # elastic, at nodes: (3 nx ny nz) float32; corner nodes lie on the patch's corner voxels
    centre: np.ndarray  # (3), the point that lands in the middle of the patch, from the centre of the patch's first voxel


Box = tuple[tuple[int, int], ...]  # per axis from low to below high, counted from the patch's first voxel


def draw_move(seed: int, config: PolicyConfig, size: Sequence[int], crop: Sequence[int]) -> Move | None:
    """The spatial transforms of the sample with this seed; None if it stays as it is."""
    rotation = scale = shift = None
    if config.rotation and (rng := fires(seed, "rotation", config.rotation.p)):
        rotation = draw_rotation(rng, config.rotation)
    if config.scale and (rng := fires(seed, "scale", config.scale.p)):
        scale = draw_scale(rng, config.scale)
    if config.elastic and (rng := fires(seed, "elastic", config.elastic.p)):
        shift = draw_elastic(rng, config.elastic, size)
    if rotation is None and scale is None and shift is None and not config.resample_always:
        return None
    matrix = (np.eye(3) if rotation is None else rotation) * (1.0 if scale is None else scale)
    odd = np.mod(np.subtract(crop, size), 2) if config.resample_always else 0
    return Move(matrix, shift, (np.array(size) - 1 + odd) / 2)


def draw_rotation(rng: np.random.Generator, fields: Rotation) -> np.ndarray | None:
    """Rotation matrix Rx Ry Rz, or None if no axis is drawn."""
    chosen = rng.random(3) < fields.p_axis
    angles = np.radians(uniform(rng, fields.angle_deg, 3)) * chosen
    return rotation_matrix(angles) if chosen.any() else None


def draw_scale(rng: np.random.Generator, fields: Scale) -> float:
    """Factor that multiplies the sampled extent."""
    return float(uniform(rng, fields.factor))


def draw_elastic(rng: np.random.Generator, fields: Elastic, size: Sequence[int]) -> np.ndarray:
    """Shift in voxels at the nodes of a coarse grid, float32 (3 nx ny nz); corner nodes lie on the patch's corner voxels.

    Per axis the field that `Elastic` describes, with the same covariance: a node stands for the noise of the voxels around
    it, of variance 1/3 each. Outside the patch there is no noise, so the shifts fade towards the faces.
    """
    spacing = fields.sigma_voxels[0] / _NODES_PER_SIGMA
    alpha, sigma = uniform(rng, fields.alpha), uniform(rng, fields.sigma_voxels)
    nodes = [max(2, math.ceil((n - 1) / spacing) + 1) for n in size]
    field = rng.standard_normal((3, *nodes)) * alpha / math.sqrt(3)
    for axis, (count, n) in enumerate(zip(nodes, size, strict=True), start=1):
        step = max(n - 1, 1) / (count - 1)
        cell = np.full(count, step)
        cell[[0, -1]] = (step + 1) / 2
        distance = np.subtract.outer(np.arange(count), np.arange(count)) * step
        kernel = np.exp(-0.5 * (distance / sigma) ** 2) / (math.sqrt(2 * math.pi) * sigma) * np.sqrt(cell)
        field = np.moveaxis(np.tensordot(kernel, field, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(field, dtype=np.float32)


def draw_flips(seed: int, fields: Mirror) -> tuple[int, ...]:
    """Axes (0 1 2) along which the sample with this seed is flipped, each with probability `p`."""
    drawn = generator(seed, "mirror").random(3) < fields.p
    return tuple(axis for axis, name in enumerate("xyz") if name in fields.axes and drawn[axis])


def rotation_matrix(angles: Sequence[float] | np.ndarray) -> np.ndarray:
    """Rx Ry Rz of three angles in radians."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn[i, i] = turn[j, j] = math.cos(angle)
        turn[i, j], turn[j, i] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ turn
    return matrix


def crop_box(crop: Sequence[int], size: Sequence[int]) -> Box:
    """The crop around the patch; if the excess is odd, the larger half is at the far side."""
    return tuple((-((c - n) // 2), c - (c - n) // 2) for c, n in zip(crop, size, strict=True))


def box(move: Move | None, config: PolicyConfig, size: Sequence[int], crop: Sequence[int]) -> Box:
    """The voxels that a sample reads: the patch if nothing moves, else the part of the crop that the move needs."""
    if move is None:
        return crop_box(size, size)
    limits = crop_box(crop, size)
    if config.resample_always:
        return limits
    reach = (np.array(size) - 1) / 2 + (0 if move.shift is None else np.abs(move.shift).max((1, 2, 3)))
    extent = reach @ np.abs(move.matrix)
    margin = _SPLINE_MARGIN if config.interpolation == "cubic" else 0
    low, high = np.floor(move.centre - extent) - margin, np.floor(move.centre + extent) + 2 + margin
    needed = zip(low.astype(int).tolist(), high.astype(int).tolist(), limits, strict=True)
    return tuple((max(a, least), min(b, most)) for a, b, (least, most) in needed)


def resample(image: torch.Tensor, move: Move, start: Sequence[int], cubic: bool, out: torch.Tensor) -> None:
    """Moves an image into `out` (c x y z), clipped by channel to its range; outside the image its minimum is read.

    Args:
        image: float32 (c ...), the voxels that were read, at least 2 per axis.
        move: the transforms.
        start: the first voxel of `image`, counted from that of the patch.
        cubic: B-spline interpolation with mirrored ends (scipy's order 3), else trilinear.
        out: float32, on the device of `image`.
    """
    centre = move.centre - np.array(start)
    if out.device.type == "cpu" and out[0].numel() >= _WORTH_COMPILING:
        _resample_compiled(image, move, centre, cubic, out)
        return
    positions = _positions(move, centre, out.shape[1:], out.device)
    last = positions.new_tensor(image.shape[1:]).view(3, 1, 1, 1) - 1
    outside = ((positions < 0) | (positions > last)).any(0)
    positions = positions.clamp(min=0).minimum(last)
    low, high = image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
    values = _cubic(image, positions) if cubic else _linear(image, positions)
    torch.where(outside, low, values.clamp(low, high), out=out)


def resample_label(label: torch.Tensor, move: Move, start: Sequence[int], out: torch.Tensor) -> None:
    """Moves integers (...) into `out` (x y z), nearest neighbour, 0 outside. `start` is as in `resample`."""
    nearest = _positions(move, move.centre - np.array(start), out.shape, out.device).add_(0.5).floor_().long()
    outside = torch.zeros_like(nearest[0], dtype=torch.bool)
    index = torch.zeros_like(nearest[0])
    for line, n in zip(nearest, label.shape, strict=True):
        outside |= (line < 0) | (line >= n)
        index = index * n + line.clamp(0, n - 1)
    out.copy_(label.flatten()[index].masked_fill_(outside, 0))


def _resample_compiled(image: torch.Tensor, move: Move, centre: np.ndarray, cubic: bool, out: torch.Tensor) -> None:
    from brainpretrain.augment import kernels

    nodes = np.empty((3, 0, 0, 0), np.float32) if move.shift is None else move.shift
    for channel, result in zip(image.contiguous().numpy(), out.numpy(), strict=True):
        values = kernels.coefficients(channel) if cubic else channel
        low, high = channel.min(), channel.max()
        kernels.resample(values, cubic, channel.shape, move.matrix, centre, nodes, low, high, result)


def _positions(move: Move, centre: np.ndarray, size: Sequence[int], device: torch.device) -> torch.Tensor:
    """Where each voxel of a patch reads an image (3 x y z)."""
    axes = []
    for axis, n in enumerate(size):
        line = torch.arange(n, dtype=torch.float32, device=device) - (n - 1) / 2
        axes.append(line.view([n if a == axis else 1 for a in range(3)]))
    if move.shift is not None:
        nodes = torch.from_numpy(move.shift).to(device, non_blocking=True)[None]
        full = F.interpolate(nodes, size=list(size), mode="trilinear", align_corners=True)[0]
        axes = [line + shift for line, shift in zip(axes, full, strict=True)]
    positions = torch.empty(3, *size, device=device)
    for axis, position in enumerate(positions):
        # sums instead of a matrix product, which a GPU might compute in TF32: too coarse for coordinates
        x, y, z = (line * float(factor) for line, factor in zip(axes, move.matrix[:, axis], strict=True))
        torch.add(x + float(centre[axis]) + y, z, out=position)
    return positions


def _linear(values: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Trilinear interpolation of values (c ...) at positions (3 x y z) inside them."""
    scale = 2 / (positions.new_tensor(values.shape[1:]) - 1)
    grid = (positions.movedim(0, -1) * scale - 1).flip(-1)
    return F.grid_sample(values[None], grid[None], mode="bilinear", padding_mode="border", align_corners=True)[0]


def _cubic(image: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Cubic B-spline interpolation: its 64 taps are eight trilinear reads between neighbouring coefficients.

    Along an axis, taps w0 and w1 (w2 and w3) are one linear read between them, w1 / (w0 + w1) beyond the first.
    """
    coefficients = image
    for axis in (1, 2, 3):
        matrix = _spline_matrix(image.shape[axis]).to(image.device)
        coefficients = torch.tensordot(matrix, coefficients, dims=([1], [axis])).movedim(0, axis)
    voxel = positions.floor()
    t = positions - voxel
    behind = t**3 / 6  # w3
    near = 2 / 3 - t * t * (1 - t / 2)  # w1
    back = 1 / 6 + t * (0.5 + t * (0.5 - t / 3))  # w2 + w3
    reads = ((1 - back, voxel + near / (1 - back)), (back, voxel + 2 + behind / back))
    out = torch.zeros(image.shape[0], *positions.shape[1:], device=image.device)
    for sides in itertools.product(reads, repeat=3):
        weight = functools.reduce(torch.mul, [side[0][axis] for axis, side in enumerate(sides)])
        out += weight * _linear(coefficients, torch.stack([side[1][axis] for axis, side in enumerate(sides)]))
    return out


@functools.lru_cache(maxsize=256)
def _spline_matrix(n: int) -> torch.Tensor:
    """float32 (n+3 n): from n >= 2 samples to their cubic B-spline coefficients, with one mirrored before and two after."""
    index = np.arange(-1, n + 2) % (2 * n - 2)
    index = np.minimum(index, 2 * n - 2 - index)
    taps = (np.eye(n + 3, k=-1) + 4 * np.eye(n + 3) + np.eye(n + 3, k=1))[1 : n + 1] / 6
    collocation = np.zeros((n, n))
    np.add.at(collocation.T, index, taps.T)
    return torch.from_numpy(np.linalg.inv(collocation)[index].astype(np.float32))
