"""Pretext tasks, one file each. `build(encoder, in_channels, **options)` returns an `nn.Module` with

- `encoder`: the network that is pretrained and transferred; the task has its own heads and decoders next to it,
- `forward(input, target, seeds) -> dict`: `loss` and further scalars to log, among them `loss_zero` and `loss_mean`,
  the error at hidden voxels of guessing zero and of guessing the local mean of the visible voxels,
- `reconstruct(input, target, seeds) -> dict` with the arrays input, masked, output, target (b c x y z) and
  hidden (b 1 x y z), on one grid.

A loss that compares samples of a batch must gather those of all processes (`distributed.gathered`), since the number of
devices must not change a result; a test checks this for every file here.

`input` is the augmented patch (b c x y z), `target` the same patch without intensity augmentation, `seeds` one number
per sample, from which everything random follows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brainpretrain import named

if TYPE_CHECKING:
    from torch import nn

    from brainpretrain.backbones.base import Encoder


def names() -> list[str]:
    """Methods: the files of this folder."""
    return named.names("pretext")


def build(method: str, encoder: Encoder, in_channels: int, **options: Any) -> nn.Module:
    """The pretext task of `pretext/<method>.py` on `encoder`.

    Args:
        method: name of a file of this folder.
        encoder: a backbone.
        in_channels: channels of the patch.
        options: the pretext's `options` in `config/pretext.yaml`.

    Raises:
        UserError: unknown method; unknown or missing option.
    """
    builder = named.module("pretext", method).build
    named.check_options(builder, options, where=f"pretext '{method}'")
    return builder(encoder, in_channels, **options)
