"""The decoder of UNETR (Hatamizadeh et al. 2022), of MONAI's blocks."""

from __future__ import annotations

import torch
from monai.networks.blocks.dynunet_block import UnetOutBlock
from torch import nn

from brainpretrain.backbones.base import Encoder
from brainpretrain.decoders.monai_blocks import not_in_place, project_up_block, residual_block, up_block
from brainpretrain.errors import UserError


def build(encoder: Encoder, out_channels: int, *, feature_size: int, residual: bool = True) -> UNETRDecoder:
    """UNETR decoder.

    Args:
        encoder: the backbone `unetr`.
        out_channels: output channels.
        feature_size: channels at full resolution; they double from level to level.
        residual: a residual block behind each doubling of a skip connection, as in MONAI; Zhang et al. have none there.

    Raises:
        UserError: `encoder` has not the four feature maps of stride 16 that UNETR decodes.
    """
    if encoder.strides != [16] * 4:
        raise UserError("the decoder 'unetr' reads a UNETR encoder only", where="decoder", fix="use 'unet'")
    return UNETRDecoder(encoder, out_channels, feature_size, residual)


class UNETRDecoder(nn.Module):
    """Everything of MONAI's UNETR but its transformer; tensor names as in MONAI."""

    def __init__(self, encoder: Encoder, out_channels: int, feature_size: int, residual: bool) -> None:
        super().__init__()
        width = encoder.channels[-1]
        self.encoder1 = residual_block(encoder.in_channels, feature_size)
        self.encoder2 = project_up_block(width, 2 * feature_size, doublings=3, residual=residual)
        self.encoder3 = project_up_block(width, 4 * feature_size, doublings=2, residual=residual)
        self.encoder4 = project_up_block(width, 8 * feature_size, doublings=1)
        self.decoder5 = up_block(width, 8 * feature_size)
        self.decoder4 = up_block(8 * feature_size, 4 * feature_size)
        self.decoder3 = up_block(4 * feature_size, 2 * feature_size)
        self.decoder2 = up_block(2 * feature_size, feature_size)
        self.out = UnetOutBlock(3, feature_size, out_channels)
        not_in_place(self)

    def forward(self, features: list[torch.Tensor], image: torch.Tensor) -> torch.Tensor:
        x = self.decoder5(features[3], self.encoder4(features[2]))
        x = self.decoder4(x, self.encoder3(features[1]))
        x = self.decoder3(x, self.encoder2(features[0]))
        return self.out(self.decoder2(x, self.encoder1(image)))
