"""Block masks, and the trivial guesses from the visible voxels alone. hidden: True = masked out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from brainpretrain.seeds import as_ints, generator, uniform
from brainpretrain.sizes import ratio_range, token_grid, visible_blocks

_FLAT = 1e-6  # added to the variance of a block, so that air, which is constant, can be divided by its deviation


def block_mask(
    seeds: Sequence[int] | torch.Tensor,
    size: Sequence[int],
    mask_size: int,
    mask_ratio: float | Sequence[float],
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Random blocks of voxels to hide (AMAES section 3.1), as bool (b 1 x y z); True = hidden.

    `blocks * (1 - mask_ratio)` blocks, rounded down, stay visible and all others are hidden: 19,661 of
    the 32,768 blocks of 4 voxels in 128^3 at 0.6. A sample's mask depends on its own seed alone, not on the batch or the device.

    Args:
        seeds: one per sample.
        size: voxels (x y z).
        mask_size: side of a block in voxels; divides every side of `size`.
        mask_ratio: share of blocks to hide, 0..1; or [low, high], from which each sample draws its own, uniformly.

    Raises:
        UserError: `mask_size` does not divide `size`, or `mask_ratio` is neither a share nor a range of shares.
    """
    grid = token_grid(size, mask_size)
    blocks = hidden_blocks(seeds, math.prod(grid), mask_ratio, visible_blocks)
    return spread_blocks(torch.from_numpy(blocks.reshape(len(seeds), 1, *grid)).to(device), mask_size)


def hidden_blocks(
    seeds: Sequence[int] | torch.Tensor,
    blocks: int,
    mask_ratio: float | Sequence[float],
    visible: Callable[[int, float], int],
) -> np.ndarray:
    """Which of the `blocks` of each sample are hidden, as bool (b blocks).

    Args:
        seeds: one per sample.
        blocks: their number.
        mask_ratio: as in `block_mask`.
        visible: the number of visible blocks, from the number of blocks and the ratio.
    """
    low, high = ratio_range(mask_ratio)
    hidden = np.zeros((len(seeds), blocks), dtype=bool)
    for row, seed in zip(hidden, as_ints(seeds), strict=True):
        ratio = low if low == high else float(uniform(generator(seed, "mask ratio"), (low, high)))
        row[generator(seed, "mask").permutation(blocks)[visible(blocks, ratio) :]] = True
    return hidden


def spread_blocks(blocks: torch.Tensor, side: int) -> torch.Tensor:
    """Values of blocks (b 1 gx gy gz) for each of their voxels (b 1 x y z)."""
    for axis in (2, 3, 4):
        blocks = blocks.repeat_interleave(side, dim=axis)
    return blocks


@torch.no_grad()
def local_mean(image: torch.Tensor, hidden: torch.Tensor, grid: Sequence[int]) -> torch.Tensor:
    """The trivial guess: the mean of the visible voxels in the cell of each voxel and in the 26 cells around it.

    Where all of these are hidden, it is the mean of all visible voxels of the sample.

    Args:
        image: (b c x y z).
        hidden: bool (b 1 x y z).
        grid: cells along x, y and z.

    Returns:
        (b c x y z), constant within a cell.
    """
    visible = (~hidden).to(image.dtype)
    cells = (grid[0], grid[1], grid[2])
    total, weight = (
        # padded separately, since the pooling refuses fewer than 3 cells whatever its own padding
        F.avg_pool3d(F.pad(F.adaptive_avg_pool3d(x, cells), [1] * 6), kernel_size=3, stride=1)
        for x in (image * visible, visible)
    )
    axes = (2, 3, 4)
    overall = (image * visible).sum(axes, keepdim=True) / visible.sum(axes, keepdim=True).clamp(min=1)
    # a share below one voxel in a million is a rounding error
    guess = torch.where(weight > 1e-6, total / weight.clamp(min=1e-6), overall)
    return F.interpolate(guess, size=image.shape[2:], mode="nearest")


def hidden_mean(error: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """Mean of `error` (b c x y z) over the voxels of a sample where `hidden` (b 1 x y z) is True, then over samples.

    The weight of a sample does not depend on the others, and so not on the number of devices. A sample without hidden
    voxels counts as 0.
    """
    axes = (1, 2, 3, 4)
    return ((error * hidden).sum(axes) / (hidden.sum(axes) * error.shape[1]).clamp(min=1)).mean()


def block_moments(image: torch.Tensor, mask_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of every block of `image` (b c x y z), spread over its voxels (b c x y z)."""

    def spread(x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(F.avg_pool3d(x, mask_size), size=image.shape[2:], mode="nearest")

    mean = spread(image)
    return mean, (spread((image - mean).square()) + _FLAT).sqrt()
