"""Blocks of MONAI that the decoders `swinunetr` and `unetr` share. MONAI takes seconds to import: import this file late."""

from __future__ import annotations

from monai.networks.blocks.unetr_block import UnetrBasicBlock, UnetrPrUpBlock, UnetrUpBlock
from torch import nn


def residual_block(in_channels: int, out_channels: int) -> nn.Module:
    """MONAI's residual block of two 3^3 convs."""
    return UnetrBasicBlock(3, in_channels, out_channels, kernel_size=3, stride=1, norm_name="instance", res_block=True)


def up_block(in_channels: int, out_channels: int) -> nn.Module:
    """MONAI's doubling of the size, concatenation with a skip, and residual block."""
    return UnetrUpBlock(3, in_channels, out_channels, kernel_size=3, upsample_kernel_size=2, norm_name="instance", res_block=True)


def project_up_block(in_channels: int, out_channels: int, doublings: int, residual: bool = True) -> nn.Module:
    """MONAI's way from tokens to a finer feature map: doublings of the size; with `residual` a block behind all but the first."""
    return UnetrPrUpBlock(
        3, in_channels, out_channels, num_layer=doublings - 1, kernel_size=3, stride=1, upsample_kernel_size=2,
        norm_name="instance", conv_block=residual, res_block=residual,
    )  # fmt: skip


def not_in_place(network: nn.Module) -> None:
    """Behind an instance norm an activation in place costs a copy, see unet.ConvBlock."""
    for module in network.modules():
        if isinstance(module, nn.LeakyReLU):
            module.inplace = False
