"""A small U-Net in plain torch, the same for every party of bench/windows.py: one channel to four classes, 16 GFLOP per 64^3."""

import torch
import torch.nn.functional as F
from torch import nn


def _block(channels_in: int, channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(channels_in, channels, 3, stride, 1), nn.InstanceNorm3d(channels), nn.LeakyReLU(),
        nn.Conv3d(channels, channels, 3, 1, 1), nn.InstanceNorm3d(channels), nn.LeakyReLU(),
    )  # fmt: skip


class SmallUNet(nn.Module):
    """Two levels, 8 and 16 channels; weights depend on torch's seed 0."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__()
        self.fine, self.coarse, self.up, self.head = _block(1, 8), _block(8, 16, 2), _block(24, 8), nn.Conv3d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fine = self.fine(x)
        coarse = F.interpolate(self.coarse(fine), scale_factor=2.0)
        return self.head(self.up(torch.cat([fine, coarse], 1)))


def network(name: str) -> nn.Module:
    """`small U-Net`, or `one 1x1x1 convolution`, so that almost all time is the window's."""
    if name == "small U-Net":
        return SmallUNet().eval()
    torch.manual_seed(0)
    return nn.Conv3d(1, 4, 1).eval()
