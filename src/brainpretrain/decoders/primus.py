"""The decoder of Primus (Wald et al. 2025): transposed convolutions from tokens to voxels, and nothing else."""

from __future__ import annotations

import itertools
import math

import torch
from torch import nn

from brainpretrain.backbones.base import Encoder
from brainpretrain.errors import UserError


def build(encoder: Encoder, out_channels: int) -> PrimusDecoder:
    """Doublings of the size from the coarsest feature map, with a layer norm and a GELU behind each but the last.

    Args:
        encoder: a backbone whose feature maps have one stride, a power of 2.
        out_channels: output channels; the widths between depend on them.

    Raises:
        UserError: `encoder` has feature maps of several strides, of which this decoder would read the coarsest only.
    """
    if len(set(encoder.strides)) > 1 or encoder.strides[-1] < 2:
        raise UserError("the decoder 'primus' reads encoders of tokens only", where="decoder", fix="use 'unet'")
    return PrimusDecoder(encoder.channels[-1], int(math.log2(encoder.strides[-1])), out_channels)


class PrimusDecoder(nn.Module):
    """Widths fall by an equal factor from that of a token to twice the output channels, rounded to multiples of 8."""

    def __init__(self, width: int, doublings: int, out_channels: int) -> None:
        super().__init__()
        factor = (width / (2 * out_channels)) ** (1 / doublings)
        between = [8 * max(1, round((width / factor**n + 1e-6) / 8)) for n in range(1, doublings)]
        widths = [width, *between, out_channels]
        ups = [nn.ConvTranspose3d(a, b, kernel_size=2, stride=2) for a, b in itertools.pairwise(widths)]
        *first, last = ups
        self.decode = nn.Sequential(*(nn.Sequential(up, _ChannelNorm(up.out_channels), nn.GELU()) for up in first), last)

    def forward(self, features: list[torch.Tensor], image: torch.Tensor) -> torch.Tensor:
        return self.decode(features[-1])


class _ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each voxel (b c x y z)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)
