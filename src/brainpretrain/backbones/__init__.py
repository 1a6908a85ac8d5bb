"""Encoders, one file each, with a function `build(in_channels, **options)` that returns a `base.Encoder`.

Where published weights exist, the file also has `reference_name(name)`, from our tensor names to theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from brainpretrain import named
from brainpretrain.errors import UserError

if TYPE_CHECKING:
    from brainpretrain.backbones.base import Encoder


def names() -> list[str]:
    """Architectures: the files of this folder."""
    return named.names("backbones")


def build(architecture: str, in_channels: int, **options: Any) -> Encoder:
    """The encoder of `backbones/<architecture>.py`.

    Args:
        architecture: name of a file of this folder.
        in_channels: input channels.
        options: the backbone's `options` in `config/backbones.yaml`.

    Raises:
        UserError: unknown architecture; unknown or missing option.
    """
    builder = named.module("backbones", architecture).build
    named.check_options(builder, options, where=f"backbone '{architecture}'")
    return builder(in_channels, **options)


def check_size(size: Sequence[int], divisor: int) -> None:
    """Refuses input sizes that an encoder with `divisor` cannot halve evenly.

    Raises:
        UserError: a side is no multiple of `divisor` (names the nearest valid ones), or the coarsest feature map
            would be one voxel, which cannot be normalised.
    """
    size = [int(n) for n in size]
    if any(n % divisor for n in size):
        choices = [f"{n}: {_neighbours(n, divisor)}" for n in size if n % divisor]
        raise UserError(
            f"size {size} does not fit: every side must be a multiple of {divisor}",
            where="patch_size",
            fix=f"nearest valid sizes: {'; '.join(dict.fromkeys(choices))}",
        )
    if all(n == divisor for n in size):
        raise UserError(
            f"size {size} is too small: the coarsest feature map would be a single voxel",
            where="patch_size",
            fix=f"nearest valid size: {2 * divisor}",
        )


def _neighbours(n: int, divisor: int) -> str:
    below = n // divisor * divisor
    return f"{below} or {below + divisor}" if below else str(divisor)
