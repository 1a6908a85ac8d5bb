"""A linear probe: the decoder that measures what an encoder's features hold by themselves."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from brainpretrain.backbones.base import Encoder


def build(encoder: Encoder, out_channels: int) -> LinearDecoder:
    """Linear probe over any encoder."""
    return LinearDecoder(encoder, out_channels)


class LinearDecoder(nn.Module):
    """Linear probe: logits are a linear function of the encoder's feature maps at each voxel.

    It is one 1^3 convolution of all feature maps, each interpolated (trilinear) to the size of the image and concatenated.
    Convolution and interpolation commute, so each map is convolved first: fewer channels are interpolated.
    """

    def __init__(self, encoder: Encoder, out_channels: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Conv3d(channels, out_channels, kernel_size=1, bias=level == 0) for level, channels in enumerate(encoder.channels)
        )

    def forward(self, features: list[torch.Tensor], image: torch.Tensor) -> torch.Tensor:
        maps = [head(feature) for head, feature in zip(self.heads, features, strict=True)]
        return torch.stack([F.interpolate(x, size=image.shape[2:], mode="trilinear") for x in maps]).sum(0)
