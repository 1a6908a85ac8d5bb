"""The intensity transforms of AMAES Appendix B, 'as meant' (config/augmentations.yaml tells where the code differed).

Per transform a `draw_*`, from one sample's generator to plain numbers (None: nothing to do after all), and an `apply_*`
on the samples on which it fired: x (k c x y z) float32 -> the same shape. `draw_*` gets the shape (c x y z).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from brainpretrain.augment import config
from brainpretrain.seeds import normal, uniform

Shape = tuple[int, int, int, int]
Draws = dict[str, Any]


def draw_noise(rng: np.random.Generator, fields: config.Noise | config.MultiplicativeNoise, shape: Shape) -> Draws:
    """Standard deviation, and the seed of the noise."""
    return {"sigma": uniform(rng, fields.sigma), "seed": int(rng.integers(2**63))}


def apply_noise(x: torch.Tensor, sigma: torch.Tensor, seed: torch.Tensor) -> torch.Tensor:
    """x + n, n ~ N(0, sigma^2) per voxel."""
    return x + _per_sample(sigma) * _normal_like(x, seed)


def apply_multiplicative_noise(x: torch.Tensor, sigma: torch.Tensor, seed: torch.Tensor) -> torch.Tensor:
    """x (1 + n), n ~ N(0, sigma^2) per voxel."""
    return x + x * _per_sample(sigma) * _normal_like(x, seed)


def _normal_like(x: torch.Tensor, seed: torch.Tensor) -> torch.Tensor:
    return torch.stack([normal(tuple(x.shape[1:]), one, x.device) for one in seed.tolist()])


def _per_sample(values: torch.Tensor) -> torch.Tensor:
    return values.view(-1, 1, 1, 1, 1)


def draw_blur(rng: np.random.Generator, fields: config.Blur, shape: Shape) -> Draws | None:
    """Width per channel, 0 where the channel is left alone."""
    chosen = rng.random(shape[0]) < fields.p_channel
    sigma = uniform(rng, fields.sigma_voxels, shape[0]) * chosen
    return {"sigma": sigma} if sigma.any() else None


def apply_blur(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Gaussian of sigma (k c) voxels, cut at 4 sigma, mirrored at the border; sigma 0 leaves a channel alone."""
    radius = (4 * sigma + 0.5).long()
    reach = int(radius.max())
    offsets = torch.arange(-reach, reach + 1, device=x.device)
    weights = torch.exp(-0.5 * (offsets / sigma[..., None].clamp(min=1e-6)) ** 2)
    weights = weights * (offsets.abs() <= radius[..., None])
    weights = weights / weights.sum(-1, keepdim=True)
    for axis in (2, 3, 4):
        padded = x.index_select(axis, _mirrored(x.shape[axis], reach, x.device))
        taps = (padded.narrow(axis, tap, x.shape[axis]) * weights[..., tap, None, None, None] for tap in range(2 * reach + 1))
        x = functools.reduce(torch.add, taps)
    return x


def _mirrored(size: int, reach: int, device: torch.device) -> torch.Tensor:
    """Indices of an axis continued on both sides by its mirror image (c b a | a b c | c b a)."""
    index = torch.arange(-reach, size + reach, device=device) % (2 * size)
    return torch.minimum(index, 2 * size - 1 - index)


def draw_ghosting(rng: np.random.Generator, fields: config.Ghosting, shape: Shape) -> Draws:
    """Axis, factor, and distance of the lines."""
    low, high = fields.spacing
    return {"axis": int(rng.integers(3)), "alpha": uniform(rng, fields.alpha), "spacing": int(rng.integers(low, high + 1))}


def apply_ghosting(x: torch.Tensor, axis: torch.Tensor, alpha: torch.Tensor, spacing: torch.Tensor) -> torch.Tensor:
    """Scales lines 0, r, 2r, ... of k-space along an axis by alpha. Line 0 is the mean, so this mostly dims."""

    def gains(size: int, rows: torch.Tensor) -> torch.Tensor:
        line = torch.arange(size, device=x.device)
        hit = (line % spacing[rows, None] == 0) & (line < size - 1)
        return torch.where(hit, alpha[rows, None], 1.0)

    return _filter_lines(x, axis, gains)


def draw_gibbs(rng: np.random.Generator, fields: config.Gibbs, shape: Shape) -> Draws | None:
    """Axis, and how many lines are kept."""
    axis = int(rng.integers(3))
    size = shape[1 + axis]
    low, high = (max(1, round(share * size)) for share in fields.kept)
    lines = int(rng.integers(low, high + 1))
    return {"axis": axis, "lines": lines} if lines < size else None


