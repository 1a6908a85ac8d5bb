"""Models Genesis: a patch is restored after shuffling, a change of intensities, and painting (Zhou et al. 2019).

With the probabilities of the authors' program. Intensities are those of preprocessing, in [0, 1], which the transforms assume.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from brainpretrain import decoders
from brainpretrain.backbones.base import Encoder
from brainpretrain.errors import UserError
from brainpretrain.masking import local_mean
from brainpretrain.pretext.about import About
from brainpretrain.seeds import as_ints, generator

ABOUT = About(kinds=("reconstruction",), picture="corruption")
SMALLEST = 14  # voxels along an axis; out-painting keeps boxes of n - 3n // 7 voxels, 3 voxels away from each border
CONTINUE = 0.95  # probability of one more box
BOXES = 5  # at most
POINTS = 100_000  # of the table of a curve
FLIP = 0.4  # probability of one more flip, up to 3


def build(
    encoder: Encoder,
    in_channels: int,
    *,
    shuffle: float,
    windows: int,
    intensity: float,
    paint: float,
    inpaint: float,
    flip: bool,
    rescale: bool = False,
    decoder: str,
    decoder_options: Mapping[str, Any],
) -> ModelsGenesis:
    """Restoration of a corrupted patch.

    Args:
        encoder: a backbone.
        in_channels: channels of the patch.
        shuffle: probability of local shuffling.
        windows: number of windows in which voxels are shuffled.
        intensity: probability of a non-linear change of intensities.
        paint: probability of painting.
        inpaint: probability that painting covers boxes with noise, and not everything but boxes.
        flip: flip the patch before it is corrupted, along the axes that the authors' program flips.
        rescale: bring each patch to [0, 1] for the transforms and back to its range after them, for patches of z-scores.
        decoder: a file of `decoders/`.
        decoder_options: its options.

    Raises:
        UserError: a probability that is none; unknown decoder or decoder option.
    """
    chances = {"shuffle": shuffle, "intensity": intensity, "paint": paint, "inpaint": inpaint}
    for name, chance in chances.items():
        if not 0 <= chance <= 1:
            raise UserError(f"{chance} is no probability", where=name, fix="give a number in 0..1")
    if decoder_options.get("heads", 1) > 1:
        raise UserError("a reconstruction has one output", where="decoder_options: heads", fix="leave 'heads' out")
    network = decoders.build(decoder, encoder, in_channels, **decoder_options)
    return ModelsGenesis(encoder, network, chances, windows, flip, rescale)


class ModelsGenesis(nn.Module):
    """The network sees the corrupted patch, and the loss is the mean squared error to the patch at all voxels."""

    def __init__(
        self, encoder: Encoder, decoder: nn.Module, chances: dict[str, float], windows: int, flip: bool, rescale: bool
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.chances, self.windows, self.flip, self.rescale = chances, windows, flip, rescale

    def forward(self, input: torch.Tensor, target: torch.Tensor, seeds: Sequence[int] | torch.Tensor) -> dict[str, torch.Tensor]:
        """`loss` is over all voxels, as are those of zero, of the local mean of what is not painted, and of the input itself."""
        clean, _, corrupted, painted = self.corrupted(input, target, seeds)
        output = self.decoder(self.encoder(corrupted), corrupted).float()
        with torch.no_grad():
            guess = local_mean(corrupted, painted, [max(1, n // 8) for n in clean.shape[2:]])
            baselines = {
                "loss_zero": clean.square().mean(),
                "loss_mean": (guess - clean).square().mean(),
                "loss_copy": (corrupted - clean).square().mean(),
            }
        return {"loss": (output - clean).square().mean(), **baselines}

    @torch.no_grad()
    def reconstruct(
        self, input: torch.Tensor, target: torch.Tensor, seeds: Sequence[int] | torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Patch, corrupted patch, and what the network makes of it, for people; `hidden` is what is painted."""
        clean, image, corrupted, painted = self.corrupted(input, target, seeds)
        output = self.decoder(self.encoder(corrupted), corrupted).float()
        return {"input": image, "masked": corrupted, "output": output, "target": clean, "hidden": painted}

    def corrupted(
        self, input: torch.Tensor, target: torch.Tensor, seeds: Sequence[int] | torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Clean, input and corrupted patches (b c x y z), all flipped alike, and where noise was painted (b 1 x y z)."""
        low, high = (x.view(-1, 1, 1, 1, 1) for x in target.flatten(1).aminmax(dim=1))
        extent = (high - low).clamp(min=1e-6)
        if self.rescale:
            input, target = ((x - low) / extent for x in (input, target))
        if min(input.shape[2:]) < SMALLEST:
            raise UserError(
                f"a patch of {list(input.shape[2:])} is too small", where="patch_size", fix=f"use at least {SMALLEST} voxels"
            )
        found = [self._one(*sample) for sample in zip(input, target, as_ints(seeds), strict=True)]
        clean, image, corrupted, painted = (torch.stack(parts) for parts in zip(*found, strict=True))
        if self.rescale:
            clean, image, corrupted = (x * extent + low for x in (clean, image, corrupted))
        return clean, image, corrupted, painted[:, None]

    def _one(
        self, image: torch.Tensor, clean: torch.Tensor, seed: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        if self.flip and (axes := flips(generator(seed, "genesis flip"))):
            image, clean = image.flip(axes), clean.flip(axes)
        rng, chance = generator(seed, "genesis"), self.chances
        corrupted = image
        if rng.random() < chance["shuffle"]:
            corrupted = shuffled(corrupted, rng, self.windows)
        if rng.random() < chance["intensity"]:
            corrupted = curve(corrupted, rng.random((2, 2)), increasing=rng.random() >= 0.5)
        painted = torch.zeros(image.shape[1:], dtype=torch.bool, device=image.device)
        if rng.random() < chance["paint"]:
            inside = rng.random() < chance["inpaint"]
            painted = (inner_boxes if inside else outside_of_boxes)(rng, image.shape[1:]).to(image.device)
            corrupted = torch.where(painted, noise(rng, image, same=inside), corrupted)
        return clean, image, corrupted, painted


def flips(rng: np.random.Generator) -> list[int]:
    """Axes of a sample (c x y z) to flip, of the first three, as the authors draw them.

    Axis 0 is the channels', so with one channel a third of the draws flips nothing, and z is never flipped. An axis that is
    drawn twice is flipped back.
    """
    drawn: list[int] = []
    while len(drawn) < 3 and rng.random() < FLIP:
        drawn.append(int(rng.integers(3)))
    return [axis for axis in range(3) if drawn.count(axis) % 2]


def shuffled(image: torch.Tensor, rng: np.random.Generator, windows: int) -> torch.Tensor:
    """The voxels of the first channel permuted inside each of many small windows.

    All windows at once: a voxel that several windows cover has the value that the last of them gives it, read from the image
    before any shuffling, as if the windows were written one after another.

    Args:
        image: (c x y z).
        rng: draws the windows and their permutations.
        windows: their number; the side of each is 1 to n // 10 voxels, and it is inside the patch.
    """
    size = np.array(image.shape[1:])
    sides = rng.integers(1, size // 10 + 1, (windows, 3))
    starts = rng.integers(0, size - sides + 1)
    counts = torch.from_numpy(sides.prod(1))
    window = torch.repeat_interleave(torch.arange(windows), counts).to(image.device)
    first = torch.from_numpy(starts).to(image.device)[window]
    side = torch.from_numpy(sides).to(image.device)[window]
    place = torch.arange(len(window), device=image.device) - (counts.cumsum(0) - counts).to(image.device)[window]
    offsets = torch.stack([place // (side[:, 1] * side[:, 2]), place // side[:, 2] % side[:, 1], place % side[:, 2]], 1)
    i, j, k = (first + offsets).unbind(1)
    voxel = (i * int(size[1]) + j) * int(size[2]) + k
    order = torch.argsort(window + torch.from_numpy(rng.random(len(window))).to(image.device))
    source = voxel[order]  # windows are sorted and of known length, so an entry takes the voxel of another one of its window
    flat = image[0].flatten()
    last = torch.full((len(flat),), -1, device=image.device).scatter_reduce(
        0, voxel, torch.arange(len(voxel), device=image.device), "amax"
    )
    moved = torch.where(last >= 0, flat[source[last.clamp(min=0)]], flat)
    return torch.cat([moved.view(image.shape[1:])[None], image[1:]])


def curve(image: torch.Tensor, inner: np.ndarray, increasing: bool) -> torch.Tensor:
    """Intensities through a cubic Bezier curve from (0, 0) to (1, 1); values outside [0, 1] take those at its ends.

    Args:
        image: of any shape.
        inner: the two inner control points (x, y), within [0, 1], so that the curve never turns back.
        increasing: False: f(0) = 1 and f(1) = 0, which inverts the contrast. This is what the authors' program does when it
            sorts one coordinate alone: smallest x with the y of the curve's other end.
    """
    x, y = bezier(inner)
    if not increasing:
        y = y[::-1]
    table = [torch.from_numpy(np.ascontiguousarray(values)).to(image.device) for values in (x, y)]
    values = image.double().clamp(x[0], x[-1])
    right = torch.searchsorted(table[0], values.contiguous()).clamp(1, POINTS - 1)
    (x0, x1), (y0, y1) = ((part[right - 1], part[right]) for part in table)
    weight = torch.where(x1 > x0, (values - x0) / (x1 - x0), 1.0)
    return (y0 + weight * (y1 - y0)).to(image.dtype)


def bezier(inner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x and y of 100,000 points of a curve, from (0, 0) to (1, 1), each ascending."""
    first, second, end = _basis()
    x, y = (np.sort(first * a + second * b + end) for a, b in zip(inner[0], inner[1], strict=True))
    return x, y


@functools.cache
def _basis() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The weights of the two inner control points and of the end along a curve."""
    t = np.linspace(0, 1, POINTS)
    return 3 * t * (1 - t) * (1 - t), 3 * t * t * (1 - t), t * t * t


def inner_boxes(rng: np.random.Generator, size: Sequence[int]) -> torch.Tensor:
    """In-painting: where noise covers the patch, bool (x y z): up to 5 boxes of a sixth to a third of each side, or none."""
    painted = torch.zeros(tuple(size), dtype=torch.bool)
    for _ in range(BOXES):
        if rng.random() >= CONTINUE:
            break
        painted[_box(rng, size, [int(rng.integers(n // 6, n // 3 + 1)) for n in size])] = True
    return painted


def outside_of_boxes(rng: np.random.Generator, size: Sequence[int]) -> torch.Tensor:
    """Out-painting: where noise covers the patch, bool (x y z): everything but 1 to 5 boxes of 3/7 to 4/7 of each side."""
    painted = torch.ones(tuple(size), dtype=torch.bool)
    for number in range(BOXES):
        if number and rng.random() >= CONTINUE:
            break
        painted[_box(rng, size, [n - int(rng.integers(3 * n // 7, 4 * n // 7 + 1)) for n in size])] = False
    return painted


def _box(rng: np.random.Generator, size: Sequence[int], sides: Sequence[int]) -> tuple[slice, ...]:
    """A box of these sides, 3 voxels or more away from each border."""
    starts = [int(rng.integers(3, n - side - 3 + 1)) for n, side in zip(size, sides, strict=True)]
    return tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))


def noise(rng: np.random.Generator, image: torch.Tensor, same: bool) -> torch.Tensor:
    """Uniform noise in [0, 1) of the shape of `image` (c x y z), drawn on its device; `same` in every channel or not."""
    drawn = torch.Generator(image.device).manual_seed(int(rng.integers(2**63)))
    shape = (1 if same else image.shape[0], *image.shape[1:])
    return torch.rand(shape, generator=drawn, device=image.device).to(image.dtype)
