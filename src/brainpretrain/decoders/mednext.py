"""The MedNeXt decoder, the mirror image of the MedNeXt encoder (Roy et al. 2023)."""

from __future__ import annotations

import torch
from torch import nn

from brainpretrain.backbones.base import Encoder
from brainpretrain.backbones.mednext import FlatBlock, MedNeXt, UpBlock
from brainpretrain.errors import UserError


def build(encoder: Encoder, out_channels: int) -> MedNeXtDecoder:
    """MedNeXt decoder.

    Raises:
        UserError: `encoder` is no MedNeXt.
    """
    if not isinstance(encoder, MedNeXt):
        raise UserError("the decoder 'mednext' mirrors a MedNeXt encoder only", where="decoder", fix="use 'unet'")
    return MedNeXtDecoder(encoder, out_channels)


class MedNeXtDecoder(nn.Module):
    """The mirror image of a MedNeXt encoder; skips are added, not concatenated (Roy et al. 2023)."""

    def __init__(self, encoder: MedNeXt, out_channels: int) -> None:
        super().__init__()
        channels, expansions, kernel_size = encoder.channels, encoder.expansions, encoder.kernel_size
        levels = list(reversed(range(len(channels) - 1)))
        self.ups = nn.ModuleList(UpBlock(channels[level + 1], expansions[level], kernel_size) for level in levels)
        self.stages = nn.ModuleList(
            nn.Sequential(*(FlatBlock(channels[level], expansions[level], kernel_size) for _ in range(encoder.blocks[level])))
            for level in levels
        )
        self.head = nn.ConvTranspose3d(channels[0], out_channels, kernel_size=1)

    def forward(self, features: list[torch.Tensor], image: torch.Tensor) -> torch.Tensor:
        x = features[-1]
        for up, stage, skip in zip(self.ups, self.stages, features[-2::-1], strict=True):
            x = stage(up(x) + skip)
        return self.head(x)
