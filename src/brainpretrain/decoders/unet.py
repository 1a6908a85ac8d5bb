"""The U-Net decoder of AMAES ('Backbones'): the standard one for fine-tuning and the light one for pretraining."""

from __future__ import annotations

import itertools
import math

import torch
from torch import nn

from brainpretrain.backbones.base import Encoder
from brainpretrain.backbones.unet import ConvBlock
from brainpretrain.errors import UserError


def build(encoder: Encoder, out_channels: int, *, convs_per_stage: int, skips: bool, heads: int = 1) -> UNetDecoder:
    """U-Net decoder.

    Args:
        encoder: any backbone.
        out_channels: output channels.
        convs_per_stage: 2 is the paper's standard decoder, 1 the light one.
        skips: concatenate the encoder's feature map of each level; AMAES pretrains without.
        heads: number of levels, from the finest, that have an output; more than 1 is deep supervision.

    Raises:
        UserError: more heads than levels, or none.
    """
    return UNetDecoder(encoder, out_channels, convs_per_stage, skips, heads)


class UNetDecoder(nn.Module):
    """Transposed convolutions and conv blocks (AMAES 'Backbones').

    Of several feature maps with one stride it reads the last. Above the finest feature map it goes on doubling, with half
    the channels each time and without skips, to full resolution.
    """

    def __init__(self, encoder: Encoder, out_channels: int, convs_per_stage: int, skips: bool, heads: int) -> None:
        super().__init__()
        last_of_stride = {stride: number for number, stride in enumerate(encoder.strides)}
        self.levels = list(last_of_stride.values())
        channels, strides = ([values[level] for level in self.levels] for values in (encoder.channels, encoder.strides))
        self.skips = skips
        self.stages = nn.ModuleList()
        widths = [channels[-1]]
        for level in reversed(range(len(channels) - 1)):
            factor = strides[level + 1] // strides[level]
            skip = channels[level] if skips else 0
            self.stages.append(_UpStage(widths[-1], skip, channels[level], factor, convs_per_stage))
            widths.append(channels[level])
        for _ in range(int(math.log2(strides[0]))):
            self.stages.append(_UpStage(widths[-1], 0, widths[-1] // 2, 2, convs_per_stage))
            widths.append(widths[-1] // 2)
        if not 1 <= heads <= len(widths):
            raise UserError(f"heads {heads} for {len(widths)} levels", where="decoder 'unet'", fix=f"give 1 to {len(widths)}")
        self.head, *coarser = [nn.Conv3d(width, out_channels, kernel_size=1) for width in widths[::-1][:heads]]
        self.coarse_heads = nn.ModuleList(coarser)

    def forward(self, features: list[torch.Tensor], image: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """The output at full resolution; in training with several heads all outputs, finest first."""
        maps = [features[-1]]
        skips = [features[level] for level in self.levels[-2::-1]] if self.skips else []
        for stage, skip in itertools.zip_longest(self.stages, skips):
            maps.append(stage(maps[-1], skip))
        output = self.head(maps.pop())
        if not (self.training and self.coarse_heads):
            return output
        return [output, *(head(x) for head, x in zip(self.coarse_heads, reversed(maps), strict=False))]


class _UpStage(nn.Module):
    def __init__(self, in_channels: int, skip_channels: int, out_channels: int, factor: int, convs: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(in_channels, out_channels, kernel_size=factor, stride=factor)
        first = out_channels + skip_channels
        self.convs = nn.Sequential(*(ConvBlock(first if i == 0 else out_channels, out_channels) for i in range(convs)))

    def forward(self, x: torch.Tensor, skip: torch.Tensor | None) -> torch.Tensor:
        x = self.up(x)
        return self.convs(x if skip is None else torch.cat([x, skip], dim=1))


def reference_name(name: str) -> str:
    """Name of our `unet` decoder tensor `name` in the reconstruction head of the AMAES checkpoints."""
    if name.startswith("head."):
        return name.replace("head.", "out_conv.")
    _, stage, rest = name.split(".", 2)
    number = int(stage) + 1
    if rest.startswith("up."):
        return f"upsample{number}.{rest.removeprefix('up.')}"
    _, conv, rest = rest.split(".", 2)
    return f"decoder_conv{number}.conv{int(conv) + 1}.{rest}"
