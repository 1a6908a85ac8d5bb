"""The interface of every encoder, which decoders and pretext tasks rely on."""

from __future__ import annotations

from torch import nn


class Encoder(nn.Module):
    """Maps an image (b c x y z) to feature maps (b channels[i] x/strides[i] ...), finest first.

    Attributes:
        in_channels: channels of the image.
        channels: of each feature map.
        strides: cumulative downsampling of each feature map.
        divisor: every side of the image must be a multiple of it; `check_size` refuses other sizes.
    """

    in_channels: int
    channels: list[int]
    strides: list[int]
    divisor: int


def stem(encoder: Encoder) -> nn.Conv3d:
    """The convolution that reads the image: the first one of `encoder`, as the contract test sees to.

    Only this tensor depends on the number of input channels.
    """
    return next(module for module in encoder.modules() if isinstance(module, nn.Conv3d))


def parameters(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())
