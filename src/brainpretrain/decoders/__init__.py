"""Decoders, one file each, with a function `build(encoder, out_channels, **options)`, and the segmentation network.

Every decoder is called with the encoder's feature maps, finest first, and the network's input, and returns
(b out x y z) at full resolution. Only `swinunetr` and `unetr` read the input: their finest skip connection starts there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from brainpretrain import backbones, named
from brainpretrain.backbones.base import Encoder


class Segmenter(nn.Module):
    """Encoder and decoder: image (b c x y z) -> logits (b classes x y z); a list of logits with deep supervision, in training."""

    def __init__(self, encoder: Encoder, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, image: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        return self.decoder(self.encoder(image), image)


def build(name: str, encoder: Encoder, out_channels: int, **options: Any) -> nn.Module:
    """The decoder of `decoders/<name>.py`, made to fit `encoder`.

    Args:
        name: name of a file of this folder.
        encoder: a backbone; its `channels` and `strides` are read.
        out_channels: classes, or channels to reconstruct.
        options: the `decoder_options` of the config.

    Raises:
        UserError: unknown decoder; unknown or missing option; or an encoder that this decoder cannot read.
    """
    builder = named.module("decoders", name).build
    named.check_options(builder, options, where=f"decoder '{name}'")
    return builder(encoder, out_channels, **options)


def build_network(backbone: Mapping[str, Any], in_channels: int, out_channels: int) -> Segmenter:
    """Encoder and fine-tuning decoder of a backbone entry (`architecture`, `options`, `decoder`, `decoder_options`)."""
    encoder = backbones.build(backbone["architecture"], in_channels, **backbone["options"])
    decoder = build(backbone["decoder"], encoder, out_channels, **backbone["decoder_options"])
    return Segmenter(encoder, decoder)
