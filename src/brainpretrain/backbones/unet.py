"""The U-Net encoder of AMAES (width 32: B, width 64: XL), 'Backbones' and Appendix A of the paper."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from brainpretrain.backbones import check_size
from brainpretrain.backbones.base import Encoder


def build(in_channels: int, *, width: int, levels: int, convs_per_stage: int) -> UNet:
    """U-Net encoder.

    Args:
        in_channels: input channels.
        width: channels of the finest level; they double from level to level.
        levels: resolutions, so the divisor is 2^(levels - 1).
        convs_per_stage: conv blocks per level.
    """
    return UNet(in_channels, [width * 2**level for level in range(levels)], convs_per_stage)


class ConvBlock(nn.Module):
    """Conv 3^3 -> instance norm -> leaky ReLU (slope 0.01)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1)
        self.norm = nn.InstanceNorm3d(out_channels, affine=True)
        # Not in place: instance norm returns a view, and autograd would copy it.
        self.activation = nn.LeakyReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(self.norm(self.conv(x)))


class UNet(Encoder):
    """Conv blocks per level, halved by max pooling in between."""

    def __init__(self, in_channels: int, channels: list[int], convs_per_stage: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.channels = channels
        self.strides = [2**level for level in range(len(channels))]
        self.divisor = self.strides[-1]
        self.stages = nn.ModuleList()
        for before, after in zip([in_channels, *channels], channels, strict=False):
            blocks = [ConvBlock(before if i == 0 else after, after) for i in range(convs_per_stage)]
            self.stages.append(nn.Sequential(*blocks))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Input (b c x y z) -> features (b channels[i] x/strides[i] ...), finest first."""
        check_size(x.shape[2:], self.divisor)
        features: list[torch.Tensor] = []
        for stage in self.stages:
            x = stage(F.max_pool3d(x, 2) if features else x)
            features.append(x)
        return features


def reference_name(name: str) -> str:
    """Name of our encoder tensor `name` in the encoder of the AMAES checkpoints."""
    _, stage, conv, rest = name.split(".", 3)
    block = "in_conv" if stage == "0" else f"encoder_conv{stage}"
    return f"{block}.conv{int(conv) + 1}.{rest}"


def nnunet_names(name: str) -> list[str]:
    """Names of our encoder tensor `name` in the encoder of `brainpretrain.nnunet.MaxPoolUNet`: each layer has two there."""
    _, stage, conv, layer, kind = name.split(".")
    block = f"stages.{stage}.{0 if stage == '0' else 1}.convs.{conv}"  # behind the first stage, module 0 is the pooling
    return [f"{block}.{layer}.{kind}", f"{block}.all_modules.{('conv', 'norm').index(layer)}.{kind}"]


_CONV = re.compile(r"(?P<prefix>(?:.*\.)?)(?:(?P<first>in_conv)|encoder_conv(?P<stage>\d+))\.conv(?P<number>\d+)\.conv\.weight")


def recognise(shapes: Mapping[str, Sequence[int]]) -> dict[str, Any] | None:
    """The options of the encoder whose tensors are among `shapes`, by the names of AMAES; None if there is none."""
    found = [match for name in shapes if (match := _CONV.fullmatch(name)) and len(shapes[name]) == 5]
    first = min((match for match in found if match["first"]), key=lambda match: len(match["prefix"]), default=None)
    if first is None:
        return None
    convs = [match for match in found if match["prefix"] == first["prefix"]]
    levels = 1 + max(int(match["stage"] or 0) for match in convs)
    return {"width": shapes[first[0]][0], "levels": levels, "convs_per_stage": max(int(match["number"]) for match in convs)}


def nnunet_architecture(encoder: UNet) -> dict[str, Any]:
    """What nnU-Net builds the same encoder with, but for what all backbones share (`exporting.nnunet_plan`).

    nnU-Net's own plain U-Net strides convolutions where this one pools, so the class is ours.
    """
    convs = [len(stage) for stage in encoder.stages]
    return {
        "network_class_name": "brainpretrain.nnunet.MaxPoolUNet",
        "n_conv_per_stage": convs,
        "n_conv_per_stage_decoder": convs[:-1],
    }
