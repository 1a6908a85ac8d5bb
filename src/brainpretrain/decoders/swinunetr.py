"""The decoder of SwinUNETR (Hatamizadeh et al. 2022), of MONAI's blocks."""

from __future__ import annotations

import torch
from monai.networks.blocks.dynunet_block import UnetOutBlock
from torch import nn

from brainpretrain.backbones.base import Encoder
from brainpretrain.decoders.monai_blocks import not_in_place, residual_block, up_block
from brainpretrain.errors import UserError


def build(encoder: Encoder, out_channels: int) -> SwinUNETRDecoder:
    """SwinUNETR decoder.

    Raises:
        UserError: `encoder` has not the five feature maps of the backbone `swinunetr`.
    """
    width = encoder.channels[0]
    if encoder.strides != [2, 4, 8, 16, 32] or encoder.channels != [width * 2**stage for stage in range(5)]:
        raise UserError("the decoder 'swinunetr' reads a Swin encoder only", where="decoder", fix="use 'unet'")
    return SwinUNETRDecoder(encoder, out_channels)


class SwinUNETRDecoder(nn.Module):
    """Everything of MONAI's SwinUNETR but its transformer; tensor names as in MONAI."""

    def __init__(self, encoder: Encoder, out_channels: int) -> None:
        super().__init__()
        width = encoder.channels[0]
        self.encoder1 = residual_block(encoder.in_channels, width)
        self.encoder2 = residual_block(width, width)
        self.encoder3 = residual_block(2 * width, 2 * width)
        self.encoder4 = residual_block(4 * width, 4 * width)
        self.encoder10 = residual_block(16 * width, 16 * width)
        self.decoder5 = up_block(16 * width, 8 * width)
        self.decoder4 = up_block(8 * width, 4 * width)
        self.decoder3 = up_block(4 * width, 2 * width)
        self.decoder2 = up_block(2 * width, width)
        self.decoder1 = up_block(width, width)
        self.out = UnetOutBlock(3, width, out_channels)
        not_in_place(self)

    def forward(self, features: list[torch.Tensor], image: torch.Tensor) -> torch.Tensor:
        x = self.decoder5(self.encoder10(features[4]), features[3])
        x = self.decoder4(x, self.encoder4(features[2]))
        x = self.decoder3(x, self.encoder3(features[1]))
        x = self.decoder2(x, self.encoder2(features[0]))
        return self.out(self.decoder1(x, self.encoder1(image)))
