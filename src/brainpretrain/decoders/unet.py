"""Decoders over any encoder of `backbones/`, and the segmentation network.

Every decoder is called with the encoder's feature maps, finest first, and the network's input, and returns
(b out x y z) at full resolution. Only the kinds `swinunetr` and `unetr` look into the input: their finest skip starts there.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from brainpretrain.backbones.base import Encoder
from brainpretrain.backbones.mednext import FlatBlock, MedNeXt, UpBlock
from brainpretrain.backbones.unet import ConvBlock
from brainpretrain.errors import UserError, nearest
from brainpretrain.named import check_options


class Segmenter(nn.Module):
    """Encoder and decoder: image (b c x y z) -> logits (b classes x y z); several with deep supervision, in training."""

    def __init__(self, encoder: Encoder, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, image: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        return self.decoder(self.encoder(image), image)


def build(kind: str, encoder: Encoder, out_channels: int, **options: Any) -> nn.Module:
    """A decoder that fits `encoder`.

    Args:
        kind: a key of `KINDS`.
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

    Of several feature maps with one stride it reads the last. Above the finest feature map it goes on doubling, with half
    the channels each time and without skips, to full resolution.

    Args:
        convs_per_stage: 2 is the paper's standard decoder, 1 the light one.
        skips: concatenate the encoder's feature map of each level; AMAES pretrains without.
        heads: how many of the finest levels have an output, coarsest possible the bottleneck; more than 1 is deep supervision.
    """

    def __init__(self, encoder: Encoder, out_channels: int, *, convs_per_stage: int, skips: bool, heads: int = 1) -> None:
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

        super().__init__()
        width = encoder.channels[0]
        if encoder.strides != [2, 4, 8, 16, 32] or encoder.channels != [width * 2**stage for stage in range(5)]:
            raise UserError("the decoder 'swinunetr' reads a Swin encoder only", where="decoder", fix="use 'unet'")
        self.encoder1 = _residual(encoder.in_channels, width)
        self.encoder2 = _residual(width, width)
        self.encoder3 = _residual(2 * width, 2 * width)
        self.encoder4 = _residual(4 * width, 4 * width)
        self.encoder10 = _residual(16 * width, 16 * width)
        self.decoder5 = _up(16 * width, 8 * width)
        self.decoder4 = _up(8 * width, 4 * width)
        self.decoder3 = _up(4 * width, 2 * width)
        self.decoder2 = _up(2 * width, width)
        self.decoder1 = _up(width, width)
        self.out = UnetOutBlock(3, width, out_channels)
        _not_in_place(self)

    def forward(self, features: list[torch.Tensor], image: torch.Tensor) -> torch.Tensor:
        x = self.decoder5(self.encoder10(features[4]), features[3])
        x = self.decoder4(x, self.encoder4(features[2]))
        x = self.decoder3(x, self.encoder3(features[1]))
        x = self.decoder2(x, self.encoder2(features[0]))
        return self.out(self.decoder1(x, self.encoder1(image)))


class UNETRDecoder(nn.Module):
    """Everything of MONAI's UNETR but its transformer; tensor names as in MONAI.

    Args:
        feature_size: channels at full resolution; they double from level to level.
    """

    def __init__(self, encoder: Encoder, out_channels: int, *, feature_size: int) -> None:
        from monai.networks.blocks.dynunet_block import UnetOutBlock  # here, since importing MONAI takes seconds

        super().__init__()
        if encoder.strides != [16] * 4:
            raise UserError("the decoder 'unetr' reads a UNETR encoder only", where="decoder", fix="use 'unet'")
        width = encoder.channels[-1]
        self.encoder1 = _residual(encoder.in_channels, feature_size)
        self.encoder2 = _project_up(width, 2 * feature_size, doublings=3)
        self.encoder3 = _project_up(width, 4 * feature_size, doublings=2)
        self.encoder4 = _project_up(width, 8 * feature_size, doublings=1)
        self.decoder5 = _up(width, 8 * feature_size)
        self.decoder4 = _up(8 * feature_size, 4 * feature_size)
        self.decoder3 = _up(4 * feature_size, 2 * feature_size)
        self.decoder2 = _up(2 * feature_size, feature_size)
        self.out = UnetOutBlock(3, feature_size, out_channels)
        _not_in_place(self)

    def forward(self, features: list[torch.Tensor], image: torch.Tensor) -> torch.Tensor:
        x = self.decoder5(features[3], self.encoder4(features[2]))
        x = self.decoder4(x, self.encoder3(features[1]))
        x = self.decoder3(x, self.encoder2(features[0]))
        return self.out(self.decoder2(x, self.encoder1(image)))


class LinearDecoder(nn.Module):
    """Linear probe: logits are a linear function of the encoder's feature maps at each voxel.

    It is one 1^3 convolution of all feature maps, each enlarged (trilinear) to the size of the image and laid side by side.
    Convolution and enlargement commute, so each map is convolved first, with classes instead of channels to enlarge.
    """

    def __init__(self, encoder: Encoder, out_channels: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Conv3d(channels, out_channels, kernel_size=1, bias=level == 0) for level, channels in enumerate(encoder.channels)
        )

    def forward(self, features: list[torch.Tensor], image: torch.Tensor) -> torch.Tensor:
        maps = [head(feature) for head, feature in zip(self.heads, features, strict=True)]
        return torch.stack([F.interpolate(x, size=image.shape[2:], mode="trilinear") for x in maps]).sum(0)


def _residual(in_channels: int, out_channels: int) -> nn.Module:
    """MONAI's residual block of two 3^3 convs."""
    from monai.networks.blocks.unetr_block import UnetrBasicBlock

    return UnetrBasicBlock(3, in_channels, out_channels, kernel_size=3, stride=1, norm_name="instance", res_block=True)


def _up(in_channels: int, out_channels: int) -> nn.Module:
    """MONAI's doubling of the size, concatenation with a skip, and residual block."""
    from monai.networks.blocks.unetr_block import UnetrUpBlock

    return UnetrUpBlock(3, in_channels, out_channels, kernel_size=3, upsample_kernel_size=2, norm_name="instance", res_block=True)


def _project_up(in_channels: int, out_channels: int, doublings: int) -> nn.Module:
    """MONAI's way from tokens to a finer feature map: doublings of the size, a residual block behind each but the first."""
    from monai.networks.blocks.unetr_block import UnetrPrUpBlock

    return UnetrPrUpBlock(
        3, in_channels, out_channels, num_layer=doublings - 1, kernel_size=3, stride=1, upsample_kernel_size=2,
        norm_name="instance", conv_block=True, res_block=True,
    )  # fmt: skip


def _not_in_place(network: nn.Module) -> None:
    """Behind an instance norm an activation in place costs a copy, see unet.ConvBlock."""
    for module in network.modules():
        if isinstance(module, nn.LeakyReLU):
            module.inplace = False


KINDS = {
    "unet": UNetDecoder,
    "mednext": MedNeXtDecoder,
    "swinunetr": SwinUNETRDecoder,
    "unetr": UNETRDecoder,
    "linear": LinearDecoder,
}


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
