"""The intensity transforms of AMAES Appendix B, and those of nnU-Net that it does not have.

Each transform has a `draw_*`, which draws plain numbers for one sample of shape c x y z (None if the draw changes nothing), and
an `apply_*`, which computes a new array from x (c x y z) float32 and these numbers. `change` clips the result to the range
of x.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from brainpretrain.augment import config
from brainpretrain.seeds import fires, normal, uniform

Shape = tuple[int, int, int, int]
Draws = dict[str, Any]


def draw_noise(rng: np.random.Generator, fields: config.Noise | config.MultiplicativeNoise, shape: Shape) -> Draws:
    """Standard deviation, and the seed of the noise."""
    return {"sigma": float(uniform(rng, fields.sigma)), "seed": int(rng.integers(2**63))}


def apply_noise(x: torch.Tensor, sigma: float, seed: int) -> torch.Tensor:
    """x + n, n ~ N(0, sigma^2) per voxel."""
    return torch.add(x, normal(tuple(x.shape), seed, x.device), alpha=sigma)


def apply_multiplicative_noise(x: torch.Tensor, sigma: float, seed: int) -> torch.Tensor:
    """x (1 + n), n ~ N(0, sigma^2) per voxel."""
    return torch.addcmul(x, x, normal(tuple(x.shape), seed, x.device), value=sigma)


def draw_factor(rng: np.random.Generator, fields: config.Brightness | config.Contrast, shape: Shape) -> Draws:
    """The same factor for all channels."""
    return {"factor": float(uniform(rng, fields.factor))}


def apply_brightness(x: torch.Tensor, factor: float) -> torch.Tensor:
    """x times a factor."""
    return x * factor


def apply_contrast(x: torch.Tensor, factor: float) -> torch.Tensor:
    """The distance from the mean of the channel times a factor."""
    mean = x.mean((1, 2, 3), keepdim=True)
    return torch.lerp(mean.expand_as(x), x, factor)


def draw_blur(rng: np.random.Generator, fields: config.Blur, shape: Shape) -> Draws | None:
    """Width per channel, 0 for a channel that stays as it is."""
    chosen = rng.random(shape[0]) < fields.p_channel
    sigma = uniform(rng, fields.sigma_voxels, shape[0]) * chosen
    return {"sigma": sigma} if sigma.any() else None


def apply_blur(x: torch.Tensor, sigma: Sequence[float]) -> torch.Tensor:
    """Gaussian of sigma (c) voxels, cut at 4 sigma, mirrored at the border; with sigma 0 a channel stays as it is."""
    x = x.clone()
    for channel, width in zip(x, sigma, strict=True):
        if width > 0:
            channel.copy_(_blurred(channel, float(width)))
    return x


def _blurred(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """One channel (x y z): along each axis a sum of shifted copies, the fastest way for so few taps."""
    reach = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    for axis, n in enumerate(x.shape):
        index = torch.arange(-reach, n + reach, device=x.device) % (2 * n)  # c b a | a b c | c b a
        padded = x.index_select(axis, torch.minimum(index, 2 * n - 1 - index))
        x = torch.zeros_like(x)
        for tap, weight in enumerate(weights.tolist()):
            x.add_(padded.narrow(axis, tap, n), alpha=weight)
    return x


def draw_ghosting(rng: np.random.Generator, fields: config.Ghosting, shape: Shape) -> Draws:
    """Motion ghosts along a random axis."""
    low, high = fields.spacing
    axis, alpha, spacing = int(rng.integers(3)), uniform(rng, fields.alpha), int(rng.integers(low, high + 1))
    return {"lines": [(axis, ghosting_gains(shape[1 + axis], float(alpha), spacing))]}


def ghosting_gains(size: int, alpha: float, spacing: int) -> np.ndarray:
    """Factor of each line of k-space: alpha for 0, r, 2r, ... but not for the last. Line 0 is the mean: this mostly dims."""
    gains = np.ones(size)
    gains[: size - 1 : spacing] = alpha
    return gains


def draw_gibbs(rng: np.random.Generator, fields: config.Gibbs, shape: Shape) -> Draws | None:
    """Ringing along a random axis; None if all lines stay."""
    axis = int(rng.integers(3))
    size = shape[1 + axis]
    if fields.kept:
        low, high = (max(1, round(share * size)) for share in fields.kept)
        gains = gibbs_gains(size, int(rng.integers(low, high + 1)))
    else:
        gains = published_gibbs_gains(size, int(rng.integers(fields.lines[0], fields.lines[1] + 1)))
    return None if gains.all() else {"lines": [(axis, gains)]}


def gibbs_gains(size: int, lines: int) -> np.ndarray:
    """1 for the `lines` lowest frequencies, else 0; of an even number the negative one of the outermost pair stays."""
    gains = np.zeros(size)
    first = size // 2 - lines // 2
    gains[first : first + lines] = 1
    return np.fft.ifftshift(gains)


def published_gibbs_gains(size: int, lines: int) -> np.ndarray:
    """As the published code counts: one more for odd `lines`; beyond the patch only its highest frequencies stay."""
    gains = np.ones(size)
    middle, half = math.ceil(size / 2), math.ceil(lines / 2)
    gains[: middle - half] = 0  # a negative end counts from the back
    gains[middle + half :] = 0
    return np.fft.ifftshift(gains)


def in_one_transform(draws: dict[str, Draws]) -> None:
    """Where ghosting and Gibbs ringing both fire, they change the lines of one k-space; gains of one axis are multiplied."""
    if "ghosting" in draws and "gibbs" in draws:
        (first, gains), (second, more) = *draws["ghosting"]["lines"], *draws.pop("gibbs")["lines"]
        lines = [(first, gains * more)] if first == second else [(first, gains), (second, more)]
        draws["ghosting"] = {"lines": lines}


def apply_kspace(x: torch.Tensor, lines: Sequence[tuple[int, np.ndarray]]) -> torch.Tensor:
    """Magnitude of x after gains of the lines of k-space along one axis, or along two: pairs of axis and gains.

    The Fourier transforms of the axes that are not named cancel.
    """
    real, imaginary = x, None
    for axis, gains in lines:
        real, other = _filter_lines(real, axis + 1, gains)
        if imaginary is not None:
            imaginary, negative = _filter_lines(imaginary, axis + 1, gains)
            real = real if negative is None else real.sub_(negative)
            other = imaginary if other is None else other.add_(imaginary)
        imaginary = other
    return real.abs_() if imaginary is None else torch.hypot(real, imaginary)


def _filter_lines(x: torch.Tensor, dim: int, gains: np.ndarray) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Real and imaginary part of x with gains of its lines along `dim`.

    The part of the gains that is equal for +f and -f makes a real image, the rest an imaginary one: both are transforms of
    real numbers, which take half the time of complex ones.
    """
    n = x.shape[dim]
    mirrored = np.roll(gains[::-1], 1)
    kspace = torch.fft.rfft(x, dim=dim)
    even, odd = (gains + mirrored)[: n // 2 + 1] / 2, (gains - mirrored)[: n // 2 + 1] / 2
    real = torch.fft.irfft(kspace * _line(even, dim, x), n, dim=dim)
    if not odd.any():
        return real, None
    return real, torch.fft.irfft(kspace * (_line(odd, dim, x) * -1j), n, dim=dim)


def _line(gains: np.ndarray, dim: int, x: torch.Tensor) -> torch.Tensor:
    """Gains as float32 on the device of x, to be multiplied along `dim`."""
    shape = [-1 if d == dim else 1 for d in range(x.ndim)]
    return torch.from_numpy(gains.astype(np.float32)).to(x.device, non_blocking=True).view(shape)


def _along(x: torch.Tensor, matrix: np.ndarray, axis: int) -> torch.Tensor:
    """The matrix (n_out n) times x (x y z) along an axis."""
    weights = torch.from_numpy(matrix.astype(np.float32)).to(x.device, non_blocking=True)
    if axis == 0:
        return (weights @ x.flatten(1)).view(-1, *x.shape[1:])
    return weights @ x if axis == 1 else x @ weights.T


def draw_low_resolution(rng: np.random.Generator, fields: config.LowResolution, shape: Shape) -> Draws | None:
    """Size per channel and axis (c 3) that the patch is shrunk to."""
    channels, size = shape[0], np.array(shape[1:])
    chosen = (rng.random((channels, 1)) < fields.p_channel) & (rng.random((channels, 3)) < fields.p_axis)
    zoom = uniform(rng, fields.zoom, (channels, 1))
    voxels = np.where(chosen, np.maximum(1, np.round(zoom * size)), size).astype(np.int64)
    return {"voxels": voxels} if (voxels < size).any() else None


def apply_low_resolution(x: torch.Tensor, voxels: np.ndarray) -> torch.Tensor:
    """Brings each axis to `voxels` (c 3) by nearest neighbour and back by cubic splines, within the range in between."""
    x = x.clone()
    for channel, counts in zip(x, voxels.tolist(), strict=True):
        sizes = channel.shape
        small = channel
        for axis, (n, few) in enumerate(zip(sizes, counts, strict=True)):
            if few < n:
                index = torch.from_numpy(nearest(few, n)).to(x.device, non_blocking=True)
                small = small.index_select(axis, index)
        large = small
        for axis, (n, few) in enumerate(zip(sizes, counts, strict=True)):
            if few < n:
                large = _along(large, _enlarging_matrix(few, n), axis)
        torch.minimum(large.maximum(small.amin()), small.amax(), out=channel)
    return x


def nearest(small: int, size: int) -> np.ndarray:
    """The voxels, out of `size`, that contain the centres of `small` voxels along the same axis."""
    return (2 * np.arange(small) + 1) * size // (2 * small)


@functools.lru_cache(maxsize=256)
def _enlarging_matrix(small: int, size: int) -> np.ndarray:
    """(size small): interpolating cubic spline in the half-pixel convention; it continues the end voxels beyond the ends."""
    pad = 12  # the spline's memory is 0.27 per voxel: 1e-7 after 12
    length = small + 2 * pad
    collocation = (np.eye(length, k=-1) + 4 * np.eye(length) + np.eye(length, k=1)) / 6
    collocation[0, 1] = collocation[-1, -2] = 1 / 3
    position = (np.arange(size) + 0.5) * small / size - 0.5 + pad
    distance = np.abs(np.subtract.outer(position, np.arange(length)))
    basis = np.where(distance < 1, 2 / 3 - distance**2 + distance**3 / 2, np.clip(2 - distance, 0, None) ** 3 / 6)
    matrix = np.zeros((size, small))
    np.add.at(matrix.T, np.clip(np.arange(length) - pad, 0, small - 1), np.linalg.solve(collocation.T, basis.T))
    return matrix


def draw_bias_field(rng: np.random.Generator, fields: config.BiasField, shape: Shape) -> Draws:
    """Centre of the field, a voxel of the patch, as a share of its size."""
    return {"centre": rng.integers(shape[1:]) / np.array(shape[1:])}


def apply_bias_field(x: torch.Tensor, centre: Sequence[float]) -> torch.Tensor:
    """Multiplies by 1 - sum_d (x_d / N_d - centre_d)^2, centre (3) as a share of the patch."""
    field = torch.ones(1, 1, 1, 1, device=x.device)
    for dim, share in enumerate(centre, start=1):
        n = x.shape[dim]
        line = torch.arange(n, device=x.device) / n - float(share)
        field = field - line.square().view([-1 if d == dim else 1 for d in range(4)])
    return x * field


def draw_gamma(rng: np.random.Generator, fields: config.Gamma, shape: Shape) -> Draws:
    """Exponent, whether it works on the inverted patch, and epsilon."""
    gamma = float(uniform(rng, fields.above if rng.random() < fields.p_above else fields.below))
    return {"gamma": gamma, "invert": bool(rng.random() < fields.p_invert), "epsilon": fields.epsilon}


def apply_gamma(x: torch.Tensor, gamma: float, invert: bool, epsilon: float) -> torch.Tensor:
    """((x - min) / (range + epsilon))^gamma * range + min per channel; with `invert` of -x, and then negated again."""
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    span = high - low
    unit = (high - x if invert else x - low) / (span + epsilon)
    raised = unit.pow_(gamma).mul_(span)
    return high - raised if invert else raised.add_(low)


class Transform(NamedTuple):
    """The two functions of a transform."""

    draw: Callable[..., Draws | None]
    apply: Callable[..., torch.Tensor]


# in the order of application; the names are the fields of `PolicyConfig`
TRANSFORMS = {
    "noise": Transform(draw_noise, apply_noise),
    "blur": Transform(draw_blur, apply_blur),
    "multiplicative_noise": Transform(draw_noise, apply_multiplicative_noise),
    "brightness": Transform(draw_factor, apply_brightness),
    "contrast": Transform(draw_factor, apply_contrast),
    "ghosting": Transform(draw_ghosting, apply_kspace),
    "gibbs": Transform(draw_gibbs, apply_kspace),
    "low_resolution": Transform(draw_low_resolution, apply_low_resolution),
    "bias_field": Transform(draw_bias_field, apply_bias_field),
    "gamma": Transform(draw_gamma, apply_gamma),
}


def draw(seed: int, policy: config.PolicyConfig, shape: Shape) -> dict[str, Draws]:
    """The transforms that fire on the sample with this seed, in the order of application, each with its draws."""
    draws = {}
    for name, transform in TRANSFORMS.items():
        fields = getattr(policy, name)
        if fields and (rng := fires(seed, name, fields.p)):
            numbers = transform.draw(rng, fields, shape)
            if numbers is not None:
                draws[name] = numbers
    if not policy.separate_kspace:
        in_one_transform(draws)
    return draws


def change(x: torch.Tensor, draws: Mapping[str, Draws]) -> None:
    """Applies draws to x (c x y z) in place; each result is clipped, by channel, to the range before it."""
    for name, numbers in draws.items():
        low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
        torch.minimum(
            TRANSFORMS[name].apply(x, **numbers).maximum(low), high, out=x
        )  # `clamp` to tensors takes four times as long
