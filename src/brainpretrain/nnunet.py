"""A network for nnU-Net's environment, which has `dynamic_network_architectures`; nothing here needs the rest of the project.

The plans that `brainpretrain export --format nnunet` writes name this class, so install the project there with `--no-deps`.
"""

from __future__ import annotations

from typing import Any

import torch
from dynamic_network_architectures.building_blocks.plain_conv_encoder import PlainConvEncoder
from dynamic_network_architectures.building_blocks.unet_decoder import UNetDecoder
from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from torch import nn


class MaxPoolUNet(nn.Module):
    """nnU-Net's plain U-Net, halved by max pooling as in AMAES where nnU-Net strides a convolution.

    Args:
        input_channels: channels of the image.
        num_classes: channels of the logits.
        n_conv_per_stage_decoder: conv blocks per decoder stage.
        deep_supervision: return the logits of every decoder stage.
        options: options of `PlainConvEncoder`.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        n_conv_per_stage_decoder: list[int],
        deep_supervision: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        self.encoder = PlainConvEncoder(input_channels, **options, return_skips=True, pool="max")
        self.decoder = UNetDecoder(self.encoder, num_classes, n_conv_per_stage_decoder, deep_supervision)

    def forward(self, image: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Image (b c z y x) -> logits (b classes z y x), a list of them, finest first, with deep supervision."""
        return self.decoder(self.encoder(image))

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """nnU-Net's initialisation of a layer."""
        InitWeights_He(1e-2)(module)
