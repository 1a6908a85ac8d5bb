"""The vision transformer of UNETR (Hatamizadeh et al. 2022), of MONAI's transformer blocks.

A pretraining trains and transfers the transformer alone. The convolutions that follow it in MONAI's UNETR belong to the
decoder `unetr`. With `class_token`, `qkv_bias`, `norm_eps: 1.0e-6` and `positions: separable` it is the encoder of the masked
autoencoder of Zhang et al., and of their UNETR.
"""

from __future__ import annotations

import torch
from torch import nn

from brainpretrain.backbones import check_size
from brainpretrain.backbones.tokens import TokenEncoder
from brainpretrain.errors import UserError, nearest

_POSITIONS = {"full": {"position": [0, 1, 2]}, "separable": {"position_axis": [0], "position_plane": [1, 2]}}


def build(
    in_channels: int,
    *,
    image_size: list[int],
    width: int,
    depth: int,
    num_heads: int,
    mlp_width: int,
    class_token: bool = False,
    qkv_bias: bool = False,
    norm_eps: float = 1e-5,
    positions: str = "full",
    token: int = 16,
    taken: list[int] | None = None,
) -> VisionTransformer:
    """Vision transformer; ViT-B has width 768, depth 12, 12 heads and mlp_width 3072.

    Args:
        in_channels: input channels.
        image_size: voxels (x y z) that the learned position embedding is made for; it is interpolated for other sizes.
        width: channels of a token.
        depth: transformer blocks, at least 4.
        num_heads: attention heads; they divide `width`.
        mlp_width: channels inside the two-layer perceptrons.
        class_token: a token without a place in the image attends with the others; feature maps do not have it.
        qkv_bias: queries, keys and values have a bias.
        norm_eps: added to the variance in layer norms.
        positions: `full`, a learned vector for every token, or `separable`, the sum of one for its place along x and one for its
            place in the y-z plane. With `separable`, weights start as in masked autoencoders: Xavier uniform, biases 0.
        token: side of a token in voxels; the decoder `unetr` is built for 16.
        taken: three blocks, counted from 1, whose outputs are feature maps; by default those of MONAI, 4, 7 and 10 of twelve. The
            paper of UNETR and Zhang et al. have 3, 6 and 9.

    Raises:
        UserError: `image_size` is not a multiple of the token size, `width` not of the heads, there are too few blocks,
            `positions` is unknown, or `taken` does not name three of them in order.
    """
    check_size(image_size, token, where="backbone 'unetr': image_size")
    if width % num_heads:
        raise UserError(f"{num_heads} heads do not divide width {width}", where="backbone 'unetr'", fix="ViT-B has 768 and 12")
    if depth < 4:
        raise UserError(f"depth {depth} is too small", where="backbone 'unetr'", fix="4 feature maps need 4 blocks")
    if positions not in _POSITIONS:
        raise UserError(
            f"unknown choice '{positions}'", where="backbone 'unetr': positions", fix=nearest(positions, [*_POSITIONS])
        )
    taken = taken or [quarter * depth // 4 + 1 for quarter in (1, 2, 3)]
    if len(taken) != 3 or taken != sorted(set(taken)) or not 1 <= taken[0] <= taken[-1] <= depth:
        raise UserError(f"taken {taken} of {depth} blocks", where="backbone 'unetr'", fix="name three of them, in order")
    grid = [n // token for n in image_size]
    blocks = [transformer_block(width, mlp_width, num_heads, qkv_bias, norm_eps) for _ in range(depth)]
    return VisionTransformer(in_channels, grid, token, blocks, nn.LayerNorm(width, eps=norm_eps), class_token, positions, taken)


class VisionTransformer(TokenEncoder):
    """Tokens of the whole image attend to each other in every block.

    All four feature maps have the stride of a token, since tokens are never merged: the outputs of three blocks (`taken`,
    counted from 1) and the normalised last one. A decoder that uses one map per stride takes the last.
    """

    def __init__(
        self,
        in_channels: int,
        grid: list[int],
        token: int,
        blocks: list[nn.Module],
        norm: nn.LayerNorm,
        class_token: bool,
        positions: str,
        taken: list[int],
    ) -> None:
        super().__init__()
        (width,) = norm.normalized_shape
        self.in_channels = in_channels
        self.channels = [width] * 4
        self.strides = [token] * 4
        self.divisor = self.token = token
        self.grid = grid
        self.prefix = int(class_token)
        self.tables = _POSITIONS[positions]
        self.taken = taken
        self.embedding = nn.Conv3d(in_channels, width, kernel_size=token, stride=token)
        for name, axes in self.tables.items():
            tokens = torch.Size(grid[axis] for axis in axes).numel()
            self.register_parameter(name, nn.Parameter(nn.init.trunc_normal_(torch.empty(1, tokens, width), std=0.02)))
        if class_token:
            self.class_token, self.class_position = (
                nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, width), std=0.02)) for _ in range(2)
            )
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm
        if positions == "separable":
            start_as_masked_autoencoder(self)

    def attend(self, image: torch.Tensor, kept: torch.Tensor | None = None) -> list[torch.Tensor]:
        tokens = self.embedded(image, kept)
        if self.prefix:
            tokens = torch.cat([(self.class_token + self.class_position).expand(len(tokens), -1, -1), tokens], 1)
        found: list[torch.Tensor] = []
        for number, block in enumerate(self.blocks, start=1):
            tokens = block(tokens)
            if number in self.taken:
                found.append(tokens)
        return [*found, self.norm(tokens)]


def transformer_block(width: int, mlp_width: int, num_heads: int, qkv_bias: bool, norm_eps: float) -> nn.Module:
    """MONAI's block: attention and a two-layer perceptron, each behind a layer norm and added to its input."""
    from monai.networks.blocks.transformerblock import TransformerBlock  # here, since importing MONAI takes seconds

    block = TransformerBlock(width, mlp_width, num_heads, qkv_bias=qkv_bias, use_flash_attention=True)
    block.norm_cross_attn = block.cross_attn = nn.Identity()  # never used: idle parameters would stop several devices
    block.norm1.eps = block.norm2.eps = norm_eps
    return block


def start_as_masked_autoencoder(network: nn.Module) -> None:
    """Xavier uniform for every matrix, the convolution that reads cubes as one, and biases 0."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv3d):
            nn.init.xavier_uniform_(module.weight.flatten(1) if module.weight.ndim > 2 else module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


_REFERENCE_PARTS = {
    "embedding.weight": "patch_embedding.patch_embeddings.weight",
    "embedding.bias": "patch_embedding.patch_embeddings.bias",
    "position": "patch_embedding.position_embeddings",
}


def reference_name(name: str) -> str:
    """Name of our encoder tensor `name` in the `vit` of MONAI's UNETR."""
    return _REFERENCE_PARTS.get(name, name)


_MAE_PARTS = {
    "embedding.weight": "patch_embed.proj.weight",
    "embedding.bias": "patch_embed.proj.bias",
    "class_token": "cls_token",
    "class_position": "pos_embed_class",
    "position_axis": "pos_embed_temporal",
    "position_plane": "pos_embed_spatial",
}


def mae_name(name: str) -> str:
    """Name of our encoder tensor `name` in the masked autoencoder of Zhang et al."""
    for own, theirs in ((".out_proj.", ".proj."), (".linear1.", ".fc1."), (".linear2.", ".fc2.")):
        name = name.replace(own, theirs)
    return _MAE_PARTS.get(name, name)
