"""Decoders over any encoder of `backbones/`, and the segmentation network.

Every decoder is called with the encoder's feature maps, finest first, and the network's input, and returns
(b out x y z) at full resolution. Only the kind `swinunetr` looks at the input: its finest skip starts there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from brainpretrain.backbones.base import Encoder
from brainpretrain.backbones.mednext import FlatBlock, MedNeXt, UpBlock
from brainpretrain.backbones.unet import ConvBlock
from brainpretrain.errors import UserError, nearest
from brainpretrain.named import check_options


class Segmenter(nn.Module):
    """Encoder and decoder: image (b c x y z) -> logits (b classes x y z)."""

    def __init__(self, encoder: Encoder, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.encoder(image), image)


def build(kind: str, encoder: Encoder, out_channels: int, **options: Any) -> nn.Module:
    """A decoder that fits `encoder`.

    Args:
        kind: `unet`, `mednext` or `swinunetr`.
        encoder: a backbone; its `channels` and `strides` are read.
        out_channels: classes, or channels to reconstruct.
        options: keyword arguments of the decoder's class.

    Raises:
        UserError: unknown kind or option, or an encoder that the kind cannot read.
    """
    if kind not in KINDS:
        raise UserError(f"there is no decoder '{kind}'", where="decoder", fix=nearest(kind, list(KINDS)))
    check_options(KINDS[kind], options, where=f"decoder '{kind}'")
    return KINDS[kind](encoder, out_channels, **options)


class UNetDecoder(nn.Module):
    """Transposed convolutions and conv blocks (AMAES 'Backbones').

    Args:
        convs_per_stage: 2 is the paper's standard decoder, 1 the light one.
        skips: concatenate the encoder's feature map of each level; AMAES pretrains without.
    """

    def __init__(self, encoder: Encoder, out_channels: int, *, convs_per_stage: int, skips: bool) -> None:
        super().__init__()
        self.skips = skips
        channels, strides = encoder.channels, encoder.strides
        self.stages = nn.ModuleList()
        for level in reversed(range(len(channels) - 1)):
            factor = strides[level + 1] // strides[level]
            skip = channels[level] if skips else 0
            self.stages.append(_UpStage(channels[level + 1], skip, channels[level], factor, convs_per_stage))
        width = channels[0]
        if strides[0] > 1:  # no feature map at full resolution, so this stage has no skip
            width = channels[0] // 2
            self.stages.append(_UpStage(channels[0], 0, width, strides[0], convs_per_stage))
        self.head = nn.Conv3d(width, out_channels, kernel_size=1)

    def forward(self, features: list[torch.Tensor], image: torch.Tensor) -> torch.Tensor:
        x, skips = features[-1], features[-2::-1] if self.skips else []
        for number, stage in enumerate(self.stages):
            x = stage(x, skips[number] if number < len(skips) else None)
        return self.head(x)


class _UpStage(nn.Module):
    def __init__(self, in_channels: int, skip_channels: int, out_channels: int, factor: int, convs: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(in_channels, out_channels, kernel_size=factor, stride=factor)
        first = out_channels + skip_channels
        self.convs = nn.Sequential(*(ConvBlock(first if i == 0 else out_channels, out_channels) for i in range(convs)))

    def forward(self, x: torch.Tensor, skip: torch.Tensor | None) -> torch.Tensor:
        x = self.up(x)
        return self.convs(x if skip is None else torch.cat([x, skip], dim=1))


class MedNeXtDecoder(nn.Module):
    """The mirror image of a MedNeXt encoder; skips are added, not concatenated (Roy et al. 2023)."""

    def __init__(self, encoder: Encoder, out_channels: int) -> None:
        super().__init__()
        if not isinstance(encoder, MedNeXt):
            raise UserError("the decoder 'mednext' mirrors a MedNeXt encoder only", where="decoder", fix="use 'unet'")
        channels, expansions, kernel_size = encoder.channels, encoder.expansions, encoder.kernel_size
        levels = list(reversed(range(len(channels) - 1)))
        self.ups = nn.ModuleList(UpBlock(channels[level + 1], expansions[level], kernel_size) for level in levels)
        self.stages = nn.ModuleList(
            nn.Sequential(*(FlatBlock(channels[level], expansions[level], kernel_size) for _ in range(encoder.blocks[level])))
            for level in levels
        )
        self.head = nn.ConvTranspose3d(channels[0], out_channels, kernel_size=1)

    def forward(self, features: list[torch.Tensor], image: torch.Tensor) -> torch.Tensor:
        x = features[-1]
        for up, stage, skip in zip(self.ups, self.stages, features[-2::-1], strict=True):
            x = stage(up(x) + skip)
        return self.head(x)


class SwinUNETRDecoder(nn.Module):
    """Everything of MONAI's SwinUNETR but its transformer; tensor names as in MONAI."""

    def __init__(self, encoder: Encoder, out_channels: int) -> None:
        from monai.networks.blocks.dynunet_block import UnetOutBlock  # here, since importing MONAI takes seconds
        from monai.networks.blocks.unetr_block import UnetrBasicBlock, UnetrUpBlock

        super().__init__()
        width = encoder.channels[0]
        if encoder.strides != [2, 4, 8, 16, 32] or encoder.channels != [width * 2**stage for stage in range(5)]:
            raise UserError("the decoder 'swinunetr' reads a Swin encoder only", where="decoder", fix="use 'unet'")

        def residual(in_channels: int, channels: int) -> nn.Module:
            return UnetrBasicBlock(3, in_channels, channels, kernel_size=3, stride=1, norm_name="instance", res_block=True)

        def up(channels: int) -> nn.Module:
            out = max(channels // 2, width)
            return UnetrUpBlock(3, channels, out, kernel_size=3, upsample_kernel_size=2, norm_name="instance", res_block=True)

        self.encoder1 = residual(encoder.in_channels, width)
        self.encoder2 = residual(width, width)
        self.encoder3 = residual(2 * width, 2 * width)
        self.encoder4 = residual(4 * width, 4 * width)
        self.encoder10 = residual(16 * width, 16 * width)
        self.decoder5 = up(16 * width)
        self.decoder4 = up(8 * width)
        self.decoder3 = up(4 * width)
        self.decoder2 = up(2 * width)
        self.decoder1 = up(width)
        self.out = UnetOutBlock(3, width, out_channels)
        for module in self.modules():
            if isinstance(module, nn.LeakyReLU):
                module.inplace = False  # behind an instance norm it costs a copy, see unet.ConvBlock

    def forward(self, features: list[torch.Tensor], image: torch.Tensor) -> torch.Tensor:
        x = self.decoder5(self.encoder10(features[4]), features[3])
        x = self.decoder4(x, self.encoder4(features[2]))
        x = self.decoder3(x, self.encoder3(features[1]))
        x = self.decoder2(x, self.encoder2(features[0]))
        return self.out(self.decoder1(x, self.encoder1(image)))


KINDS = {"unet": UNetDecoder, "mednext": MedNeXtDecoder, "swinunetr": SwinUNETRDecoder}


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