def apply_gibbs(x: torch.Tensor, axis: torch.Tensor, lines: torch.Tensor) -> torch.Tensor:
    """Keeps the `lines` lowest frequencies along an axis."""

    def gains(size: int, rows: torch.Tensor) -> torch.Tensor:
        # fftfreq order: 0, 1, .., -2, -1; of an even count the negative one of the outermost pair stays
        frequency = torch.arange(size, device=x.device)
        frequency = torch.where(frequency < (size + 1) // 2, frequency, frequency - size)
        first = -(lines[rows, None] // 2)
        return ((frequency >= first) & (frequency < first + lines[rows, None])).float()

    return _filter_lines(x, axis, gains)


def _filter_lines(x: torch.Tensor, axis: torch.Tensor, gains: Callable[[int, torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Magnitude after multiplying k-space by gains (rows, size) along one axis per sample.

    The transforms of the two other axes cancel, so only that axis is transformed.
    """
    result = torch.empty_like(x)
    for number in range(3):
        rows = (axis == number).nonzero()[:, 0]
        if len(rows) == 0:
            continue
        dim, size = 2 + number, x.shape[2 + number]
        shape = [len(rows), 1, 1, 1, 1]
        shape[dim] = size
        kspace = torch.fft.fft(x[rows], dim=dim) * gains(size, rows).view(shape)
        result[rows] = torch.fft.ifft(kspace, dim=dim).abs()
    return result


def draw_low_resolution(rng: np.random.Generator, fields: config.LowResolution, shape: Shape) -> Draws | None:
    """Size per channel and axis that the patch is shrunk to."""
    channels, size = shape[0], np.array(shape[1:])
    chosen = (rng.random((channels, 1)) < fields.p_channel) & (rng.random((channels, 3)) < fields.p_axis)
    zoom = uniform(rng, fields.zoom, (channels, 1))
    voxels = np.where(chosen, np.maximum(1, np.round(zoom * size)), size).astype(np.int64)
    return {"voxels": voxels} if (voxels < size).any() else None


def apply_low_resolution(x: torch.Tensor, voxels: torch.Tensor) -> torch.Tensor:
    """Brings each axis to `voxels` (k c 3) by nearest neighbour and back by cubic splines; full size leaves it alone."""
    x = x.clone()
    for sample, channel, axis in (voxels < voxels.new_tensor(x.shape[2:])).nonzero().tolist():
        matrix = _down_up(x.shape[2 + axis], int(voxels[sample, channel, axis])).to(x.device)
        moved = x[sample, channel].movedim(axis, 0)
        x[sample, channel] = (matrix @ moved.flatten(1)).view(moved.shape).movedim(0, axis)
    return x


@functools.lru_cache(maxsize=256)
def _down_up(size: int, small: int) -> torch.Tensor:
    """float32 (size size): nearest neighbour to `small` voxels, then an interpolating cubic spline back to `size`.

    Half-pixel convention; beyond the ends the spline continues the end voxels.
    """
    pad = 12  # the spline's memory is 0.27 per voxel: 1e-7 after 12
    edge = np.clip(np.arange(-pad, small + pad), 0, small - 1)
    nearest = np.floor((edge + 0.5) * size / small).astype(int)
    length = len(edge)
    collocation = (np.eye(length, k=-1) + 4 * np.eye(length) + np.eye(length, k=1)) / 6
    collocation[0, 1] = collocation[-1, -2] = 1 / 3
    position = (np.arange(size) + 0.5) * small / size - 0.5 + pad
    distance = np.abs(np.subtract.outer(position, np.arange(length)))
    basis = np.where(distance < 1, 2 / 3 - distance**2 + distance**3 / 2, np.clip(2 - distance, 0, None) ** 3 / 6)
    up = np.linalg.solve(collocation.T, basis.T).T
    matrix = np.zeros((size, size))
    np.add.at(matrix.T, nearest, up.T)
    return torch.from_numpy(matrix.astype(np.float32))


def draw_bias_field(rng: np.random.Generator, fields: config.BiasField, shape: Shape) -> Draws:
    """Centre of the field as a share of the patch."""
    return {"centre": rng.uniform(0, 1, size=3)}


def apply_bias_field(x: torch.Tensor, centre: torch.Tensor) -> torch.Tensor:
    """Multiplies by 1 - sum_d (x_d / N_d - centre_d)^2, centre (k 3) as a share of the patch."""
    field = torch.ones(1, 1, 1, 1, 1, device=x.device)
    for axis in range(3):
        size = x.shape[2 + axis]
        line = torch.arange(size, device=x.device) / size - centre[:, axis, None]
        shape = [len(x), 1, 1, 1, 1]
        shape[2 + axis] = size
        field = field - line.square().view(shape)
    return x * field


def draw_gamma(rng: np.random.Generator, fields: config.Gamma, shape: Shape) -> Draws:
    """Exponent, and whether it works on the inverted patch."""
    high = rng.random() < fields.p_above
    return {"gamma": uniform(rng, fields.above if high else fields.below), "invert": bool(rng.random() < fields.p_invert)}


def apply_gamma(x: torch.Tensor, gamma: torch.Tensor, invert: torch.Tensor) -> torch.Tensor:
    """((x - min) / range)^gamma * range + min per sample and channel; with `invert` on the inverted patch and back."""
    low, high = x.amin((2, 3, 4), keepdim=True), x.amax((2, 3, 4), keepdim=True)
    span = high - low
    unit = (x - low) / span.clamp(min=1e-7)
    invert = _per_sample(invert)
    unit = torch.where(invert, 1 - unit, unit) ** _per_sample(gamma)
    return torch.where(invert, 1 - unit, unit) * span + low


@dataclass(frozen=True)
class Transform:
    """How to draw and how to apply."""

    draw: Callable[..., Draws | None]
    apply: Callable[..., torch.Tensor]


# in the order of application; the names are the fields of `PolicyConfig`
TRANSFORMS = {
    "noise": Transform(draw_noise, apply_noise),
    "blur": Transform(draw_blur, apply_blur),
    "multiplicative_noise": Transform(draw_noise, apply_multiplicative_noise),
    "ghosting": Transform(draw_ghosting, apply_ghosting),
    "gibbs": Transform(draw_gibbs, apply_gibbs),
    "low_resolution": Transform(draw_low_resolution, apply_low_resolution),
    "bias_field": Transform(draw_bias_field, apply_bias_field),
    "gamma": Transform(draw_gamma, apply_gamma),
}
