"""The residual encoder of nnU-Net (Isensee et al. 2024); with the options of L, the network of S3D (Wald et al. 2024)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from brainpretrain.backbones import check_size
from brainpretrain.backbones.base import Encoder
from brainpretrain.backbones.unet import ConvBlock
from brainpretrain.errors import UserError


def build(in_channels: int, *, widths: list[int], blocks: list[int]) -> ResEnc:
    """Residual encoder.

    Args:
        in_channels: input channels.
        widths: channels of each level, finest first; their number is the number of levels.
        blocks: residual blocks per level.

    Raises:
        UserError: `widths` and `blocks` differ in length.
    """
    if len(widths) != len(blocks):
        raise UserError(
            f"widths {widths} and blocks {blocks} differ in length", where="backbone 'resenc'", fix="one number per level"
        )
    return ResEnc(in_channels, widths, blocks)


class ResidualBlock(nn.Module):
    """Two 3^3 convs with instance norm; the input is added before the second leaky ReLU.

    Where the size is halved, the first conv does it, and the input is average-pooled. Where the number of channels
    changes, a 1^3 conv without bias and an instance norm bring the input to it.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvBlock(in_channels, out_channels, stride)
        self.conv2 = nn.Conv3d(out_channels, out_channels, kernel_size=3, padding=1)
        self.norm = nn.InstanceNorm3d(out_channels, affine=True)
        self.activation = nn.LeakyReLU()
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut.add_module("pool", nn.AvgPool3d(stride))
        if in_channels != out_channels:
            self.shortcut.add_module("conv", nn.Conv3d(in_channels, out_channels, kernel_size=1, bias=False))
            self.shortcut.add_module("norm", nn.InstanceNorm3d(out_channels, affine=True))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(self.norm(self.conv2(self.conv1(x))) + self.shortcut(x))


class ResEnc(Encoder):
    """A conv block, then levels of residual blocks; the first block of a level halves the size, but for the finest."""

    def __init__(self, in_channels: int, widths: list[int], blocks: list[int]) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.channels = list(widths)
        self.strides = [2**level for level in range(len(widths))]
        self.divisor = self.strides[-1]
        self.stem = ConvBlock(in_channels, widths[0])
        self.stages = nn.ModuleList()
        for level, (before, after, count) in enumerate(zip([widths[0], *widths], widths, blocks, strict=False)):
            first = ResidualBlock(before, after, stride=2 if level else 1)
            self.stages.append(nn.Sequential(first, *(ResidualBlock(after, after, stride=1) for _ in range(count - 1))))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Input (b c x y z) -> features (b channels[i] x/strides[i] ...), finest first."""
        check_size(x.shape[2:], self.divisor)
        x = self.stem(x)
        features: list[torch.Tensor] = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


def nnunet_names(name: str) -> list[str]:
    """Names of our encoder tensor `name` in nnU-Net's residual encoder: each layer has two there."""
    *path, kind = name.split(".")
    if path[0] == "stem":
        block, layer = "stem.convs.0", path[1]
    else:
        _, level, number, *inside = path
        conv = {"conv1": "conv1", "shortcut": "skip.1"}.get(inside[0], "conv2")  # in a skip, module 0 is the pooling
        block, layer = f"stages.{level}.blocks.{number}.{conv}", "norm" if inside[-1] == "norm" else "conv"
    return [f"{block}.{layer}.{kind}", f"{block}.all_modules.{('conv', 'norm').index(layer)}.{kind}"]


def nnunet_architecture(encoder: ResEnc) -> dict[str, Any]:
    """What nnU-Net builds the same encoder with, but for what all backbones share (`exporting.nnunet_plan`)."""
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
        "n_blocks_per_stage": [len(stage) for stage in encoder.stages],
        "n_conv_per_stage_decoder": [1] * (len(encoder.stages) - 1),
    }


def nnssl_names(name: str) -> list[str]:
    """Names of our encoder tensor `name` in files of nnssl, the trained one first.

    Its sparse networks (S3D) train `all_modules` alone, and `conv` and `norm` keep their initial values. In all other files
    the two are the same tensor.
    """
    return nnunet_names(name)[::-1]


def asparagus_names(name: str) -> list[str]:
    """Name of our encoder tensor `name` in checkpoints of asparagus, the program of FOMO300K's encoders."""
    plain = nnunet_names(name)[0].replace("stem.convs.0.", "stem.conv1.")
    return [re.sub(r"\.norm\.(weight|bias)$", r".norm_op.\1", plain)]


LAYOUTS = (nnssl_names, asparagus_names)
_FIRST_CONV = re.compile(
    r"(?P<prefix>(?:.*\.)?)stages\.(?P<level>\d+)\.(?:blocks\.)?(?P<block>\d+)\.conv1\.(?:conv|all_modules\.0)\.weight"
)


def recognise(shapes: Mapping[str, Sequence[int]]) -> dict[str, Any] | None:
    """The options of the encoder whose tensors are among `shapes`, by name; None if there is none. Reads every known layout."""
    found = [(match, shapes[name]) for name in shapes if (match := _FIRST_CONV.fullmatch(name)) and len(shapes[name]) == 5]
    if not found:
        return None
    prefix = min((match["prefix"] for match, _ in found), key=len)
    widths: dict[int, int] = {}
    blocks: dict[int, set[int]] = {}
    for match, shape in found:
        if match["prefix"] == prefix:
            widths[int(match["level"])] = shape[0]
            blocks.setdefault(int(match["level"]), set()).add(int(match["block"]))
    levels = sorted(widths)
    return {"widths": [widths[level] for level in levels], "blocks": [len(blocks[level]) for level in levels]}
