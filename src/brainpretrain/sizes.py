"""Checks whether patch sizes fit a network and a mask. Pure Python, so that a dry run can check them without torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from brainpretrain.errors import UserError


def check_size(size: Sequence[int], divisor: int, where: str = "patch_size") -> None:
    """Refuses sizes (voxels along x, y, z) that an encoder with `divisor` cannot halve evenly.

    Raises:
        UserError: an axis is no multiple of `divisor` (the message names the nearest valid sizes), or the coarsest feature map
            would be a single voxel, which cannot be normalised.
    """
    size = [int(n) for n in size]
    if any(n % divisor for n in size):
        too_small = all(n // divisor <= 1 for n in size)  # rounded down or up to one block, every side would be a single voxel
        choices = [f"{n}: {2 * divisor if too_small else _neighbours(n, divisor)}" for n in size if n % divisor]
        raise UserError(
            f"size {size} does not fit: every side must be a multiple of {divisor}",
            where=where,
            fix=f"nearest valid sizes: {'; '.join(dict.fromkeys(choices))}",
        )
    if all(n == divisor for n in size):
        raise UserError(
            f"size {size} is too small: the coarsest feature map would be a single voxel",
            where=where,
            fix=f"nearest valid size: {2 * divisor}",
        )


def _neighbours(n: int, divisor: int) -> str:
    below = n // divisor * divisor
    return f"{below} or {below + divisor}" if below else str(divisor)


def token_grid(size: Sequence[int], mask_size: int, where: str = "mask_size") -> list[int]:
    """Number of mask blocks along each axis.

    Raises:
        UserError: `mask_size` does not divide `size`.
    """
    if mask_size < 1 or any(n % mask_size for n in size):
        valid = [m for m in range(1, min(size) + 1) if all(n % m == 0 for n in size)]
        raise UserError(
            f"blocks of {mask_size} do not fit into a patch of {list(size)}", where=where, fix=f"valid sizes: {valid}"
        )
    return [n // mask_size for n in size]


def ratio_range(mask_ratio: float | Sequence[float], where: str = "mask_ratio") -> tuple[float, float]:
    """Lowest and highest share of blocks to hide; the same number twice if the share is fixed.

    Raises:
        UserError: `mask_ratio` is neither a share in 0..1 nor a pair [low, high] of shares.
    """
    bounds = list(mask_ratio) if isinstance(mask_ratio, Sequence) else [mask_ratio, mask_ratio]
    if len(bounds) != 2 or not 0 <= bounds[0] <= bounds[1] <= 1:
        raise UserError(
            f"mask_ratio {mask_ratio} is no share and no range of shares",
            where=where,
            fix="give a number in 0..1, or [low, high] to draw one per sample",
        )
    return bounds[0], bounds[1]


def visible_blocks(blocks: int, ratio: float) -> int:
    """Blocks that stay visible where a share `ratio` is hidden, rounded down."""
    return int(round(blocks * (1 - ratio), 6))  # 1000 * (1 - 0.9) is 99.99999999999998


def unhidden_blocks(blocks: int, ratio: float) -> int:
    """Blocks that stay visible where the number of hidden ones, a share `ratio`, is rounded down, as S3D does."""
    return blocks - int(round(blocks * ratio, 6))


def check_visible(size: Sequence[int], mask_size: int, mask_ratio: float | Sequence[float], stride: int, where: str) -> None:
    """Refuses masks that a sparse network cannot be trained on.

    Its norms need two visible voxels in every sample and level; in the coarsest level that is masked, a block may be one voxel.

    Args:
        size: of the patch, in voxels.
        mask_size: side of a block, in voxels.
        mask_ratio: share of blocks to hide, or [low, high].
        stride: cumulative downsampling of the coarsest feature map.
        where: the entry, for messages.

    Raises:
        UserError: too few blocks stay visible, none is hidden, or blocks cannot be halved as often as the patch.
    """
    blocks = math.prod(token_grid(size, mask_size, f"{where}: mask_size"))
    low, high = ratio_range(mask_ratio, f"{where}: mask_ratio")
    if any(mask_size % 2**n for n in range(stride.bit_length()) if 2**n <= mask_size):
        sides = [2**n for n in range(1, 9) if all(side % 2**n == 0 for side in size)]
        raise UserError(
            f"blocks of {mask_size} voxels cannot be halved from level to level",
            where=f"{where}: mask_size",
            fix=f"use one of {sides}",
        )
    if unhidden_blocks(blocks, low) == blocks:
        problem = f"no block is hidden: {blocks} blocks, ratio {low}"
        raise UserError(problem, where=f"{where}: mask_ratio", fix="hide a larger share")
    visible, voxels = unhidden_blocks(blocks, high), max(1, mask_size // stride) ** 3
    if visible * voxels < 2:
        raise UserError(
            f"{visible} of {blocks} blocks of {mask_size}^3 voxels stay visible in a patch of {list(size)}, and a norm needs two"
            " visible voxels in the coarsest feature map",
            where=f"{where}: mask_ratio",
            fix="hide a smaller share, or use a larger patch or smaller blocks",
        )


def check_tokens(size: Sequence[int], token: int, mask_ratio: float, where: str) -> int:
    """The number of tokens of a patch; refuses masks that leave a transformer nothing to see or nothing to reconstruct.

    Args:
        size: of the patch, in voxels.
        token: side of a token, in voxels.
        mask_ratio: share of tokens to hide; one number, since the samples of a batch must keep equally many.
        where: the entry, for messages.

    Raises:
        UserError: `mask_ratio` is no share, or no token is visible or none hidden.
    """
    blocks = math.prod(token_grid(size, token, f"{where}: patch_size"))
    if isinstance(mask_ratio, Sequence):
        problem = f"a drawn mask_ratio {list(mask_ratio)}, with which samples of a batch would keep different numbers of tokens"
        raise UserError(problem, where=f"{where}: mask_ratio", fix="give one number, such as 0.85")
    ratio_range(mask_ratio, f"{where}: mask_ratio")
    visible = visible_blocks(blocks, mask_ratio)
    if not 0 < visible < blocks:
        raise UserError(
            f"{visible} of {blocks} tokens of {token}^3 voxels stay visible in a patch of {list(size)}",
            where=f"{where}: mask_ratio",
            fix="hide a smaller share, or use a larger patch" if not visible else "hide a larger share",
        )
    return blocks
