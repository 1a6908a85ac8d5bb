"""The Swin transformer encoder of SwinUNETR (Hatamizadeh et al. 2022), from MONAI.

SwinUNETR pretraining trains and transfers this part alone (`swinViT` in MONAI). The convolutions that follow it in MONAI's
SwinUNETR belong to the decoder `swinunetr`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from brainpretrain.backbones import check_size
from brainpretrain.backbones.base import Encoder

_PATCH = 2  # side of a token; MONAI's SwinUNETR decoder is built for 2


def build(in_channels: int, *, feature_size: int, depths: list[int], num_heads: list[int], window_size: int) -> Swin:
    """Swin transformer encoder with the options of MONAI's SwinUNETR.

    Args:
        in_channels: input channels.
        feature_size: channels of the finest feature map, a multiple of 12; they double from stage to stage.
        depths: transformer blocks of the four stages.
        num_heads: attention heads of the four stages.
        window_size: side of the attention windows, in tokens.
    """
    return Swin(in_channels, feature_size, depths, num_heads, window_size)


class Swin(Encoder):
    """Five feature maps at strides 2 to 32; layer-normalised over channels, as SwinUNETR uses them."""

    def __init__(self, in_channels: int, feature_size: int, depths: list[int], num_heads: list[int], window_size: int) -> None:
        from monai.networks.nets.swin_unetr import SwinTransformer  # here, since importing MONAI takes seconds

        super().__init__()
        self.in_channels = in_channels
        self.channels = [feature_size * 2**stage for stage in range(len(depths) + 1)]
        self.strides = [_PATCH * 2**stage for stage in range(len(depths) + 1)]
        self.divisor = self.strides[-1]
        with torch.device("cpu"):  # MONAI reads numbers from tensors while it builds, which the meta device does not hold
            swin = SwinTransformer(
                in_chans=in_channels,
                embed_dim=feature_size,
                window_size=(window_size,) * 3,
                patch_size=(_PATCH,) * 3,
                depths=depths,
                num_heads=num_heads,
            )
        self.swin = swin.to(torch.get_default_device())

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Input (b c x y z) -> features (b channels[i] x/strides[i] ...), finest first."""
        check_size(x.shape[2:], self.divisor)
        return self.swin(x, normalize=True)


def reference_name(name: str) -> str:
    """Name of our encoder tensor `name` in MONAI's self-supervised release (`model_swinvit.pt`, without `module.`)."""
    return name.removeprefix("swin.").replace(".mlp.linear", ".mlp.fc")


_TABLE = re.compile(r"(?P<prefix>(?:.*\.)?)layers(?P<stage>\d)\.0\.blocks\.(?P<block>\d+)\.attn\.relative_position_bias_table")


def recognise(shapes: Mapping[str, Sequence[int]]) -> dict[str, Any] | None:
    """The options of the encoder whose tensors are among `shapes`, by name; None if there is none."""
    found = [(match, shapes[name]) for name in shapes if (match := _TABLE.fullmatch(name)) and len(shapes[name]) == 2]
    if not found:
        return None
    prefix = min((match["prefix"] for match, _ in found), key=len)
    tables = {(int(m["stage"]), int(m["block"])): shape for m, shape in found if m["prefix"] == prefix}
    stages = sorted({stage for stage, _ in tables})
    stem = shapes.get(f"{prefix}patch_embed.proj.weight")
    if not stem or len(stem) != 5:
        return None
    side = round(tables[min(tables)][0] ** (1 / 3))  # of a table, which has a row for every offset inside a window
    return {
        "feature_size": stem[0],
        "depths": [sum(stage == other for other, _ in tables) for stage in stages],
        "num_heads": [next(shape[1] for (other, _), shape in tables.items() if other == stage) for stage in stages],
        "window_size": (side + 1) // 2,
    }
