"""The vision transformer of UNETR (Hatamizadeh et al. 2022), of MONAI's transformer blocks.

A pretraining trains and transfers the transformer alone. The convolutions that follow it in MONAI's UNETR belong to the
decoder `unetr`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from brainpretrain.backbones import check_size
from brainpretrain.backbones.base import Encoder
from brainpretrain.errors import UserError

_TOKEN = 16  # side of a token in voxels; the decoder `unetr` is built for 16


def build(
    in_channels: int, *, image_size: list[int], width: int, depth: int, num_heads: int, mlp_width: int
) -> VisionTransformer:
    """Vision transformer; ViT-B has width 768, depth 12, 12 heads and mlp_width 3072.

    Args:
        in_channels: input channels.
        image_size: voxels (x y z) that the learned position embedding is made for; it is interpolated for other sizes.
        width: channels of a token.
        depth: transformer blocks, at least 4.
        num_heads: attention heads; they divide `width`.
        mlp_width: channels inside the two-layer perceptrons.

    Raises:
        UserError: `image_size` is not a multiple of the token size, `width` not of the heads, or there are too few blocks.
    """
    check_size(image_size, _TOKEN, where="backbone 'unetr': image_size")
    if width % num_heads:
        raise UserError(f"{num_heads} heads do not divide width {width}", where="backbone 'unetr'", fix="ViT-B has 768 and 12")
    if depth < 4:
        raise UserError(f"depth {depth} is too small", where="backbone 'unetr'", fix="4 feature maps need 4 blocks")
    return VisionTransformer(in_channels, [n // _TOKEN for n in image_size], width, depth, num_heads, mlp_width)


class VisionTransformer(Encoder):
    """Tokens of the whole image attend to each other in every block.

    All four feature maps have stride 16, since tokens are never merged: the outputs of blocks 3, 6 and 9 of twelve (counted
    from 0) and the normalised last one. A decoder that uses one map per stride takes the last.
    """

    def __init__(self, in_channels: int, grid: list[int], width: int, depth: int, num_heads: int, mlp_width: int) -> None:
        from monai.networks.blocks.transformerblock import TransformerBlock  # here, since importing MONAI takes seconds

        super().__init__()
        self.in_channels = in_channels
        self.channels = [width] * 4
        self.strides = [_TOKEN] * 4
        self.divisor = _TOKEN
        self.grid = grid
        self.taken = [quarter * depth // 4 for quarter in (1, 2, 3)]
        self.embedding = nn.Conv3d(in_channels, width, kernel_size=_TOKEN, stride=_TOKEN)
        self.position = nn.Parameter(torch.empty(1, grid[0] * grid[1] * grid[2], width))
        nn.init.trunc_normal_(self.position, std=0.02)
        self.blocks = nn.ModuleList(TransformerBlock(width, mlp_width, num_heads, use_flash_attention=True) for _ in range(depth))
        for block in self.blocks:  # made for cross-attention and never used: idle parameters would stop several devices
            block.norm_cross_attn = block.cross_attn = nn.Identity()
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Input (b c x y z) -> four feature maps (b width x/16 y/16 z/16), shallow to deep."""
        check_size(x.shape[2:], self.divisor)
        embedded = self.embedding(x)
        grid = embedded.shape[2:]
        tokens = embedded.flatten(2).transpose(1, 2) + self.position_at(grid)
        features: list[torch.Tensor] = []
        for number, block in enumerate(self.blocks):
            tokens = block(tokens)
            if number in self.taken:
                features.append(tokens)
        features.append(self.norm(tokens))
        return [feature.transpose(1, 2).unflatten(2, grid) for feature in features]

    def position_at(self, grid: torch.Size) -> torch.Tensor:
        """Position embedding (1 tokens width) on another grid of tokens, trilinear between the learned ones."""
        if list(grid) == self.grid:
            return self.position
        volume = self.position.transpose(1, 2).unflatten(2, self.grid)
        return F.interpolate(volume, size=grid, mode="trilinear").flatten(2).transpose(1, 2)


_REFERENCE_PARTS = {
    "embedding.weight": "patch_embedding.patch_embeddings.weight",
    "embedding.bias": "patch_embedding.patch_embeddings.bias",
    "position": "patch_embedding.position_embeddings",
}


def reference_name(name: str) -> str:
    """Name of our encoder tensor `name` in the `vit` of MONAI's UNETR."""
    return _REFERENCE_PARTS.get(name, name)
